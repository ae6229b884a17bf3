"""The corpus of wrong messages, as data: each with its name, its bytes, and what must come back for it.

A message is written as it stands on the wire. `@META@` and `@ENVELOPE@` are where a client of the modern era has what
every one of its requests carries; of the older era nothing stands there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from mcp_types import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR

from tests.stories.doors import modern_meta

ID = 41
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Refused:
    """A JSON-RPC error comes back, under this id; with one of these codes, where it matters which."""

    id: Any = ID
    codes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Passed:
    """The call runs, and its upstream is given exactly these arguments; the answer has this id."""

    arguments: Any
    id: Any = ID


@dataclass(frozen=True)
class Answered:
    """A result or an error comes back, under this id: the protocol's revisions differ in which."""

    id: Any = ID


@dataclass(frozen=True)
class Unanswered:
    """Nothing comes back, as JSON-RPC has it for notifications and for answers."""


Then = Refused | Passed | Answered | Unanswered


@dataclass(frozen=True)
class Message:
    """One wrong, or only unusual, message. `method` and `tool` are what an HTTP client says of it in its headers."""

    name: str
    frame: bytes
    then: Then
    method: str = "tools/call"
    tool: str = "raw__echo"
    differs: dict[str, Then] = field(default_factory=dict)

    def written(self, era: str) -> bytes:
        """Its bytes, as a client of this era writes them."""
        envelope = "" if era == "legacy" else json.dumps(modern_meta())[1:-1]
        meta = "" if era == "legacy" else json.dumps({"_meta": modern_meta()})[1:-1]
        filled = self.frame
        for place, text in (("@ENVELOPE@", envelope), ("@META@", meta)):
            filled = filled.replace(place.encode() + b"}", text.encode() + b"}")
            filled = filled.replace(place.encode(), (text + ",").encode() if text else b"")
        return filled

    def expected(self, door: str, era: str) -> Then:
        """What must come back at this door in this era."""
        ways = (f"{door} {era}", door, era)
        return next((self.differs[way] for way in ways if way in self.differs), self.then)


def call(arguments: str = "{}", *, id: str = str(ID), name: str = '"raw__echo"', more: str = "") -> bytes:
    """A tools/call with its parts exactly as written."""
    params = f'@META@"name":{name},"arguments":{arguments}{more}'
    text = f'{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{{params}}}}}'
    return text.encode("utf-8", "surrogatepass")


def asked(method: str, params: str = "{@META@}", *, id: str = str(ID)) -> bytes:
    """A request of any method; `params` as written."""
    return f'{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}'.encode()


# No JSON.


def cut_short() -> Iterator[Message]:
    """A good message that ends at every place where something ends or begins."""
    whole = '{"jsonrpc":"2.0","id":41,"method":"tools/call","params":{"name":"raw__echo","arguments":{"a":[1,"b"]}}}'
    for at, character in enumerate(whole[:-1], 1):
        if character in '{}[]:,"':
            yield Message(f"cut after {at}", whole[:at].encode(), Refused(None, (PARSE_ERROR,)))


NOT_JSON: dict[str, str] = {
    "single quotes": "{'a':1}",
    "a comma at the end of an object": '{"a":1,}',
    "a comma at the end of a list": '{"a":[1,]}',
    "a comma at the beginning": '{,"a":1}',
    "two commas": '{"a":[1,,2]}',
    "no comma": '{"a":1 "b":2}',
    "no colon": '{"a" 1}',
    "two colons": '{"a"::1}',
    "no value": '{"a":}',
    "a key without quotes": "{a:1}",
    "a number for a key": "{1:1}",
    "a comment": '{"a":1 /* x */}',
    "a comment to the end": '{"a":1 // x}',
    "a hash": '{"a":1 # x}',
    "undefined": '{"a":undefined}',
    "True": '{"a":True}',
    "None": '{"a":None}',
    "nan in small letters": '{"a":nan}',
    "plus infinity": '{"a":+Infinity}',
    "a zero before": '{"a":01}',
    "a plus before": '{"a":+1}',
    "a point before": '{"a":.5}',
    "a point behind": '{"a":1.}',
    "an empty exponent": '{"a":1e}',
    "hexadecimal": '{"a":0x10}',
    "an underscore in a number": '{"a":1_000}',
    "a lone minus": '{"a":-}',
    "digits of another script": '{"a":١٢}',
    "an escape that is none": r'{"a":"\x41"}',
    "half an escape": r'{"a":"\u12"}',
    "an escape with braces": r'{"a":"\u{41}"}',
    "a backslash at the end": '{"a":"\\"}',
    "a tab in a text": '{"a":"\t"}',
    "a control character in a text": '{"a":"\x01"}',
    "NUL as it is": '{"a":"\x00"}',
    "an escape character in a text": '{"a":"\x1b[2J"}',
    "brackets that do not match": '{"a":[1}]',
    "a form feed between": '{"a":\x0c1}',
    "a no-break space between": '{"a":\xa01}',
    "a line separator between": '{"a":\u20281}',
}
"""Arguments that make a whole message no JSON."""

NOT_UTF8: dict[str, bytes] = {
    "a byte that begins nothing": b"\xff",
    "a continuation without a beginning": b"\x80",
    "a beginning without a continuation": b"\xc3",
    "a slash written too long": b"\xc0\xaf",
    "NUL written too long": b"\xc0\x80",
    "a surrogate in UTF-8": b"\xed\xa0\x80",
    "a pair of surrogates in UTF-8": b"\xed\xa0\xbd\xed\xb8\x80",
    "a character beyond the last": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "Latin-1": "Grüße".encode("latin-1"),
}
"""What a text holds that is no UTF-8."""


def not_json() -> Iterator[Message]:
    """Whatever is no JSON, or none in UTF-8: nobody can know which request it was."""
    refused = Refused(None, (PARSE_ERROR,))
    for name, arguments in NOT_JSON.items():
        yield Message(name, call(arguments), refused)
    for name, wrong in NOT_UTF8.items():
        # Which request it was can be read all the same where its sender took UTF-16's surrogates for characters.
        then = Refused() if "surrogate" in name else refused
        yield Message(name, call('{"a":"?"}').replace(b"?", wrong), then)
    good = call()
    yield Message("a byte order mark", b"\xef\xbb\xbf" + good, Refused())
    for name, frame in {
        "two messages": good + good,
        "two messages with a space": good + b" " + good,
        "a comma behind": good + b",",
        "a bracket behind": good + b"}",
        "words behind": good + b" thanks",
        "words before": b"data: " + good,
        "a header before": b"Content-Length: 52 " + good,
        "a word": b"hello",
        "an HTTP request": b"GET /mcp HTTP/1.1",
        "XML": b'<?xml version="1.0"?><methodCall/>',
        "a quote": b'"',
        "NUL alone": b"\x00",
        "UTF-16": good.decode().encode("utf-16-le"),
        "UTF-32": good.decode().encode("utf-32-be"),
    }.items():
        yield Message(name, frame.replace(b"\n", b" "), refused)


# No message.


def no_message() -> Iterator[Message]:
    """JSON that is no JSON-RPC message at all: nobody can know which request it was."""
    for text in ("null", "true", "false", "0", "-1.5", '""', '"tools/call"', "[]", "[1]", "[[]]", "{}"):
        yield Message(f"only {text}", text.encode(), Refused(None, (INVALID_REQUEST,)))
    for name, frame in {"one": b"[%s]" % call(), "two": b"[%s,%s]" % (call(), call(id="42"))}.items():
        yield Message(f"a batch of {name}", frame, Refused(None, (INVALID_REQUEST,)))


def wrong_envelopes() -> Iterator[Message]:
    """Messages whose own members are wrong, beside their id."""
    refused = Refused(ID, (INVALID_REQUEST,))
    for version in ("null", "2", "2.0", '"2"', '"2.00"', '"1.0"', '""', '["2.0"]', '{"2":0}', "true", '"２.0"'):
        yield Message(f"jsonrpc {version}", call().replace(b'"2.0"', version.encode()), refused)
    for key in ("JSONRPC", "jsonRpc", "json-rpc", " jsonrpc"):
        yield Message(f"jsonrpc as {key}", call().replace(b'"jsonrpc"', f'"{key}"'.encode()), refused)
    for method in ("null", "7", "true", "[]", "{}", '["tools/call"]'):
        yield Message(f"method {method}", asked(method, '{"name":"raw__echo"}'), refused)
    for params in ("[]", '["raw__echo"]', '"raw__echo"', "1", "true"):
        yield Message(f"params {params}", asked('"tools/call"', params), refused)
    for name, more in {
        "a result beside the method": '"result":{}',
        "an error beside the method": '"error":{"code":1,"message":"x"}',
        "both": '"result":{},"error":{"code":1,"message":"x"}',
    }.items():
        yield Message(name, call()[:-1] + f",{more}}}".encode(), refused)
    yield Message("nothing but an id", b'{"jsonrpc":"2.0","id":41}', refused)
    yield Message("neither id nor method", b'{"jsonrpc":"2.0"}', Refused(None, (INVALID_REQUEST,)))
    yield Message("the method with NUL", asked(r'"tools/call\u0000"'), refused)
    yield Message("the method with half a pair", asked(r'"tools/call\ud800"'), refused)
    yield Message("the message in capitals", call().replace(b'"method"', b'"METHOD"'), refused)


def wrong_ids() -> Iterator[Message]:
    """Ids under which no answer could be found again by every reader."""
    for id in ("null", "true", "false", "1.5", "41.0", "1e2", "{}", "[]", "[41]", '{"id":41}', "NaN", "1e999"):
        yield Message(f"id {id}", call(id=id), Refused(None, (INVALID_REQUEST,)))
    for name, id in {"NUL": r'"a\u0000b"', "half a pair": r'"\ud800"'}.items():
        yield Message(f"an id with {name}", call(id=id), Refused(None, (INVALID_REQUEST,)))
    for number in (2**53, -(2**53), 2**63, 10**400):
        yield Message(f"id {number!s:.20}", call(id=str(number)), Refused(number, (INVALID_REQUEST,)))


UNUSUAL_IDS: tuple[Any, ...] = (
    *(0, -1, 2**53 - 1, -(2**53 - 1), "", " ", "41", "0", "null", "true", "-1", "a b", 'say "x"', "a\\b", "a/b"),
    *("żółw", "\u202eevil", "\u200b", "💣", "__proto__", "x" * 5000, "a\tb", "line\nline", "\x7f", "e\u0301", "\ufeff"),
)


def unusual_ids() -> Iterator[Message]:
    """Ids that JSON-RPC allows: the answer comes back under the same one, of the same kind."""
    for id in UNUSUAL_IDS:
        for how, ascii in (("", False), (" with escapes", True)):
            if not ascii or json.dumps(id) != json.dumps(id, ensure_ascii=False):
                written = json.dumps(id, ensure_ascii=ascii)
                yield Message(f"id {id!r:.30}{how}", call('{"a":1}', id=written), Passed({"a": 1}, id))


def twice() -> Iterator[Message]:
    """Keys that stand twice: one reader keeps the first, another the last."""
    good = call('{"to":"a@example.com"}')
    for name, old, new in (
        ("jsonrpc", b'"jsonrpc":"2.0"', b'"jsonrpc":"2.0","jsonrpc":"2.0"'),
        ("the same id", b'"id":41', b'"id":41,"id":41'),
        ("method", b'"method":"tools/call"', b'"method":"tools/list","method":"tools/call"'),
        ("method with an escape", b'"method":"tools/call"', rb'"m\u0065thod":"tools/list","method":"tools/call"'),
        ("params", b'"params":', b'"params":{},"params":'),
        ("name", b'"name":', b'"name":"hitl_status","name":'),
        ("arguments", b'"arguments":', b'"arguments":{},"arguments":'),
        ("arguments with an escape", b'"arguments":', rb'"argument\u0073":{},"arguments":'),
        ("_meta", b'"name":', b'"_meta":{},"_meta":{},"name":'),
        ("an argument", b'"to":', b'"to":"b@evil.org","to":'),
        ("an argument with an escape", b'"to":', rb'"\u0074o":"b@evil.org","to":'),
        ("the same argument", b'"to":', b'"to":"a@example.com","to":'),
        ("an empty key", b'"to":', b'"":1,"":1,"to":'),
        ("in an object in a list", b'"to":', b'"x":[0,{"y":1,"y":2}],"to":'),
    ):
        yield Message(f"twice: {name}", good.replace(old, new, 1), Refused(ID))
    other = good.replace(b'"id":41', b'"id":40,"id":41', 1)
    yield Message("twice: the id, the last of which most readers keep", other, Refused(ID))


# Values that two readers would take for different ones.

SMUGGLED: dict[str, str] = {
    "NaN": "NaN",
    "Infinity": "Infinity",
    "minus Infinity": "-Infinity",
    "1e999": "1e999",
    "-1e999": "-1e999",
    "the first double that is none": "1.7976931348623159e308",
    "2^53": "9007199254740992",
    "-2^53": "-9007199254740992",
    "2^64": "18446744073709551616",
    "400 digits": "1" * 400,
    "half a pair": r'"\ud83d"',
    "the other half": r'"\ude00"',
    "a pair the wrong way round": r'"\ude00\ud83d"',
    "half a pair in a text": r'"a\uD800b"',
    "NUL": r'"a\u0000b"',
    "a key twice": '{"a":1,"a":2}',
    "a key twice with an escape": r'{"a":1,"\u0061":2}',
    "NUL in a key": r'{"a\u0000":1}',
    "half a pair in a key": r'{"\ud800":1}',
    "65 lists": "[" * 65 + "]" * 65,
    "70 objects": '{"a":' * 70 + "1" + "}" * 70,
}

PLACES: dict[str, str] = {
    "an argument": '{"a":?}',
    "a list in a list": '{"a":[[1,?]]}',
    "an object in an object": '{"a":{"b":{"c":?}}}',
}


def smuggled() -> Iterator[Message]:
    """Numbers, texts and keys that cannot be kept, in every place where a policy may look."""
    refused = Refused(ID, (INVALID_PARAMS,))
    for (what, value), (where, place) in product(SMUGGLED.items(), PLACES.items()):
        yield Message(f"{what} in {where}", call(place.replace("?", value)), refused)
    for what, value in SMUGGLED.items():
        if "65" not in what and "70" not in what:
            frame = call().replace(b"@META@", b'"_meta":{@ENVELOPE@"example.com/x":' + value.encode() + b"},")
            yield Message(f"{what} in _meta", frame, refused)
    for levels in (1000, 100_000):
        yield Message(f"{levels} lists", call('{"a":' + "[" * levels + "]" * levels + "}"), Refused())
    for name, arguments in {
        "a text": f'{{"a":"{"x" * MEBIBYTE}"}}',
        "spaces": "{" + " " * MEBIBYTE + "}",
        "members": "{" + ",".join(f'"{number}":0' for number in range(120_000)) + "}",
        "digits": '{"a":0.' + "1" * MEBIBYTE + "}",
    }.items():
        too_long = Refused(ID, (INVALID_REQUEST,))
        # Over HTTP a body is not read past its cap, so that its id is not known.
        differs: dict[str, Then] = {"http": Refused(None, (INVALID_REQUEST,))}
        yield Message(f"a mebibyte of {name}", call(arguments), too_long, differs=differs)
    # The bridge reads such a line's two ends; whoever speaks to the socket itself gets no more than the gateway reads.
    skipped: dict[str, Then] = {"http": Refused(None), "socket": Refused(None)}
    yield Message("three mebibytes", call(f'{{"a":"{"x" * 3 * MEBIBYTE}"}}'), Refused(), differs=skipped)


# Calls that are none.


def wrong_calls() -> Iterator[Message]:
    """Calls without a usable name or arguments, and names that only look like one."""
    refused = Refused(ID, (INVALID_PARAMS,))
    nameless = call().replace(b'"name":"raw__echo",', b"")
    yield Message("no name", nameless, Refused())
    for name in ("null", "7", "true", "[]", "{}", '["raw__echo"]'):
        yield Message(f"the name {name}", call(name=name), Refused())
    for name in (
        *("", " raw__echo", "raw__echo ", "RAW__ECHO", "raw__Echo", "echo", "raw__", "__echo", "raw_echo", "raw/echo"),
        *("raw__echo\u200b", "r\u0430w__echo", "raw__echo__echo", "raw__missing", "other__echo", "../raw__echo"),
        *("hitl_approve", "hitl_wait ", "constructor", "x" * 10_000, "raw__echo;rm -rf /", "\u202eohce__war"),
    ):
        # A header cannot be empty, so that over HTTP it says something else than the message.
        differs: dict[str, Then] = {} if name else {"http 2026-07-28": Refused()}
        yield Message(f"the name {name!r:.30}", call(name=json.dumps(name)), refused, tool=name, differs=differs)
    for arguments in ("[]", '[{"a":1}]', '"{}"', "1", "0", "true", "false", '""'):
        yield Message(f"the arguments {arguments}", call(arguments), refused)
    yield Message("the arguments null", call("null"), Passed({}))
    yield Message("no arguments", call().replace(b',"arguments":{}', b""), Passed({}))
    for meta in ("null", "[]", "1", '"x"', "[1]", "true"):
        frame = call().replace(b"@META@", f'"_meta":{meta},'.encode())
        then = Passed({}) if meta == "null" else Refused()
        yield Message(f"_meta {meta}", frame, then, differs={"2026-07-28": Refused()})
    for progress in ("{}", "[]", "1.5", "true"):
        frame = call().replace(b"@META@", f'"_meta":{{@ENVELOPE@"progressToken":{progress}}},'.encode())
        yield Message(f"the progress token {progress}", frame, Refused(ID))


def wrong_methods() -> Iterator[Message]:
    """Methods that no server has, or that are not asked of this one; and params that do not fit."""
    none = Refused(ID, (METHOD_NOT_FOUND,))
    for method in (
        *("", " tools/call", "tools/call ", "Tools/Call", "tools.call", "tools", "/", "rpc.discover", "__class__"),
        *("tools/call/raw__echo", "notifications/initialized", "notifications/cancelled", "sampling/createMessage"),
        *("elicitation/create", "roots/list", "hitl/approve", "x" * 5000, "žluť", "tools/approve", "constructor"),
    ):
        # A header cannot say every method as it is, so that over HTTP it says something else than the message.
        sayable = method.isascii() and method and method == method.strip()
        differs: dict[str, Then] = {} if sayable else {"http 2026-07-28": Refused()}
        frame = asked(json.dumps(method))
        yield Message(f"the method {method!r:.30}", frame, none, method=method, tool="", differs=differs)
    for method, params in (
        ("tools/list", '{@META@"cursor":7}'),
        ("tools/list", '{@META@"cursor":[]}'),
        ("resources/read", "{@META@}"),
        ("resources/read", '{@META@"uri":7}'),
        ("prompts/get", "{@META@}"),
        ("prompts/get", '{@META@"name":[]}'),
        ("completion/complete", '{@META@"ref":1}'),
        ("logging/setLevel", '{@META@"level":"loudest"}'),
        ("tasks/get", '{@META@"taskId":7}'),
        ("resources/subscribe", '{@META@"uri":null}'),
    ):
        yield Message(f"{method} with {params}", asked(f'"{method}"', params), Refused(), method=method, tool="")


# What nobody waits for.


def unanswered() -> Iterator[Message]:
    """Notifications and answers, right or wrong: nothing comes back, and nothing stops."""
    quiet = Unanswered()
    for method, params in (
        ("notifications/nonsense", "{}"),
        ("notifications/initialized", "{}"),
        ("notifications/initialized", '{"x":1}'),
        ("notifications/cancelled", "{}"),
        ("notifications/cancelled", '{"requestId":null}'),
        ("notifications/cancelled", '{"requestId":{}}'),
        ("notifications/cancelled", '{"requestId":[]}'),
        ("notifications/cancelled", '{"requestId":1.5}'),
        ("notifications/cancelled", '{"requestId":"never"}'),
        ("notifications/progress", "{}"),
        ("notifications/progress", '{"progressToken":{},"progress":"x"}'),
        ("notifications/roots/list_changed", "{}"),
        ("tools/call", '{"name":"raw__echo","arguments":{}}'),
        ("", "{}"),
    ):
        text = f'{{"jsonrpc":"2.0","method":"{method}","params":{params}}}'
        yield Message(f"without an id: {method} {params}", text.encode(), quiet, method=method, tool="")
    refused = Refused(None, (INVALID_REQUEST,))
    # A modern client over HTTP is never asked anything in a way that it could answer by a message of its own.
    answers: dict[str, Then] = {"http 2026-07-28": refused}
    for id, said in product(
        ("41", '"41"', '"x.1"', '"."', "-1", '""'), ('"result":{}', '"error":{"code":1,"message":"x"}')
    ):
        frame = f'{{"jsonrpc":"2.0","id":{id},{said}}}'.encode()
        yield Message(f"an answer {said} to {id}", frame, quiet, differs=answers)
    null = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"x"}}'
    yield Message("an error about nobody knows what", null, quiet, differs=answers)
    # The bridge lets no answer pass to a question that was never asked, be it right or wrong.
    bridge: dict[str, Then] = {"bridge": quiet}
    for name, more in {
        "result and error": '"id":41,"result":{},"error":{"code":1,"message":"x"}',
        "result null": '"id":41,"result":null',
        "an error that is a text": '"id":41,"error":"x"',
        "an error without a code": '"id":41,"error":{"message":"x"}',
        "an answer to null": '"id":null,"result":{}',
        "an answer without an id": '"result":{}',
    }.items():
        yield Message(f"an answer: {name}", f'{{"jsonrpc":"2.0",{more}}}'.encode(), refused, differs=bridge)
    listed = b'{"jsonrpc":"2.0","method":"notifications/initialized","params":[]}'
    yield Message("a notification with a list", listed, refused)


# What is only unusual.

KEPT: tuple[str, ...] = (
    *(
        '{"a":0.1}',
        '{"a":1e-7}',
        '{"a":5e-324}',
        '{"a":1.7976931348623157e308}',
        '{"a":-0.0}',
        '{"a":1E2}',
        '{"a":1.0}',
    ),
    *('{"a":9007199254740991}', '{"a":-9007199254740991}', '{"a":0}', '{"a":-0}', '{"a":100000000000000000000.0}'),
    *('{"":""}', '{"a":null}', '{"a":[]}', '{"a":{}}', '{"a":[null,true,false]}', '{"__proto__":{"x":1}}'),
    *('{"constructor":1,"toString":2}', '{"a":"NaN"}', '{"a":"1e999"}', '{"a":"9007199254740993"}', '{"b":1,"a":2}'),
    *('{"a b":1,"a.b":2,"$":3,"[0]":4}', '{"a":"\\ud83d\\ude00"}', '{"a":"\\u0041\\/\\b\\f\\n\\r\\t\\"\\\\"}'),
    *(
        '{"a":"\u202eevil\u2066\u200b\ufeff"}',
        '{"a":"e\u0301 \u00e9"}',
        '{"a":"\uffff\U0010ffff"}',
        '{"a":"\u2028\u2029"}',
    ),
    *('{"a":"\x7f\x85\x9f"}', '{"a":"{\\"jsonrpc\\":\\"2.0\\"}"}', '{"é":1,"e\u0301":2}', '{"A":1,"a":2}'),
    *('{"name":"x","arguments":{"name":"y"},"_meta":{"z":1}}', '{"id":1,"method":"tools/list","params":[]}'),
    *('{"call_id":"c_1","hitl":1}', '{"a":"@"}', '{"a":"\U000e0041\U000e0042"}', '{"a":"a\\u200db"}', '{"1":1,"01":2}'),
    '{"a":' + "[" * 63 + "]" * 63 + "}",
    '{"a":"' + "x" * 500_000 + '"}',
    "{" + ",".join(f'"k{number}":{number}' for number in range(2000)) + "}",
)
"""Arguments that every reader understands alike."""


def kept() -> Iterator[Message]:
    """Calls that only look odd: each passes, value for value."""
    for arguments in KEPT:
        yield Message(f"kept {arguments:.40}", call(arguments), Passed(json.loads(arguments)))
    good = call('{"a":1}')
    for name, frame in {
        "spaces around": b" \t " + good + b" \r",
        "spaces between": good.replace(b'":', b'" : ').replace(b',"', b' ,\t"'),
        "escapes in the method": good.replace(b"tools/call", rb"tools\/cal\u006c"),
        "escapes in the keys": good.replace(b'"params"', rb'"p\u0061rams"').replace(b'"id"', rb'"\u0069d"'),
        "escapes in the name": good.replace(b"raw__echo", rb"raw__\u0065cho"),
        "the members the other way round": (
            b'{"params":{"arguments":{"a":1},"name":"raw__echo"@LAST@},"method":"tools/call","id":41,"jsonrpc":"2.0"}'
        )
        .replace(b'{"arguments"', b'{@META@"arguments"')
        .replace(b"@LAST@", b""),
        "a member of nobody's": good[:-1] + b',"extra":{"a":[1]}}',
        "a parameter of nobody's": good.replace(b'"name":', b'"extra":1,"name":'),
    }.items():
        yield Message(name, frame, Passed({"a": 1}))


GROUPS = (
    *(cut_short, not_json, no_message, wrong_envelopes, wrong_ids, unusual_ids, twice, smuggled, wrong_calls),
    *(wrong_methods, unanswered, kept),
)

MESSAGES: tuple[Message, ...] = tuple(message for group in GROUPS for message in group())
