-- A database as the first version wrote it: held, approved, rejected, allowed and running calls, and one of two approvals.
BEGIN TRANSACTION;
CREATE TABLE calls (
    seq                INTEGER PRIMARY KEY,
    id                 TEXT NOT NULL UNIQUE,
    version            INTEGER NOT NULL,
    status             TEXT NOT NULL CHECK (status IN (
        'held', 'denied', 'approved', 'rejected', 'expired', 'withdrawn', 'invalidated',
        'running', 'succeeded', 'failed', 'unknown')),
    is_open            INTEGER NOT NULL CHECK (is_open = (status IN ('held', 'approved', 'running', 'unknown'))),
    upstream           TEXT NOT NULL,
    tool               TEXT NOT NULL,
    name               TEXT NOT NULL,
    arguments_json     TEXT NOT NULL,
    meta_json          TEXT NOT NULL,
    agent              TEXT NOT NULL,
    fingerprint        TEXT NOT NULL,
    definition         TEXT NOT NULL,
    conversation       TEXT NOT NULL,
    claim              TEXT NOT NULL,
    digest             TEXT NOT NULL,
    request_key        TEXT NOT NULL,
    effect             TEXT NOT NULL CHECK (effect IN ('allow', 'hold', 'deny')),
    decision_json      TEXT NOT NULL,
    created_at         TEXT NOT NULL,
    changed_at         TEXT NOT NULL,
    expires_at         TEXT,
    run_by             TEXT,
    handed_over_at     TEXT,
    repeat_of          TEXT,
    closed_reason      TEXT NOT NULL DEFAULT '',
    runner             TEXT NOT NULL,
    epoch              INTEGER NOT NULL,
    outcome_at         TEXT,
    outcome_detail     TEXT,
    executed           INTEGER,
    result_json        TEXT,
    result_digest      TEXT,
    result_bytes       INTEGER
) STRICT;
INSERT INTO "calls" VALUES(1,'c_gatycvk6ioxao',1,'held',1,'mail','send','mail__send','{"n":1}','{}','builder','sha256:1111111111111111111111111111111111111111111111111111111111111111','sha256:2222222222222222222222222222222222222222222222222222222222222222','conv','they asked','sha256:5ff0a1c1314b1921dc0bd29902860420df24d9ec1dedad2435b50e9beb169d33','sha256:6dda24be4597139b5ba7d2c41d9303e6bb65bcae73362c3b57d32145d696fbfb','hold','{"effect":"hold","score":40,"policy":"sha256:0000000000000000000000000000000000000000000000000000000000000000","reasons":["leaves the company"],"rules":[["mail-out","hold","leaves the company",null]],"signals":[],"band":null,"requirements":[["mail-out",[],1]],"expires_in_seconds":600,"run_within_seconds":300,"paused":false}','2026-11-22T12:00:00.000000Z','2026-11-22T12:00:00.000000Z','2026-11-22T12:10:00.000000Z',NULL,NULL,NULL,'','local',1,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "calls" VALUES(2,'c_fsetokfecsfty',2,'approved',1,'mail','send','mail__send','{"n":2}','{}','builder','sha256:1111111111111111111111111111111111111111111111111111111111111111','sha256:2222222222222222222222222222222222222222222222222222222222222222','conv','they asked','sha256:59d7b47a0bd7c0858d42d78ff51f3d641ee395c9d754b247f931bf302fb8173d','sha256:f41e9afc8bd5c2d9a401133ab8c03ded5315559f449ee59eb3bf98f84b4b1f3b','hold','{"effect":"hold","score":40,"policy":"sha256:0000000000000000000000000000000000000000000000000000000000000000","reasons":["leaves the company"],"rules":[["mail-out","hold","leaves the company",null]],"signals":[],"band":null,"requirements":[["mail-out",[],1]],"expires_in_seconds":600,"run_within_seconds":300,"paused":false}','2026-11-22T12:00:00.000000Z','2026-11-22T12:00:00.000000Z','2026-11-22T12:10:00.000000Z','2026-11-22T12:05:00.000000Z',NULL,NULL,'','local',1,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "calls" VALUES(3,'c_pjp36ipiaimnh',2,'rejected',0,'mail','send','mail__send','{"n":3}','{}','builder','sha256:1111111111111111111111111111111111111111111111111111111111111111','sha256:2222222222222222222222222222222222222222222222222222222222222222','conv','they asked','sha256:e1be72a1eb60053c7fbfa7e49be9b51279253c3561fc9d4d268c3b89bee6db74','sha256:a6635a2176728832b01c2897922d83f7e100c8f1172dbca5ea84ada241d5b3eb','hold','{"effect":"hold","score":40,"policy":"sha256:0000000000000000000000000000000000000000000000000000000000000000","reasons":["leaves the company"],"rules":[["mail-out","hold","leaves the company",null]],"signals":[],"band":null,"requirements":[["mail-out",[],1]],"expires_in_seconds":600,"run_within_seconds":300,"paused":false}','2026-11-22T12:00:00.000000Z','2026-11-22T12:00:00.000000Z','2026-11-22T12:10:00.000000Z',NULL,NULL,NULL,'','local',1,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "calls" VALUES(4,'c_aef8egpmjqbcs',2,'succeeded',0,'mail','send','mail__send','{"n":4}','{}','builder','sha256:1111111111111111111111111111111111111111111111111111111111111111','sha256:2222222222222222222222222222222222222222222222222222222222222222','conv','they asked','sha256:89d89d1bdac8eb076adcf5a1148590292f7fa85bf89d220d0b64f3c3a9a41b30','sha256:14b9b8a22210bcfca89127acd46d67acaf7fbf3edbfebc81e2493b7be06bbf46','allow','{"effect":"allow","score":0,"policy":"sha256:0000000000000000000000000000000000000000000000000000000000000000","reasons":[],"rules":[],"signals":[],"band":null,"requirements":[],"expires_in_seconds":86400,"run_within_seconds":3600,"paused":false}','2026-11-22T12:00:00.000000Z','2026-11-22T12:00:00.000000Z',NULL,NULL,NULL,NULL,'','local',1,'2026-11-22T12:00:00.000000Z','',1,NULL,NULL,NULL);
INSERT INTO "calls" VALUES(5,'c_atxthdn3ook76',1,'running',1,'mail','send','mail__send','{"n":5}','{}','builder','sha256:1111111111111111111111111111111111111111111111111111111111111111','sha256:2222222222222222222222222222222222222222222222222222222222222222','conv','they asked','sha256:778e9a26d14a94f5cbbcc7a28632413d65699c91067d10d365e41e15d55d9909','sha256:81a7dfe173da9f4f5be62e93a255f761a730909043d153c2e3b78784c85e8102','allow','{"effect":"allow","score":0,"policy":"sha256:0000000000000000000000000000000000000000000000000000000000000000","reasons":[],"rules":[],"signals":[],"band":null,"requirements":[],"expires_in_seconds":86400,"run_within_seconds":3600,"paused":false}','2026-11-22T12:00:00.000000Z','2026-11-22T12:00:00.000000Z',NULL,NULL,NULL,NULL,'','local',1,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "calls" VALUES(6,'c_a7z3wqevpmtfj',2,'held',1,'mail','send','mail__send','{"n":6}','{}','builder','sha256:1111111111111111111111111111111111111111111111111111111111111111','sha256:2222222222222222222222222222222222222222222222222222222222222222','conv','they asked','sha256:fb6ba40f2426d7feaddcda674e7b50b6941a9c11e9e7611f5cbd14a4f44ea977','sha256:d2369a2398079b2b4623470716fe43608f394283f0b9d83bc5512375504f9c57','hold','{"effect":"hold","score":40,"policy":"sha256:0000000000000000000000000000000000000000000000000000000000000000","reasons":["leaves the company"],"rules":[["mail-out","hold","leaves the company",null]],"signals":[],"band":null,"requirements":[["two",[],2]],"expires_in_seconds":600,"run_within_seconds":300,"paused":false}','2026-11-22T12:00:00.000000Z','2026-11-22T12:00:00.000000Z','2026-11-22T12:10:00.000000Z',NULL,NULL,NULL,'','local',1,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE events (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    call_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    status  TEXT,
    at      TEXT NOT NULL,
    by      TEXT NOT NULL,
    detail  TEXT NOT NULL
) STRICT;
INSERT INTO "events" VALUES(1,'c_gatycvk6ioxao',1,'asked','held','2026-11-22T12:00:00.000000Z','agent:builder','');
INSERT INTO "events" VALUES(2,'c_fsetokfecsfty',1,'asked','held','2026-11-22T12:00:00.000000Z','agent:builder','');
INSERT INTO "events" VALUES(3,'c_fsetokfecsfty',2,'approved','approved','2026-11-22T12:00:00.000000Z','reviewer:dana','');
INSERT INTO "events" VALUES(4,'c_pjp36ipiaimnh',1,'asked','held','2026-11-22T12:00:00.000000Z','agent:builder','');
INSERT INTO "events" VALUES(5,'c_pjp36ipiaimnh',2,'rejected','rejected','2026-11-22T12:00:00.000000Z','reviewer:dana','');
INSERT INTO "events" VALUES(6,'c_aef8egpmjqbcs',1,'asked','running','2026-11-22T12:00:00.000000Z','agent:builder','');
INSERT INTO "events" VALUES(7,'c_aef8egpmjqbcs',2,'succeeded','succeeded','2026-11-22T12:00:00.000000Z','gateway','');
INSERT INTO "events" VALUES(8,'c_atxthdn3ook76',1,'asked','running','2026-11-22T12:00:00.000000Z','agent:builder','');
INSERT INTO "events" VALUES(9,'c_a7z3wqevpmtfj',1,'asked','held','2026-11-22T12:00:00.000000Z','agent:builder','');
INSERT INTO "events" VALUES(10,'c_a7z3wqevpmtfj',2,'approval','held','2026-11-22T12:00:00.000000Z','reviewer:dana','');
CREATE TABLE settings (
    key        TEXT PRIMARY KEY,
    value_json TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "settings" VALUES('epoch','1');
CREATE TABLE sign_ins (
    key_digest TEXT PRIMARY KEY,
    reviewer   TEXT NOT NULL,
    assurance  TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE verdicts (
    call_id    TEXT NOT NULL REFERENCES calls (id),
    digest     TEXT NOT NULL,
    reviewer   TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('approve', 'reject')),
    roles_json TEXT NOT NULL,
    surface    TEXT NOT NULL,
    assurance  TEXT NOT NULL,
    reason     TEXT NOT NULL,
    at         TEXT NOT NULL,
    PRIMARY KEY (call_id, digest, reviewer)
) STRICT, WITHOUT ROWID;
INSERT INTO "verdicts" VALUES('c_a7z3wqevpmtfj','sha256:fb6ba40f2426d7feaddcda674e7b50b6941a9c11e9e7611f5cbd14a4f44ea977','dana','approve','[]','web','link','','2026-11-22T12:00:00.000000Z');
INSERT INTO "verdicts" VALUES('c_fsetokfecsfty','sha256:59d7b47a0bd7c0858d42d78ff51f3d641ee395c9d754b247f931bf302fb8173d','dana','approve','[]','web','link','','2026-11-22T12:00:00.000000Z');
INSERT INTO "verdicts" VALUES('c_pjp36ipiaimnh','sha256:e1be72a1eb60053c7fbfa7e49be9b51279253c3561fc9d4d268c3b89bee6db74','dana','reject','[]','web','link','','2026-11-22T12:00:00.000000Z');
CREATE UNIQUE INDEX calls_one_open_request ON calls (request_key) WHERE is_open AND effect = 'hold';
CREATE INDEX calls_by_request ON calls (request_key, seq) WHERE effect = 'hold' OR status = 'unknown';
CREATE INDEX calls_open ON calls (agent, seq) WHERE is_open;
CREATE INDEX calls_untold ON calls (agent, seq) WHERE effect = 'hold' AND handed_over_at IS NULL;
CREATE INDEX events_of_call ON events (call_id, number);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',10);
COMMIT;
PRAGMA user_version=1;
