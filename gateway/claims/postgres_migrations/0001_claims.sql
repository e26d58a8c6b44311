-- Gateways that run, or have ended and are not settled yet. A gateway renews its lease about once a second; one whose
-- lease is over is marked dead by another, and from then on can neither claim nor settle anything. `lows` is a JSON list
-- of [topic, partition, offset]: every record of the gateway that is not accounted for stands at or above.
CREATE TABLE gateways (
    owner       text        PRIMARY KEY,
    lease_until timestamptz NOT NULL,
    dead        boolean     NOT NULL DEFAULT false,
    cluster     text        NOT NULL,
    lows        text        NOT NULL,
    -- The last group of changes that was written: one whose answer was lost is not written twice.
    applied     bigint      NOT NULL DEFAULT 0
);

-- Messages: 16 bytes that stand for workspace, source and message id. With an owner: claimed by that gateway, and its
-- fate is not known; without: on a topic. `expires` is in seconds since the Unix epoch.
CREATE TABLE gateway_messages (
    key     bytea  PRIMARY KEY CHECK (length(key) = 16),
    owner   text,
    expires bigint NOT NULL
);
CREATE INDEX gateway_messages_by_expiry ON gateway_messages (expires);
CREATE INDEX gateway_messages_by_owner ON gateway_messages (owner) WHERE owner IS NOT NULL;

-- What became of events; `minute` is minutes since the Unix epoch, `outcome` a number of gateway/ledger/tally.py.
CREATE TABLE gateway_ledger (
    workspace text    NOT NULL,
    source    text    NOT NULL,
    minute    bigint  NOT NULL,
    outcome   integer NOT NULL,
    count     bigint  NOT NULL,
    PRIMARY KEY (minute, workspace, source, outcome)
);

-- One row: the Kafka cluster that the messages are on.
CREATE TABLE gateway_cluster (
    one     integer PRIMARY KEY CHECK (one = 1),
    cluster text    NOT NULL
);
