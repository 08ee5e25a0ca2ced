"""What every request must pass before a page is asked: who may talk to the server, and how much.

A page of another site, open in the same browser, can send requests to 127.0.0.1. Three checks keep
it out. `Host` must be a name of this server, which stops a foreign name that resolves to 127.0.0.1
(DNS rebinding). A request that changes something must carry the header `X-Jaxseg: 1`, which a
browser sends to another origin only after a preflight that is never granted. And `Origin`, where
it is sent, must be the server's own. Beyond 127.0.0.1 a token is needed as well.
"""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

LOCAL = ("127.0.0.1", "localhost", "[::1]")
HEADER, COOKIE = "x-jaxseg", "jaxseg"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# report.html brings its own style sheet and pictures, and no script.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
HEADERS = {
    "cache-control": "no-cache",  # asked again every time: a new version is seen at once
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

DISCARDED = 1 << 30  # most bytes of a refused body that are read all the same
DISCARDED_SECONDS = 30.0  # and for how long

App = Callable[..., Awaitable[None]]


class Allowed(NamedTuple):
    """Who may talk to the server.

    Attributes:
      hosts: names in the `Host` header, without the port; () accepts all, which is for a server
        with a token only.
      token: needed in a cookie or as `Authorization: Bearer TOKEN`; '' for none.
    """

    hosts: tuple[str, ...] = LOCAL
    token: str = ""


class TooLarge(Exception):
    """A request's body exceeds the limit."""


def guarded(app: App, allowed: Allowed) -> App:
    """The app behind the checks; every answer gets the headers that confine a page."""

    async def call(scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":  # there are none
                await send({"type": "websocket.close", "code": 1008})
                return
            await app(scope, receive, send)
            return
        request = Request(scope, receive)
        refused = refusal(request, allowed)
        if refused:
            await _discard(request, request.stream())

        async def confined(message: dict) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _with_headers(message["headers"])
            await send(message)

        await (refused or app)(scope, receive, confined)

    return call


def refusal(request: Request, allowed: Allowed) -> Response | None:
    """The answer to a request that may not pass; None if it may."""
    host = request.headers.get("host", "")
    if allowed.hosts and _name(host) not in allowed.hosts:
        return said(400, f"this server is not called {host!r}: open http://127.0.0.1")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return said(403, f"a page of {origin} may not talk to this server")
    if request.method not in ("GET", "HEAD") and request.headers.get(HEADER) != "1":
        return said(403, "requests that change something need the header X-Jaxseg: 1")
    if not allowed.token:
        return None
    given = parse_qs(request.url.query)
    if request.method == "GET" and _same(given.pop("token", [""])[0], allowed.token):
        return _welcome(request, given, allowed.token)
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and _same(bearer.strip(), allowed.token):
        return None
    if _same(_cookie(request), allowed.token):
        return None
    return said(401, "open the address with ?token=... that the server printed when it started")


async def body(request: Request, limit: int) -> bytes:
    """The body of a request.

    Args:
      limit: most bytes; they are counted as they come, since Content-Length can lie.

    Raises:
      TooLarge: the body is longer.
    """
    data, told = bytearray(), request.headers.get("content-length", "")
    parts = request.stream()
    try:
        if not (told.isdigit() and int(told) > limit):
            async for part in parts:
                data += part
                if len(data) > limit:
                    break
            else:
                return bytes(data)
    except ClientDisconnect:
        return b""
    data.clear()
    await _discard(request, parts)
    raise TooLarge(f"larger than {limit // 2**20} MB")


async def _discard(request: Request, parts: AsyncIterator[bytes]) -> None:
    """Reads on and keeps nothing. Most clients send all of a body before they read an answer, and
    without this they would only learn that the connection was cut. One that asks first, as curl
    does before a long body (`Expect: 100-continue`), reads the answer without sending it."""
    if request.headers.get("expect", "").lower() == "100-continue":
        return
    count = 0
    with contextlib.suppress(ClientDisconnect, TimeoutError):
        async with asyncio.timeout(DISCARDED_SECONDS):
            async for part in parts:
                count += len(part)
                if count > DISCARDED:
                    return


def said(status: int, text: str) -> JSONResponse:
    """An answer that only says what is wrong."""
    return JSONResponse({"error": text}, status)


def _name(host: str) -> str:
    """The host without its port; IPv6 addresses keep their brackets."""
    return (
        host[: host.index("]") + 1]
        if host.startswith("[") and "]" in host
        else (host.partition(":")[0])
    )


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def _cookie(request: Request) -> str:
    try:
        morsel = SimpleCookie(request.headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _welcome(request: Request, query: dict[str, Any], token: str) -> Response:
    """Keeps the token in a cookie and takes it out of the address."""
    rest = urlencode(query, doseq=True)
    answer = RedirectResponse(request.url.path + (f"?{rest}" if rest else ""), 303)
    answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", max_age=30 * 86400)
    return answer


def _with_headers(headers: list) -> list:
    names = {name for name, _ in headers}
    more = {"content-security-policy": POLICY, **HEADERS}
    added = [(k.encode(), v.encode()) for k, v in more.items() if k.encode() not in names]
    return [*headers, *added]
