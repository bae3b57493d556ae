"""Names as a session sees them: its tables, the system tables made from the registry, functions that ask about either."""
