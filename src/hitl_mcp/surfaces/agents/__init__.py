"""Where agents meet us: MCP over `agent.sock` and over streamable HTTP. It decides nothing and runs nothing."""

from hitl_mcp.surfaces.agents.http import AgentsOverHttp
from hitl_mcp.surfaces.agents.server import AgentParts, AgentServer
from hitl_mcp.surfaces.agents.socket import AgentSocket

__all__ = ["AgentParts", "AgentServer", "AgentSocket", "AgentsOverHttp"]
