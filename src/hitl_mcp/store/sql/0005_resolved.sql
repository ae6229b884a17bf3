-- Calls whose outcome was unknown and was found out later: news for the agent, also where nobody was asked before.

ALTER TABLE calls ADD COLUMN resolved INTEGER NOT NULL DEFAULT 0;
CREATE INDEX calls_resolved ON calls (agent, seq) WHERE resolved AND handed_over_at IS NULL;
