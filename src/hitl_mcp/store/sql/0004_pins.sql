-- What definition of each tool was accepted: at first sight, or by an operator. `changed_at` is when another one was
-- first offered since. The seal is over everything but that (see `pins.py`).

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
