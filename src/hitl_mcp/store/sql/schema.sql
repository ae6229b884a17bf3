-- The schema as the migrations make it, for reading: nothing runs this, and a test keeps it equal to them.

CREATE TABLE calls (
    seq                INTEGER PRIMARY KEY,
    id                 TEXT NOT NULL UNIQUE,
    version            INTEGER NOT NULL,
    status             TEXT NOT NULL CHECK (status IN (
        'held', 'denied', 'approved', 'rejected', 'expired', 'withdrawn', 'invalidated',
        'running', 'succeeded', 'failed', 'unknown', 'released')),
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
    result_bytes       INTEGER,
    seal               TEXT NOT NULL DEFAULT '',
    erased_at          TEXT,
    resolved           INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX calls_by_request ON calls (request_key, seq) WHERE effect = 'hold' OR status = 'unknown';

CREATE UNIQUE INDEX calls_one_open_request ON calls (request_key) WHERE is_open AND effect = 'hold';

CREATE INDEX calls_resolved ON calls (agent, seq) WHERE resolved AND handed_over_at IS NULL;

CREATE INDEX calls_open ON calls (agent, seq) WHERE is_open;

CREATE INDEX calls_untold ON calls (agent, seq) WHERE effect = 'hold' AND handed_over_at IS NULL;

CREATE TABLE events (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    call_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    status  TEXT,
    at      TEXT NOT NULL,
    by      TEXT NOT NULL,
    detail  TEXT NOT NULL,
    facts   TEXT NOT NULL DEFAULT '',
    hash    TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX events_of_call ON events (call_id, number);

CREATE INDEX events_tampering ON events (number) WHERE by = 'seals';

CREATE TABLE marks (
    item     TEXT NOT NULL,
    scope    TEXT NOT NULL,
    value    TEXT NOT NULL,
    at       TEXT NOT NULL,
    call_id  TEXT NOT NULL REFERENCES calls (id),
    amount   INTEGER NOT NULL,
    PRIMARY KEY (item, scope, value, at, call_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX marks_of_call ON marks (call_id);

CREATE TABLE pins (
    name            TEXT PRIMARY KEY,
    upstream        TEXT NOT NULL,
    definition      TEXT NOT NULL,
    definition_json TEXT NOT NULL,
    accepted_at     TEXT NOT NULL,
    accepted_by     TEXT NOT NULL,
    changed_at      TEXT,
    seal            TEXT NOT NULL
) STRICT;

CREATE TABLE policies (
    version  TEXT PRIMARY KEY,
    written  TEXT NOT NULL,
    first_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE previews (
    call_id     TEXT NOT NULL REFERENCES calls (id),
    rule        TEXT NOT NULL,
    name        TEXT NOT NULL,
    at          TEXT NOT NULL,
    preview_id  TEXT,
    result_json TEXT,
    problem     TEXT,
    PRIMARY KEY (call_id, rule)
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
    key        TEXT PRIMARY KEY,
    value_json TEXT NOT NULL
) STRICT, WITHOUT ROWID;

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
    seal       TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (call_id, digest, reviewer)
) STRICT, WITHOUT ROWID;
