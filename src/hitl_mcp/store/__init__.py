"""The durable record, and the one meeting point: everyone writes to it or follows it. The only room with SQL."""

from hitl_mcp.store.base import Admission, CallPage, Decide, Feed, FeedBehind, LastLook, Pause, SignIn
from hitl_mcp.store.seals import key_from_file
from hitl_mcp.store.sqlite import SqliteStore, open_sqlite
from hitl_mcp.store.steps import already_settled

__all__ = [
    "Admission",
    "CallPage",
    "Decide",
    "Feed",
    "FeedBehind",
    "LastLook",
    "Pause",
    "SignIn",
    "SqliteStore",
    "already_settled",
    "key_from_file",
    "open_sqlite",
]
