"""The application, and how it is started and stopped."""

from __future__ import annotations

import html
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mekiki.cases.routes import memory_routes
from mekiki.describing.routes import describing_routes
from mekiki.errors import InputError, MekikiError
from mekiki.experiments.routes import Trainings, training_routes
from mekiki.judging.routes import judging_routes
from mekiki.web.http_errors import status_of
from mekiki.web.maps import Maps, map_routes
from mekiki.web.models import Problem, RunFacts
from mekiki.web.security import Bodies, BodyError, Door, Gate, Headers, Limits, refuse
from mekiki.web.state import Served

STATIC = Path(__file__).with_name("static")
GRACE = 3
"""Seconds that calls which are being answered get at the end."""
PROBLEMS: dict[int | str, dict[str, Any]] = {"4XX": {"model": Problem}}

log = logging.getLogger("mekiki.page")


def create_app(
    folder: Path,
    *,
    door: Door | None = None,
    allow: Sequence[Path] = (),
    vectors: Path | None = None,
    limits: Limits | None = None,
) -> FastAPI:
    """The application of a run.

    Args:
        folder: the run folder.
        door: who is let in; left out, this machine.
        allow: folders whose files callers may name.
        vectors: a table of vectors to show.
        limits: what callers may send.

    Raises:
        InputError: there is no such run, folder or file.
    """
    door = door or Door.at("127.0.0.1")
    served = Served(folder, door, allow=allow, vectors=vectors, limits=limits)
    maps = Maps(served)
    if vectors is not None:
        maps.drawn("vectors")  # a file that cannot be read is told before anything is served
    trainings = Trainings(served)

    def prepare() -> None:
        """Open what the first callers will want, before they are told that they may come."""
        with suppress(MekikiError):  # what cannot be opened says so to whom it concerns
            served.facts()
        maps.sources()

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        await served.worker.do(prepare)
        yield
        trainings.close()
        served.close()

    app = FastAPI(
        title="mekiki",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        swagger_ui_oauth2_redirect_url=None,
    )
    app.state.served = served
    _answer_errors(app)
    api = APIRouter(prefix="/api", responses=PROBLEMS)

    @api.get("/run", tags=["run"])
    async def run() -> RunFacts:
        """The run: what it can do, its promise, its numbers."""
        return await served.worker.do(served.facts)

    for routes in (
        map_routes(maps),
        training_routes(trainings),
        judging_routes(served),
        memory_routes(served),
        describing_routes(served),
    ):
        api.include_router(routes)
    app.include_router(api)
    _add_pages(app)
    # The last one added is the first one asked.
    app.add_middleware(_Faults)
    app.add_middleware(Bodies, limits=served.limits)
    app.add_middleware(Gate, door=door)
    app.add_middleware(Headers)
    return app


def _answer_errors(app: FastAPI) -> None:
    def told(status: int, problem: str) -> JSONResponse:
        plain = " ".join(problem.split()).encode("utf-8", "backslashreplace").decode()
        return JSONResponse({"error": plain}, status)

    @app.exception_handler(MekikiError)
    async def of_caller(request: Request, error: Exception) -> JSONResponse:
        return told(status_of(error) if isinstance(error, MekikiError) else 400, str(error))

    @app.exception_handler(RequestValidationError)
    async def of_form(request: Request, error: Exception) -> JSONResponse:
        said = error.errors() if isinstance(error, RequestValidationError) else []
        first = said[0] if said else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        return told(422, f"{where}: {first['msg']}" if where else str(first["msg"]))

    @app.exception_handler(HTTPException)
    async def of_address(request: Request, error: Exception) -> JSONResponse:
        status = error.status_code if isinstance(error, HTTPException) else 400
        said = {404: "there is nothing at this address; /api/docs lists the calls"}
        detail = error.detail if isinstance(error, HTTPException) else ""
        return told(status, said.get(status, str(detail)))


class _Faults:
    """Answers for errors of ours; FastAPI would, too, but outside of what puts the policy on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def sent(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, sent)
        except BodyError:
            raise
        except Exception as error:
            if scope["type"] != "http":
                raise
            # The caller is told that it failed, and nothing of how the program is made.
            log.error("%s %s: %s: %s", scope["method"], scope["path"], type(error).__name__, error)
            if started:
                raise
            await refuse(
                send, 500, "this failed, which is a fault of mekiki; the terminal that serves says more"
            )


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", media_type="text/html")

    @app.get("/api/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(_listed(app.openapi()))

    app.mount("/static", StaticFiles(directory=STATIC), name="static")


def _listed(schema: dict[str, Any]) -> str:
    """The calls as a page that needs nothing from elsewhere, made from the OpenAPI schema."""
    rows = [
        "<tr><td><code>{}</code></td><td><code>{}</code></td><td>{}</td></tr>".format(
            method.upper(), html.escape(path), html.escape(str(call.get("description", "")))
        )
        for path, calls in schema["paths"].items()
        for method, call in calls.items()
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mekiki: calls</title></head><body>'
        '<h1>Calls</h1><p><a href="/api/openapi.json">OpenAPI</a>; every POST brings the header '
        "<code>X-Mekiki-CSRF</code>, which <code>GET /api/run</code> gives.</p><table><thead><tr><th>method</th>"
        f"<th>address</th><th>what</th></tr></thead><tbody>{''.join(rows)}</tbody></table></body></html>"
    )


class _Server(uvicorn.Server):
    """Tells streams to end when it is asked to stop."""

    def __init__(self, config: uvicorn.Config, served: Served, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._served, self._ready = served, ready

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._served.closing = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def run_server(
    folder: Path,
    *,
    host: str,
    port: int,
    allow: Sequence[Path],
    vectors: Path | None,
    say: Callable[[str], None],
) -> None:
    """Serve until Ctrl-C; see `mekiki.web.serve`."""
    door = Door.at(host)
    # Taken before the run is opened: an address that is taken is told at once.
    listening = _listening(host, port)
    with listening:
        app = create_app(folder, door=door, allow=allow, vectors=vectors)
        shown = "127.0.0.1" if host in ("0.0.0.0", "") else host
        shown = f"[{shown}]" if ":" in shown else shown
        address = f"http://{shown}:{listening.getsockname()[1]}/"
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=GRACE,
            timeout_keep_alive=15,
            h11_max_incomplete_event_size=32 * 1024,
            proxy_headers=False,
            lifespan="on",
        )
        said = address if door.token is None else f"{address}?token={door.token}"
        server = _Server(config, app.state.served, lambda: say(said))
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:  # which uvicorn raises again once everything is closed
            return


def _listening(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError, OverflowError):
        raise InputError(
            f"--host {host}: is no address of this machine; give one such as 127.0.0.1"
        ) from None
    family, kind, protocol, _, address = found
    listening = socket.socket(family, kind, protocol)
    try:
        if socket.has_ipv6 and family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if hasattr(socket, "SO_REUSEADDR") and not hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        said = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{host}:{port}: cannot be listened on ({said}); give another --port, or 0 for any"
        ) from None
    listening.setblocking(False)
    return listening
