"""What the operator decides in advance: YAML files become a policy, and a policy decides calls.

Pure but for `load`. What people decide about a held call is not here: see `review`.
"""

from hitl_mcp.policy.decide import decide
from hitl_mcp.policy.load import load_policy
from hitl_mcp.policy.model import Policy
from hitl_mcp.policy.subject import Subject

__all__ = ["Policy", "Subject", "decide", "load_policy"]
