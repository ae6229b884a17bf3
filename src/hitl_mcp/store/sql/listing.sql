-- What lists, searches and figures ask, by name. Each keeps to an index: a test looks at the plans.

-- name: calls_by_seq
SELECT * FROM calls WHERE seq IN (SELECT value FROM json_each(:seqs)) ORDER BY seq DESC

-- name: verdicts_of_calls
SELECT * FROM verdicts WHERE call_id IN (SELECT value FROM json_each(:ids)) ORDER BY at, reviewer

-- name: seqs_of_all
SELECT seq FROM calls WHERE seq < :before AND seq >= :since ORDER BY seq DESC LIMIT :limit

-- name: seqs_of_open
SELECT seq FROM calls INDEXED BY calls_open
WHERE is_open AND status IN (SELECT value FROM json_each(:statuses)) AND seq < :before AND seq >= :since
    AND (:agent IS NULL OR agent = :agent) AND (:names IS NULL OR name IN (SELECT value FROM json_each(:names)))
ORDER BY seq DESC LIMIT :limit

-- name: seqs_of_settled
SELECT calls.seq FROM json_each(:statuses) AS asked CROSS JOIN calls ON calls.seq IN (
    SELECT one.seq FROM calls AS one INDEXED BY calls_settled
    WHERE NOT one.is_open AND one.status = asked.value AND one.seq < :before AND one.seq >= :since
    ORDER BY one.seq DESC LIMIT :limit)
ORDER BY calls.seq DESC LIMIT :limit

-- name: seqs_of_agent
SELECT calls.seq FROM json_each(:statuses) AS asked CROSS JOIN calls ON calls.seq IN (
    SELECT one.seq FROM calls AS one INDEXED BY calls_of_agent
    WHERE NOT one.is_open AND one.agent = :agent AND one.status = asked.value
        AND one.seq < :before AND one.seq >= :since
        AND (:names IS NULL OR one.name IN (SELECT value FROM json_each(:names)))
    ORDER BY one.seq DESC LIMIT :limit)
ORDER BY calls.seq DESC LIMIT :limit

-- name: seqs_of_tools
SELECT calls.seq
FROM json_each(:names) AS tool CROSS JOIN json_each(:statuses) AS asked
    CROSS JOIN json_each('["allow", "hold", "deny"]') AS said
    CROSS JOIN calls ON calls.seq IN (
        SELECT one.seq FROM calls AS one INDEXED BY calls_of_tool
        WHERE NOT one.is_open AND one.name = tool.value AND one.status = asked.value AND one.effect = said.value
            AND one.seq < :before AND one.seq >= :since
        ORDER BY one.seq DESC LIMIT :limit)
ORDER BY calls.seq DESC LIMIT :limit

-- name: answered_by
-- The calls that a reviewer answered, the newest answer first; of several answers to one call the last.
SELECT verdicts.at, verdicts.call_id, calls.seq,
    calls.status IN (SELECT value FROM json_each(:statuses)) AND (:agent IS NULL OR calls.agent = :agent)
    AND (:names IS NULL OR calls.name IN (SELECT value FROM json_each(:names)))
    AND calls.created_at >= :from AND calls.created_at < :until AS fits
FROM verdicts CROSS JOIN calls ON calls.id = verdicts.call_id
WHERE verdicts.reviewer = :reviewer AND (verdicts.at, verdicts.call_id) < (:at, :call_id) AND verdicts.at <= :at
    AND NOT EXISTS (
        SELECT 1 FROM verdicts AS later
        WHERE later.call_id = verdicts.call_id AND +later.reviewer = verdicts.reviewer
            AND (+later.at, later.digest) > (verdicts.at, verdicts.digest))
ORDER BY verdicts.at DESC, verdicts.call_id DESC LIMIT :limit

-- name: call_from
SELECT seq, created_at FROM calls WHERE seq >= :seq ORDER BY seq LIMIT 1

-- name: last_seq
SELECT coalesce(max(seq), 0) AS seq FROM calls

-- name: queue_by_urgency
-- Everything that waits for people, from one index: points by the hours that are left.
SELECT seq, CAST(3600000 * (score + 1) / max(unixepoch(expires_at) - :now, 60) AS INTEGER) AS urgency
FROM calls INDEXED BY calls_queue
WHERE is_open AND status = 'held' AND seq >= :since AND seq < :before AND (:agent IS NULL OR agent = :agent)
    AND (:names IS NULL OR name IN (SELECT value FROM json_each(:names)))
    AND (:roles IS NULL OR roles_json IN (SELECT value FROM json_each(:roles)))
    AND seq NOT IN (SELECT value FROM json_each(:done)) AND (urgency < :behind OR (urgency = :behind AND seq > :behind_seq))
ORDER BY urgency DESC, seq LIMIT :limit

-- name: queue_by_agent
SELECT agent AS common, count(*) AS calls, max(score) AS highest, min(expires_at) AS soonest
FROM calls INDEXED BY calls_queue
WHERE is_open AND status = 'held' AND seq >= :since AND seq < :before AND (:agent IS NULL OR agent = :agent)
    AND (:names IS NULL OR name IN (SELECT value FROM json_each(:names)))
    AND (:roles IS NULL OR roles_json IN (SELECT value FROM json_each(:roles)))
    AND seq NOT IN (SELECT value FROM json_each(:done))
GROUP BY agent ORDER BY calls DESC, common

-- name: queue_by_tool
SELECT name AS common, count(*) AS calls, max(score) AS highest, min(expires_at) AS soonest
FROM calls INDEXED BY calls_queue
WHERE is_open AND status = 'held' AND seq >= :since AND seq < :before AND (:agent IS NULL OR agent = :agent)
    AND (:names IS NULL OR name IN (SELECT value FROM json_each(:names)))
    AND (:roles IS NULL OR roles_json IN (SELECT value FROM json_each(:roles)))
    AND seq NOT IN (SELECT value FROM json_each(:done))
GROUP BY name ORDER BY calls DESC, common

-- name: queue_by_likeness
-- `seq` is that of the call whose urgency is the highest.
SELECT likeness AS common, count(*) AS calls, max(score) AS highest, min(expires_at) AS soonest, seq,
    max(CAST(3600000 * (score + 1) / max(unixepoch(expires_at) - :now, 60) AS INTEGER)) AS urgency
FROM calls INDEXED BY calls_queue
WHERE is_open AND status = 'held' AND seq >= :since AND seq < :before AND (:agent IS NULL OR agent = :agent)
    AND (:names IS NULL OR name IN (SELECT value FROM json_each(:names)))
    AND (:roles IS NULL OR roles_json IN (SELECT value FROM json_each(:roles)))
    AND seq NOT IN (SELECT value FROM json_each(:done))
GROUP BY likeness ORDER BY urgency DESC, seq LIMIT :limit

-- name: roles_in_queue
SELECT roles_json, min(seq) AS oldest FROM calls INDEXED BY calls_queue
WHERE is_open AND status = 'held' GROUP BY roles_json

-- name: approved_by_since
-- The held calls that this reviewer has approved as they stand.
SELECT calls.seq FROM verdicts CROSS JOIN calls ON calls.id = verdicts.call_id AND calls.digest = verdicts.digest
WHERE verdicts.reviewer = :reviewer AND verdicts.at >= :since AND verdicts.kind = 'approve' AND calls.status = 'held'

-- name: put_in_queue
UPDATE calls SET score = :score, likeness = :likeness, roles_json = :roles_json WHERE id = :id

-- name: tool_names
-- Each name in turn, so that a tool with a million calls takes one step.
WITH RECURSIVE names (name) AS (
    SELECT min(name) FROM calls INDEXED BY calls_of_tool WHERE NOT is_open
    UNION ALL
    SELECT (SELECT min(name) FROM calls INDEXED BY calls_of_tool WHERE NOT is_open AND name > names.name)
    FROM names WHERE names.name IS NOT NULL)
SELECT name FROM names WHERE name IS NOT NULL
UNION
SELECT name FROM calls INDEXED BY calls_open WHERE is_open

-- name: agent_names
WITH RECURSIVE names (agent) AS (
    SELECT min(agent) FROM calls INDEXED BY calls_of_agent WHERE NOT is_open
    UNION ALL
    SELECT (SELECT min(agent) FROM calls INDEXED BY calls_of_agent WHERE NOT is_open AND agent > names.agent)
    FROM names WHERE names.agent IS NOT NULL)
SELECT agent FROM names WHERE agent IS NOT NULL
UNION
SELECT agent FROM calls INDEXED BY calls_open WHERE is_open

-- name: settled_of_agents
-- How many the policy allowed, people or grants answered, and the policy denied, by status.
SELECT asked.value AS whose, stands.value AS status, (
    SELECT json_array(
        sum(one.effect = 'allow'), sum(one.effect = 'hold' AND one.grant_id IS NULL),
        sum(one.effect = 'hold' AND one.grant_id IS NOT NULL), sum(one.effect = 'deny'))
    FROM calls AS one INDEXED BY calls_of_agent
    WHERE NOT one.is_open AND one.agent = asked.value AND one.status = stands.value AND one.seq >= :since) AS counts
FROM json_each(:whose) AS asked CROSS JOIN json_each(:statuses) AS stands

-- name: settled_of_tools
SELECT asked.value AS whose, stands.value AS status, (
    SELECT json_array(
        (SELECT count(*) FROM calls AS one INDEXED BY calls_of_tool
        WHERE NOT one.is_open AND one.name = asked.value AND one.status = stands.value AND one.effect = 'allow'
            AND one.seq >= :since),
        (SELECT count(*) - count(one.grant_id) FROM calls AS one INDEXED BY calls_of_tool
        WHERE NOT one.is_open AND one.name = asked.value AND one.status = stands.value AND one.effect = 'hold'
            AND one.seq >= :since),
        (SELECT count(one.grant_id) FROM calls AS one INDEXED BY calls_of_tool
        WHERE NOT one.is_open AND one.name = asked.value AND one.status = stands.value AND one.effect = 'hold'
            AND one.seq >= :since),
        (SELECT count(*) FROM calls AS one INDEXED BY calls_of_tool
        WHERE NOT one.is_open AND one.name = asked.value AND one.status = stands.value AND one.effect = 'deny'
            AND one.seq >= :since))) AS counts
FROM json_each(:whose) AS asked CROSS JOIN json_each(:statuses) AS stands

-- name: open_of_agents
SELECT agent AS whose, status, effect, grant_id IS NOT NULL AS granted, seq >= :since AS lately, count(*) AS calls,
    max(seq) AS last
FROM calls INDEXED BY calls_open WHERE is_open AND agent IN (SELECT value FROM json_each(:whose))
GROUP BY whose, status, effect, granted, lately

-- name: open_of_tools
SELECT name AS whose, status, effect, grant_id IS NOT NULL AS granted, seq >= :since AS lately, count(*) AS calls,
    max(seq) AS last
FROM calls INDEXED BY calls_open WHERE is_open AND name IN (SELECT value FROM json_each(:whose))
GROUP BY whose, status, effect, granted, lately

-- name: last_settled_of_agents
SELECT asked.value AS whose, max(
    (SELECT max(one.seq) FROM calls AS one INDEXED BY calls_of_agent
    WHERE NOT one.is_open AND one.agent = asked.value AND one.status = stands.value)) AS last
FROM json_each(:whose) AS asked CROSS JOIN json_each(:statuses) AS stands
GROUP BY asked.value

-- name: last_settled_of_tools
SELECT asked.value AS whose, max(
    (SELECT max(one.seq) FROM calls AS one INDEXED BY calls_of_tool
    WHERE NOT one.is_open AND one.name = asked.value AND one.status = stands.value AND one.effect = said.value)) AS last
FROM json_each(:whose) AS asked CROSS JOIN json_each(:statuses) AS stands
    CROSS JOIN json_each('["allow", "hold", "deny"]') AS said
GROUP BY asked.value

-- name: times_of_calls
SELECT seq, created_at FROM calls WHERE seq IN (SELECT value FROM json_each(:seqs))

-- name: answered_of_tool
-- The last calls of a tool that people were asked about, with the time from asking to the first answer that ended it.
SELECT calls.created_at, max(verdicts.at) AS at FROM json_each(:seqs) AS asked CROSS JOIN calls ON calls.seq = asked.value
    CROSS JOIN verdicts ON verdicts.call_id = calls.id AND verdicts.digest = calls.digest
GROUP BY calls.seq

-- name: before_in_conversation
SELECT seq FROM calls INDEXED BY calls_of_conversation
WHERE conversation = :conversation AND seq < (SELECT here.seq FROM calls AS here WHERE here.id = :id)
ORDER BY seq DESC LIMIT :limit

-- name: after_in_conversation
SELECT seq FROM calls INDEXED BY calls_of_conversation
WHERE conversation = :conversation AND seq > (SELECT here.seq FROM calls AS here WHERE here.id = :id)
ORDER BY seq LIMIT :limit

-- name: seqs_asked_of_people
-- The last calls of a tool that people were asked about, and that are over.
SELECT calls.seq FROM json_each(:statuses) AS asked CROSS JOIN calls ON calls.seq IN (
    SELECT one.seq FROM calls AS one INDEXED BY calls_of_tool
    WHERE NOT one.is_open AND one.name = :name AND one.status = asked.value AND one.effect = 'hold'
    ORDER BY one.seq DESC LIMIT :limit)
ORDER BY calls.seq DESC LIMIT :limit

-- name: arguments_of_calls
SELECT seq, id, status, grant_id IS NOT NULL AS granted, arguments_json, erased_at FROM calls WHERE seq IN (SELECT value FROM json_each(:seqs)) ORDER BY seq DESC

-- name: find_in_blocks
-- Where a text is looked for: the same as `texts_of_calls` gives. The `+` keeps the bounds of the whole search from being
-- the range that is read for each block: only the block is.
SELECT calls.seq FROM json_each(:blocks) AS block
    CROSS JOIN calls ON calls.seq >= block.value AND calls.seq < block.value + :width
WHERE +calls.seq < :before AND +calls.seq >= :since AND calls.status IN (SELECT value FROM json_each(:statuses))
    AND (:agent IS NULL OR calls.agent = :agent)
    AND (:names IS NULL OR calls.name IN (SELECT value FROM json_each(:names)))
    AND (:reviewer IS NULL OR EXISTS (
        SELECT 1 FROM verdicts WHERE verdicts.call_id = calls.id AND +verdicts.reviewer = :reviewer))
    AND (calls.arguments_json LIKE :pattern ESCAPE '\' OR calls.arguments_json LIKE :quoted ESCAPE '\'
        OR calls.id LIKE :pattern ESCAPE '\' OR calls.name LIKE :pattern ESCAPE '\' OR calls.agent LIKE :pattern ESCAPE '\'
        OR calls.claim LIKE :pattern ESCAPE '\' OR calls.closed_reason LIKE :pattern ESCAPE '\'
        OR calls.outcome_detail LIKE :pattern ESCAPE '\'
        OR json_extract(calls.decision_json, '$.reasons') LIKE :quoted ESCAPE '\'
        OR EXISTS (
            SELECT 1 FROM verdicts WHERE verdicts.call_id = calls.id AND verdicts.reason LIKE :pattern ESCAPE '\'))
ORDER BY calls.seq DESC LIMIT :limit

-- name: texts_of_calls
SELECT calls.seq, calls.id, calls.name, calls.agent, calls.arguments_json, calls.claim, calls.closed_reason,
    coalesce(calls.outcome_detail, '') AS outcome_detail, json_extract(calls.decision_json, '$.reasons') AS reasons,
    (SELECT group_concat(verdicts.reason, char(10)) FROM verdicts WHERE verdicts.call_id = calls.id) AS said
FROM calls WHERE calls.seq > :after AND calls.seq <= :upto ORDER BY calls.seq LIMIT :limit

-- name: retold_after
SELECT calls.seq, max(events.kind = 'erased') AS erased, max(events.number) AS number
FROM events INDEXED BY events_retold CROSS JOIN calls ON calls.id = events.call_id
WHERE events.call_id <> '' AND (events.detail <> '' OR events.kind IN ('edited', 'erased'))
    AND events.number > :after AND events.number <= :upto AND calls.seq <= :known
GROUP BY calls.seq ORDER BY number LIMIT :limit

-- name: ids_of_calls
SELECT seq, id FROM calls WHERE seq IN (SELECT value FROM json_each(:seqs))

-- name: seq_of_call
SELECT seq FROM calls WHERE id = :id
