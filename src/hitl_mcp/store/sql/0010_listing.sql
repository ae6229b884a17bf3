-- What lists, searches and figures are read by. The three columns are only of calls that wait for people, and copies of
-- what stands in the record: they put the queue in order, and nothing is decided on them.

ALTER TABLE calls ADD COLUMN score INTEGER;
ALTER TABLE calls ADD COLUMN likeness TEXT;
ALTER TABLE calls ADD COLUMN roles_json TEXT;
UPDATE calls SET score = json_extract(decision_json, '$.score'), likeness = id,
    roles_json = (SELECT json_group_array(json_extract(value, '$[1]')) FROM json_each(decision_json, '$.requirements'))
WHERE is_open AND status = 'held';

-- An index that has all that a statement names is read alone, without the calls: so `is_open` stands in those that are
-- only of open, or only of settled ones.
DROP INDEX calls_open;
CREATE INDEX calls_open ON calls (agent, status, seq, name, effect, grant_id, is_open) WHERE is_open;
CREATE INDEX calls_queue ON calls (agent, name, roles_json, score, expires_at, likeness, seq, status, is_open)
WHERE is_open AND status = 'held';

CREATE INDEX calls_settled ON calls (status, seq, is_open) WHERE NOT is_open;
CREATE INDEX calls_of_agent ON calls (agent, status, seq, name, effect, grant_id, is_open) WHERE NOT is_open;
CREATE INDEX calls_of_tool ON calls (name, status, effect, seq, grant_id, is_open) WHERE NOT is_open;
CREATE INDEX calls_of_conversation ON calls (conversation, seq);

-- The events after which a call has another text to be found by.
CREATE INDEX events_retold ON events (number) WHERE call_id <> '' AND (detail <> '' OR kind IN ('edited', 'erased'));
