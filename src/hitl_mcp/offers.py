"""What upstreams offer beside tools, where a rule names it: a resource or a prompt that is read as a call.

A rule names one as `resource:<upstream>:<uri>` or `prompt:<upstream>:<name>`. Then reading it is decided, recorded and
held like a call. All others pass without a record, and never come here. Tools are in `catalog`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hitl_mcp.calls import ToolCall, bound
from hitl_mcp.canonical import digest_of
from hitl_mcp.policy.match import offer_parts
from hitl_mcp.upstreams import Upstream, Upstreams

METHODS = {"resource": "resources/read", "prompt": "prompts/get"}
"""How each kind of offer is read."""

_URI = {"type": "object", "properties": {"uri": {"type": "string"}}, "required": ["uri"]}


@dataclass(frozen=True)
class Offer:
    """One resource or prompt. `name` is its full name, `tool` the same without the upstream."""

    kind: str
    name: str
    tool: str
    source: Upstream

    @property
    def upstream(self) -> str:
        """The name of the upstream that offers it."""
        return self.source.name

    @property
    def labels(self) -> Mapping[str, str]:
        """The upstream's labels."""
        return self.source.labels

    @property
    def input_schema(self) -> dict[str, Any] | None:
        """What its arguments look like: the URI of a resource; of a prompt nobody tells."""
        return _URI if self.kind == "resource" else None

    @property
    def blocked(self) -> str | None:
        """Nothing: what is read is not pinned, since it is there to change."""
        return None

    @property
    def definition(self) -> str:
        """What stands for its definition in a call."""
        return digest_of([self.kind, self.tool])

    def take_claim(self, arguments: dict[str, Any]) -> str:
        """No claim of the agent: there is no place for one."""
        return ""

    def validate(self, arguments: Mapping[str, Any]) -> None:
        """Nothing to check arguments against: a prompt's are the upstream's to check, a resource has none."""

    def call(self, arguments: Mapping[str, Any], agent: str, meta: Mapping[str, Any] | None = None) -> ToolCall:
        """Reading it as a call, bound to its bytes.

        Raises:
            ArgumentsRefused: `meta` is not strict JSON.
        """
        return bound(self, arguments, agent, meta, fingerprint=self.source.fingerprint, definition=self.definition)


class Offers:
    """The offers of all upstreams: of each it is known whose it is, and nothing more."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams

    def find(self, name: str) -> Offer | None:
        """The offer of this full name, or None where there is no such upstream."""
        parts = offer_parts(name)
        source = self._upstreams.get(parts.upstream) if parts is not None else None
        if parts is None or source is None:
            return None
        return Offer(parts.kind, name, f"{parts.kind}:{parts.rest}", source)


def method_of(call: ToolCall) -> str:
    """How a call is sent."""
    parts = offer_parts(call.name)
    return "tools/call" if parts is None else METHODS[parts.kind]


def as_tool_result(read: Mapping[str, Any]) -> dict[str, Any]:
    """What was read, as the result of a call: kept, shown and handed over like any other."""
    text = json.dumps(read, ensure_ascii=False)
    return {"content": [{"type": "text", "text": text}], "structuredContent": dict(read), "isError": False}
