"""The schema of the ledger, one numbered file per step."""
