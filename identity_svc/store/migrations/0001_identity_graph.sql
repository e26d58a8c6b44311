-- What was found, in the order in which it was found. Never updated, never deleted: the tables below are folds of it.

CREATE TABLE assertions (
    seq                INTEGER PRIMARY KEY,      -- one sequence over assertions and merges
    workspace          TEXT    NOT NULL,
    kind               INTEGER NOT NULL CHECK (kind IN (1, 2)),
    value              TEXT    NOT NULL,
    profile_id         TEXT    NOT NULL,         -- the profile that the identifier was tied to then
    assurance          INTEGER NOT NULL CHECK (assurance BETWEEN 1 AND 3),
    cause_anonymous_id TEXT    NOT NULL,         -- the item that said so, as it was sent
    cause_user_id      TEXT    NOT NULL,
    cause_verified     INTEGER NOT NULL,
    cause_previous_id  TEXT    NOT NULL,
    recorded_ns        INTEGER NOT NULL
) STRICT;

CREATE INDEX assertions_by_profile ON assertions (profile_id);

CREATE TABLE merges (
    seq                INTEGER PRIMARY KEY,
    workspace          TEXT    NOT NULL,
    merged_profile_id  TEXT    NOT NULL UNIQUE,  -- a profile is merged once
    into_profile_id    TEXT    NOT NULL CHECK (into_profile_id <> merged_profile_id),
    cause_anonymous_id TEXT    NOT NULL,
    cause_user_id      TEXT    NOT NULL,
    cause_verified     INTEGER NOT NULL,
    cause_previous_id  TEXT    NOT NULL,
    recorded_ns        INTEGER NOT NULL
) STRICT;

CREATE INDEX merges_by_target ON merges (into_profile_id);

CREATE TRIGGER assertions_are_kept BEFORE UPDATE ON assertions
BEGIN SELECT RAISE(ABORT, 'assertions are append-only'); END;
CREATE TRIGGER assertions_stay BEFORE DELETE ON assertions
BEGIN SELECT RAISE(ABORT, 'assertions are append-only'); END;
CREATE TRIGGER merges_are_kept BEFORE UPDATE ON merges
BEGIN SELECT RAISE(ABORT, 'merges are append-only'); END;
CREATE TRIGGER merges_stay BEFORE DELETE ON merges
BEGIN SELECT RAISE(ABORT, 'merges are append-only'); END;

-- Current state.

CREATE TABLE identifiers (
    workspace     TEXT    NOT NULL,
    kind          INTEGER NOT NULL,
    value         TEXT    NOT NULL,
    profile_id    TEXT    NOT NULL,
    assurance     INTEGER NOT NULL,              -- the best proof that was ever given
    first_seq     INTEGER NOT NULL,
    first_seen_ns INTEGER NOT NULL,
    changed_ns    INTEGER NOT NULL,
    PRIMARY KEY (workspace, kind, value)
) STRICT, WITHOUT ROWID;

CREATE INDEX identifiers_by_profile ON identifiers (profile_id);
-- The invariant that everything else rests on, kept by the store as well: two user ids are never one profile.
CREATE UNIQUE INDEX identifiers_one_user ON identifiers (profile_id) WHERE kind = 2;

CREATE TABLE profiles (
    profile_id  TEXT    NOT NULL PRIMARY KEY,
    workspace   TEXT    NOT NULL,
    user_id     TEXT,
    merged_into TEXT,
    merged_seq  INTEGER,
    merged_ns   INTEGER,
    CHECK (merged_into IS NULL OR user_id IS NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX profiles_by_target ON profiles (merged_into) WHERE merged_into IS NOT NULL;

-- The folds: what the two tables above must hold.

CREATE VIEW identifiers_fold AS
SELECT workspace, kind, value, min(profile_id) AS profile_id, max(assurance) AS assurance, min(seq) AS first_seq,
       min(recorded_ns) AS first_seen_ns, max(recorded_ns) AS changed_ns
FROM assertions
GROUP BY workspace, kind, value;

CREATE VIEW profiles_fold AS
SELECT a.profile_id, a.workspace, max(CASE a.kind WHEN 2 THEN a.value END) AS user_id,
       m.into_profile_id AS merged_into, m.seq AS merged_seq, m.recorded_ns AS merged_ns
FROM assertions AS a LEFT JOIN merges AS m ON m.merged_profile_id = a.profile_id
GROUP BY a.profile_id, a.workspace;
