"""References to secrets, `${env:NAME}` and `${file:PATH}`, and what they lead to when something is sent or started.

The config keeps references; values are looked up here at the moment they are needed, and neither stored nor shown.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from hitl_mcp.documents import display_name, read_document
from hitl_mcp.errors import ConfigError, Finding, UnresolvedSecret
from hitl_mcp.limits import SECRET_BYTES

__all__ = ["Secrets", "unknown_reference"]

_REFERENCE = re.compile(r"\$\{(env|file):([^}]*)\}")
_ANY_REFERENCE = re.compile(r"\$\{[^}]*\}?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)\Z", re.DOTALL)


class _NamesSecrets(Protocol):
    """What a config tells about secrets."""

    @property
    def path(self) -> Path: ...

    @property
    def env_file(self) -> Path | None: ...


class Secrets:
    """Where references lead: the env file over the gateway's own environment, and files beside the config."""

    def __init__(self, variables: Mapping[str, str], directory: Path) -> None:
        self._variables = variables
        self._directory = directory

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._variables)} variables)"

    @classmethod
    def from_config(cls, config: _NamesSecrets) -> Secrets:
        """Read the env file that the config names, if it names one.

        Raises:
            ConfigError: The env file cannot be read, is open to others, or is not made of `NAME=value` lines.
        """
        variables = dict(os.environ)
        if config.env_file is not None:
            line, column = read_document(config.path).where(("env_file",))
            variables |= _read_env_file(config.env_file, (display_name(config.path), line, column))
        return cls(variables, config.path.parent)

    def resolve(self, text: str) -> str:
        """The text with every reference in it replaced by the secret it leads to.

        Raises:
            UnresolvedSecret: A reference leads nowhere, or to nothing.
        """
        return _REFERENCE.sub(lambda found: self._value(found[0], found[1], found[2]), text)

    def _value(self, reference: str, kind: str, name: str) -> str:
        value = self._variables.get(name) if kind == "env" else self._content(reference, name)
        if value is None:
            raise UnresolvedSecret(reference, "it is not set", "set it in the env file, or where the gateway starts")
        if not value:
            # An empty token would let everyone in who sends none.
            raise UnresolvedSecret(reference, "it is empty", "give it a value, or take the reference out")
        return value

    def _content(self, reference: str, name: str) -> str:
        try:
            with (self._directory / Path(name).expanduser()).open("rb") as stream:
                raw = stream.read(SECRET_BYTES + 1)
            text = raw.decode("utf-8")
        except OSError as error:
            why = f"the file cannot be read: {(error.strerror or 'unknown error').lower()}"
            raise UnresolvedSecret(reference, why, "the path is relative to the config file") from None
        except (ValueError, RuntimeError):  # not UTF-8, a path with NUL, or `~` without a home
            raise UnresolvedSecret(reference, "the file is not text, or its path is none") from None
        if len(raw) > SECRET_BYTES:
            raise UnresolvedSecret(reference, f"the file is larger than {SECRET_BYTES} bytes")
        return text.removesuffix("\n").removesuffix("\r")


def unknown_reference(text: str) -> tuple[str, str] | None:
    """The first `${…}` in a text that is no reference, and how it was probably meant."""
    for found in _ANY_REFERENCE.finditer(text):
        reference = _REFERENCE.fullmatch(found[0])
        if reference and reference[2] and (reference[1] == "file" or _NAME.match(reference[2])):
            continue
        name = re.sub(r"\W", "", found[0].rpartition(":")[2]) or "NAME"
        return found[0], f"write `${{env:{name}}}` or `${{file:PATH}}`; a variable of a shell is written `${name}`"
    return None


def _read_env_file(path: Path, named_at: tuple[str, int, int]) -> dict[str, str]:
    """The variables of an env file: `NAME=value` lines, `#` comments, an optional `export`, optional quotes."""
    shown = display_name(path)
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            raw = stream.read(SECRET_BYTES + 1)
        lines = raw.decode("utf-8-sig").splitlines()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ConfigError([Finding(*named_at, f"the env file `{shown}` cannot be read: {why}")]) from None
    except UnicodeDecodeError:
        raise ConfigError([Finding(*named_at, f"the env file `{shown}` is not UTF-8 text")]) from None
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        message = f"the env file `{shown}` is open to others: its mode is `{mode:04o}`"
        raise ConfigError([Finding(*named_at, message, f"chmod 600 {shown}")])
    if len(raw) > SECRET_BYTES:
        raise ConfigError([Finding(*named_at, f"the env file `{shown}` is larger than {SECRET_BYTES} bytes")])
    return _variables(lines, shown)


def _variables(lines: list[str], shown: str) -> dict[str, str]:
    variables: dict[str, str] = {}
    findings: list[Finding] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        found = _LINE.match(text)
        value = _unquoted(found[2]) if found else None
        if found is None or value is None:
            findings.append(Finding(shown, number, 1, "not a `NAME=value` line", "quotes must be closed on the line"))
        elif found[1] in variables:
            findings.append(Finding(shown, number, 1, f"the name `{found[1]}` stands twice", "keep one of the two"))
        else:
            variables[found[1]] = value
    if findings:
        raise ConfigError(findings)
    return variables


def _unquoted(text: str) -> str | None:
    """A value without its quotes or the comment after it; None where a quote is not closed."""
    if text[:1] in ("'", '"'):
        value, closed, rest = text[1:].partition(text[0])
        return value if closed and (not rest.strip() or rest.lstrip().startswith("#")) else None
    return re.sub(r"\s+#.*\Z", "", text, flags=re.DOTALL).rstrip()
