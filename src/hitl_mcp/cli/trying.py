"""Commands that need no running gateway: `demo` and `doctor`."""

from __future__ import annotations

import anyio
import click

from hitl_mcp.cli.options import config_option, json_option, print_json


@click.command()
@click.option("--auto", is_flag=True, help="Answer by itself, check every effect, and end.")
def demo(auto: bool) -> int:
    """Play the whole story: an agent that reads, mails and pays, and a page to answer it on."""
    from hitl_mcp.setup.demo import run_demo

    return anyio.run(run_demo, auto)


@click.command()
@config_option
@json_option
def doctor(config: str, as_json: bool) -> int:
    """Look for what would keep the gateway from working, and say how to mend it."""
    from hitl_mcp.setup.doctor import examine

    findings = anyio.run(examine, config)
    if as_json:
        print_json({"checks": [finding.as_dict() for finding in findings]})
    else:
        for finding in findings:
            click.echo(f"{finding.mark} {finding.check}: {finding.text}")
            if finding.fix:
                click.echo(f"    fix: {finding.fix}")
    return 0 if all(finding.fine for finding in findings) else 1


COMMANDS = (demo, doctor)
