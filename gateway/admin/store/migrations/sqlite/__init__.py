"""The schema in SQLite, in numbered steps."""
