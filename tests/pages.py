"""The page of a run for the tests: in this process, or on a socket of its own."""

import base64
import threading
import time
from contextlib import contextmanager

import numpy as np

from parts import wait_until

HOST = "http://127.0.0.1"


@contextmanager
def calling(run, **settings):
    """A client of the application of a run, with the header of changing requests."""
    from fastapi.testclient import TestClient

    from mekiki.web.server import create_app

    with TestClient(create_app(run, **settings), base_url=HOST) as client:
        client.headers["X-Mekiki-CSRF"] = client.get("/api/run").json()["csrf"]
        yield client


@contextmanager
def serving(run, **settings):
    """The application of a run on a free port, in a thread; its address."""
    import uvicorn

    from mekiki.web.server import create_app

    app = create_app(run, **settings)
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=2, lifespan="on")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield f"{HOST}:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        app.state.app_state.closing = True
        server.should_exit = True
        thread.join(20)


def photo_of(path):
    """A file as part of a multipart form."""
    return ("photos", (path.name, path.read_bytes(), "image/png"))


def error_of(response, status=None):
    """The one line of an error, which does not reveal where uploads are stored."""
    assert 400 <= response.status_code < 500, (response.status_code, response.text)
    assert status is None or response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"}, body
    assert body["error"]
    assert "\n" not in body["error"]
    assert "Traceback" not in body["error"]
    assert "mekiki-page-" not in body["error"], "the path of an upload is not revealed"
    return body["error"]


def column(text, kind):
    """A column of a map as an array."""
    return np.frombuffer(base64.b64decode(text), kind)


def events(text):
    """Server-sent events as pairs of name and data."""
    import json

    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def until(read, true, seconds=60):
    """Read until the condition holds; the last value read."""
    deadline = time.monotonic() + seconds
    while not true(got := read()):
        assert time.monotonic() < deadline, got
        time.sleep(0.05)
    return got
