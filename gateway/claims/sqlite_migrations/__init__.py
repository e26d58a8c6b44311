"""The schema of claims and ledger in SQLite, one numbered file per step."""
