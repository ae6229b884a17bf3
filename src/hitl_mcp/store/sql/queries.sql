-- Every statement the store runs, by name. A status changes in `change_status` and `write_outcome`, and nowhere else.
-- What every allowed call pays for takes its values in order (`?`): finding them by name costs as much as the statement.

-- name: insert_call
INSERT INTO calls (
    id, version, status, is_open, upstream, tool, name, arguments_json, meta_json, agent, fingerprint, definition,
    conversation, claim, digest, request_key, effect, decision_json, created_at, changed_at, expires_at, repeat_of,
    runner, epoch, seal
) VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: change_status
UPDATE calls SET
    status = :to_status, is_open = :to_status IN ('held', 'approved', 'running', 'unknown'),
    version = version + 1, changed_at = :now,
    run_by = coalesce(:run_by, run_by), closed_reason = coalesce(:closed_reason, closed_reason),
    runner = coalesce(:runner, runner), epoch = coalesce(:epoch, epoch), seal = coalesce(:seal, seal),
    grant_id = coalesce(:grant_id, grant_id)
WHERE id = :id AND status = :from_status AND (
    :to_status = 'expired'
    OR CASE status WHEN 'held' THEN expires_at > :now WHEN 'approved' THEN run_by > :now ELSE TRUE END)
RETURNING version

-- name: write_outcome
UPDATE calls SET
    status = ?, is_open = ?, version = version + 1, changed_at = ?,
    outcome_at = ?, outcome_detail = ?, executed = ?, result_json = ?, result_digest = ?, result_bytes = ?
WHERE id = ? AND status = ?
RETURNING version

-- name: insert_event
INSERT INTO events (number, call_id, version, kind, status, at, by, detail, facts, hash)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: head
SELECT number, hash FROM events ORDER BY number DESC LIMIT 1

-- name: all_events
SELECT * FROM events ORDER BY number

-- name: all_events_after
SELECT * FROM events WHERE number > :number ORDER BY number

-- name: all_calls
SELECT * FROM calls ORDER BY seq

-- name: marks_of_call
SELECT * FROM marks WHERE call_id = :id

-- name: stray_events
SELECT DISTINCT call_id FROM events WHERE call_id <> '' AND call_id NOT IN (SELECT id FROM calls)

-- name: stray_rows
SELECT call_id FROM verdicts WHERE call_id NOT IN (SELECT id FROM calls)
UNION SELECT call_id FROM previews WHERE call_id NOT IN (SELECT id FROM calls)
UNION SELECT call_id FROM marks WHERE call_id NOT IN (SELECT id FROM calls)

-- name: stray_revisions
SELECT call_id FROM revisions WHERE call_id NOT IN (SELECT id FROM calls)

-- name: all_policies
SELECT * FROM policies

-- name: policies_kept
SELECT at, detail FROM events WHERE call_id = '' AND kind = 'policy-kept'

-- name: pins_told
SELECT at, detail, facts FROM events
WHERE call_id = '' AND kind IN ('tool-pinned', 'tool-accepted', 'tool-changed', 'tool-tampered') ORDER BY number

-- name: last_pause
SELECT * FROM events WHERE call_id = '' AND kind IN ('paused', 'resumed') ORDER BY number DESC LIMIT 1

-- name: link_event
UPDATE events SET hash = :hash WHERE number = :number

-- name: waiting_for_people
SELECT * FROM calls WHERE is_open AND status IN ('held', 'approved')

-- name: links_of_call
SELECT number, call_id, version, kind, status, at, by, detail, facts, hash, (
    SELECT before.hash FROM events AS before WHERE before.number = events.number - 1) AS previous
FROM events WHERE call_id = :id ORDER BY number

-- name: hash_of_event
SELECT hash FROM events WHERE number = :number

-- name: walk_events
SELECT number, call_id, version, kind, status, at, by, detail, facts, hash FROM events
WHERE number >= :since ORDER BY number

-- name: held_of_agent
SELECT count(*) AS count FROM calls WHERE is_open AND agent = :agent AND status = 'held'

-- name: last_of_waiting
SELECT min(number) AS number FROM (
    SELECT (SELECT max(number) FROM events WHERE call_id = calls.id) AS number FROM calls
    WHERE is_open AND status IN ('held', 'approved')
    UNION ALL
    SELECT (SELECT max(number) FROM events
        WHERE call_id = '' AND version > 0 AND substr(detail, 1, 15) = grants.id) FROM grants
    WHERE ended_at IS NULL)

-- name: numbers_of_events
SELECT (SELECT count(*) FROM events) AS count, (SELECT coalesce(max(number), 0) FROM events) AS newest,
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0) AS given

-- name: missing_before
SELECT facts FROM events WHERE by = 'seals' AND kind = 'record-tampered' ORDER BY number DESC LIMIT 1

-- name: seal_call
UPDATE calls SET seal = :seal WHERE id = :id

-- name: seal_verdict
UPDATE verdicts SET seal = :seal WHERE call_id = :call_id AND digest = :digest AND reviewer = :reviewer

-- name: tampered
SELECT * FROM events WHERE by = 'seals' AND at > :since ORDER BY number DESC LIMIT 100

-- name: scan_for_erasing
SELECT events.number, events.at, calls.id AS due
FROM (SELECT * FROM events WHERE number > :after ORDER BY number LIMIT 1000) AS events
LEFT JOIN calls ON calls.id = events.call_id AND calls.status = :status AND calls.version = events.version
    AND events.status = :status AND calls.erased_at IS NULL
ORDER BY events.number

-- name: erase_call
UPDATE calls SET
    arguments_json = 'null', meta_json = '{}', claim = '', result_json = NULL, decision_json = :decision_json,
    likeness = NULL, erased_at = :now
WHERE id = :id
RETURNING *

-- name: erase_previews
UPDATE previews SET result_json = NULL WHERE call_id = :id

-- name: touch
UPDATE calls SET version = version + 1, changed_at = :now
WHERE id = :id AND status = :status
RETURNING version

-- name: call
SELECT * FROM calls WHERE id = :id

-- name: verdicts_of_call
SELECT * FROM verdicts WHERE call_id = :id ORDER BY at, reviewer

-- name: events_of_call
SELECT * FROM events WHERE call_id = :id ORDER BY number

-- name: asked_before
SELECT 1 FROM calls WHERE request_key = ? AND (effect = 'hold' OR status = 'unknown') LIMIT 1

-- name: same_request
SELECT * FROM calls
WHERE request_key = :request_key AND effect = 'hold' AND (
    is_open
    OR (status = 'rejected' AND changed_at > :rejected_after)
    OR (status IN ('succeeded', 'failed') AND outcome_at > :ran_after
        AND (handed_over_at IS NULL OR handed_over_at > :handed_over_after)))
ORDER BY seq DESC LIMIT 1

-- name: put_mark
INSERT INTO marks (item, scope, value, at, call_id, amount) VALUES (?, ?, ?, ?, ?, ?)

-- name: drop_marks
DELETE FROM marks WHERE call_id = :id

-- name: history_known
SELECT DISTINCT marks.value FROM marks JOIN calls ON calls.id = marks.call_id
WHERE item = :item AND scope = :scope AND marks.value IN (SELECT value FROM json_each(:values))
    AND marks.at > :since AND marks.call_id <> :except AND calls.status IN ('succeeded', 'released')
    AND calls.effect = 'hold' AND calls.grant_id IS NULL

-- name: history_asked
SELECT count(*) AS answer FROM marks
WHERE item = :item AND scope = :scope AND value = '' AND at > :since AND marks.call_id <> :except

-- name: history_rejected
SELECT count(*) AS answer FROM marks JOIN calls ON calls.id = marks.call_id
WHERE item = :item AND scope = :scope AND marks.value = '' AND marks.at > :since AND marks.call_id <> :except
    AND calls.status = 'rejected'

-- name: history_spent
SELECT coalesce(sum(marks.amount), 0) AS answer FROM marks JOIN calls ON calls.id = marks.call_id
WHERE item = :item AND scope = :scope AND marks.value = :value AND marks.at > :since AND marks.call_id <> :except
    AND calls.status IN ('held', 'approved', 'running', 'succeeded', 'unknown', 'released')

-- name: history_read
SELECT count(*) AS answer FROM marks JOIN calls ON calls.id = marks.call_id
WHERE item = :item AND scope = :scope AND marks.value = '' AND marks.at > :since AND marks.call_id <> :except
    AND (calls.status IN ('running', 'succeeded', 'unknown', 'released') OR (calls.status = 'failed' AND calls.executed))

-- name: unknown_allowed_request
SELECT id FROM calls
WHERE request_key = :request_key AND effect = 'allow' AND status = 'unknown'
ORDER BY seq DESC LIMIT 1

-- name: put_verdict
INSERT INTO verdicts
    (call_id, digest, reviewer, kind, roles_json, surface, assurance, reason, at, seal, considered_seconds)
VALUES
    (:call_id, :digest, :reviewer, :kind, :roles_json, :surface, :assurance, :reason, :at, :seal, :considered_seconds)
ON CONFLICT (call_id, digest, reviewer) DO UPDATE SET
    kind = excluded.kind, roles_json = excluded.roles_json, surface = excluded.surface,
    assurance = excluded.assurance, reason = excluded.reason, at = excluded.at, seal = excluded.seal,
    considered_seconds = excluded.considered_seconds

-- name: approval_before_budget
-- The approval that has to be over an hour old before this reviewer may give another one.
SELECT at FROM verdicts WHERE reviewer = :reviewer AND at > :since AND kind = 'approve'
ORDER BY at DESC LIMIT 1 OFFSET :at_most - 1

-- name: approvals_since
SELECT count(*) AS count FROM verdicts WHERE reviewer = :reviewer AND at > :since AND kind = 'approve'

-- name: verdicts_since
-- Each reviewer in turn, so that the index finds the verdicts of a week among those of years.
WITH RECURSIVE names (name) AS (
    SELECT min(reviewer) FROM verdicts
    UNION ALL
    SELECT (SELECT min(reviewer) FROM verdicts WHERE reviewer > name) FROM names WHERE name IS NOT NULL)
SELECT reviewer, kind, at, considered_seconds FROM names JOIN verdicts ON reviewer = name AND at > :since
ORDER BY reviewer, at

-- name: put_preview
INSERT INTO previews (call_id, rule, name, at, preview_id, result_json, problem)
VALUES (:call_id, :rule, :name, :at, :preview_id, :result_json, :problem)
ON CONFLICT (call_id, rule) DO NOTHING

-- name: drop_previews
DELETE FROM previews WHERE call_id = :id

-- name: revise_call
-- A held call gets other bytes, or is decided anew, and stays held.
UPDATE calls SET
    version = version + 1, changed_at = :now, arguments_json = :arguments_json, digest = :digest,
    decision_json = :decision_json, expires_at = :expires_at, seal = :seal, revision = :revision
WHERE id = :id AND status = 'held' AND digest = :shown AND expires_at > :now
RETURNING version

-- name: put_revision
INSERT INTO revisions (
    call_id, number, arguments_json, digest, decision_json, expires_at, edited_by, edited_at, reason, seal
) VALUES (
    :call_id, :number, :arguments_json, :digest, :decision_json, :expires_at, :edited_by, :edited_at, :reason, :seal)

-- name: revisions_of_call
SELECT * FROM revisions WHERE call_id = :id ORDER BY number

-- name: erase_revisions
UPDATE revisions SET arguments_json = 'null', decision_json = :decision_json WHERE call_id = :id AND number = :number

-- name: put_stop
INSERT INTO stops (agent, by, at, reason, call_id, seal) VALUES (:agent, :by, :at, :reason, :call_id, :seal)
ON CONFLICT (agent) DO UPDATE SET
    by = excluded.by, at = excluded.at, reason = excluded.reason, call_id = excluded.call_id, seal = excluded.seal

-- name: stop
SELECT * FROM stops WHERE agent = :agent

-- name: stops
SELECT * FROM stops ORDER BY at DESC, agent

-- name: drop_stop
DELETE FROM stops WHERE agent = :agent RETURNING agent

-- name: stops_told
SELECT kind, facts FROM events WHERE call_id = '' AND kind IN ('agent-stopped', 'agent-released') ORDER BY number

-- name: previews_of_call
SELECT * FROM previews WHERE call_id = :id ORDER BY rule

-- name: due
SELECT id, status FROM calls
WHERE is_open AND ((status = 'held' AND expires_at <= :now) OR (status = 'approved' AND run_by <= :now))

-- name: next_deadline
SELECT min(at) AS at FROM (
    SELECT min(CASE status WHEN 'held' THEN expires_at ELSE run_by END) AS at FROM calls
    WHERE is_open AND status IN ('held', 'approved')
    UNION ALL
    SELECT min(expires_at) FROM grants WHERE ended_at IS NULL)

-- name: left_running
SELECT id FROM calls WHERE is_open AND status = 'running' AND runner = :runner AND epoch < :epoch

-- name: hand_over
UPDATE calls SET handed_over_at = :now WHERE id = :id AND handed_over_at IS NULL
RETURNING version, status

-- name: take_back
UPDATE calls SET handed_over_at = NULL, resolved = 1 WHERE id = :id

-- name: of_interest_to_agent
SELECT * FROM calls WHERE agent = :agent AND is_open
UNION
SELECT * FROM calls
WHERE agent = :agent AND effect = 'hold' AND handed_over_at IS NULL
    AND status IN ('rejected', 'expired', 'invalidated', 'succeeded', 'failed')
UNION
SELECT * FROM calls WHERE agent = :agent AND resolved AND handed_over_at IS NULL
ORDER BY seq DESC LIMIT :limit

-- name: count_open
SELECT status, count(*) AS calls FROM calls WHERE is_open GROUP BY status

-- name: events_after
SELECT * FROM events WHERE number > :number ORDER BY number LIMIT :limit

-- name: last_event
SELECT coalesce(max(number), 0) AS number FROM events

-- name: put_grant
INSERT INTO grants (
    id, version, agent, upstream, tool, name, fingerprint, definition, conditions_json, shape_json, uses, given_by,
    roles_json, surface, assurance, given_at, expires_at, call_id, digest, reason, used, seal
) VALUES (
    :id, :version, :agent, :upstream, :tool, :name, :fingerprint, :definition, :conditions_json, :shape_json, :uses,
    :given_by, :roles_json, :surface, :assurance, :given_at, :expires_at, :call_id, :digest, :reason, :used, :seal)

-- name: change_grant
UPDATE grants SET version = :version, used = :used, ended_at = :ended_at, ended_by = :ended_by,
    ended_why = :ended_why, seal = :seal
WHERE id = :id

-- name: grant
SELECT * FROM grants WHERE id = :id

-- name: live_grants_for
SELECT * FROM grants WHERE ended_at IS NULL AND agent = :agent AND name = :name ORDER BY expires_at, id

-- name: live_grants
SELECT * FROM grants WHERE ended_at IS NULL ORDER BY given_at, id

-- name: ended_grants
SELECT * FROM grants WHERE ended_at IS NOT NULL ORDER BY ended_at DESC, id LIMIT :limit

-- name: all_grants
SELECT * FROM grants ORDER BY id

-- name: due_grants
SELECT * FROM grants WHERE ended_at IS NULL AND expires_at <= :now

-- name: approved_on_grant
SELECT count(*) AS calls FROM calls WHERE grant_id = :id AND status = 'approved'

-- name: calls_approved_on_grant
SELECT id FROM calls WHERE grant_id = :id AND status = 'approved'

-- name: calls_that_ran_on_grant
SELECT count(*) AS calls FROM calls WHERE grant_id = :id AND status IN ('running', 'succeeded', 'failed', 'unknown')

-- name: last_told_of_grant
SELECT number, version, facts FROM events
WHERE call_id = '' AND version > 0 AND substr(detail, 1, 15) = :id ORDER BY number DESC LIMIT 1

-- name: grants_told
SELECT substr(detail, 1, 15) AS id, max(number) AS number FROM events
WHERE call_id = '' AND version > 0 GROUP BY substr(detail, 1, 15)

-- name: put_setting
INSERT INTO settings (key, value_json) VALUES (:key, :value_json)
ON CONFLICT (key) DO UPDATE SET value_json = excluded.value_json

-- name: setting
SELECT value_json FROM settings WHERE key = :key

-- name: keep_policy
INSERT INTO policies (version, written, first_at) VALUES (:version, :written, :now) ON CONFLICT (version) DO NOTHING

-- name: policy
SELECT written FROM policies WHERE version = :version

-- name: pins
SELECT * FROM pins ORDER BY name

-- name: put_pin
INSERT INTO pins (name, upstream, definition, definition_json, accepted_at, accepted_by, seal)
VALUES (:name, :upstream, :definition, :definition_json, :accepted_at, :accepted_by, :seal)
ON CONFLICT (name) DO UPDATE SET
    upstream = excluded.upstream, definition = excluded.definition, definition_json = excluded.definition_json,
    accepted_at = excluded.accepted_at, accepted_by = excluded.accepted_by, changed_at = NULL, seal = excluded.seal

-- name: note_changed_pin
UPDATE pins SET changed_at = :now WHERE name = :name AND definition = :accepted AND changed_at IS NULL

-- name: waiting_of_tool
SELECT id FROM calls INDEXED BY calls_open
WHERE is_open AND name = :name AND status IN ('held', 'approved') AND definition <> :definition
ORDER BY seq

-- name: passkeys
SELECT * FROM passkeys ORDER BY reviewer, created_at, id

-- name: passkeys_of
SELECT * FROM passkeys WHERE (:reviewer IS NULL OR reviewer = :reviewer) AND removed_at IS NULL
ORDER BY reviewer, created_at, id

-- name: passkey
SELECT * FROM passkeys WHERE id = :id

-- name: put_passkey
INSERT INTO passkeys (
    id, reviewer, public_key, rp_id, label, transports, created_at, confirmed_by, confirmation_json,
    removed_at, removed_by, removal_json, sign_count, last_used_at, seal
) VALUES (
    :id, :reviewer, :public_key, :rp_id, :label, :transports, :created_at, :confirmed_by, :confirmation_json,
    :removed_at, :removed_by, :removal_json, :sign_count, :last_used_at, :seal
)
ON CONFLICT (id) DO UPDATE SET
    removed_at = excluded.removed_at, removed_by = excluded.removed_by, removal_json = excluded.removal_json,
    sign_count = excluded.sign_count, last_used_at = excluded.last_used_at, seal = excluded.seal

-- name: passkeys_told
SELECT kind, at, detail, facts FROM events
WHERE call_id = '' AND kind IN ('passkey-added', 'passkey-removed', 'passkeys-reset') ORDER BY number

-- name: passkey_resets
SELECT detail, by, at FROM events WHERE call_id = '' AND kind = 'passkeys-reset' AND at > :since ORDER BY number DESC

-- name: put_assertion
INSERT INTO assertions (call_id, digest, reviewer, kind, assertion_json)
VALUES (:call_id, :digest, :reviewer, :kind, :assertion_json)

-- name: assertion
SELECT assertion_json FROM assertions
WHERE call_id = :call_id AND digest = :digest AND reviewer = :reviewer AND kind = :kind

-- name: assertions_of_call
SELECT * FROM assertions WHERE call_id = :id

-- name: put_sign_in
INSERT INTO sign_ins (
    key_digest, id, reviewer, assurance, surface, label, created_at, expires_at, last_seen_at, seal
) VALUES (
    :key_digest, :id, :reviewer, :assurance, :surface, :label, :created_at, :expires_at, :last_seen_at, :seal)

-- name: find_sign_in
SELECT * FROM sign_ins WHERE key_digest = :key_digest AND expires_at > :now

-- name: sign_in_by_id
SELECT * FROM sign_ins WHERE id = :id AND expires_at > :now

-- name: sign_ins
SELECT * FROM sign_ins WHERE expires_at > :now AND (:reviewer IS NULL OR reviewer = :reviewer)
ORDER BY last_seen_at DESC, id

-- name: see_sign_in
UPDATE sign_ins SET last_seen_at = :now WHERE key_digest = :key_digest

-- name: drop_sign_in
DELETE FROM sign_ins WHERE id = :id

-- name: drop_old_sign_ins
DELETE FROM sign_ins WHERE expires_at <= :now
