"""Stands before MONAI Label's server and answers what must not reach it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from monai_ssl.label.guard import check_names
from monai_ssl.utils.config_values import check_values
from monai_ssl.utils.errors import UserError

__all__ = ["RequestGuard"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_LARGEST = 10_000_000  # bytes of a JSON body; files come as forms, which are not read here


class RequestGuard:
    """ASGI middleware: requests with code or paths in them, from other web pages, or for a second training end here.

    Every answer is JSON with one line, ``detail``: 400 for a value, 403 for another page's request (the server has no
    login, and a page that an annotator looks at could otherwise start trainings), 413 for a body that is too large, 429
    while a training runs.

    Args:
        app: what is guarded.
        is_training: whether a training runs.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], is_training: Callable[[], bool]) -> None:
        self.app = app
        self.is_training = is_training
        self._one_by_one = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "POST" and scope["path"].startswith("/train"):
            async with self._one_by_one:  # of two at once the second finds the first registered
                if self.is_training():
                    await _answer(send, 429, "a training is running. Wait for its end, or stop it with DELETE /train/.")
                else:
                    await self._pass_on(scope, receive, send)
            return
        await self._pass_on(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = _foreign(headers) or _bad_query(scope)
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if not refused and (not kind or kind.endswith("json")):  # without a type the server takes a body for JSON
            body = await _body(receive)
            refused = _bad_body(body)
            receive = _replay(body or b"")
        if refused:
            await _answer(send, *refused)
            return
        await self.app(scope, receive, send)


def _foreign(headers: dict[str, str]) -> tuple[int, str] | None:
    origin = headers.get("origin", "")
    if not origin or urlsplit(origin).netloc == headers.get("host", ""):
        return None
    return 403, f"requests of another web page ({origin[:100]}) are refused: this server has no login."


def _bad_query(scope: Scope) -> tuple[int, str] | None:
    pairs = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))
    try:
        check_values(pairs, "the address")
        check_values(unquote(scope["path"]).split("/"), "the address")
        check_names(pairs)
    except UserError as error:
        return 400, str(error)
    return None


def _bad_body(body: bytes | None) -> tuple[int, str] | None:
    if body is None:
        return 413, f"a request's JSON may have {_LARGEST // 1_000_000} MB at most."
    try:
        content = json.loads(body) if body else None
    except (ValueError, RecursionError):
        return None  # the server says what is wrong with it
    try:
        check_values(content)
        if isinstance(content, dict):
            check_names(content)
    except UserError as error:
        return 400, str(error)
    return None


async def _body(receive: Receive) -> bytes | None:
    """All of it, or none where it is too large."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        if size > _LARGEST:
            return None
    return b"".join(parts)


def _replay(body: bytes) -> Receive:
    waiting = [body]

    async def receive() -> MutableMapping[str, Any]:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return {"type": "http.disconnect"}

    return receive


async def _answer(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
