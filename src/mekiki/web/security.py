"""Access control of the server, as pure ASGI middleware: a request is checked before any of its body is read.

- **Host**: only requests to a name of this machine are answered, which stops DNS rebinding. `AuthMiddleware` checks it:
  Starlette's `TrustedHostMiddleware` takes a fixed list of names, and here every loopback address is one.
- **Token**: required on every address except loopback, compared in constant time, and exchanged for a cookie at the
  first visit.
- **Changing requests** must come from this page (`Origin`) and carry a value that only this page can read
  (`X-Mekiki-CSRF`).
- **Bodies** are limited in size and in time.
- **Headers** of every answer keep the page from loading anything from elsewhere.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import os
import secrets
import socket
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mekiki.web.uploads import RequestLimits

COOKIE = "mekiki"
CSRF_HEADER = "x-mekiki-csrf"
TOKEN_VARIABLE = "MEKIKI_TOKEN"
"""Environment variable that sets the token; without it a random one is made."""
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
UPLOAD_PATHS = ("/api/judge", "/api/photos")

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; worker-src 'self' blob:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True)
class AccessRules:
    """The address that is served and the secrets that open it.

    Attributes:
        host: the address that the server listens on.
        token: what a caller must send; `None` on loopback.
        session: value of the cookie.
        csrf: value of the header that every changing request must carry.
    """

    host: str
    token: str | None
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @classmethod
    def for_host(cls, host: str) -> AccessRules:
        """Return the rules of an address: open on loopback, with a token on any other.

        Example:
            >>> AccessRules.for_host("127.0.0.1").token is None, len(AccessRules.for_host("0.0.0.0").token or "") >= 32
            (True, True)
        """
        token = os.environ.get(TOKEN_VARIABLE) or None
        return cls(host, token or (None if is_loopback(host) else secrets.token_urlsafe(32)))

    def allows_host(self, header: str) -> bool:
        """Return whether a `Host` header names this machine.

        Example:
            >>> rules = AccessRules("127.0.0.1", None)
            >>> [rules.allows_host(header) for header in ("localhost:8765", "[::1]:80", "evil.example", "")]
            [True, True, False, False]
        """
        name = header.lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        if name == self.host.lower() or is_loopback(name):
            return True
        if is_loopback(self.host):
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in {socket.gethostname().lower(), socket.getfqdn().lower()}
        return True  # DNS rebinding needs a name, not a bare address


def is_loopback(host: str) -> bool:
    """Return whether an address is a loopback address.

    Example:
        >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
        [True, True, True, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def equal_in_constant_time(given: str, secret: str) -> bool:
    """Return whether two texts are equal; the time it takes does not depend on where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode())


def error_response(status: int, problem: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return the JSON answer of an error, in one line."""
    line = " ".join(problem.split()).encode("utf-8", "backslashreplace").decode()
    return JSONResponse({"error": line}, status, headers)


class SecurityHeadersMiddleware:
    """Add `SECURITY_HEADERS` to every answer, and `no-store` where it says nothing of caching."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; see ASGI."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class AuthMiddleware:
    """Refuse requests to a foreign host, without the token, or forged by another page."""

    def __init__(self, app: ASGIApp, rules: AccessRules) -> None:
        self.app, self.rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; see ASGI."""
        if scope["type"] == "http":
            await (self._refuse(Request(scope)) or self.app)(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        # Nothing else is served: a request for a websocket is dropped.

    def _refuse(self, request: Request) -> Response | None:
        """Return the answer to a request that is not let through, or `None`."""
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not self.rules.allows_host(hosts[0]):
            return error_response(403, "Host: this server answers to the names of its own machine only")
        bearer = self._has_bearer(request)
        if self.rules.token is not None and not bearer and not self._has_cookie(request):
            if request.method == "GET" and self._is_token(request.query_params.get("token")):
                return self._set_cookie(request)
            return error_response(
                401,
                "a token is needed: open the address that `mekiki serve` printed, or send Authorization: Bearer TOKEN",
                {"www-authenticate": "Bearer"},
            )
        if request.method in SAFE_METHODS:
            return None
        problem = _find_foreign_origin(request, hosts[0])
        if not problem and not bearer and not self._has_csrf(request):
            problem = (
                "X-Mekiki-CSRF: a changing request needs this header; its value is `csrf` of GET /api/run"
            )
        return error_response(403, problem) if problem else None

    def _is_token(self, given: str | None) -> bool:
        return (
            given is not None
            and self.rules.token is not None
            and equal_in_constant_time(given, self.rules.token)
        )

    def _has_bearer(self, request: Request) -> bool:
        scheme, _, token = ",".join(request.headers.getlist("authorization")).partition(" ")
        return scheme.lower() == "bearer" and self._is_token(token.strip())

    def _has_cookie(self, request: Request) -> bool:
        return equal_in_constant_time(request.cookies.get(COOKIE, ""), self.rules.session)

    def _has_csrf(self, request: Request) -> bool:
        return equal_in_constant_time(",".join(request.headers.getlist(CSRF_HEADER)), self.rules.csrf)

    def _set_cookie(self, request: Request) -> Response:
        """Redirect to the same address without the token, which would stay in histories and logs there."""
        rest = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
        # One slash only: with two the browser would go to another machine.
        path = "/" + request.scope["path"].lstrip("/\\")
        response = RedirectResponse(path + (f"?{urlencode(rest)}" if rest else ""), 303)
        cookie = f"{COOKIE}={self.rules.session}; HttpOnly; SameSite=Strict; Path=/"
        response.headers["set-cookie"] = cookie + ("; Secure" if request.url.scheme == "https" else "")
        return response


def _find_foreign_origin(request: Request, host: str) -> str:
    """Return why a changing request was not sent by this page; empty if it was, or by no page at all."""
    own = (f"http://{host}".lower(), f"https://{host}".lower())
    if any(origin.lower() not in own for origin in request.headers.getlist("origin")):
        return "Origin: changing requests are accepted from the page of this server only"
    if any(site not in ("same-origin", "none") for site in request.headers.getlist("sec-fetch-site")):
        return "Sec-Fetch-Site: changing requests are accepted from the page of this server only"
    return ""


class BodyError(Exception):
    """Raised to the application while it reads a body that `BodyLimitMiddleware` refuses."""


class BodyLimitMiddleware:
    """Refuse a body that is too large, or that takes too long to arrive."""

    def __init__(self, app: ASGIApp, limits: RequestLimits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; see ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        max_bytes = self.limits.upload if scope["path"] in UPLOAD_PATHS else self.limits.other
        too_large = f"the request is larger than {max_bytes / 2**20:.0f} MiB; send less at once"
        declared = Request(scope).headers.get("content-length", "0")
        if not (declared.isascii() and declared.isdigit()) or int(declared) > max_bytes:
            await error_response(413, too_large)(scope, receive, send)
            return
        problem: tuple[int, str] | None = None
        size, deadline, ended, started = 0, time.monotonic() + self.limits.whole, False, False

        async def receive_limited() -> Message:
            nonlocal problem, size, ended
            if ended:  # the next message is that the caller has disconnected
                return await receive()
            wait = max(0.0, min(self.limits.idle, deadline - time.monotonic()))
            try:
                message = await asyncio.wait_for(receive(), wait)
            except TimeoutError:
                problem = (408, "the body of the request did not come in time; send it again")
                raise BodyError from None
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                ended = not message.get("more_body", False)
            if size > max_bytes:
                problem = (413, too_large)
                raise BodyError
            return message

        async def send_unless_refused(message: Message) -> None:
            nonlocal started
            if problem is None or started:
                started = started or message["type"] == "http.response.start"
                await send(message)

        try:
            await self.app(scope, receive_limited, send_unless_refused)
        except BodyError:
            if problem is None:
                raise
        if problem is not None and not started:
            await error_response(*problem, {"connection": "close"})(scope, receive, send)
