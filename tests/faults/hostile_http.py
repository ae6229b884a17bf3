"""In what ways an upstream may misbehave that speaks HTTP; the rest stands in `hostile_acts.py`."""

from __future__ import annotations

import gzip

from tests.faults.hostile_acts import FAILED, MEBIBYTE, UNKNOWN, Act, Call, behaves, hang


def respond(head: str, body: bytes = b"") -> Act:
    def act(call: Call) -> None:
        call.talk.write(f"HTTP/1.1 {head}\r\n\r\n".encode() + body)

    return act


def over_http(name: str, honest: str, act: Act) -> None:
    act.__name__ = name
    behaves("call", honest, "http")(act)


JSON_TYPE = "content-type: application/json"
EVENTS_TYPE = "content-type: text/event-stream"
CHUNKED = "transfer-encoding: chunked"
PLACE = "location: http://127.0.0.1:9/"

over_http("status_500", UNKNOWN, respond("500 Oops\r\ncontent-length: 0"))
over_http("status_503_with_words", UNKNOWN, respond("503 Busy\r\ncontent-length: 5", b"later"))
over_http("status_401", FAILED, respond("401 Who\r\ncontent-length: 0"))
over_http("status_404", FAILED, respond("404 Where\r\ncontent-length: 0"))
over_http("status_204", UNKNOWN, respond("204 Nothing"))
over_http("redirects", FAILED, respond(f"307 There\r\n{PLACE}\r\ncontent-length: 0"))
over_http("wrong_type", UNKNOWN, respond("200 OK\r\ncontent-type: text/html\r\ncontent-length: 4", b"<h1>"))
over_http("no_type", UNKNOWN, respond("200 OK\r\ncontent-length: 2", b"{}"))
over_http("short_body", UNKNOWN, respond(f"200 OK\r\n{JSON_TYPE}\r\ncontent-length: 900", b'{"id": 1'))
over_http("truncated_chunks", UNKNOWN, respond(f"200 OK\r\n{JSON_TYPE}\r\n{CHUNKED}", b"5\r\n{"))
over_http("odd_chunks", UNKNOWN, respond(f"200 OK\r\n{JSON_TYPE}\r\n{CHUNKED}", b"zz\r\n{}\r\n0\r\n\r\n"))
over_http("odd_status_line", UNKNOWN, respond("banana"))
over_http("odd_length", UNKNOWN, respond(f"200 OK\r\n{JSON_TYPE}\r\ncontent-length: -5", b"{}"))
over_http("odd_encoding", UNKNOWN, respond(f"200 OK\r\n{JSON_TYPE}\r\ncontent-encoding: gzip", b"no gzip"))


@behaves("call", UNKNOWN, "http")
def endless_headers(call: Call) -> None:
    call.talk.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        call.talk.write(b"x-more: " + b"x" * 1000 + b"\r\n")


@behaves("call", UNKNOWN, "http")
def endless_continues(call: Call) -> None:
    while True:
        call.talk.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 500)


@behaves("call", UNKNOWN, "http")
def endless_comments(call: Call) -> None:
    call.talk.write(f"HTTP/1.1 200 OK\r\n{EVENTS_TYPE}\r\n\r\n".encode())
    while True:
        call.talk.write(b":\n" * 30_000)


@behaves("call", UNKNOWN, "http")
def tiny_chunks(call: Call) -> None:
    call.talk.write(f"HTTP/1.1 200 OK\r\n{EVENTS_TYPE}\r\n{CHUNKED}\r\n\r\n".encode())
    while True:
        call.talk.write(b"1\r\n:\r\n1\r\n\n\r\n" * 5000)


@behaves("call", UNKNOWN, "http")
def ends_each_stream(call: Call) -> None:
    call.talk.write(f"HTTP/1.1 200 OK\r\n{EVENTS_TYPE}\r\n\r\nid: e1\nretry: 0\ndata: \n\n".encode())


@behaves("call", UNKNOWN, "http")
def bomb(call: Call) -> None:
    packed = gzip.compress(gzip.compress(b" " * 64 * MEBIBYTE) * 200)
    head = f"HTTP/1.1 200 OK\r\n{JSON_TYPE}\r\ncontent-encoding: gzip, gzip\r\ncontent-length: {len(packed)}\r\n\r\n"
    call.talk.write(head.encode() + packed)


@behaves("call", UNKNOWN, "http")
def waits_with_the_head(call: Call) -> None:
    call.talk.write(b"HTTP/1.1 200 OK\r\ncontent-type: appl")
    hang()
