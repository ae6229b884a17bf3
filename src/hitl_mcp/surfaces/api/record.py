"""The endpoints of the control socket about the record as a whole: verify it, export it, back it up."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import anyio.to_thread
from starlette.concurrency import iterate_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from hitl_mcp.backups import Keeping, back_up
from hitl_mcp.clock import to_text
from hitl_mcp.surfaces.api.bodies import BackupBody, ExportQuery, read_body, read_query
from hitl_mcp.surfaces.api.parts import ApiParts, Viewer
from hitl_mcp.surfaces.api.problems import Problem

LINES_AT_ONCE = 200
"""Lines of an export that are read and sent together: some hundred kilobytes."""


def _together(lines: Iterator[str]) -> Iterator[str]:
    while batch := list(islice(lines, LINES_AT_ONCE)):
        yield "".join(line + "\n" for line in batch)


class RecordEndpoints:
    """Verifying, exporting and copying the record of one gateway. Only its operator is asked to."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

    async def verify(self, http: Request, viewer: Viewer) -> Response:
        """Whether the record is whole and unchanged, with its newest event signed first."""
        keeping = self._keeping()
        await keeping.checkpoints.sign_head()
        report = await anyio.to_thread.run_sync(keeping.evidence.verify)
        return JSONResponse(report.as_dict())

    async def export(self, http: Request, viewer: Viewer) -> Response:
        """The record as lines of JSON."""
        query = read_query(http, ExportQuery)
        lines = self._keeping().evidence.export(after=query.after, payloads=query.payloads)
        return StreamingResponse(iterate_in_threadpool(_together(lines)), media_type="application/jsonl")

    async def back_up(self, http: Request, viewer: Viewer) -> Response:
        """A copy of the record in a new file of this machine."""
        body = await read_body(http, BackupBody)
        to = Path(body.path)
        if not to.is_absolute():
            raise Problem(422, "wrong_body", "path: not an absolute path")
        keeping, at = self._keeping(), to_text(self._parts.clock.now())
        kept = await anyio.to_thread.run_sync(partial(back_up, keeping.evidence, keeping.signer, to, at))
        return JSONResponse({"path": str(kept.file), "events": kept.events, "bytes": kept.size_bytes})

    def _keeping(self) -> Keeping:
        if self._parts.keeping is None:
            raise Problem(404, "not_found", "this gateway keeps no record of its own")
        return self._parts.keeping
