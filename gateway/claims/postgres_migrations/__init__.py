"""The schema of claims and ledger in PostgreSQL, one numbered file per step."""
