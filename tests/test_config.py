"""What `hitl.yaml` may say, what is refused and where, and which policy files it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hitl_mcp.config import Config, OAuthConfig, PolicySource, ReviewConfig, UpstreamConfig, load_config, policy_sources
from hitl_mcp.errors import ConfigError
from hitl_mcp.people import Agent, Reviewer
from hitl_mcp.policy import load_policy
from hitl_mcp.shipped import ready_policies
from tests.policy.written import unmarked

ROOT = Path(__file__).resolve().parent.parent

LEAST = "upstreams: {files: {command: npx}}\npolicies: [p.yaml]\n"
UPSTREAM_KEYS = (
    "its keys are `command`, `args`, `env`, `url`, `headers`, `oauth`, `timeout`, `labels`, `isolation`, `resources`, "
    "`prompts`, `sampling`, `elicitation`, `type`"
)
CONFIG_KEYS = (
    "its keys are `upstreams`, `policies`, `store`, `review`, `http`, `agents`, `clients`, `reviewers`, `retention`, "
    "`env_file`, `ask_in_client`, `wait_seconds`, `secrets`"
)
UPSTREAM_NAMES = "an upstream's name is 1 to 20 of `a-z`, `0-9` and `-`, a letter first"
CLIENT_NAMES = "a client's name is 1 to 20 of `a-z`, `0-9` and `-`, a letter first"
AGENT_NAMES = "an agent's name is 1 to 40 of `a-z`, `0-9` and `-`, a letter first"
REVIEWER_NAMES = "a reviewer's name is 1 to 64 letters, digits, `.`, `_`, `@`, `+` and `-`"
STORES = "write `sqlite`, or a path such as `./hitl.db`"
ONE_WAY = "write `command` for a program to start, `url` for a server to connect to"
LOOPBACK = "keep `127.0.0.1`, put a TLS proxy in front, and name its address as `public_url`"
ORIGIN = "write scheme and host only: `https://hitl.example.com`"
AUD = "audience: a}}"
ISSUER = "write `https://id.example.com`, as the issuer calls itself"
TLS = "write `https://…`: whoever changes its answer is every agent"
NO_POLICY = (
    "no policy is named\n"
    '  help: write `policies: ["policy.yaml"]`, or to start with `policies: [{use: cautious, upstream: NAME}]`'
)

# Upstreams, one a line, and all that is found; `«` marks the places, one for each finding.
UPSTREAMS_REFUSED = [
    ("«Files: {command: a}", f"not a name for upstreams: `Files`\n  help: {UPSTREAM_NAMES}"),
    ("«a_b: {command: a}", f"not a name for upstreams: `a_b`\n  help: {UPSTREAM_NAMES}"),
    (
        "«aaaaaaaaaaaaaaaaaaaaa: {command: a}",
        f"not a name for upstreams: `aaaaaaaaaaaaaaaaaaaaa`\n  help: {UPSTREAM_NAMES}",
    ),
    ("u: «{}", f"an upstream has `command` or `url`, and this has neither\n  help: {ONE_WAY}"),
    ("u: «{command: a, url: 'https://x'}", f"an upstream has `command` or `url`, and this has both\n  help: {ONE_WAY}"),
    (
        "u: ««{url: 'https://x', args: [a], env: {A: b}}",
        "`args` does not go with `url`\n  help: leave it out\n`env` does not go with `url`\n  help: leave it out",
    ),
    ("u: «{command: a, headers: {A: b}}", "`headers` does not go with `command`\n  help: leave it out"),
    ("u: «{command: a, oauth: {}}", "`oauth` does not go with `command`\n  help: leave it out"),
    (
        "u: «{url: 'https://x', oauth: {}, headers: {authorization: a}}",
        "`oauth` and a header `Authorization`\n  help: leave one of them out",
    ),
    (
        "u: «{url: 'https://x/${env:A}', oauth: {}}",
        "a reference in `url` beside `oauth`\n  help: write it out: sign-in links repeat it",
    ),
    (
        "u: {url: 'https://x', oauth: «{grant: client_credentials}}",
        "`client_credentials` needs `client_id` and `client_secret`\n"
        "  help: write them as the authorization server gave them, the secret as `${env:NAME}`",
    ),
    (
        "u: {url: 'https://x', oauth: ««{client_secret: a}}",
        "`client_secret` without `client_id`\n  help: write both, or neither\n"
        "`client_secret` needs `issuer`\n"
        "  help: write the authorization server's address: the secret is sent to it alone",
    ),
    (
        "u: {url: 'https://x', oauth: {issuer: «'http://id.example'}}",
        "`issuer` is not encrypted\n  help: write `https://…`: secrets are sent there",
    ),
    (
        "u: {url: 'https://x', oauth: {scopes: [«'a b']}}",
        "not a scope: `a b`\n  help: write each scope by itself: `[mcp, read]`",
    ),
    ("u: «{command: a, type: http}", "type `http` does not go with `command`\n  help: leave `type` out"),
    ("u: {url: 'https://x', type: «sse}", "unknown type `sse`\n  help: types are `stdio`, `http`, `streamable-http`"),
    ("u: {«comand: a}", f"unknown key `comand` in an upstream\n  help: did you mean `command`? {UPSTREAM_KEYS}"),
    ("u: {command: «''}", "the text is empty"),
    ("u: {command: «[npx, -y]}", "`command` must be text, not a list"),
    ("u: {command: a, args: «-y}", "`args` must be a list, not text\n  help: write `[…]` around it"),
    ("u: {command: a, args: [a, «8080]}", "`args[1]` must be text, not a number\n  help: put it in quotes"),
    ("u: {command: a, env: {PORT: «8080}}", "`PORT` must be text, not a number\n  help: put it in quotes"),
    ("u: {command: a, env: {DEBUG: «true}}", "`DEBUG` must be text, not a truth value\n  help: put it in quotes"),
    (
        "u: {command: a, isolation: «sesion}",
        "unknown isolation `sesion`\n  help: did you mean `session`? isolations are `shared`, `session`",
    ),
    ("u: {command: a, resources: «'no'}", "`resources` must be `true` or `false`, not text"),
    ("u: {url: 'https://x', prompts: «0}", "`prompts` must be `true` or `false`, not a number"),
    ("u: {command: a, sampling: «[]}", "`sampling` must be `true` or `false`, not a list"),
    ("u: {command: a, elicitation: «{form: true}}", "`elicitation` must be `true` or `false`, not a mapping"),
    (
        "u: {command: a, «elicit: true}",
        f"unknown key `elicit` in an upstream\n  help: did you mean `elicitation`? {UPSTREAM_KEYS}",
    ),
    (
        "u: {command: a, env: {KEY: «'${KEY}'}}",
        "unknown reference `${KEY}`\n"
        "  help: write `${env:KEY}` or `${file:PATH}`; a variable of a shell is written `$KEY`",
    ),
    (
        "u: {command: a, args: [«'${input:key}']}",
        "unknown reference `${input:key}`\n"
        "  help: write `${env:key}` or `${file:PATH}`; a variable of a shell is written `$key`",
    ),
    (
        "u: {url: 'https://x', headers: {A: «'Bearer ${env:A'}}",
        "unknown reference `${env:A`\n"
        "  help: write `${env:A}` or `${file:PATH}`; a variable of a shell is written `$A`",
    ),
    ("u: {url: «'ftp://x'}", "`url` is not an HTTP address\n  help: write `https://host/path`"),
    ("u: {url: «'https://x:99999'}", "`url` is not an HTTP address\n  help: write `https://host/path`"),
    ("u: {command: a, timeout: «60s}", "`timeout` must be a number, not text"),
    ("u: {command: a, timeout: «0}", "`timeout` out of range: `0`\n  help: `timeout` is 0.001 to 86400 seconds"),
    ("u: {command: a, labels: {env: «[prod]}}", "`env` must be text, not a list"),
    ("u: «npx", "`u` must be a mapping (`key: value`), not text"),
]

# What else is written, and all that is found.
REFUSED = [
    ("«polices: []", f"unknown key `polices` in a config\n  help: did you mean `policies`? {CONFIG_KEYS}"),
    ("store: «postgresql://db/x", f"the store `postgresql` is not available yet\n  help: {STORES}"),
    ("store: «mysql://db/x", f"unknown store `mysql`\n  help: {STORES}"),
    ("store: «sqlit", f"unknown store `sqlit`\n  help: {STORES}"),
    (
        "retention: {held: «30d}",
        "`held` is no final status\n  help: final statuses are `denied`, `rejected`, `expired`, `withdrawn`, "
        "`invalidated`, `succeeded`, `failed`, `released`",
    ),
    ("clients: «claude-code", "`clients` must be a list, not text\n  help: write `[…]` around it"),
    ("clients: [«Claude]", f"not a name for clients: `Claude`\n  help: {CLIENT_NAMES}"),
    (
        "clients: [codex, «files]",
        "`files` is an upstream\n  help: give the client another name: rules could not tell them",
    ),
    ("clients: [codex, «codex]", "`codex` is named twice\n  help: name each client once"),
    ("retention: {failed: «12h}", "not a number of days: `12h`\n  help: write how many days it is kept: `30d`"),
    ("review: {host: «0.0.0.0}", f"`host` is not a loopback address: `0.0.0.0`\n  help: {LOOPBACK}"),
    ("review: {host: «'::'}", f"`host` is not a loopback address: `::`\n  help: {LOOPBACK}"),
    (
        "review: {batch_below: «101}",
        "`batch_below` out of range: `101`\n  help: points are 0 to 100; 0 answers every call by itself",
    ),
    ("review: {port: «65536}", "`port` out of range: `65536`\n  help: a port is 1 to 65535; 0 picks a free one"),
    ("review: {port: «'8377'}", "`port` must be a whole number, not text\n  help: write the number without quotes"),
    (
        "review: {public_url: «hitl.example.com}",
        f"`public_url` is not an address\n  help: {ORIGIN}",
    ),
    (
        "review: {public_url: «'https://x/hitl?a=b'}",
        f"`public_url` is not an address\n  help: {ORIGIN}",
    ),
    ("review: {public_url: «'https://me:hush@x'}", f"`public_url` is not an address\n  help: {ORIGIN}"),
    (
        "review: {public_url: «'http://hitl.example.com'}",
        "`public_url` is not encrypted\n  help: write `https://…`, and let a proxy in front do the TLS",
    ),
    ("http: «true", "`http` must be a mapping (`key: value`), not a truth value"),
    ("http: {enabled: «'true'}", "`enabled` must be `true` or `false`, not text\n  help: write `true` without quotes"),
    (
        "http: {enabled: «yes}",
        "ambiguous value `yes`: YAML readers disagree whether it is a truth value or text\n"
        '  help: write `"yes"` for the text, `true` for the truth value',
    ),
    (
        "http: {enabled: true, oauth: ««{}}",
        "missing key `issuer` in `oauth`\n  help: `oauth` needs `issuer`, `audience`\n"
        "missing key `audience` in `oauth`\n  help: `oauth` needs `issuer`, `audience`",
    ),
    (f"http: {{enabled: true, oauth: {{issuer: «'id.example', {AUD}", f"`issuer` is not an address\n  help: {ISSUER}"),
    (
        f"http: {{enabled: true, oauth: {{issuer: «'https://x/?a=b', {AUD}",
        f"`issuer` is not an address\n  help: {ISSUER}",
    ),
    (f"http: {{enabled: true, oauth: {{issuer: «'http://x', {AUD}", f"`issuer` is not encrypted\n  help: {TLS}"),
    (
        f"http: {{enabled: true, oauth: {{jwks_url: «'http://x/k', issuer: 'https://x', {AUD}",
        f"`jwks_url` is not encrypted\n  help: {TLS}",
    ),
    (
        f"http: {{enabled: true, oauth: {{scopes: [«a b], issuer: 'https://x', {AUD}",
        "not a scope: `a b`\n  help: write each scope by itself: `[mcp, read]`",
    ),
    (
        f"http: {{enabled: true, oauth: {{agent_claim: «'a\"b', issuer: 'https://x', {AUD}",
        'not a claim: `a"b`\n  help: write the name of one claim: `sub`, `azp`, `client_id`',
    ),
    (
        f"http: {{«oauth: {{issuer: 'https://x', {AUD}",
        "`oauth` does nothing here: `/mcp` is off\n  help: write `enabled: true` beside it",
    ),
    (
        "agents: {a: {subject: «x}}",
        "`a` has a subject, and no issuer is named\n  help: name it: `http: {oauth: {issuer: …}}`",
    ),
    (
        "agents: {a: {subject: x}, b: {subject: «x}}\n"
        f"http: {{enabled: true, oauth: {{issuer: 'https://x', {AUD}",
        "`b` has the subject of `a`\n  help: give each agent its own",
    ),
    (
        "agents: {a: {subject: «'${env:A}'}}",
        "no reference is looked up here\n  help: write the text itself: it is no secret",
    ),
    ("agents: {«Builder: {}}", f"not a name for agents: `Builder`\n  help: {AGENT_NAMES}"),
    ("agents: {a: {token: «''}}", "the text is empty"),
    ("agents: {a: {token: x}, b: {token: «x}}", "`b` has the token of `a`\n  help: give each agent its own"),
    ("agents: {a: {token: «1234}}", "`token` must be text, not a number\n  help: put it in quotes"),
    ("agents: {a: {«role: x}}", "unknown key `role` in an agent\n  help: its keys are `token`, `owner`, `subject`"),
    ("reviewers: {«'client:builder': {}}", f"not a name for reviewers: `client:builder`\n  help: {REVIEWER_NAMES}"),
    ("reviewers: {dana: {}, «Dana: {}}", "`Dana` and `dana` cannot be told apart\n  help: give each its own name"),
    ("reviewers: {dana: {roles: «finance}}", "`roles` must be a list, not text\n  help: write `[…]` around it"),
    (
        "reviewers: {dana: {roles: [«'a b']}}",
        "not a role: `a b`\n  help: a role is 1 to 40 letters, digits, `.`, `_` and `-`",
    ),
    ("reviewers: «[dana]", "`reviewers` must be a mapping (`key: value`), not a list"),
    ("env_file: «''", "the text is empty"),
    (
        "ask_in_client: [form, «page]",
        "unknown word `page` in `ask_in_client`\n  help: words are `form`, `url`",
    ),
    ("ask_in_client: «false", "`ask_in_client` must be a list, not a truth value"),
    ("wait_seconds: «60", "`wait_seconds` out of range: `60`\n  help: `wait_seconds` is 1 to 55 seconds"),
    ("wait_seconds: «0.5", "`wait_seconds` out of range: `0.5`\n  help: `wait_seconds` is 1 to 55 seconds"),
]


@pytest.fixture(autouse=True)
def _in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def config_of(text: str) -> Config:
    Path("hitl.yaml").write_text(text, encoding="utf-8")
    return load_config(Path("hitl.yaml"))


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        config_of(text)
    return str(refused.value)


def expected(text: str, message: str) -> tuple[str, str]:
    """A text without its marks, and the message with the place of each mark in front of each finding."""
    plain, places = unmarked(text)
    lines = [f"hitl.yaml:{places.pop(0)}: {line}" if line[0] != " " else line for line in message.splitlines()]
    assert places == []
    return plain, "\n".join(lines)


@pytest.mark.parametrize(("upstream", "message"), UPSTREAMS_REFUSED)
def test_a_wrong_upstream_is_refused_with_place_and_meaning(upstream: str, message: str) -> None:
    """Each mistake names its place and what was meant, and no text that could be a secret."""
    text, whole = expected(f"upstreams:\n  {upstream}\npolicies: [p.yaml]\n", message)
    assert refusal(text) == whole


@pytest.mark.parametrize(("line", "message"), REFUSED)
def test_a_wrong_config_is_refused_with_place_and_meaning(line: str, message: str) -> None:
    """Each mistake names its place and what was meant."""
    text, whole = expected(LEAST + line + "\n", message)
    assert refusal(text) == whole


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "hitl.yaml:1:1: the file is empty\n  help: a config needs `upstreams`"),
        ("upstreams: {}\n", f"hitl.yaml:1:1: {NO_POLICY}"),
        ("upstreams: {}\npolicies:\n", f"hitl.yaml:2:10: {NO_POLICY}"),
        ("upstreams: {}\npolicies: []\n", f"hitl.yaml:2:11: {NO_POLICY}"),
        (
            "upstreams: {}\npolicies: p.yaml\n",
            "hitl.yaml:2:11: `policies` must be a list, not text\n  help: write `[…]` around it",
        ),
        (
            "upstreams: {gh: {command: a}}\npolicies: [{use: githubb, upstream: gh}]\n",
            "hitl.yaml:2:18: no ready policy is called `githubb`\n"
            "  help: did you mean `github`? they are " + ", ".join(f"`{name}`" for name in ready_policies()),
        ),
        (
            "policies: [p.yaml]\n",
            "hitl.yaml:1:1: missing key `upstreams` in a config\n  help: a config needs `upstreams`",
        ),
        ("[]\n", "hitl.yaml:1:1: must be a mapping (`key: value`), not a list"),
    ],
)
def test_what_must_be_there_is_asked_for(text: str, message: str) -> None:
    """A config without policies would let no one know what is held, so it says what to write."""
    assert refusal(text) == message


def test_everything_wrong_is_told_at_once_in_the_order_of_the_file() -> None:
    """Upstreams, names, addresses and limits are all looked at before the config is refused."""
    message = refusal(
        "upstreams:\n  Files: {command: npx, env: {A: 1}}\n  crm: {}\nreview: {host: x, port: 70000}\n"
        "wait_seconds: 90\nreviewers: {'client:x': {}}\n"
    )
    places = [line.split(": ")[0] for line in message.splitlines() if not line.startswith("  help")]
    assert places == [f"hitl.yaml:{place}" for place in ("1:1", "2:3", "2:34", "3:8", "4:16", "4:25", "5:15", "6:13")]


def test_a_config_that_is_not_there_is_refused() -> None:
    """A missing file names itself and the option that names another."""
    with pytest.raises(ConfigError) as refused:
        load_config(Path("none.yaml"))
    assert str(refused.value) == (
        "none.yaml:1:1: cannot be read: no such file or directory\n  help: `--config` names another file"
    )


def test_what_an_upstream_may_do_beside_its_tools_is_switched() -> None:
    """All of it is on, and its connection shared, until the config says otherwise."""
    off = "isolation: session, resources: false, prompts: false, sampling: false, elicitation: false"
    found = config_of(f"upstreams: {{a: {{command: x}}, b: {{command: x, {off}}}}}\npolicies: [p.yaml]\n").upstreams
    assert found["a"] == UpstreamConfig("a", command="x")
    assert (found["a"].isolation, found["a"].resources, found["a"].elicitation) == ("shared", True, True)
    assert found["b"] == UpstreamConfig(
        "b", command="x", isolation="session", resources=False, prompts=False, sampling=False, elicitation=False
    )


def test_the_config_of_the_design_is_read(tmp_path: Path) -> None:
    """Everything a config can say, as people write and paste it."""
    config = config_of(
        """
upstreams:
  files: {command: npx, args: ["-y", "server-filesystem", "/srv/shared"], env: {KEY: "${env:KEY}"}, timeout: 90}
  crm:   {url: "https://crm.example/mcp", headers: {Authorization: "Bearer ${env:CRM_TOKEN}"}, labels: {env: prod}}
  pasted: {"type": "stdio", "command": "uvx", "args": ["mcp-server-git"]}
policies: ["policies/*.yaml"]
store: ./data/hitl.db
review: {host: 127.0.0.1, port: 8377, public_url: "https://hitl.example.com/", batch_below: 30}
http: {enabled: true}
agents: {builder: {token: "${env:BUILDER_TOKEN}", owner: dana}}
reviewers: {dana: {roles: [finance, admin]}, li@example.com: {}}
env_file: .env
ask_in_client: [url]
wait_seconds: 30
"""
    )
    assert config.path == (tmp_path / "hitl.yaml").resolve()
    assert dict(config.upstreams) == {
        "files": UpstreamConfig(
            "files",
            command="npx",
            args=("-y", "server-filesystem", "/srv/shared"),
            env={"KEY": "${env:KEY}"},
            timeout_seconds=90,
        ),
        "crm": UpstreamConfig(
            "crm",
            url="https://crm.example/mcp",
            headers={"Authorization": "Bearer ${env:CRM_TOKEN}"},
            labels={"env": "prod"},
        ),
        "pasted": UpstreamConfig("pasted", command="uvx", args=("mcp-server-git",)),
    }
    assert config.policies == ("policies/*.yaml",)
    assert config.store == str(tmp_path.resolve() / "data/hitl.db")
    assert config.review == ReviewConfig("127.0.0.1", 8377, "https://hitl.example.com", 30)
    assert config.http_enabled is True
    assert config.people.agents == {"builder": Agent("builder", "${env:BUILDER_TOKEN}", "dana")}
    assert config.people.reviewers == {
        "dana": Reviewer("dana", frozenset({"finance", "admin"})),
        "li@example.com": Reviewer("li@example.com"),
    }
    assert config.env_file == tmp_path.resolve() / ".env"
    assert (config.wait_seconds, config.ask_in_client) == (30, ("url",))


def test_an_issuer_is_kept_as_it_is_written() -> None:
    """Its name is compared letter for letter, so the slash at its end stays; on this machine it may go without TLS."""
    config = config_of(
        LEAST + "http: {enabled: true, oauth: {issuer: 'https://id.example.com/', audience: 'api://hitl',"
        " jwks_url: 'https://keys.example.com/k?v=1', scopes: [mcp, 'a:b'], agent_claim: azp}}\n"
        "agents: {builder: {subject: 'auth0|123', owner: dana}}\n"
    )
    assert config.oauth == OAuthConfig(
        "https://id.example.com/", "api://hitl", "https://keys.example.com/k?v=1", ("mcp", "a:b"), "azp"
    )
    assert config.people.agents == {"builder": Agent("builder", None, "dana", "auth0|123")}
    least = config_of(LEAST + "http: {enabled: true, oauth: {issuer: 'http://127.0.0.1:9000', audience: a}}\n")
    assert least.oauth == OAuthConfig("http://127.0.0.1:9000", "a", None, (), "sub")
    assert config_of(LEAST).oauth is None


def test_clients_whose_own_tools_are_decided_here_are_named() -> None:
    """A ready policy can be used for one as for an upstream; none is named unless it is written."""
    written = "upstreams: {files: {command: npx}}\nclients: [claude-code, codex]\n"
    config = config_of(written + "policies: [{use: cautious, upstream: [files, claude-code]}]\n")
    assert config.clients == ("claude-code", "codex")
    assert [source.upstream for source in policy_sources(config)] == ["files", "claude-code"]
    assert config_of(LEAST).clients == ()


def test_what_is_not_written_has_its_default() -> None:
    """The shortest config: one reviewer, no door for other machines, the store in the state directory."""
    config = config_of(LEAST)
    assert (config.store, config.http_enabled, config.env_file, config.wait_seconds) == ("sqlite", False, None, 45)
    assert config.ask_in_client == ("form", "url")
    assert config.review == ReviewConfig("127.0.0.1", None, None)
    assert [reviewer.name for reviewer in config.people.everyone()] == ["local"]
    assert config.upstreams["files"].timeout_seconds == 60


def test_nothing_secret_shows_in_a_config() -> None:
    """Printing a config shows no environment, header or token."""
    config = config_of(
        "upstreams: {a: {command: x, env: {K: hush}}, b: {url: 'https://x', headers: {A: hush}}}\n"
        "policies: [p.yaml]\nagents: {c: {token: hush}}\n"
    )
    assert "hush" not in repr(config)


def test_a_link_to_a_config_is_the_config(tmp_path: Path) -> None:
    """Paths are relative to where the file really is, whatever name it is called by."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "hitl.yaml").write_text(LEAST)
    (tmp_path / "real" / "p.yaml").write_text("version: 1\n")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "real" / "hitl.yaml")
    config = load_config(Path("link.yaml"))
    assert config.path == (tmp_path / "real" / "hitl.yaml").resolve()
    assert policy_sources(config) == [PolicySource(config.path.parent / "p.yaml")]


# ---------------------------------------------------------------------------------------------------------------
# Policy files


def test_globs_find_each_policy_once(tmp_path: Path) -> None:
    """Files are found relative to the config, in the order of their names, each once however often it is named."""
    for name in ("b.yaml", "a.yaml", "deep/c.yaml", "deep/er/d.yaml", "other.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("version: 1\n")
    (tmp_path / "dir.yaml").mkdir()
    config = config_of("upstreams: {}\npolicies: ['*a.yaml', './a.yaml', 'b.yaml', 'deep/**/*.yaml']\n")
    found = [source.path.relative_to(tmp_path.resolve()).as_posix() for source in policy_sources(config)]
    assert found == ["a.yaml", "b.yaml", "deep/c.yaml", "deep/er/d.yaml"]


def test_a_glob_that_finds_nothing_is_an_error(tmp_path: Path) -> None:
    """A misspelt name must not leave a policy out; each such glob is told, where it is written."""
    (tmp_path / "a.yaml").write_text("version: 1\n")
    (tmp_path / "dir.yaml").mkdir()
    config = config_of("upstreams: {}\npolicies:\n  - a.yaml\n  - none.yaml\n  - dir.*\n")
    with pytest.raises(ConfigError) as refused:
        policy_sources(config)
    assert str(refused.value) == (
        "hitl.yaml:4:5: no policy file is found by `none.yaml`\n  help: paths are relative to the config file\n"
        "hitl.yaml:5:5: no policy file is found by `dir.*`\n  help: paths are relative to the config file"
    )


# ---------------------------------------------------------------------------------------------------------------
# What the pages show


def examples(page: str) -> list[str]:
    """The YAML that a page shows."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", [*examples("config.md"), *(t for t in examples("policy.md") if "upstreams:" in t)])
def test_every_config_that_the_page_shows_can_be_used(text: str) -> None:
    """Examples in the docs are configs; a part of one goes with the least there can be."""
    least = "" if "upstreams:" in text else "upstreams: {}\n"
    config_of(least + ("" if "policies:" in text else "policies: [p.yaml]\n") + text)


@pytest.mark.parametrize("text", [text for text in examples("policy.md") if "upstreams:" not in text])
def test_every_policy_that_the_page_shows_can_be_used(text: str) -> None:
    """Examples in the docs are policies; a part of one goes with a version."""
    people = config_of(
        "upstreams: {}\npolicies: [p]\nreviewers: {dana: {roles: [finance, ops]}, li: {roles: [finance]}}"
    )
    Path("p.yaml").write_text(text if "version:" in text else f"version: 1\n{text}", encoding="utf-8")
    load_policy([PolicySource(Path("p.yaml"))], people.people)


def test_the_ready_policy_asks_nobody_in_particular() -> None:
    """The cautious start works with no reviewers configured."""
    config = config_of("upstreams: {files: {command: npx}}\npolicies: [{use: cautious, upstream: files}]\n")
    assert load_policy(policy_sources(config), config.people).rules


def test_secrets_are_named_by_tool_and_place_and_by_reference() -> None:
    """A pointer's steps are read as JSON Pointer writes them; nothing is named unless it is written."""
    config = config_of(
        LEAST + "secrets: {arguments: ['mail__*:/a~1b/*/c~0d', '*:/password'], values: ['${env:KEY}']}\n"
        "review: {approvals_per_hour: 30}\nreviewers: {dana: {approvals_per_hour: 5}, lee: {}}\n"
    )
    assert config.secrets.arguments == (("mail__*", ("a/b", "*", "c~d")), ("*", ("password",)))
    assert config.secrets.values == ("${env:KEY}",)
    assert [config.people.budget_of(name) for name in ("dana", "lee", "local", "client:builder")] == [5, 30, 30, 30]
    least = config_of(LEAST)
    assert (least.secrets.arguments, least.secrets.values, least.people.budget_of("local")) == ((), (), None)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("secrets: {arguments: [password]}", "not an argument of a tool: `password`"),
        ("secrets: {arguments: ['mail__*:password']}", "not a place in the arguments: `password`"),
        ("secrets: {arguments: ['mail__*:/a~2']}", "not a place in the arguments: `/a~2`"),
        ("secrets: {values: [hunter2]}", "not a reference: `hunter2`"),
        ("secrets: {values: ['Bearer ${env:KEY}']}", "not a reference: `Bearer ${env:KEY}`"),
        ("review: {approvals_per_hour: 0}", "`approvals_per_hour` out of range: `0`"),
        ("reviewers: {dana: {approvals_per_hour: 1001}}", "`approvals_per_hour` out of range: `1001`"),
    ],
)
def test_a_secret_or_a_budget_that_means_nothing_is_refused(written: str, message: str) -> None:
    """With what was written, and what it should look like."""
    with pytest.raises(ConfigError) as refusal:
        config_of(LEAST + written + "\n")
    assert message in str(refusal.value)
