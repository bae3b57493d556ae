"""FileStore: a SQL table store for transactions and analytics, embedded or served."""

__version__ = "0.1.0"
