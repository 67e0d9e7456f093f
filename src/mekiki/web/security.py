"""Who may call, from where, and how much they may send. Plain ASGI, so that nothing is read before it is allowed.

- **Host**: a page of another name cannot be pointed at this machine (DNS rebinding), for only names of this machine
  are answered to.
- **Token**: demanded wherever others could call. It is compared in constant time, and traded for a cookie at the first
  visit.
- **Changing calls** come from this page itself (`Origin`) and know what only it can read (`X-Mekiki-CSRF`).
- **Bodies** are counted while they come, and must come in time.
- **Headers** let the page use nothing from elsewhere.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import os
import secrets
import socket
import time
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "mekiki"
CSRF_HEADER = "x-mekiki-csrf"
TOKEN = "MEKIKI_TOKEN"
"""Environment variable that names the token; else one is made."""
SAFE = ("GET", "HEAD", "OPTIONS")
UPLOADS = ("/api/judge", "/api/photos")

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "worker-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True)
class Limits:
    """What a caller may send.

    Attributes:
        upload: bytes of a call that brings photographs.
        other: bytes of any other call.
        files: photographs in one call.
        pixels: of one photograph, by its header.
        idle: seconds between two pieces of a body.
        whole: seconds for all of it.
    """

    upload: int = 256 * 2**20
    other: int = 2 * 2**20
    files: int = 100
    pixels: int = 100_000_000
    idle: float = 20.0
    whole: float = 120.0


@dataclass(frozen=True)
class Door:
    """Who is let in.

    Attributes:
        host: the address that is listened on.
        token: what a caller must know; `None` on loopback.
        session: what the cookie holds.
        csrf: what a changing call must bring.
    """

    host: str
    token: str | None
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @classmethod
    def at(cls, host: str) -> Door:
        """The door of an address: open to this machine alone, or locked with a token.

        Example:
            >>> Door.at("127.0.0.1").token is None, len(Door.at("0.0.0.0").token or "") >= 32
            (True, True)
        """
        given = os.environ.get(TOKEN) or None
        return cls(host, given or (None if is_loopback(host) else secrets.token_urlsafe(32)))

    def answers_to(self, host: str) -> bool:
        """Whether a `Host` header names this machine.

        Example:
            >>> door = Door("127.0.0.1", None)
            >>> [door.answers_to(host) for host in ("localhost:8765", "[::1]:80", "evil.example", "")]
            [True, True, False, False]
        """
        name = _name_of(host)
        if name == "localhost" or name == self.host.lower() or is_loopback(name):
            return True
        if is_loopback(self.host):
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in {socket.gethostname().lower(), socket.getfqdn().lower()}
        return True  # a bare address is nobody's name to point elsewhere


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own.

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


def _name_of(host: str) -> str:
    """The name in a `Host` header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()


def same(given: str, wanted: str) -> bool:
    """Whether two texts are equal, in a time that does not tell how far they are."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode())


class Headers:
    """Puts the policy on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                extra = dict(HEADERS)
                if b"cache-control" not in names:
                    extra["cache-control"] = "no-store"
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in extra.items()),
                ]
            await send(message)

        await self.app(scope, receive, sent)


class Gate:
    """Lets in whom the door lets in."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no other protocol is spoken here
            return
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not self.door.answers_to(hosts[0]):
            await refuse(send, 403, "Host: this server answers to the names of its own machine only")
            return
        bearer = self._bearer(headers)
        if self.door.token is not None and not bearer and not self._cookie(headers):
            if scope["method"] == "GET" and self._by_address(scope):
                await self._welcome(scope, send)
                return
            await refuse(
                send,
                401,
                "a token is wanted: open the address that `mekiki serve` printed, or send Authorization: Bearer TOKEN",
                {"www-authenticate": "Bearer"},
            )
            return
        if scope["method"] not in SAFE:
            problem = self._foreign(headers, hosts[0]) or ("" if bearer else self._unproven(headers))
            if problem:
                await refuse(send, 403, problem)
                return
        await self.app(scope, receive, send)

    def _bearer(self, headers: dict[str, list[str]]) -> bool:
        given = headers.get("authorization", [])
        if self.door.token is None or len(given) != 1:
            return False
        scheme, _, token = given[0].partition(" ")
        return scheme.lower() == "bearer" and same(token.strip(), self.door.token)

    def _cookie(self, headers: dict[str, list[str]]) -> bool:
        for given in headers.get("cookie", []):
            try:
                morsel = SimpleCookie(given).get(COOKIE)
            except CookieError:
                continue
            if morsel is not None and same(morsel.value, self.door.session):
                return True
        return False

    def _by_address(self, scope: Scope) -> bool:
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token")
        return given is not None and self.door.token is not None and same(given, self.door.token)

    async def _welcome(self, scope: Scope, send: Send) -> None:
        """The token goes from the address into a cookie, so that it stays in no history and no log."""
        rest = [
            (name, value)
            for name, value in parse_qsl(scope["query_string"].decode("latin-1"))
            if name != "token"
        ]
        # One slash only: two would make the browser go to another machine.
        where = "/" + scope["path"].lstrip("/\\")
        where = "".join(letter for letter in where if letter.isprintable() and letter.isascii())
        cookie = f"{COOKIE}={self.door.session}; HttpOnly; SameSite=Strict; Path=/"
        if scope.get("scheme") == "https":
            cookie += "; Secure"
        to = where + (f"?{urlencode(rest)}" if rest else "")
        await answer(send, 303, b"", {"location": to, "set-cookie": cookie, "content-length": "0"})

    def _foreign(self, headers: dict[str, list[str]], host: str) -> str:
        """Why a changing call does not come from this page; empty if it does, or from no page."""
        origins = headers.get("origin", [])
        if any(
            origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()) for origin in origins
        ):
            return "Origin: changing calls are taken from the page of this server only"
        if any(site not in ("same-origin", "none") for site in headers.get("sec-fetch-site", [])):
            return "Sec-Fetch-Site: changing calls are taken from the page of this server only"
        return ""

    def _unproven(self, headers: dict[str, list[str]]) -> str:
        given = headers.get(CSRF_HEADER, [])
        if len(given) == 1 and same(given[0], self.door.csrf):
            return ""
        return "X-Mekiki-CSRF: changing calls bring this header; its value is `csrf` of GET /api/run"


class Bodies:
    """Counts what is sent, and does not wait for ever."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self.limits.upload if scope["path"] in UPLOADS else self.limits.other
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > most:
            await refuse(send, 413, _too_large(most))
            return
        problem: tuple[int, str] | None = None
        came, begun, ended, started = 0, time.monotonic(), False, False

        async def received() -> Message:
            nonlocal problem, came, ended
            if ended:  # what comes now is that the caller has gone
                return await receive()
            left = self.limits.whole - (time.monotonic() - begun)
            try:
                message = await asyncio.wait_for(receive(), max(0.0, min(self.limits.idle, left)))
            except TimeoutError:
                problem = (408, "the body of the call did not come in time; send it again")
                raise BodyError from None
            if message["type"] == "http.request":
                came += len(message.get("body", b""))
                ended = not message.get("more_body", False)
            if came > most:
                problem = (413, _too_large(most))
                raise BodyError
            return message

        async def sent(message: Message) -> None:
            nonlocal started
            if problem is None or started:
                started = started or message["type"] == "http.response.start"
                await send(message)

        try:
            await self.app(scope, received, sent)
        except BodyError:
            if problem is None:
                raise
        if problem is not None and not started:
            await refuse(send, *problem, {"connection": "close"})


class BodyError(Exception):
    """The body is refused; `Bodies` answers."""


def _too_large(most: int) -> str:
    return f"the call is larger than {most / 2**20:.0f} MiB; send less at once"


async def refuse(send: Send, status: int, problem: str, headers: dict[str, str] | None = None) -> None:
    """Answer with an error in JSON."""
    body = json.dumps({"error": problem}).encode()
    about = {"content-type": "application/json", "content-length": str(len(body))}
    await answer(send, status, body, about | (headers or {}))


async def answer(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    """Send a whole answer."""
    told = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})
