-- Whatever must reach the cloud. A row goes when the broker has acknowledged it.
CREATE TABLE outbox (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of arrival, never used twice
    id      TEXT NOT NULL UNIQUE,               -- by which receivers drop repeats
    class   INTEGER NOT NULL,                   -- 0 escalation, 1 report, 2 telemetry
    topic   TEXT NOT NULL,
    payload BLOB NOT NULL,
    size    INTEGER NOT NULL,                   -- bytes charged against the bound
    created REAL NOT NULL,                      -- wall time, seconds since the Unix epoch
    expires REAL,                               -- wall time as the producer said; NULL for never
    due     REAL,                               -- seconds of outbox_clock; NULL for never
    level   INTEGER NOT NULL DEFAULT 0          -- how often it was folded into an aggregate
) STRICT;
CREATE INDEX outbox_by_class ON outbox (class, seq);
CREATE INDEX outbox_by_due ON outbox (due) WHERE due IS NOT NULL;

-- What became of every row there ever was:
-- enqueued = delivered + evicted + expired + thinned + damaged + queued.
CREATE TABLE outbox_counts (
    class     INTEGER PRIMARY KEY,
    enqueued  INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    evicted   INTEGER NOT NULL DEFAULT 0,
    expired   INTEGER NOT NULL DEFAULT 0,
    thinned   INTEGER NOT NULL DEFAULT 0,       -- folded into an aggregate
    damaged   INTEGER NOT NULL DEFAULT 0,       -- lost in a damaged file
    bytes     INTEGER NOT NULL DEFAULT 0        -- of the rows still queued
) STRICT;
INSERT INTO outbox_counts (class) VALUES (0), (1), (2);

-- The bound, kept beside the rows so that every writer keeps to it.
CREATE TABLE outbox_limits (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    rows  INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
INSERT INTO outbox_limits VALUES (1, 1000000, 268435456);

-- Time by which rows expire: what the agent was awake for, whatever the wall clock says.
CREATE TABLE outbox_clock (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    seconds REAL NOT NULL
) STRICT;
INSERT INTO outbox_clock VALUES (1, 0.0);

-- What a task knows about a stream, opaque to the store.
CREATE TABLE stream_states (
    stream TEXT PRIMARY KEY,
    state  BLOB NOT NULL
) STRICT, WITHOUT ROWID;
