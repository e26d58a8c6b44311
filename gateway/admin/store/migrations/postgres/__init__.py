"""The schema in PostgreSQL, in numbered steps."""
