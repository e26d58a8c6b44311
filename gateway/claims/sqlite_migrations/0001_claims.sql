-- Messages that are on a topic: 16 bytes that stand for workspace, source and message id. Rows are added in the order in
-- which they expire (seconds since the Unix epoch), so that the oldest are found by their number and need no index.
CREATE TABLE messages (
    number  INTEGER PRIMARY KEY,
    key     BLOB    NOT NULL UNIQUE CHECK (length(key) = 16),
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
-- [topic, partition, offset], NULL before the first start has ended.
CREATE TABLE position (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    owner   TEXT NOT NULL,
    cluster TEXT NOT NULL DEFAULT '',
    lows    TEXT
) STRICT;
