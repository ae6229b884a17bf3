"""The only room that talks to tools. It sends what the executor hands it, once, byte for byte, and reports the rest.

What a call is, whether it may run and what its outcome means is decided elsewhere.
"""

from hitl_mcp.upstreams.ledger import LateAnswer, Progress, Send
from hitl_mcp.upstreams.mcp_servers import Upstream, Upstreams, UpstreamState

__all__ = ["LateAnswer", "Progress", "Send", "Upstream", "UpstreamState", "Upstreams"]
