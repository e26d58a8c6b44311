"""The statements of `gateway/claims/postgres.py`: each is one round trip, and all or nothing.

`alive` takes a lock on the gateway's own row, against which marking it dead has to wait (FOR UPDATE), a beat has not:
what a gateway did before it was marked is there for whoever settles it, and nothing comes after.
"""

from typing import Final

_ALIVE: Final = "alive AS (SELECT owner FROM gateways WHERE owner = $1 AND NOT dead FOR KEY SHARE)"

# Returns the keys that are not the caller's. The last SELECT sees what stood before the INSERT: a key that it does not
# find, and the INSERT did not get, was claimed by another at the same moment. Keys in order, so that gateways that
# claim the same ones wait for each other and do not deadlock.
CLAIM: Final = f"""
WITH {_ALIVE},
given AS (SELECT DISTINCT unnest($2::bytea[]) AS key),
fresh AS (
    INSERT INTO gateway_messages AS m (key, owner, expires)
    SELECT given.key, alive.owner, $3 FROM given CROSS JOIN alive ORDER BY given.key
    ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, expires = excluded.expires
    WHERE m.owner IS NULL AND m.expires <= $4
    RETURNING key
)
SELECT given.key, m.key IS NOT NULL AND m.owner IS NULL AS published, m.owner, EXISTS (SELECT FROM alive) AS alive
FROM given LEFT JOIN gateway_messages AS m ON m.key = given.key
WHERE NOT EXISTS (SELECT FROM fresh WHERE fresh.key = given.key)
"""  # noqa: S608 - made of constants

LOOK: Final = """
SELECT key, owner FROM gateway_messages
WHERE key = ANY($2::bytea[]) AND (owner <> $1 OR owner IS NULL AND expires > $3)
"""

# Returns a row when it has written the group. It may have waited for whoever marks the gateway dead, or for the same
# group's first try: about the gateway its snapshot then tells what was before. So another statement asks (APPLIED).
APPLY: Final = """
WITH alive AS (UPDATE gateways SET applied = $11 WHERE owner = $1 AND NOT dead AND applied < $11 RETURNING owner),
published AS (
    UPDATE gateway_messages AS m SET owner = NULL FROM alive WHERE m.key = ANY($2::bytea[]) AND m.owner = alive.owner
),
released AS (DELETE FROM gateway_messages AS m USING alive WHERE m.key = ANY($3::bytea[]) AND m.owner = alive.owner),
rejected AS (
    INSERT INTO gateway_messages (key, expires) SELECT given.key, $5 FROM unnest($4::bytea[]) AS given(key), alive
    ON CONFLICT DO NOTHING
),
counted AS (
    INSERT INTO gateway_ledger AS l (workspace, source, minute, outcome, count)
    SELECT c.workspace, c.source, c.minute, c.outcome, c.count
    FROM unnest($6::text[], $7::text[], $8::bigint[], $9::int[], $10::bigint[])
        AS c(workspace, source, minute, outcome, count), alive
    ORDER BY c.minute, c.workspace, c.source, c.outcome
    ON CONFLICT (minute, workspace, source, outcome) DO UPDATE SET count = l.count + excluded.count
)
SELECT owner FROM alive
"""

APPLIED: Final = "SELECT owner FROM gateways WHERE owner = $1 AND NOT dead AND applied >= $2"

ENTER: Final = """
INSERT INTO gateways (owner, lease_until, cluster, lows) VALUES ($1, now() + $2 * interval '1 second', $3, $4)
ON CONFLICT (owner) DO UPDATE SET lease_until = excluded.lease_until, cluster = $3, lows = $4 WHERE NOT gateways.dead
RETURNING owner
"""

RENEW: Final = """
UPDATE gateways SET lease_until = now() + $2 * interval '1 second', cluster = $3, lows = $4
WHERE owner = $1 AND NOT dead RETURNING owner
"""

UNFINISHED: Final = """
UPDATE gateways SET dead = true
WHERE owner IN (
    SELECT owner FROM gateways WHERE owner <> $1 AND (dead OR lease_until < now() - $2 * interval '1 second') FOR UPDATE
)
RETURNING owner, cluster, lows
"""

# A record may stand on the topic twice, and a gateway that settles it may be told twice: who changes the row counts it.
RECOVER: Final = """
WITH given AS (
    SELECT DISTINCT ON (key) key, workspace, source, minute, outcome
    FROM unnest($2::bytea[], $3::text[], $4::text[], $5::bigint[], $6::int[])
        AS g(key, workspace, source, minute, outcome)
    ORDER BY key
),
news AS (
    INSERT INTO gateway_messages AS m (key, expires) SELECT key, $7 FROM given ORDER BY key
    ON CONFLICT (key) DO UPDATE SET owner = NULL WHERE m.owner = $1
    RETURNING key
),
counted AS (
    INSERT INTO gateway_ledger AS l (workspace, source, minute, outcome, count)
    SELECT workspace, source, minute, cell.outcome, count(*)
    FROM given JOIN news USING (key) CROSS JOIN LATERAL (VALUES (0), (given.outcome)) AS cell(outcome)
    GROUP BY minute, workspace, source, cell.outcome ORDER BY minute, workspace, source, cell.outcome
    ON CONFLICT (minute, workspace, source, outcome) DO UPDATE SET count = l.count + excluded.count
)
SELECT count(*) AS news FROM news
"""

SETTLE: Final = """
WITH released AS (DELETE FROM gateway_messages WHERE owner = $1)
DELETE FROM gateways WHERE owner = $1
"""

# Takes the row's lock, and changes nothing: whoever forgets holds it for a step.
OTHER_CLUSTER: Final = """
INSERT INTO gateway_cluster AS c (one, cluster) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET cluster = c.cluster
RETURNING cluster <> $1 AS other
"""

# The lock keeps it from being settled, after which others publish, before the step is done.
UNSETTLED: Final = "SELECT owner FROM gateways WHERE owner = $1 AND cluster = $2 FOR KEY SHARE"

FORGET_AFTER: Final = """
WITH forgotten AS (
    DELETE FROM gateway_messages WHERE key IN (
        SELECT key FROM gateway_messages WHERE owner IS NULL AND key > $1 ORDER BY key LIMIT $2 FOR UPDATE
    )
    RETURNING key
)
SELECT key FROM forgotten ORDER BY key DESC LIMIT 1
"""

NOTE_CLUSTER: Final = "UPDATE gateway_cluster SET cluster = $1"

FORGET_OLDEST: Final = """
DELETE FROM gateway_messages WHERE key IN (
    SELECT key FROM gateway_messages WHERE owner IS NULL AND expires <= $1
    ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED
)
"""

FORGET_MINUTES: Final = "DELETE FROM gateway_ledger WHERE minute < $1"

# What the planner believes: exact enough for a bound, and free.
ROWS: Final = "SELECT reltuples::bigint AS rows FROM pg_class WHERE oid = 'gateway_messages'::regclass"

LEDGER: Final = """
SELECT workspace, source, CASE WHEN $5 THEN minute ELSE 0 END AS minute, outcome, sum(count)::bigint AS count
FROM gateway_ledger
WHERE minute >= $1 AND minute < $2 AND ($3 = '' OR workspace = $3) AND ($4 = '' OR source = $4)
GROUP BY 1, 2, 3, 4
"""
