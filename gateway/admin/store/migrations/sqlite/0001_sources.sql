-- The history, and the state that is its fold. Sources are few and read whole: a record and a change are JSON as
-- `gateway/admin/records.py` defines them. Times are Unix nanoseconds.
CREATE TABLE source_changes (
    revision  INTEGER PRIMARY KEY CHECK (revision > 0),
    at_ns     INTEGER NOT NULL,
    actor     TEXT    NOT NULL,
    workspace TEXT    NOT NULL,
    source    TEXT    NOT NULL,
    change    TEXT    NOT NULL
) STRICT;

CREATE INDEX source_changes_by_source ON source_changes (workspace, source, revision);

CREATE TABLE sources (
    workspace TEXT NOT NULL,
    name      TEXT NOT NULL,
    record    TEXT NOT NULL,
    PRIMARY KEY (workspace, name)
) STRICT, WITHOUT ROWID;

-- By the key's hash: no part of the history, for a use changes nothing.
CREATE TABLE write_key_uses (
    sha256      TEXT    NOT NULL PRIMARY KEY,
    last_use_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER source_changes_keep BEFORE UPDATE ON source_changes
BEGIN
    SELECT RAISE(ABORT, 'the history of sources is append-only');
END;

CREATE TRIGGER source_changes_stay BEFORE DELETE ON source_changes
BEGIN
    SELECT RAISE(ABORT, 'the history of sources is append-only');
END;
