-- What calls leave for the signals and budgets that look at earlier calls. A mark's time is when its call was asked for,
-- and once it runs, when it started. Whether it counts is told by the status of its call: nothing is kept twice.

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

-- Every policy that was ever in force, by its hash: what its files said, as canonical JSON.
CREATE TABLE policies (
    version  TEXT PRIMARY KEY,
    written  TEXT NOT NULL,
    first_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What people are shown of what a held call would do.
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
