-- Messages that are on a topic: 16 bytes that stand for workspace, source and message id, and when they are forgotten
-- (seconds since the Unix epoch). They come from `added`, a range of keys at a time: see gateway/claims/staging.py.
CREATE TABLE messages (
    key     BLOB    PRIMARY KEY CHECK (length(key) = 16),
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What was added last, as it came: one row for a group of messages, their keys one after the other.
CREATE TABLE added (
    number  INTEGER PRIMARY KEY,
    keys    BLOB    NOT NULL,
    expires INTEGER NOT NULL
) STRICT;

-- What became of events; `minute` is minutes since the Unix epoch, `outcome` a number of gateway/ledger/tally.py.
CREATE TABLE ledger (
    workspace TEXT    NOT NULL,
    source    TEXT    NOT NULL,
    minute    INTEGER NOT NULL,
    outcome   INTEGER NOT NULL,
    count     INTEGER NOT NULL,
    PRIMARY KEY (minute, workspace, source, outcome)
) STRICT, WITHOUT ROWID;

-- One row: who this gateway is on its records, and how far the topics are accounted for here; `lows` is a JSON list of
-- [topic, partition, offset], NULL before the first start has ended. `size` is how many messages there are.
CREATE TABLE position (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    owner   TEXT    NOT NULL,
    cluster TEXT    NOT NULL DEFAULT '',
    lows    TEXT,
    size    INTEGER NOT NULL DEFAULT 0
) STRICT;
