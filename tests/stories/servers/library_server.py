"""An upstream with resources and prompts and no tools, over stdio. Every reading leaves a line in its file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anyio
import mcp_types as t
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server

Context = ServerRequestContext[Any, Any]

URIS = ("note:open", "note:diary", "note:keys")


def serve(readings: Path) -> None:
    """Run the server until its stdin ends."""

    async def resources(ctx: Context, params: t.PaginatedRequestParams | None) -> t.ListResourcesResult:
        return t.ListResourcesResult(resources=[t.Resource(name=uri, uri=uri) for uri in URIS])

    async def read(ctx: Context, params: t.ReadResourceRequestParams) -> t.ReadResourceResult:
        note(f"read {params.uri}")
        return t.ReadResourceResult(contents=[t.TextResourceContents(uri=params.uri, text=f"what {params.uri} says")])

    async def prompts(ctx: Context, params: t.PaginatedRequestParams | None) -> t.ListPromptsResult:
        named = t.PromptArgument(name="who", required=True)
        return t.ListPromptsResult(prompts=[t.Prompt(name="greet", arguments=[named])])

    async def prompt(ctx: Context, params: t.GetPromptRequestParams) -> t.GetPromptResult:
        who = (params.arguments or {}).get("who", "")
        note(f"prompt {params.name} {who}")
        return t.GetPromptResult(messages=[t.PromptMessage(role="user", content=t.TextContent(text=f"Greet {who}"))])

    def note(line: str) -> None:
        with readings.open("a") as file:
            file.write(line + "\n")

    server: Server[Any] = Server(
        "library",
        on_list_resources=resources,
        on_read_resource=read,
        on_list_prompts=prompts,
        on_get_prompt=prompt,
    )

    async def run() -> None:
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    anyio.run(run)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
