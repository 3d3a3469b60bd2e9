"""Who may talk to the HTTP side: requests of this machine's own page and programs, and nobody a web page sends.

Works on ASGI scopes; knows nothing of the API. Three attacks are meant: DNS rebinding (a foreign name that resolves
to us: the Host is checked), cross-site requests (a foreign page in the user's browser: Origin and Sec-Fetch-Site are
checked), and, where we listen beyond this machine, everybody without the token.
"""

from __future__ import annotations

import logging
import time
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from daemon.access import Offenders, is_loopback, is_token

log = logging.getLogger("realmaster.daemon")

COOKIE = "realmaster-token"

_HEADERS = [
    (b"content-security-policy", b"default-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
     b"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]  # fmt: skip


MOST_BODY = 1 << 20
"""Bytes of a request's body; the largest that makes sense is a prompt."""

MOST_HEADERS = 1 << 16
"""Bytes of a request's headers, names and values."""

GUESSES, GUESS_SECONDS = 30, 60.0
"""An address that shows so many wrong tokens within so many seconds is not heard for as long."""


class Guard:
    """ASGI middleware. `token` None: only this machine is served, and only under its own names."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token
        self._guessers = Offenders(GUESSES, GUESS_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        sentence, status = self._refusal(scope, headers)
        if sentence is None and self._token is not None:
            address = (scope.get("client") or ("",))[0]
            query = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            is_link = scope["type"] == "http" and scope["path"] == "/" and query != ""
            shown = query if is_link else _bearer(headers) or _cookie(headers)
            if self._guessers.ignores(address.encode(), time.monotonic()):
                sentence, status = "Too many wrong tokens came from this address: wait a minute.", 429
            elif not is_token(shown, self._token):
                if shown and self._guessers.offend(address.encode(), time.monotonic()) == GUESSES:
                    log.warning("%s showed %d wrong tokens and is not heard for a while", address, GUESSES)
                sentence, status = "The token is missing or wrong: open the link that the daemon printed.", 401
            elif is_link:
                # The link with the token is opened once; the token leaves the address line for a cookie.
                response = RedirectResponse("/", status_code=303)
                response.set_cookie(COOKIE, query, httponly=True, samesite="strict")
                await response(scope, receive, send)
                return
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEADERS:
            sentence, status = f"The headers are too large: {MOST_HEADERS} bytes are allowed.", 431
        if sentence is None and _length(headers) > MOST_BODY:
            sentence, status = f"The request is too large: {MOST_BODY} bytes are allowed.", 413
        if sentence is None:
            await self._app(scope, _bounded(receive), _with_headers(send))
        elif scope["type"] == "http":
            await JSONResponse({"error": sentence}, status)(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 4403, "reason": sentence})

    def _refusal(self, scope: Scope, headers: dict[bytes, str]) -> tuple[str | None, int]:
        host = headers.get(b"host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if not is_loopback(name) and self._token is None:
            return "This address is not one of this machine's own names: use localhost or 127.0.0.1.", 421
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "Requests from other web pages are refused.", 403
        if headers.get(b"sec-fetch-site") in ("cross-site", "same-site") and scope["path"] != "/":
            return "Requests from other web pages are refused.", 403
        return None, 0


def _bearer(headers: dict[bytes, str]) -> str:
    kind, _, token = headers.get(b"authorization", "").partition(" ")
    return token if kind.lower() == "bearer" else ""


def _cookie(headers: dict[bytes, str]) -> str:
    try:
        morsel = SimpleCookie(headers.get(b"cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


def _length(headers: dict[bytes, str]) -> int:
    text = headers.get(b"content-length", "0")
    return int(text) if text.isdecimal() else 0


def _bounded(receive: Receive) -> Receive:
    """A body without a stated length is counted as it comes."""
    size = 0

    async def receive_bounded() -> Any:
        nonlocal size
        message = await receive()
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            if size > MOST_BODY:
                raise HTTPException(413, f"The request is too large: {MOST_BODY} bytes are allowed")
        return message

    return receive_bounded


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_HEADERS]
        await send(message)

    return send_with_headers
