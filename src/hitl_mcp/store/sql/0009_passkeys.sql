-- Passkeys of reviewers (see `passkeys.py`), the assertions that verdicts carry, and sign-ins under a seal. Whoever is
-- signed in when this migration runs signs in again: their rows have no seal.

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

CREATE TABLE assertions (
    call_id        TEXT NOT NULL REFERENCES calls (id),
    digest         TEXT NOT NULL,
    reviewer       TEXT NOT NULL,
    kind           TEXT NOT NULL,
    assertion_json TEXT NOT NULL,
    PRIMARY KEY (call_id, digest, reviewer, kind)
) STRICT, WITHOUT ROWID;

DROP TABLE sign_ins;
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
