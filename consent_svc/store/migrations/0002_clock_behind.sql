-- Whether our clock stood behind the ledger's last entry when this one was recorded, because it had been set back: then
-- what a caller says of the time of a refusal cannot be compared with the times on record (`consent_svc.ledger`).
ALTER TABLE consent_entries ADD COLUMN clock_behind INTEGER NOT NULL DEFAULT 0 CHECK (clock_behind IN (0, 1));
