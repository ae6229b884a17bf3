"""How `secrets` is written in `hitl.yaml`: what is covered where people look. The cover itself is `render.secret`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from hitl_mcp.documents import Strict, refuse
from hitl_mcp.secrets import unknown_reference

__all__ = ["SecretsConfig", "WrittenSecrets"]

_REFERENCES_ALONE = re.compile(r"(?:\$\{(?:env|file):[^}]+\})+\Z")
_POINTER = re.compile(r"(?:/(?:[^/~]|~0|~1)*)+\Z")
_EXAMPLE = "write the tool, a colon and where it stands: `mail__send:/password`, `*:/headers/*`"

Argument = tuple[str, tuple[str, ...]]
"""A glob of tools, and the steps of a JSON pointer into their arguments; a step `*` is whatever stands there."""


@dataclass(frozen=True)
class SecretsConfig:
    """Which arguments are secret, and which values are wherever they stand (references, as they were written)."""

    arguments: tuple[Argument, ...] = ()
    values: tuple[str, ...] = ()


def _argument(text: str) -> str:
    tools, colon, pointer = text.partition(":")
    if not (tools and colon):
        raise refuse(f"not an argument of a tool: `{text}`", _EXAMPLE)
    if not _POINTER.match(pointer):
        raise refuse(f"not a place in the arguments: `{pointer}`", _EXAMPLE)
    return text


def _value(text: str) -> str:
    if unknown_reference(text) or not _REFERENCES_ALONE.match(text):
        raise refuse(f"not a reference: `{text}`", "write `${env:NAME}` or `${file:PATH}`: no secret stands in here")
    return text


class WrittenSecrets(Strict):
    noun: ClassVar[str] = "`secrets`"
    arguments: list[Annotated[str, AfterValidator(_argument)]] = Field(default_factory=list)
    values: list[Annotated[str, AfterValidator(_value)]] = Field(default_factory=list)

    def meant(self) -> SecretsConfig:
        """What is written, read."""
        return SecretsConfig(tuple(map(_read, self.arguments)), tuple(self.values))


def _read(text: str) -> Argument:
    tools, _, pointer = text.partition(":")
    return tools, tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/"))
