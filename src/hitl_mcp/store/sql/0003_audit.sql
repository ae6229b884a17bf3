-- The chain of events (see `chain.py`), seals on what will be relied on later (see `seals.py`), and what retention
-- erased. Events written before this are linked, and open calls sealed, as they are found when this migration runs.

ALTER TABLE events ADD COLUMN facts TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN hash TEXT NOT NULL DEFAULT '';
CREATE INDEX events_tampering ON events (number) WHERE by = 'seals';

ALTER TABLE calls ADD COLUMN seal TEXT NOT NULL DEFAULT '';
ALTER TABLE calls ADD COLUMN erased_at TEXT;

ALTER TABLE verdicts ADD COLUMN seal TEXT NOT NULL DEFAULT '';
