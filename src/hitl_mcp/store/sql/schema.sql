-- The schema as the migrations make it, for reading: nothing runs this, and a test keeps it equal to them.

CREATE TABLE assertions (
    call_id        TEXT NOT NULL REFERENCES calls (id),
    digest         TEXT NOT NULL,
    reviewer       TEXT NOT NULL,
    kind           TEXT NOT NULL,
    assertion_json TEXT NOT NULL,
    PRIMARY KEY (call_id, digest, reviewer, kind)
) STRICT, WITHOUT ROWID;

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
    resolved           INTEGER NOT NULL DEFAULT 0,
    revision           INTEGER NOT NULL DEFAULT 0,
    grant_id           TEXT,
    score              INTEGER,
    likeness           TEXT,
    roles_json         TEXT
) STRICT;

CREATE INDEX calls_by_request ON calls (request_key, seq) WHERE effect = 'hold' OR status = 'unknown';

CREATE UNIQUE INDEX calls_one_open_request ON calls (request_key) WHERE is_open AND effect = 'hold';

CREATE INDEX calls_resolved ON calls (agent, seq) WHERE resolved AND handed_over_at IS NULL;

CREATE INDEX calls_open ON calls (agent, status, seq, name, effect, grant_id, is_open) WHERE is_open;

CREATE INDEX calls_queue ON calls (agent, name, roles_json, score, expires_at, likeness, seq, status, is_open)
WHERE is_open AND status = 'held';

CREATE INDEX calls_settled ON calls (status, seq, is_open) WHERE NOT is_open;

CREATE INDEX calls_of_agent ON calls (agent, status, seq, name, effect, grant_id, is_open) WHERE NOT is_open;

CREATE INDEX calls_of_tool ON calls (name, status, effect, seq, grant_id, is_open) WHERE NOT is_open;

CREATE INDEX calls_of_conversation ON calls (conversation, seq);

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

CREATE INDEX events_retold ON events (number) WHERE call_id <> '' AND (detail <> '' OR kind IN ('edited', 'erased'));

-- What the chain says of a grant is found by the id that its detail begins with; no other event of no call has a version.
CREATE INDEX events_of_grant ON events (substr(detail, 1, 15), number) WHERE call_id = '' AND version > 0;

CREATE TABLE grants (
    id              TEXT PRIMARY KEY,
    version         INTEGER NOT NULL,
    agent           TEXT NOT NULL,
    upstream        TEXT NOT NULL,
    tool            TEXT NOT NULL,
    name            TEXT NOT NULL,
    fingerprint     TEXT NOT NULL,
    definition      TEXT NOT NULL,
    conditions_json TEXT NOT NULL,
    shape_json      TEXT NOT NULL,
    uses            INTEGER NOT NULL,
    given_by        TEXT NOT NULL,
    roles_json      TEXT NOT NULL,
    surface         TEXT NOT NULL,
    assurance       TEXT NOT NULL,
    given_at        TEXT NOT NULL,
    expires_at      TEXT NOT NULL,
    call_id         TEXT NOT NULL REFERENCES calls (id),
    digest          TEXT NOT NULL,
    reason          TEXT NOT NULL,
    used            INTEGER NOT NULL CHECK (used BETWEEN 0 AND uses),
    ended_at        TEXT,
    ended_by        TEXT,
    ended_why       TEXT,
    seal            TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX grants_live ON grants (agent, name) WHERE ended_at IS NULL;

CREATE INDEX calls_granted ON calls (grant_id, status) WHERE grant_id IS NOT NULL;

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

CREATE TABLE passkeys (
    id                TEXT PRIMARY KEY,
    reviewer          TEXT NOT NULL,
    public_key        TEXT NOT NULL,
    rp_id             TEXT NOT NULL,
    label             TEXT NOT NULL,
    transports        TEXT NOT NULL,
    created_at        TEXT NOT NULL,
    confirmed_by      TEXT,
    confirmation_json TEXT NOT NULL,
    removed_at        TEXT,
    removed_by        TEXT,
    removal_json      TEXT NOT NULL DEFAULT '',
    sign_count        INTEGER NOT NULL,
    last_used_at      TEXT,
    seal              TEXT NOT NULL
) STRICT, WITHOUT ROWID;

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

CREATE TABLE revisions (
    call_id        TEXT NOT NULL REFERENCES calls (id),
    number         INTEGER NOT NULL,
    arguments_json TEXT NOT NULL,
    digest         TEXT NOT NULL,
    decision_json  TEXT NOT NULL,
    expires_at     TEXT NOT NULL,
    edited_by      TEXT NOT NULL,
    edited_at      TEXT NOT NULL,
    reason         TEXT NOT NULL,
    seal           TEXT NOT NULL,
    PRIMARY KEY (call_id, number)
) STRICT;

CREATE TABLE settings (
    key        TEXT PRIMARY KEY,
    value_json TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sign_ins (
    key_digest   TEXT PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    reviewer     TEXT NOT NULL,
    assurance    TEXT NOT NULL,
    surface      TEXT NOT NULL,
    label        TEXT NOT NULL,
    created_at   TEXT NOT NULL,
    expires_at   TEXT NOT NULL,
    last_seen_at TEXT NOT NULL,
    seal         TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE stops (
    agent   TEXT PRIMARY KEY,
    by      TEXT NOT NULL,
    at      TEXT NOT NULL,
    reason  TEXT NOT NULL,
    call_id TEXT NOT NULL,
    seal    TEXT NOT NULL
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
    considered_seconds REAL,
    PRIMARY KEY (call_id, digest, reviewer)
) STRICT, WITHOUT ROWID;

CREATE INDEX verdicts_by_reviewer ON verdicts (reviewer, at);
