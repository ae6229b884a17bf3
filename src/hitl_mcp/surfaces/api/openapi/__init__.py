"""The description of the API, for `/api/openapi.json`. Written by hand, by subject; a test compares it with the routes.

A new path goes into the module of its subject, with the shape of its answer; here they are only put together.
"""

from __future__ import annotations

from functools import cache

from pydantic.json_schema import models_json_schema

from hitl_mcp import __version__
from hitl_mcp.surfaces.api.openapi import calls, gateway, grants, listing, people, verdicts
from hitl_mcp.surfaces.api.openapi.shapes import DOOR as DOOR
from hitl_mcp.surfaces.api.openapi.shapes import Schema, Subject

SUBJECTS: tuple[Subject, ...] = (
    calls.SUBJECT,
    verdicts.SUBJECT,
    listing.SUBJECT,
    grants.SUBJECT,
    people.SUBJECT,
    gateway.SUBJECT,
)


def only_at(door: str) -> frozenset[str]:
    """The paths of which something exists at this door alone, `port` or `socket`."""
    return frozenset(
        path
        for subject in SUBJECTS
        for path, item in subject.paths.items()
        if any(isinstance(described, dict) and described.get(DOOR) == door for described in item.values())
    )


@cache
def description() -> Schema:
    """OpenAPI 3.1 for both doors; what exists at one alone says so."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hitl-mcp review API",
            "version": __version__,
            "description": "What reviewers do with held calls. On the TCP port every request carries the key of a "
            "signed-in reviewer; on control.sock the socket itself is the proof, and the reviewer is `local`.",
        },
        "security": [{"reviewer": []}],
        "paths": {path: item for subject in SUBJECTS for path, item in subject.paths.items()},
        "components": {
            "securitySchemes": {
                "reviewer": {"type": "http", "scheme": "bearer"},
                "agent": {"type": "http", "scheme": "bearer", "description": "as for `/mcp`"},
            },
            "schemas": {name: shape for part in (_bodies(), _shapes()) for name, shape in part.items()},
        },
    }


def _shapes() -> Schema:
    return {name: shape for subject in SUBJECTS for name, shape in subject.schemas.items()}


def _bodies() -> Schema:
    models = [model for subject in SUBJECTS for model in subject.bodies]
    _, shapes = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    return dict(shapes.get("$defs", {}))
