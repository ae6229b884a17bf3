-- What reviewers' edits replaced: each row has a call as it was before one, to the byte. And which agents are stopped.

ALTER TABLE calls ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;

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

CREATE TABLE stops (
    agent   TEXT PRIMARY KEY,
    by      TEXT NOT NULL,
    at      TEXT NOT NULL,
    reason  TEXT NOT NULL,
    call_id TEXT NOT NULL,
    seal    TEXT NOT NULL
) STRICT, WITHOUT ROWID;
