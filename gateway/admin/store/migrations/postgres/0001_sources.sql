-- The history, and the state that is its fold. Sources are few and read whole: a record and a change are JSON as
-- `gateway/admin/records.py` defines them. Times are Unix nanoseconds. "C" orders names as Python does.
CREATE TABLE source_changes (
    revision  bigint PRIMARY KEY CHECK (revision > 0),
    at_ns     bigint NOT NULL,
    actor     text   NOT NULL,
    workspace text   NOT NULL COLLATE "C",
    source    text   NOT NULL COLLATE "C",
    change    text   NOT NULL
);

CREATE INDEX source_changes_by_source ON source_changes (workspace, source, revision);

CREATE TABLE sources (
    workspace text NOT NULL COLLATE "C",
    name      text NOT NULL COLLATE "C",
    record    text NOT NULL,
    PRIMARY KEY (workspace, name)
);

-- By the key's hash: no part of the history, for a use changes nothing.
CREATE TABLE write_key_uses (
    sha256      text   NOT NULL PRIMARY KEY,
    last_use_ns bigint NOT NULL
);

CREATE FUNCTION source_changes_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the history of sources is append-only';
END;
$$;

CREATE TRIGGER source_changes_keep BEFORE UPDATE OR DELETE ON source_changes
FOR EACH ROW EXECUTE FUNCTION source_changes_refuse();

CREATE TRIGGER source_changes_stay BEFORE TRUNCATE ON source_changes
FOR EACH STATEMENT EXECUTE FUNCTION source_changes_refuse();
