"""Names as a session sees them: tables, system tables made from the registry, functions that ask about both."""
