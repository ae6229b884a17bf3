"""Which of a config's credentials are covered, and with which fingerprints."""

from __future__ import annotations

from pathlib import Path

from hitl_mcp.config import load_config
from hitl_mcp.covering import FINGERPRINT_DIGITS, cover_of
from hitl_mcp.secrets import Secrets
from hitl_mcp.store.seals import Seals

CONFIG = """
upstreams:
  crm: {url: "https://crm.example/mcp", headers: {Authorization: "Bearer ${env:CRM}", X-Plain: "written out"}}
  oauth: {url: "https://o.org/mcp", oauth: {issuer: "https://o.org", client_id: a, client_secret: "${env:OAUTH}"}}
  files: {command: npx, env: {HOME_FOLDER: "${env:FOLDER}"}}
policies: ["*.yaml"]
http: {enabled: true}
agents: {builder: {token: "${env:BUILDER}"}}
secrets: {arguments: ["mail__*:/password"], values: ["${env:NAMED}", "${env:ABSENT}"]}
"""


def test_credentials_are_covered_by_their_place_and_others_by_name(tmp_path: Path) -> None:
    """Headers, tokens, client secrets; what else a program is given may be a folder, and is covered where named."""
    (tmp_path / "hitl.yaml").write_text(CONFIG, encoding="utf-8")
    names = ("CRM", "OAUTH", "FOLDER", "BUILDER", "NAMED")
    secrets = Secrets({name: f"the value of {name}" for name in names}, tmp_path)
    seals, others = Seals(b"k" * 32), Seals(b"o" * 32)
    cover = cover_of(load_config(tmp_path / "hitl.yaml"), secrets, seals.seal)
    assert cover.values == {f"the value of {name}" for name in ("CRM", "OAUTH", "BUILDER", "NAMED")}
    assert cover.arguments == (("mail__*", ("password",)),)
    other = cover_of(load_config(tmp_path / "hitl.yaml"), secrets, others.seal)
    prints = {cover.fingerprint("a"), cover.fingerprint("b"), other.fingerprint("a")}
    assert len(prints) == 3 and all(len(one) == FINGERPRINT_DIGITS for one in prints)
    assert cover.fingerprint("a") == cover.fingerprint("a")
    assert "the value" not in repr(cover)
