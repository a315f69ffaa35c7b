"""Requests that a server has to refuse: (method, path, headers, body, code), and bytes that are no request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mt_dnn.inference.requests import Limits

LIMITS = Limits(rows=30, characters=500, size=20_000, queue_rows=40, body_s=2.0)
JSON = {"Content-Type": "application/json"}
PAIR = "/predict/same"  # a task that reads pairs
ROW = {"premise": "a", "hypothesis": "b"}
BODY = json.dumps({"rows": [ROW]}).encode()
Case = tuple[str, str, dict[str, str], Any, int]

NOT_JSON = [
    *(BODY[:size] for size in range(len(BODY))),
    *(BODY + text for text in (b" x", b"}", b"{}", b"\x00", b",")),
    *(b"\xff\xfe", b"\xef\xbb\xbf{}", b"\x1f\x8b\x08\x00\x00", b"[" * 9000, b'{"a":' * 3000, b"<xml/>", b"%7B%7D"),
    *(b"nul", b"'a'", b"{'rows': []}", b"NaNN", b"--1", b"01", b"1.", b'{"rows": [,]}', b'{"rows" [1]}', b"rows=1"),
    *(BODY.replace(b'"a"', text) for text in (b'"\xff"', b'"\\ud83d"', b'"\n"', b'"\\x41"', b'"\\u12"', b"a")),
]
# JSON of another form: bodies, and rows of a task that reads pairs.
BODIES = """
null | true | 0 | 1e400 | -1 | "text" | [] | {} | [{}] | {"rows": null} | {"rows": {}} | {"rows": "a"} | {"rows": 1}
{"rows": []} | {"rows": [null]} | {"rows": [1]} | {"rows": ["a"]} | {"rows": [[]]} | {"rows": [["a", "b"]]}
{"Rows": []}
{"rows": [ROW], "x": 1} | {"rows": [ROW], "logits": 1} | {"rows": [ROW], "logits": "yes"}
{"rows": [ROW], "logits": null}
{"rows": [ROW], "probabilities": 0} | {"rows": [ROW], "probabilities": []} | {"rows": [ROW], "task": "negated"}
{"rows": [ROW], "rows ": []} | {"rows": [ROW, null]} | {"row": ROW} | {"rows": [ROW, [ROW]]} | {"rows": [ROW], "": 1}
"""
ROWS = """
{} | {"premise": "a"} | {"hypothesis": "b"} | {"premise": "a", "hypothesis": null} | {"premise": 1, "hypothesis": "b"}
{"premise": ["a"], "hypothesis": "b"} | {"premise": {"a": 1}, "hypothesis": "b"} | {"premise": true, "hypothesis": "b"}
{"premise": "a", "hypothesis": "b", "label": "x"} | {"premise": "a", "hypothesis": "b", "uid": 1} | {"PREMISE": "a"}
{"premise": "a", "hypothesis": "b", "uid": []} | {"premise": "a", "hypothesis": "b", "__class__": "x"} | {"": ""}
{"premise": "a", "hypothesis": "b", "choices": ["a", "b"]} | {"premise\\u0000": "a", "hypothesis": "b"}
"""
# Rows of tasks that read words, choices, a question with its context, a gap, and a number's pairs.
OTHER = {
    "tagged": """
{} | {"words": "a b"} | {"words": []} | {"words": ["a b"]} | {"words": [""]} | {"words": ["a", 1]} | {"premise": "a"}
{"words": ["a", null]} | {"words": [["a"]]} | {"words": {"a": "b"}} | {"words": ["a", "b "]}
""",
    "odd": """
{"premise": "a", "choices": []} | {"premise": "a", "choices": ["b"]} | {"premise": "a", "choices": ["b", ""]}
{"premise": "a", "choices": "b"} | {"premise": "a", "choices": ["b", null]}
{"premise": "a", "choice1": "b", "choice2": "c"} | {"premise": "a", "choices": {"choice1": "b"}} | {"premise": "a"}
""",
    "found": """
{"question": "a"} | {"context": "a"} | {"question": "a", "context": null} | {"question": ["a"], "context": "b"}
{"question": "a", "context": "b", "answers": []}
""",
    "gap": """
{"premise": "a", "query": "no gap", "choices": ["b", "c"]} | {"premise": "a", "choices": ["b", "c"]}
{"premise": "a", "query": "@placeholder and @placeholder", "choices": ["b", "c"]}
{"premise": "a", "query": "@placeholder", "choices": ["b"]}
""",
    "graded": """
{"premise": "a"} | {"premise": "a", "hypothesis": 1}
""",
}
PATHS = """
/predict/ /predict/Same /predict/none /predict/.. /predict/../tasks /predict/%2e%2e%2fhealth /predict/same/
/predict/same/x
/predict/same%00 /predict/same%20 /predict/%73ame%0ax /predict/%ff /predict/* /predict/{task} /predict/';--
/predict/<script> / /predict /admin /.env // /health/x /tasks.json /%2e%2e /docs/x
"""
TYPES = """
text/plain application/x-www-form-urlencoded multipart/form-data;boundary=x json application/jsonx application/xml
text/json application/octet-stream application /json */*
"""
HEAD = b"POST /predict/same HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
# No requests, or some that never end. Some get no answer, because the server waits until the client has gone.
RAW = [
    *(
        b"\x00\x01\x02",
        b"GET\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
    ),
    *(b"GET / HTTP/1.1\r\n\r\n", b"GET /he alth HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"),
    *(b"GET /health HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n" for line in (b"Host: b", b": x", b"X", b"X: \x00")),
    b"GET /none HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    b"GET /" + b"z" * 200_000 + b" HTTP/1.1\r\n\r\n",
    *(HEAD + b"Content-Length: " + size + b"\r\n\r\n{}" for size in (b"-1", b"x", b"1, 2", b"9" * 30, b"100", b"0x2")),
    HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
    HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
    *(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + part
        for part in (b"zz\r\n\r\n", b"-1\r\n\r\n", b"0\r\n\r\n", b"3\r\n{}")
    ),
]


def parsed(text: str) -> list[Any]:
    """The JSON values in a text, divided by ``|`` and new lines."""
    found = text.replace("ROW", json.dumps(ROW)).strip().replace("\n", " | ").split(" | ")
    return [json.loads(value) for value in found]


def refused() -> Iterator[Case]:
    """Yields every request with the code that it has to get."""
    long = "x" * (LIMITS.characters + 1)
    for content in NOT_JSON:
        yield "POST", PAIR, JSON, content, 400
    bodies = [*parsed(BODIES), *({"rows": [row]} for row in parsed(ROWS)), {"rows": [ROW] * (LIMITS.rows + 1)}]
    bodies += [{"rows": [{**ROW, "uid": "u" * 201}]}, {"rows": [ROW, {**ROW, "hypothesis": long}]}]
    for body in bodies:
        yield "POST", PAIR, JSON, json.dumps(body).encode(), 422
    for task, rows in OTHER.items():
        for row in parsed(rows):
            yield "POST", f"/predict/{task}", JSON, json.dumps({"rows": [row]}).encode(), 422
    for words in (["x"] * LIMITS.characters, ["x" * 100] * 5):  # each word is short, the sentence is not
        yield "POST", "/predict/tagged", JSON, json.dumps({"rows": [{"words": words}]}).encode(), 422
    yield "POST", "/predict/overlap", JSON, json.dumps({"rows": [ROW], "probabilities": True}).encode(), 422
    for extra in (1, 100, 50_000, 200_000):
        yield "POST", PAIR, JSON, b" " * (LIMITS.size + extra), 413
    for path, methods in ((PAIR, "GET PUT PATCH DELETE OPTIONS TRACE"), ("/health", "POST PUT DELETE TRACE")):
        for method in methods.split():
            yield method, path, {}, None, 405
    for path in [*PATHS.split(), f"/predict/{'a' * 3000}"]:
        yield ("POST" if path.startswith("/predict/") else "GET"), path, JSON, BODY, 404
    for kind in [*TYPES.split(), "", "x" * 500]:
        yield "POST", PAIR, {"Content-Type": kind}, BODY, 400
    yield "POST", PAIR, {}, BODY, 400
