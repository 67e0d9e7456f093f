"""The page of a run, served to the tests: within this process, or on a socket of its own."""

import base64
import threading
import time
from contextlib import contextmanager

import numpy as np

from parts import wait_until

HOST = "http://127.0.0.1"


@contextmanager
def calling(run, **settings):
    """A client of the application of a run, which knows what a changing call must bring."""
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
    """A file as a form carries it."""
    return ("photos", (path.name, path.read_bytes(), "image/png"))


def told(response, status=None):
    """The one line of a problem, which tells nothing of where files lie here."""
    assert 400 <= response.status_code < 500, (response.status_code, response.text)
    assert status is None or response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"}, body
    assert body["error"]
    assert "\n" not in body["error"]
    assert "Traceback" not in body["error"]
    assert "mekiki-page-" not in body["error"], "the place of an upload is nobody's business"
    return body["error"]


def column(text, kind):
    """A column of a map as an array."""
    return np.frombuffer(base64.b64decode(text), kind)


def events(text):
    """Server-sent events: pairs of name and what was said."""
    import json

    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def until(read, true, seconds=60):
    """Read again and again until it is true; what was read last."""
    deadline = time.monotonic() + seconds
    while not true(got := read()):
        assert time.monotonic() < deadline, got
        time.sleep(0.05)
    return got
