-- Grants: bounded permissions that reviewers give for calls like one they saw. A call that ran on one names it.

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

ALTER TABLE calls ADD COLUMN grant_id TEXT;

CREATE INDEX calls_granted ON calls (grant_id, status) WHERE grant_id IS NOT NULL;

-- What the chain says of a grant is found by the id that its detail begins with; no other event of no call has a version.
CREATE INDEX events_of_grant ON events (substr(detail, 1, 15), number) WHERE call_id = '' AND version > 0;
