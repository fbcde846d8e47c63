-- Questions for a person or a larger model, and what became of them.
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
CREATE INDEX escalations_by_state ON escalations (state, seq);
CREATE INDEX escalations_by_subject ON escalations (subject) WHERE subject <> '';

-- What people and larger models said about this device's answers, for the next training.
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

-- What the operator wants of this device, and what it last said about itself.
CREATE TABLE twin (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    version  INTEGER NOT NULL,                   -- of the desired document
    desired  BLOB NOT NULL,                      -- JSON
    reports  INTEGER NOT NULL                    -- version of the reported document
) STRICT;
INSERT INTO twin VALUES (1, 0, x'7B7D', 0);

-- Commands that were carried out, by which a repeat is answered and not done again.
CREATE TABLE commands (
    id      TEXT PRIMARY KEY,
    name    TEXT NOT NULL,
    digest  TEXT NOT NULL,                       -- of what was signed
    expires REAL NOT NULL,                       -- wall time, as the operator said
    result  BLOB NOT NULL                        -- JSON
) STRICT, WITHOUT ROWID;
CREATE INDEX commands_by_expiry ON commands (expires);

-- The time before which no command is current; it rises to the expiry of those that are forgotten.
CREATE TABLE time_floor (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    wall REAL NOT NULL
) STRICT;
INSERT INTO time_floor VALUES (1, 0.0);

-- What was decided and sent. Each row's hash covers the one before, from the anchor on.
CREATE TABLE audit (
    seq    INTEGER PRIMARY KEY,
    time   REAL NOT NULL,
    kind   TEXT NOT NULL,
    detail BLOB NOT NULL,                        -- JSON
    hash   BLOB NOT NULL
) STRICT;
CREATE TABLE audit_anchor (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    seq  INTEGER NOT NULL,                       -- of the newest row that was let go
    hash BLOB NOT NULL
) STRICT;
INSERT INTO audit_anchor VALUES (1, 0, zeroblob(32));
