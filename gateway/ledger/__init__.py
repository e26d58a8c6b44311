"""The ledger: what became of every event, by workspace, source and minute, exact across restarts."""
