BEGIN TRANSACTION;
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
INSERT INTO "outbox" VALUES(1,'018bcfe5-6800-7000-8000-000000000001',0,'edge/d/press-1/escalation/018bcfe5-6800-7000-8000-000000000001',X'7B226964223A2230313862636665352D363830302D373030302D383030302D303030303030303030303031222C22636C617373223A22657363616C6174696F6E227D',278,1700000000.0,NULL,NULL,0);
INSERT INTO "outbox" VALUES(2,'018bcfe5-6800-7000-8000-000000000002',2,'edge/d/press-1/telemetry/pump-1',X'7B226964223A2230313862636665352D363830302D373030302D383030302D303030303030303030303032222C22636C617373223A2274656C656D65747279227D',246,1700000001.0,1700086400.0,86459.0,0);
CREATE TABLE outbox_clock (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    seconds REAL NOT NULL
) STRICT;
INSERT INTO "outbox_clock" VALUES(1,0.0);
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
INSERT INTO "outbox_counts" VALUES(0,1,0,0,0,0,0,278);
INSERT INTO "outbox_counts" VALUES(1,1,1,0,0,0,0,0);
INSERT INTO "outbox_counts" VALUES(2,1,0,0,0,0,0,246);
CREATE TABLE outbox_limits (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    rows  INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
INSERT INTO "outbox_limits" VALUES(1,1000000,268435456);
CREATE TABLE stream_states (
    stream TEXT PRIMARY KEY,
    state  BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "stream_states" VALUES('pump-1',X'0102');
CREATE INDEX outbox_by_class ON outbox (class, seq);
CREATE INDEX outbox_by_due ON outbox (due) WHERE due IS NOT NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('outbox',3);
PRAGMA user_version = 1;
COMMIT;
