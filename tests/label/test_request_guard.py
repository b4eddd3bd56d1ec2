from __future__ import annotations

import asyncio
import json

import pytest

from monai_ssl.label.request_guard import RequestGuard


class Inner:
    """An application that tells what it got."""

    def __init__(self):
        self.bodies = []

    async def __call__(self, scope, receive, send):
        body, more = b"", scope["type"] == "http"
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inner"})


def ask(
    method="POST", path="/infer/a", query="", body=b"", headers=(), training=False, kind="application/json", parts=1
):
    inner, sent = Inner(), []
    size = max(1, -(-len(body) // parts))
    chunks = [body[start : start + size] for start in range(0, len(body), size)] or [b""]

    async def receive():
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
    scope["headers"] = [(b"host", b"127.0.0.1:8000"), (b"content-type", kind.encode()), *headers]
    asyncio.run(RequestGuard(inner, lambda: training)(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]), inner.bodies


@pytest.mark.parametrize("parts", [1, 3])
def test_a_good_request_arrives_unchanged(parts):
    body = json.dumps({"steps": 50, "device": "cpu"}).encode()
    assert ask(body=body, query="image=a&x=1", parts=parts) == (200, b"inner", [body])


def test_what_is_no_json_arrives_unchanged():
    assert ask(body=b"{broken", parts=2)[2] == [b"{broken"]
    assert ask(body=b"$raw", kind="multipart/form-data; boundary=x")[2] == [b"$raw"]
    assert ask(body=b"")[2] == [b""]


@pytest.mark.parametrize(
    "request_",
    [
        {"body": b'{"a": "$1"}'},
        {"body": b'{"a": "$1"}', "kind": "application/json; charset=utf-8", "parts": 4},
        {"body": b'["@a"]'},
        {"body": b'{"a": "$1"}', "kind": ""},
        {"body": b'{"a": "$1"}', "kind": "application/vnd.x+JSON"},
        {"body": b'{"image": "/etc/passwd"}'},
        {"query": "image=/etc/passwd"},
        {"query": "image=a&tag=..%2Fx"},
        {"query": "device=%24x"},
        {"path": "/model/$x"},
        {"body": b"[" * 5000 + b"1" + b"]" * 5000},
    ],
)
def test_code_and_paths_end_here(request_):
    status, body, reached = ask(**request_)
    if request_.get("body", b"").startswith(b"[["):
        assert status in (200, 400), "too deep for the parser: the server's to answer"
        return
    assert (status, reached) == (400, [])
    assert list(json.loads(body)) == ["detail"]


def test_a_large_body_is_not_taken():
    assert ask(body=b'"' + b"a" * 11_000_000 + b'"', parts=20)[0] == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/train/a", 429), ("POST", "/train/", 429), ("GET", "/train/", 200), ("DELETE", "/train/", 200)],
)
def test_while_a_training_runs_no_second_begins(method, path, status):
    assert ask(method, path, training=True)[0] == status
    assert ask(method, path)[0] == 200


def test_of_two_requests_in_the_same_instant_one_trains():
    started, answers = [], []

    async def server(scope, receive, send):
        await asyncio.sleep(0.01)  # reads the body, as a real one does
        started.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive():
        return {"type": "http.request", "body": b"{}"}

    async def send(message):
        if "status" in message:
            answers.append(message["status"])

    async def both():
        guard = RequestGuard(server, lambda: bool(started))
        scope = {"type": "http", "method": "POST", "path": "/train/a", "query_string": b"", "headers": []}
        await asyncio.gather(*(guard(dict(scope), receive, send) for _ in range(3)))

    asyncio.run(both())
    assert (len(started), sorted(answers)) == (1, [200, 429, 429])


def test_other_pages_are_refused():
    assert ask(headers=[(b"origin", b"http://evil.org")])[0] == 403
    assert ask(headers=[(b"origin", b"null")])[0] == 403
    assert ask(headers=[(b"Origin", b"http://127.0.0.1:8000")])[0] == 200


def test_what_is_no_request_passes():
    inner = Inner()

    async def nothing(*_):
        return None

    asyncio.run(RequestGuard(inner, lambda: True)({"type": "lifespan"}, nothing, nothing))
    assert inner.bodies == [b""]
