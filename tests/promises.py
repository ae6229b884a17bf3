"""The seven promises, sentence by sentence, and the tests that show them.

A test that shows a promise says so with `@pytest.mark.promise("R3")` and stands here under its sentence;
`tests/test_promises.py` checks both directions. What is not shown yet stands under `later`, with the piece of work
that brings it; that excuses no sentence from having a test, unless the whole of it is for later.
"""

from __future__ import annotations

from dataclasses import dataclass

CITIZEN = "A faithful MCP citizen: both eras, every client, approvals inside the client"
SEAT = "The reviewer's seat: the best place anywhere to answer an agent"


@dataclass(frozen=True)
class Later:
    """What of a sentence is not shown yet, and the piece of work that brings it."""

    what: str
    work: str


@dataclass(frozen=True)
class Sentence:
    """One sentence of a promise, word for word, with the ids of the tests that show it."""

    text: str
    tests: tuple[str, ...] = ()
    later: tuple[Later, ...] = ()
    wholly_later: bool = False


@dataclass(frozen=True)
class Promise:
    """A promise by its name and headline."""

    name: str
    headline: str
    sentences: tuple[Sentence, ...]


PROMISES = (
    Promise(
        "R1",
        "Held means held.",
        (
            Sentence(
                "When the agent is told a call is held, it is on disk, and survives crash and power loss.",
                tests=(
                    "tests/stories/test_crashes.py::test_a_call_held_when_the_gateway_is_killed_is_still_held_and_can_be_approved",
                    "tests/store/test_sqlite.py::test_a_held_call_survives_the_store_being_closed",
                    "tests/store/test_migrations.py::test_the_oldest_database_opens_and_what_was_open_in_it_goes_on",
                    "tests/faults/test_power.py::test_power_cuts_lose_nothing_acknowledged_and_weaker_settings_do",
                    "tests/faults/test_crashpoints.py::test_a_gateway_that_dies_at_any_of_its_places_keeps_every_promise",
                ),
            ),
        ),
    ),
    Promise(
        "R2",
        "Decided means decided.",
        (
            Sentence(
                "When a reviewer sees a verdict accepted, it is on disk.",
                tests=(
                    "tests/stories/test_crashes.py::test_an_approval_given_just_before_a_crash_runs_after_the_restart",
                    "tests/store/test_revisions.py::test_an_edit_is_there_after_a_restart",
                    "tests/faults/test_power.py::test_power_cuts_lose_nothing_acknowledged_and_weaker_settings_do",
                    "tests/faults/test_crashpoints.py::test_a_gateway_that_dies_at_any_of_its_places_keeps_every_promise",
                ),
            ),
        ),
    ),
    Promise(
        "R3",
        "At most once.",
        (
            Sentence(
                "An approval releases exactly the bytes shown, to the server and tool definition shown, at most once.",
                tests=(
                    "tests/test_executor.py::test_a_call_that_was_changed_in_the_database_does_not_run",
                    "tests/test_executor.py::test_an_approval_does_not_survive_a_changed_tool_definition",
                    "tests/stories/test_pins.py::test_an_upstream_that_pulls_the_rug",
                    "tests/stories/test_crashes.py::test_an_approval_does_not_survive_another_upstream_of_the_same_name",
                    "tests/store/test_sqlite.py::test_a_call_is_claimed_at_most_once",
                    "tests/store/test_revisions.py::test_an_edit_replaces_the_bytes_and_approves_exactly_these",
                    "tests/store/test_revisions.py::test_what_was_approved_before_an_edit_counts_no_more",
                    "tests/stories/test_edits.py::test_what_a_reviewer_made_of_a_call_runs_and_the_agent_is_told",
                    "tests/store/test_intact.py::test_a_call_that_was_put_back_beside_a_running_gateway_does_not_run",
                    "tests/store/test_intact.py::test_one_that_ended_in_an_earlier_life_and_was_put_back_later_does_not_run",
                    "tests/store/test_intact.py::test_a_call_that_was_put_back_while_the_gateway_was_stopped_ends_at_its_start",
                    "tests/store/test_intact.py::test_a_database_that_was_rolled_back_runs_nothing_and_says_so",
                    "tests/stories/test_record.py::test_a_database_that_was_rolled_back_runs_nothing_twice_and_is_reported",
                    "tests/test_executor.py::test_fifty_approved_calls_run_once_each",
                    "tests/test_releasing.py::test_an_approval_releases_a_call_once_to_who_asks_again",
                    "tests/test_releasing.py::test_of_many_identical_requests_that_wait_one_is_given_the_approval",
                    "tests/test_releasing.py::test_a_request_that_is_gone_is_given_nothing",
                    "tests/test_releasing.py::test_a_call_is_decided_again_before_it_is_released",
                    "tests/test_releasing.py::test_a_call_that_was_put_back_after_its_release_is_not_released_again",
                    "tests/upstreams/test_ledger.py::test_the_registered_call_leaves_once",
                    "tests/upstreams/test_ledger.py::test_a_frame_that_differs_from_the_record_does_not_leave",
                    "tests/upstreams/test_ledger.py::test_a_record_whose_bytes_are_not_those_of_the_frame_lets_nothing_leave",
                    "tests/upstreams/test_ledger.py::test_a_member_beside_the_params_keeps_a_call_from_leaving",
                    "tests/upstreams/test_ledger.py::test_a_round_that_differs_from_what_was_answered_does_not_leave",
                    "tests/upstreams/test_stdio.py::test_arguments_that_are_not_canonical_are_not_sent",
                    "tests/stories/test_record.py::test_a_call_that_was_edited_in_the_database_does_not_run_and_is_reported",
                    "tests/test_clock.py::test_an_approval_does_not_outlive_a_clock_that_was_set_back_while_the_gateway_was_stopped",
                    "tests/faults/test_races.py::test_of_a_hundred_people_who_decide_at_once_one_settles_the_call",
                    "tests/faults/test_crashpoints.py::test_a_gateway_that_dies_at_any_of_its_places_keeps_every_promise",
                ),
            ),
            Sentence(
                "Nothing is ever sent a second time; asking again is a new call with a new approval.",
                tests=(
                    "tests/stories/test_crashes.py::test_an_approved_call_that_was_running_when_the_gateway_was_killed_is_unknown",
                    "tests/stories/test_crashes.py::test_an_allowed_call_that_was_running_when_the_gateway_was_killed_is_not_run_again",
                    "tests/stories/test_held_calls.py::test_a_held_call_is_approved_with_the_agent_gone_and_its_outcome_is_learned_later",
                    "tests/upstreams/test_stdio.py::test_the_same_id_is_not_sent_twice",
                    "tests/upstreams/test_ledger.py::test_a_call_that_left_brings_what_was_asked_for_once",
                    "tests/upstreams/test_ledger.py::test_a_call_that_never_left_cannot_go_on",
                    "tests/upstreams/test_ledger.py::test_answers_travel_only_in_a_round_of_their_own",
                    "tests/upstreams/test_ledger.py::test_what_is_read_leaves_once",
                    "tests/upstreams/test_streamable_http.py::test_a_refusal_is_final",
                    "tests/stories/test_record.py::test_a_restore_brings_the_record_back_and_lets_nothing_run_twice",
                    "tests/test_backups.py::test_a_restore_that_cannot_be_finished_has_nothing_open_in_its_place",
                    "tests/faults/test_kills.py::test_a_gateway_that_is_killed_again_and_again_keeps_every_promise",
                ),
            ),
        ),
    ),
    Promise(
        "R4",
        "Nothing unrecorded.",
        (
            Sentence(
                "No call is sent upstream unless its `running` record is committed.",
                tests=(
                    "tests/test_executor.py::test_an_allowed_call_is_on_record_before_it_is_sent",
                    "tests/upstreams/test_ledger.py::test_a_call_nobody_registered_does_not_leave",
                ),
            ),
            Sentence(
                "For calls that people approved it is on disk; for calls that the policy allowed it outlives the "
                "process, and power loss too where a rule says `record: durable`.",
                tests=(
                    "tests/store/test_sqlite.py::test_at_boot_what_was_running_is_unknown",
                    "tests/stories/test_history.py::test_an_allowed_call_can_be_recorded_to_survive_power_loss",
                    "tests/faults/test_power.py::test_power_cuts_lose_nothing_acknowledged_and_weaker_settings_do",
                ),
            ),
            Sentence(
                "If the record cannot be written, the call is refused.",
                tests=(
                    "tests/stories/test_store_faults.py::test_if_the_record_cannot_be_written_the_call_is_refused",
                    "tests/faults/test_disk.py::test_whatever_the_disk_does_nothing_runs_unrecorded_and_work_resumes",
                ),
            ),
        ),
    ),
    Promise(
        "R5",
        "Honest outcomes.",
        (
            Sentence(
                "A call that was sent and not heard of again is `unknown`, and says so until someone knows better.",
                tests=(
                    "tests/test_executor.py::test_a_call_without_an_answer_in_time_is_unknown",
                    "tests/test_executor.py::test_a_cancelled_allowed_call_is_unknown_if_no_answer_comes",
                    "tests/upstreams/test_results.py::test_an_answer_that_cannot_be_used_leaves_the_outcome_unknown",
                    "tests/upstreams/test_hostile.py::test_an_unusable_answer_leaves_the_outcome_unknown_at_once",
                    "tests/upstreams/test_streamable_http.py::test_an_unusable_answer_leaves_the_outcome_unknown",
                    "tests/upstreams/test_stdio.py::test_an_upstream_that_dies_during_a_call_leaves_its_outcome_unknown",
                    "tests/test_probes.py::test_a_probe_that_says_it_plainly_settles_the_call",
                    "tests/test_executor.py::test_the_late_answer_of_an_approved_call_settles_it_with_its_result",
                    "tests/test_executor.py::test_the_late_answer_of_an_allowed_call_settles_it_without_its_result",
                    "tests/upstreams/test_late_answers.py::test_the_late_answer_of_the_same_send_counts_once",
                    "tests/upstreams/test_not_sent.py::test_a_refused_connection_is_certainly_not_sent",
                    "tests/upstreams/test_not_sent.py::test_a_child_that_died_before_the_first_byte_got_nothing",
                    "tests/stories/test_record.py::test_a_person_settles_a_call_of_unknown_outcome_and_the_agent_is_told",
                    "tests/faults/test_hostile.py::test_hostile_upstreams_harm_nobody_else",
                ),
            ),
            Sentence(
                "Exactly-once effects are not promised, because no gateway can.",
                tests=(
                    "tests/stories/test_crashes.py::test_an_upstream_that_dies_after_the_effect_leaves_the_outcome_unknown",
                ),
            ),
        ),
    ),
    Promise(
        "R6",
        "No silence.",
        (
            Sentence(
                "Nothing waits forever; expired, unknown and stuck calls reach reviewers and the agent: `hitl_status` "
                "without an id lists what an agent has open, unknown and not yet been told.",
                tests=(
                    "tests/stories/test_held_calls.py::test_a_call_expires_and_the_agent_is_told",
                    "tests/test_deadlines.py::test_a_call_expires_by_the_clock_alone",
                    "tests/test_releasing.py::test_an_approval_that_its_agent_does_not_fetch_expires",
                    "tests/store/test_sqlite.py::test_an_agent_sees_what_is_open_and_what_it_was_not_told",
                    "tests/store/test_sqlite.py::test_an_allowed_call_whose_outcome_was_found_out_is_news",
                    "tests/stories/test_crashes.py::test_cancelling_at_any_moment_leaves_no_call_stuck_and_none_run_unapproved",
                ),
            ),
        ),
    ),
    Promise(
        "R7",
        "The limits, said aloud.",
        (
            Sentence(
                "Code running as the gateway's own OS user can defeat it, except for calls that need a passkey.",
                tests=(
                    "tests/cli/test_commands.py::test_the_doctor_finds_a_running_gateway_in_order",
                    "tests/store/test_passkeys.py::test_a_forged_approval_never_runs_where_a_passkey_is_needed",
                ),
            ),
            Sentence(
                "An upstream may lie about what it did.",
                tests=("tests/test_executor.py::test_what_an_upstream_says_it_did_is_recorded_as_its_word",),
            ),
            Sentence(
                "For `released` calls we decide; we neither run them nor know their outcome.",
                tests=(
                    "tests/test_releasing.py::test_the_gateway_never_runs_a_released_call_and_knows_no_outcome_of_it",
                    "tests/examples/test_claude_code_hook.py::test_what_the_hook_holds_is_released_once_after_people_approved_it",
                ),
            ),
        ),
    ),
)
