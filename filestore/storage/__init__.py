"""The storage room: registry, tables, segments; below them log, page store, sealed files (`store.py`)."""
