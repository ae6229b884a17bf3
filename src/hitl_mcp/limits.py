"""Every bound in one place. The unit comes last in a name; the line below says where the number comes from."""

from __future__ import annotations

MESSAGE_BYTES = 1024 * 1024
"""One JSON-RPC message or HTTP body from an agent; the design's cap (section 4, "Bound to bytes")."""

DEPTH_LEVELS = 64
"""Nesting of JSON we accept; deeper is never a real tool call, and recursion costs stack."""

SAFE_INTEGER = 2**53 - 1
"""The largest integer every JSON reader agrees on (RFC 8259, section 6)."""

UPSTREAM_MESSAGE_BYTES = 16 * 1024 * 1024
"""One message from an upstream: results carry images and files, so more than we take from agents."""

WAIT_SECONDS = 45
"""How long a surface waits for a decision: below the 60 s at which clients give up."""

REPEAT_WINDOW_SECONDS = 600
"""How long an identical call gets the rejection that was given, instead of asking people again."""

HANDED_OVER_REPEAT_SECONDS = 60
"""How long after its outcome was first handed over an identical call gets that outcome again."""

OUTCOME_REPEAT_SECONDS = 24 * 3600
"""The longest an outcome nobody fetched answers an identical call."""

CANCEL_ANSWER_SECONDS = 5
"""How long a cancelled running call may still answer before it is `unknown`."""

AGENT_REQUESTS = 64
"""What one agent may have in flight, over all its connections: many times what a model asks for side by side."""

AGENT_HELD_CALLS = 200
"""Held calls of one agent: a day's work for people, who must not lose the calls of others behind a flood."""

UPSTREAM_TIMEOUT_SECONDS = 60
"""How long a call may run when its upstream's config names no `timeout`."""

UPSTREAM_START_SECONDS = 30
"""How long an upstream may take to start and list its tools; `npx` fetching a package is slow."""

RESTART_BACKOFF_SECONDS = (0.2, 1, 2, 5, 10, 30)
"""Pauses before an upstream is started again; the last one repeats."""

LOGIN_CODE_SECONDS = 300
"""How long a one-time login link is good for."""

SIGN_IN_SECONDS = 12 * 3600
"""How long a reviewer stays signed in: one working day."""

BATCH_BELOW = 50
"""Points from which on a call is answered by itself, unless the config says otherwise: the middle of the scale."""

VERDICT_REASON_CHARACTERS = 2000
"""A reviewer's reason; it is quoted to the agent, so it must stay short."""

AGENT_REASON_CHARACTERS = 2000
"""An agent's `hitl_reason`; a claim beside the call, not a second document."""

PAGE_CALLS = 50
"""Calls in one page of a listing."""

GRANT_MINUTES = 24 * 60
"""How long a grant may last: until tomorrow somebody looks again."""

GRANT_USES = 1000
"""How many calls a grant may serve; more is the policy's to allow."""

GRANT_CONDITIONS = 50
"""Conditions of one grant: a person must see what they come to."""

GRANT_VALUES = 100
"""Values that one condition of a grant may list."""

GRANT_SHAPE_PATHS = 1000
"""Members that the arguments of a call may have on which a grant is given; a tool's call has a dozen."""

GRANTS_OF_TOOL = 50
"""Live grants of one agent for one tool: each call looks at all of them."""

GRANT_LOOK_BACK_CALLS = 100
"""Calls that a grant is tried on before it is given."""

EVENT_QUEUE_LENGTH = 1000
"""Events one slow reader of the event stream may fall behind before it is told to read again."""

GATEWAY_START_SECONDS = 30
"""How long a bridge waits for a gateway to answer: also how long frames wait while it restarts."""

DOCUMENT_BYTES = 1024 * 1024
"""One config or policy file; a person writes kilobytes, and YAML is slow to read."""

SECRET_BYTES = 64 * 1024
"""An env file, or a file that `${file:…}` names; keys and certificates are smaller."""

CONDITION_CHARACTERS = 4000
"""A policy condition; longer is not legible, and compiling is the slow part of loading a policy."""

POLICY_REASON_CHARACTERS = 500
"""A reason in a policy: one sentence, shown on a phone and told to the agent."""

SHOWN_VALUE_CHARACTERS = 80
"""An argument's value inside a reason: the reason stays a sentence, and the call shows the value whole."""

POLICY_CLOCK_SECONDS = 365 * 24 * 3600
"""The longest `expires` or `run_within`: nothing waits forever."""

CONCERNED_TOOLS = 4096
"""Tool names whose rules a policy remembers; more than any catalog holds, and a bound on memory."""

CLIENT_LINE_BYTES = 2 * MESSAGE_BYTES
"""One line the bridge takes from an agent client: above the cap of the gateway, whose answer names the path."""

GATEWAY_LINE_BYTES = 4 * UPSTREAM_MESSAGE_BYTES
"""One line the bridge takes from the gateway: an upstream's result, as text and as structured content, and room."""

RELAY_BUFFER_BYTES = 4 * MESSAGE_BYTES
"""What the bridge keeps for a side that does not read before it stops reading the other: a few whole messages."""

LAST_ANSWERS_SECONDS = 1
"""How long the bridge waits for answers once its client closed stdin: clients kill after 2 s (the SDK's does)."""

GATEWAY_LOG_BYTES = 10 * 1024 * 1024
"""The size at which the log of a gateway that bridges start is put aside, once; two of these are the most it takes."""

UPSTREAM_STABLE_SECONDS = 60
"""How long an upstream must stay up before its restart pauses begin again with the shortest."""

UPSTREAM_STOP_SECONDS = 2
"""How long an upstream gets after its input closes, and again after SIGTERM; the MCP SDK waits as long."""

UPSTREAM_LOG_CHARACTERS = 2000
"""One line of an upstream's stderr in our log; a longer one is cut, and says so."""

UPSTREAM_LOG_LINES_PER_SECOND = 50
"""Lines one upstream may write into our log each second; the rest is counted, so that a flood costs little."""

UPSTREAM_CONNECT_SECONDS = 10
"""How long an HTTP upstream may take to accept a connection."""

UPSTREAM_IDLE_SECONDS = 3
"""How long an idle HTTP connection is kept: below the 5 s of uvicorn and Node, or a call meets a closing socket."""

UPSTREAM_RESUMES = 3
"""How often a broken answer stream is picked up again where the upstream offers it (2025 revisions)."""

UPSTREAM_TURN_SECONDS = 0.002
"""How much of the event loop reading one upstream may take in one go: another call needs some ten turns of it."""

UPSTREAM_REST_SECONDS = 1
"""The longest an upstream that took much of the event loop is left unread."""

UPSTREAM_MESSAGE_PARTS = 250_000
"""Values in one message from an upstream: so many take a tenth of a second to read and write; no agent reads them."""

UNASKED_BYTES = 256 * 1024
"""A message that answers nothing we asked and is longer is not even read; notifications are far shorter."""

UPSTREAM_QUESTIONS = 16
"""Requests of an upstream to us being answered at once over HTTP; more are dropped, so that a flood costs little."""

QUESTION_SECONDS = 600
"""How long a client may take to answer what an upstream asks; as long as the SDK's own state of a question is good."""

INPUT_ROUNDS = 10
"""How many times an upstream may ask for something before it goes on with one call; the SDK's client gives up then."""

STATE_ONLY_PAUSE_SECONDS = 0.1
"""Before a request is sent again whose upstream asked for nothing but that; the SDK's client waits 0.05 to 0.25 s."""

LEGS_PER_UPSTREAM = 32
"""Connections of one upstream beside its first. Each may be a process: thirty of a typical one take some 2 GB."""

LEGS_OVER_HTTP = 1000
"""The same over HTTP, where each is a few kilobytes here and a session there."""

LEG_IDLE_SECONDS = 600
"""How long a connection of one conversation is kept that nobody uses; what the upstream knows of it ends with it."""

WATCH_SECONDS = 5
"""How long a subscription waits until the upstream says that it has begun; one that says nothing may still work."""

KNOWN_RESOURCES = 10_000
"""URIs of one upstream that are remembered as its own, and as many templates; the oldest is asked for again."""

PAGE_ENTRIES = 5000
"""Resources or prompts in one page of an upstream's list; the rest is left out, and the log says so."""

LIST_SECONDS = 10
"""How long one upstream may take over a page of what all list together: the others' pages come behind it."""

TOOLS_PER_UPSTREAM = 1000
"""Tools one upstream may list; no agent can choose among more."""

TOOL_PAGES = 100
"""Pages of one tool listing, so that an upstream whose cursor never ends is not read for ever."""

RELIST_PAUSE_SECONDS = 0.5
"""The shortest time between two listings of one upstream, so that a flood of `list_changed` costs little."""

RESULT_DEPTH_LEVELS = 128
"""Nesting of a tool's result: the MCP SDK cannot write more than 250 levels, and our envelope takes some."""

SENT_IDS = 100_000
"""Ids of sent calls kept in memory against a second send; the store's guarded claim covers all time."""

LATE_ANSWERS = 16
"""Calls of one connection whose answer still counts though nobody waits; over HTTP each holds a body in memory."""

PROGRESS_QUEUE_LENGTH = 64
"""Progress notes of one call waiting for a slow agent; the oldest go first, since the newest says it all."""

PROGRESS_TEXT_CHARACTERS = 2000
"""The text of one progress note; it is one line in a client's display."""

UPSTREAM_ERROR_CHARACTERS = 20_000
"""The text of an upstream's own error; it is recorded, shown and told to an agent, and longer is no explanation."""

PROGRESS_FLUSH_SECONDS = 1
"""How long an answer waits for its last progress notes to be passed on."""

AGENT_TOOL_NAME_CHARACTERS = 64
"""The longest tool name that every agent client takes."""

ARGUMENT_ERRORS = 10
"""Errors named when arguments do not fit a schema; an agent corrects them from the first few."""

SCHEMA_COST = 1_000_000
"""Schema positions that checking one value may visit: a tenth of a second; nested references can ask for 2^30."""

SCHEMA_PATTERN_BYTES = 1024 * 1024
"""What one compiled `pattern` of an upstream's schema may take; a tenth of the regex library's own limit."""

SCHEMA_BACKTRACKS = 10_000
"""Steps back that one `pattern` with look-around may take on one value; all others match in linear time."""

REVIEW_BODY_BYTES = 64 * 1024
"""One body sent to the review API: a verdict with its reason is a few kilobytes."""

EVALUATION_BODY_BYTES = 2 * MESSAGE_BYTES + 4096
"""One body sent by a hook: arguments of the largest size, as a string in which every character may be escaped."""

EVALUATION_WAIT_SECONDS = 600
"""The longest a hook may wait for people: as long as Claude Code lets a hook run where nothing else is written."""

REVIEW_STREAMS = 100
"""Event streams open at once: every reviewer with a few tabs; more is a fault, and each one costs a reader."""

EVENT_KEEPALIVE_SECONDS = 15
"""Silence on an event stream before a comment is sent: proxies close what is silent for 30 to 60 s."""

LOOKING_SECONDS = 30
"""How long a reviewer counts as looking at a call after a page said so; pages say it every ten seconds."""

LOOKED_AT_CALLS = 1000
"""Calls that are remembered as being looked at; more are open on no desk."""

FIRST_SIGHTS = 50_000
"""Pairs of a reviewer and what they were shown that are remembered: days of work. Of the rest nothing is known."""

LOGIN_FAILURES_PER_MINUTE = 20
"""Wrong sign-in codes before more are refused unread; a person mistypes none, since links are clicked."""

CHALLENGE_SECONDS = 300
"""How long a passkey may take to sign what it was asked to: as long as a sign-in link is good."""

OPEN_CHALLENGES = 20
"""Challenges of one sign-in that wait to be signed: one for each tab; of more the oldest goes."""

OPEN_SIGN_IN_CHALLENGES = 1000
"""The same of everybody who is not signed in yet, together."""

PASSKEYS_PER_REVIEWER = 10
"""Passkeys one reviewer may have: a phone, a laptop, a key in a drawer, and some more."""

SIGN_INS_PER_REVIEWER = 20
"""Sign-ins of one reviewer at once: a few devices and their browsers; with one more, the one seen longest ago ends."""

SEEN_EVERY_SECONDS = 60
"""How often it is written that a sign-in was seen: a page asks several times a minute."""

COUNTED_VALUES = 200
"""Values of one call that a novelty signal looks up; a mail to more addresses is new in full."""

FUNCTION_ENTRIES = 1000
"""Entries of a list that a condition's function takes: more addresses or words than one call really has."""

GLOB_CHARACTERS = 256
"""A glob in a condition; matching costs at most its length times the text's: 40 ms, where both are chosen for it."""

GLOB_TEXT_CHARACTERS = 64 * 1024
"""The text that a glob in a condition is matched with: a long mail."""

NUMBER_CHARACTERS = 40
"""A number written as text: more than any double has digits."""

ADDRESS_CHARACTERS = 254
"""One mail address (RFC 5321, as RFC 3696's erratum counts it)."""

DOMAIN_CHARACTERS = 253
"""One domain name (RFC 1035, without the final dot)."""

PATH_CHARACTERS = 4096
"""One path: `PATH_MAX` of Linux."""

URL_CHARACTERS = 8192
"""One URL: what common servers accept; browsers take more, and nobody reads it."""

COMMAND_CHARACTERS = 8192
"""One command line; reading it is linear, and a longer one is a script, which people should look at."""

SQL_CHARACTERS = 20_000
"""One SQL text; strings in it are long, statements are not."""

SQL_TOKENS = 1000
"""Words and signs in one SQL text: parsing takes 20 µs each, in up to four dialects."""

POLICY_LOOK_SECONDS = 0.5
"""Between two looks at the policy files; a change must look the same twice before it is read."""

SQL_STEPS = 1000
"""Steps, forward and back, that parsing one SQL statement may take beside those for its length: a few milliseconds."""

SQL_STEPS_PER_TOKEN = 5
"""Steps for each word or sign of it; common statements take one to three, and some nestings would take 2^n."""

READING_SECONDS = 5
"""How long a preview or a probe may take: people look at the call meanwhile, and decide without it."""

UPSTREAM_BACK_SECONDS = 30
"""How long a preview or a probe waits for an upstream that is down: one that died is started again within seconds."""

PROBES_AFTER_SECONDS = (0, 30, 300)
"""When a call of unknown outcome is probed, each after the one before: what was sent may take a while to show."""

RESULT_SHOWN_BYTES = 256 * 1024
"""A longer result of a preview is not kept: nobody reads it before deciding."""

DIFF_LINES = 1000
"""Lines of two definitions that are matched, and lines of their difference that are shown; matching is quadratic."""

DEFINITION_CHARACTERS = 256 * 1024
"""A tool's definition; a longer one fills most of a model's context, and is kept and compared for people."""

PINS_PER_UPSTREAM = 2 * TOOLS_PER_UPSTREAM
"""Tools that one upstream may ever show: each name is kept for good, and a server must not fill the disk with them."""

SIGN_IN_SECONDS = 3600
"""How long a link to sign in at an upstream's authorization server is good; then there is a new one."""

OAUTH_SECONDS = 20
"""How long an authorization server may take for one answer; they are web pages of the quick kind."""

OAUTH_BYTES = 1024 * 1024
"""One answer of an authorization server: metadata is some KiB."""

RENEW_BEFORE_SECONDS = 60
"""How long before its end an access token is renewed, so that no call meets its end; at most a quarter of its life."""

RENEWAL_WAIT_SECONDS = 10
"""How long a call waits for an access token to be renewed before it is said that nothing was sent."""
