BEGIN TRANSACTION;
CREATE TABLE audit (
    seq    INTEGER PRIMARY KEY,
    time   REAL NOT NULL,
    kind   TEXT NOT NULL,
    detail BLOB NOT NULL,                        -- JSON
    hash   BLOB NOT NULL
) STRICT;
INSERT INTO "audit" VALUES(1,1700000000.0,'escalation.opened',X'7B226964223A226B696F736B2D31227D',X'7A1F36C8F693994B138B520F624553FA6204F09F69F1679630BC725B5835AF34');
INSERT INTO "audit" VALUES(2,1700000060.0,'escalation.answered',X'7B226964223A226B696F736B2D31227D',X'867E44A152DB90441ED4DCE2D30E81C4953B32F30797E7D8602196DA78FDA870');
CREATE TABLE audit_anchor (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    seq  INTEGER NOT NULL,                       -- of the newest row that was let go
    hash BLOB NOT NULL
) STRICT;
INSERT INTO "audit_anchor" VALUES(1,0,X'0000000000000000000000000000000000000000000000000000000000000000');
CREATE TABLE commands (
    id      TEXT PRIMARY KEY,
    name    TEXT NOT NULL,
    digest  TEXT NOT NULL,                       -- of what was signed
    expires REAL NOT NULL,                       -- wall time, as the operator said
    result  BLOB NOT NULL                        -- JSON
) STRICT, WITHOUT ROWID;
INSERT INTO "commands" VALUES('c-1','ping','efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef',1700000060.0,X'7B226F6B223A747275657D');
CREATE TABLE escalations (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of arrival
    id       TEXT NOT NULL UNIQUE,               -- chosen by the caller or by the agent
    owner    INTEGER,                            -- user that asked; NULL for the agent itself
    request  TEXT NOT NULL,                      -- digest of what was asked, by which a repeat is known
    subject  TEXT NOT NULL,                      -- the warning it is about; '' for none
    model    TEXT NOT NULL,
    version  TEXT NOT NULL,
    digest   TEXT NOT NULL,                      -- of the input, SHA-256; '' where it has none
    state    TEXT NOT NULL,                      -- open, answered, closed
    created  REAL NOT NULL,                      -- wall time, seconds since the Unix epoch
    deadline REAL NOT NULL,                      -- wall time until which an answer is of use
    body     BLOB NOT NULL,                      -- as it was sent: redacted
    answer   BLOB,                               -- JSON; NULL until there is one
    source   TEXT NOT NULL DEFAULT '',           -- who answered
    answered REAL                                -- wall time of the answer
) STRICT;
INSERT INTO "escalations" VALUES(1,'kiosk-1',1000,'abababababababababababababababababababababababababababababababab','','faq','1.0.0','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd','answered',1700000000.0,1700003600.0,X'7B227175657374696F6E223A227768656E3F227D',X'226174206E696E6522','desk',1700000060.0);
CREATE TABLE feedback (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    escalation TEXT NOT NULL UNIQUE,
    model      TEXT NOT NULL,
    version    TEXT NOT NULL,
    digest     TEXT NOT NULL,
    answer     BLOB NOT NULL,
    source     TEXT NOT NULL,
    time       REAL NOT NULL
) STRICT;
INSERT INTO "feedback" VALUES(1,'kiosk-1','faq','1.0.0','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',X'226174206E696E6522','desk',1700000060.0);
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
CREATE TABLE time_floor (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    wall REAL NOT NULL
) STRICT;
INSERT INTO "time_floor" VALUES(1,0.0);
CREATE TABLE twin (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    version  INTEGER NOT NULL,                   -- of the desired document
    desired  BLOB NOT NULL,                      -- JSON
    reports  INTEGER NOT NULL                    -- version of the reported document
) STRICT;
INSERT INTO "twin" VALUES(1,3,X'7B226C6F675F6C6576656C223A226465627567227D',1);
CREATE INDEX outbox_by_class ON outbox (class, seq);
CREATE INDEX outbox_by_due ON outbox (due) WHERE due IS NOT NULL;
CREATE INDEX escalations_by_state ON escalations (state, seq);
CREATE INDEX escalations_by_subject ON escalations (subject) WHERE subject <> '';
CREATE INDEX commands_by_expiry ON commands (expires);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('outbox',3);
INSERT INTO "sqlite_sequence" VALUES('escalations',1);
INSERT INTO "sqlite_sequence" VALUES('feedback',1);
PRAGMA user_version = 2;
COMMIT;
