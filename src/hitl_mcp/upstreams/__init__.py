"""The only room that talks to tools. It sends what the executor hands it, once, byte for byte, and reports the rest.

What a call is, whether it may run and what its outcome means is decided elsewhere.
"""

from hitl_mcp.upstreams.asker import Asker, Question, patient
from hitl_mcp.upstreams.ledger import LateAnswer, Progress, Send
from hitl_mcp.upstreams.mcp_servers import Upstream, Upstreams, UpstreamState
from hitl_mcp.upstreams.pace import resting
from hitl_mcp.upstreams.sign_ins import CALLBACK_PATH, CameBack, SignIns

__all__ = [
    "CALLBACK_PATH",
    "Asker",
    "CameBack",
    "LateAnswer",
    "Progress",
    "Question",
    "Send",
    "SignIns",
    "Upstream",
    "UpstreamState",
    "Upstreams",
    "patient",
    "resting",
]
