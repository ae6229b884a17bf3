"""Where agents meet us: MCP over `agent.sock` and over streamable HTTP. It decides nothing and runs nothing."""

from hitl_mcp.surfaces.agents.asking import Asking
from hitl_mcp.surfaces.agents.forms import Mode
from hitl_mcp.surfaces.agents.http import AgentsOverHttp, OAuthDoor, oauth_door
from hitl_mcp.surfaces.agents.resource import WELL_KNOWN
from hitl_mcp.surfaces.agents.server import AgentParts, AgentServer
from hitl_mcp.surfaces.agents.socket import AgentSocket
from hitl_mcp.surfaces.agents.states import States

__all__ = [
    "WELL_KNOWN",
    "AgentParts",
    "AgentServer",
    "AgentSocket",
    "AgentsOverHttp",
    "Asking",
    "Mode",
    "OAuthDoor",
    "States",
    "oauth_door",
]
