-- One row per entry of the ledger. `granted` and `denied` are masks: bit n stands for purpose number n of
-- clew.options.v1.Purpose. Times are Unix nanoseconds; `decide_ns` is what the caller said, unbounded by `record_ns`.
CREATE TABLE consent_entries (
    workspace      TEXT    NOT NULL,
    epoch          INTEGER NOT NULL CHECK (epoch > 0),
    subject        TEXT    NOT NULL,
    granted        INTEGER NOT NULL,
    denied         INTEGER NOT NULL,
    origin         TEXT    NOT NULL,
    policy_version TEXT    NOT NULL,
    decide_ns      INTEGER NOT NULL,
    record_ns      INTEGER NOT NULL,
    PRIMARY KEY (workspace, epoch),
    CHECK (granted & denied = 0),
    CHECK (granted | denied <> 0)
) STRICT, WITHOUT ROWID;

CREATE INDEX consent_entries_by_subject ON consent_entries (workspace, subject, epoch);

-- The ledger is evidence: an entry is only ever followed by another.
CREATE TRIGGER consent_entries_keep BEFORE UPDATE ON consent_entries
BEGIN
    SELECT RAISE(ABORT, 'the consent ledger is append-only');
END;

CREATE TRIGGER consent_entries_stay BEFORE DELETE ON consent_entries
BEGIN
    SELECT RAISE(ABORT, 'the consent ledger is append-only');
END;
