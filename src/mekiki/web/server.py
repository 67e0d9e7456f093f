"""The FastAPI application of a run, and the server that runs it."""

from __future__ import annotations

import html
import os
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
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from mekiki.cases.routes import case_routes
from mekiki.describing.routes import description_routes
from mekiki.errors import InputError, MekikiError
from mekiki.experiments.routes import training_routes
from mekiki.experiments.training_jobs import TrainingJobs
from mekiki.judging.routes import judge_routes
from mekiki.web.http_errors import status_of
from mekiki.web.projections import Maps
from mekiki.web.routes import map_routes, run_routes
from mekiki.web.security import (
    SECURITY_HEADERS,
    AccessRules,
    AuthMiddleware,
    BodyLimitMiddleware,
    SecurityHeadersMiddleware,
    error_response,
)
from mekiki.web.state import AppState
from mekiki.web.uploads import RequestLimits
from mekiki.web.wire import Problem

STATIC = Path(__file__).with_name("static")
SHUTDOWN_TIMEOUT_S = 3
"""How long running requests may take after the server was asked to stop."""


def create_app(
    folder: Path,
    *,
    rules: AccessRules | None = None,
    allow: Sequence[Path] = (),
    vectors: Path | None = None,
    limits: RequestLimits | None = None,
) -> FastAPI:
    """Return the application of a run.

    Args:
        folder: the run folder.
        rules: who may call; `None` for this machine only.
        allow: folders whose files callers may name.
        vectors: a table of vectors to show.
        limits: what callers may send.

    Raises:
        InputError: there is no such run, folder or file.
    """
    rules = rules or AccessRules.for_host("127.0.0.1")
    state = AppState(folder, rules, allow=allow, vectors=vectors, limits=limits)
    maps = Maps(state)
    if vectors is not None:
        maps.get("vectors")  # a file that cannot be read is an error before anything is served
    jobs = TrainingJobs(folder, state.allowed.resolve)

    def warm_up() -> None:
        """Open what the first requests will need."""
        with suppress(MekikiError):  # the request that needs it reports the error
            state.summarise()
        maps.list_sources()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await state.model_worker.run(warm_up)
        yield
        jobs.close()
        state.close()

    app = FastAPI(
        title="mekiki",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        swagger_ui_oauth2_redirect_url=None,
        middleware=[  # the first one sees a request first
            Middleware(SecurityHeadersMiddleware),
            Middleware(AuthMiddleware, rules=rules),
            Middleware(BodyLimitMiddleware, limits=state.limits),
        ],
        exception_handlers={
            MekikiError: _answer_error,
            RequestValidationError: _answer_invalid_request,
            HTTPException: _answer_http_error,
            Exception: _answer_fault,
        },
    )
    app.state.app_state = state
    api = APIRouter(prefix="/api", responses={"4XX": {"model": Problem}})
    for routes in (
        run_routes(state),
        map_routes(maps),
        training_routes(jobs, state),
        judge_routes(state),
        case_routes(state),
        description_routes(state),
    ):
        api.include_router(routes)
    app.include_router(api)
    _add_pages(app)
    return app


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    return error_response(status_of(error) if isinstance(error, MekikiError) else 400, str(error))


async def _answer_invalid_request(request: Request, error: Exception) -> JSONResponse:
    errors = error.errors() if isinstance(error, RequestValidationError) else []
    first = errors[0] if errors else {"loc": (), "msg": str(error)}
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return error_response(422, f"{where}: {first['msg']}" if where else str(first["msg"]))


async def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        return error_response(400, str(error))
    if error.status_code == 404:
        return error_response(404, "there is nothing at this address; /api/docs lists the requests")
    return error_response(error.status_code, str(error.detail))


async def _answer_fault(request: Request, error: Exception) -> JSONResponse:
    """Answer for a fault of mekiki without details of the program; the server logs the traceback."""
    # Starlette answers this one outside of all middleware, so the headers are added here.
    problem = "the request failed because of a fault in mekiki; see the terminal of the server"
    return error_response(500, problem, SECURITY_HEADERS)


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", media_type="text/html")

    @app.get("/api/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(_list_requests(app.openapi()))

    app.mount("/static", StaticFiles(directory=STATIC), name="static")


def _list_requests(schema: dict[str, Any]) -> str:
    """Return the OpenAPI schema as a page that loads nothing from elsewhere."""
    rows = [
        "<tr><td><code>{}</code></td><td><code>{}</code></td><td>{}</td></tr>".format(
            method.upper(), html.escape(path), html.escape(str(operation.get("description", "")))
        )
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mekiki: API</title></head><body>'
        '<h1>API</h1><p><a href="/api/openapi.json">OpenAPI</a>; every POST needs the header '
        "<code>X-Mekiki-CSRF</code> with the value <code>csrf</code> of <code>GET /api/run</code>.</p><table><thead>"
        "<tr><th>method</th><th>address</th><th>description</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></body></html>"
    )


class _Server(uvicorn.Server):
    """Server that announces its start, and tells streams to end when it is asked to stop."""

    def __init__(self, config: uvicorn.Config, state: AppState, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._state, self._on_start = state, on_start

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._state.closing = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()


def run_server(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    allow: Sequence[Path] = (),
    vectors: Path | None = None,
    announce: Callable[[str], None],
) -> None:
    """Serve the page of a run until Ctrl-C.

    Args:
        folder: the run folder.
        host: an address of this machine; any other than loopback requires a token.
        port: 0 for any free port.
        allow: folders whose files requests may name, besides the run's own.
        vectors: a table of vectors to show as a further map.
        announce: called with the address of the page once it answers.

    Raises:
        InputError: there is no such run, folder or file, or the address is taken.
    """
    rules = AccessRules.for_host(host)
    # Before the run is opened, so that an address in use is reported at once.
    with _listen(host, port) as listening:
        app = create_app(folder, rules=rules, allow=allow, vectors=vectors)
        shown = "127.0.0.1" if host in ("0.0.0.0", "") else f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}/"
        if rules.token is not None:
            address += f"?token={rules.token}"
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
            timeout_keep_alive=15,
            h11_max_incomplete_event_size=32 * 1024,
            proxy_headers=False,
            lifespan="on",
        )
        server = _Server(config, app.state.app_state, lambda: announce(address))
        with suppress(KeyboardInterrupt):  # uvicorn raises it again once everything is closed
            server.run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError, OverflowError):
        raise InputError(
            f"--host {host}: is no address of this machine; give one such as 127.0.0.1"
        ) from None
    try:
        listening = socket.create_server(address, family=family, backlog=128)
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise InputError(
            f"{host}:{port}: cannot be listened on ({reason}); give another --port, or 0 for any"
        ) from None
    listening.setblocking(False)
    return listening
