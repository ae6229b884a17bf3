"""What a description of the API is made of: JSON Schema in short, operations with their answers, and subjects.

No path stands here; see the module of its subject.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
TIME: Schema = {"type": "string", "format": "date-time"}
TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
COUNT: Schema = {"type": "integer", "minimum": 0}
COUNT_OR_NULL: Schema = {"type": ["integer", "null"], "minimum": 0}
NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}
FLAG: Schema = {"type": "boolean"}

ANSWERS = {
    200: "done",
    401: "not signed in",
    403: "this person may not do this, or the request came through a wrong door",
    404: "no such call, tool or thing",
    409: "the call is settled, or has another digest: `status` is the true one and `call` the call as it stands; "
    "or what is asked for is over, or is another thing by now",
    413: "the body is too large",
    422: "the body, a parameter or a header is not what is expected",
    429: "too many at once, or too often",
    503: "the gateway cannot do this now",
}

DOOR = "x-door"
"""Says of an operation at which door alone it exists: `port` or `socket`."""

ALWAYS = (401, 403, 503)
"""What any request may be answered: by whoever is not signed in, through a wrong door, without a store."""


@dataclass(frozen=True)
class Subject:
    """Paths that belong together, the shapes of what they answer, and the bodies they take."""

    paths: Schema
    schemas: Schema = field(default_factory=dict)
    bodies: tuple[type[BaseModel], ...] = ()


def ref(name: str) -> Schema:
    """The shape of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(schema: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": schema}


def one_of(*values: str) -> Schema:
    """One of these words."""
    return {"type": "string", "enum": [*values]}


def or_null(schema: Schema) -> Schema:
    """This, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def closed(optional: Schema | None = None, /, **properties: Schema) -> Schema:
    """An object with exactly these members; `optional` ones may be left out."""
    return {
        "type": "object",
        "properties": {**properties, **(optional or {})},
        "required": [*properties],
        "additionalProperties": False,
    }


def in_path(name: str) -> Schema:
    """A parameter that is a part of the path."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


CALL_ID = in_path("call_id")


def operation(
    summary: str,
    *statuses: int,
    answer: str | Schema | None = None,
    body: str | None = None,
    query: type[BaseModel] | None = None,
    media: str = "application/json",
) -> Schema:
    """One method of a path: what it may answer, beside `ALWAYS`, and what it takes; a body is named after its model."""
    shape = ref(answer) if isinstance(answer, str) else answer or {}
    of_body = (413, 422) if body else ()
    described: Schema = {
        "summary": summary,
        "responses": {
            str(status): {
                "description": ANSWERS[status],
                "content": {media: {"schema": shape}}
                if status == 200
                else {"application/json": {"schema": ref("Error")}},
            }
            for status in sorted({200, *statuses, *of_body, *ALWAYS})
        },
    }
    if body:
        described["requestBody"] = {"content": {"application/json": {"schema": ref(body)}}}
    if query:
        described["parameters"] = _of_query(query)
    return described


def on_port(described: Schema) -> Schema:
    """An operation that exists on the TCP port alone."""
    return {**described, DOOR: "port", "description": "Only on the TCP port."}


def on_socket(described: Schema) -> Schema:
    """An operation that exists on the control socket alone: it is the operator's."""
    return {**described, DOOR: "socket", "description": "Only on control.sock."}


def without_sign_in(described: Schema) -> Schema:
    """An operation that asks for no key."""
    return {**described, "security": []}


def _of_query(query: type[BaseModel]) -> list[Schema]:
    properties = query.model_json_schema(ref_template="#/components/schemas/{model}")["properties"]
    return [
        {"name": name, "in": "query", "schema": {k: v for k, v in schema.items() if k != "title"}, "explode": True}
        for name, schema in properties.items()
    ]
