"""The durable record, and the one meeting point: everyone writes to it or follows it. The only room with SQL."""

from hitl_mcp.store.around import Figures, Neighbourhood
from hitl_mcp.store.base import Admission, CallPage, Decide, Feed, FeedBehind, LastLook, Pause
from hitl_mcp.store.grant_rows import GIVEN as GRANT_GIVEN
from hitl_mcp.store.listing import Heap, Queue, Wanted, WrongCursor
from hitl_mcp.store.moves import already_settled
from hitl_mcp.store.seals import key_from_file
from hitl_mcp.store.sign_ins import SIGN_IN_EVENTS, SignIn
from hitl_mcp.store.sqlite import SqliteStore, open_sqlite
from hitl_mcp.store.verdicts import Edited, PassedOn, Planned, passed_on

__all__ = [
    "GRANT_GIVEN",
    "SIGN_IN_EVENTS",
    "Admission",
    "CallPage",
    "Decide",
    "Edited",
    "Feed",
    "FeedBehind",
    "Figures",
    "Heap",
    "LastLook",
    "Neighbourhood",
    "PassedOn",
    "Pause",
    "Planned",
    "Queue",
    "SignIn",
    "SqliteStore",
    "Wanted",
    "WrongCursor",
    "already_settled",
    "key_from_file",
    "open_sqlite",
    "passed_on",
]
