"""The page and its calls: how soon a photograph sent over loopback is judged, memory, and how smooth the map is.

*Judging*: a judge calibrated on tiles through the backbone, `mekiki serve` in a process of its own, tiles sent as a
browser sends them. Calls set out at fixed times, 20 a second, whether or not those before are answered, and each is
timed from when it should have set out. *The map*: Chromium drawing in software, as on a machine without a graphics
card; frames are counted while the mouse drags. Beside it plotly's scattergl, with the bundle that the package brings.
"""

from __future__ import annotations

import http.client
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inspection import BACKBONE, TILES
from benchmarks.measuring import median

RATE, SECONDS = 20, 60
ALONE = 200
"""Calls one after the other, nothing else going on."""
REQUESTS = 5000
WARM_UP = 500
"""Calls before memory counts: buffers and caches have grown by then."""
POINTS = (20_000, 100_000)
DRAG = 4.0
OPENED = 3

_BOUNDARY = "mekiki-benchmark"
_COUNT = """() => { window.frames_ = 0; const again = () => { window.frames_++; requestAnimationFrame(again); };
requestAnimationFrame(again); }"""
_RIVAL = """const n = Number(new URLSearchParams(location.search).get("n"));
const draw = () => { let t = 0; for (let k = 0; k < 6; k++) t += Math.random(); return t - 3; };
const [x, y, colours] = [new Float32Array(n), new Float32Array(n), []];
for (let i = 0; i < n; i++) {
  x[i] = draw() + 4 * (i % 3);
  y[i] = draw();
  colours.push(["#47a", "#fa0", "#b20"][i % 3]);
}
Plotly.newPlot("plot", [{ type: "scattergl", mode: "markers", x, y, marker: { size: 4, color: colours } }],
  { dragmode: "pan", margin: { t: 0, b: 0, l: 0, r: 0 } }).then(() => { window.drawn = true; });"""


@contextmanager
def serving(run: Path, *more: object) -> Iterator[tuple[int, int]]:
    """`mekiki serve` in a process of its own: its port and the number of the process."""
    command = [sys.executable, "-m", "mekiki", "serve", str(run), "--port", "0", *map(str, more)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
            break
    else:
        sys.exit(f"mekiki serve did not start: {said}")
    try:
        yield int(found[1]), process.pid
    finally:
        process.terminate()
        process.wait(30)


class Caller:
    """Sends photographs over connections that are kept, one a thread."""

    def __init__(self, port: int) -> None:
        self._port, self._own = port, threading.local()
        self._csrf = json.loads(self._answer("GET", "/api/run", b"", {})[1])["csrf"]

    def judge(self, body: bytes) -> bool:
        """Whether a verdict came."""
        status, said = self._answer(
            "POST",
            "/api/judge",
            body,
            {
                "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
                "X-Mekiki-CSRF": self._csrf,
            },
        )
        return status == 200 and json.loads(said)["verdicts"][0]["verdict"] in ("OK", "NG")

    def _answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        if not hasattr(self._own, "line"):
            self._own.line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            self._own.line.request(method, path, body, headers)
            answer = self._own.line.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            del self._own.line
            return 0, b""


def form(path: Path) -> bytes:
    """A photograph as a browser sends it."""
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="photos"; filename="{path.name}"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return head.encode() + path.read_bytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()


def at_a_rate(caller: Caller, bodies: list[bytes], rate: float, seconds: float) -> dict[str, float]:
    """Milliseconds of calls that set out at fixed times."""
    begun = time.perf_counter() + 0.1

    def call(number: int) -> tuple[float, bool]:
        due = begun + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        right = caller.judge(bodies[number % len(bodies)])
        return 1000 * (time.perf_counter() - due), right

    count = int(rate * seconds)
    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(call, range(count)))
    times = np.array([each for each, _ in answers])
    return {
        "calls": count,
        "median_ms": float(np.median(times)),
        "p99_ms": float(np.quantile(times, 0.99)),
        "errors": sum(not right for _, right in answers),
    }


def alone(caller: Caller, bodies: list[bytes], count: int) -> float:
    """Median milliseconds of calls one after the other."""
    times = []
    for number in range(count):
        started = time.perf_counter()
        caller.judge(bodies[number % len(bodies)])
        times.append(1000 * (time.perf_counter() - started))
    return median(times)


def resident_mb(process: int) -> float:
    """Memory that a process has in use."""
    about = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+)", about)
    assert found is not None
    return int(found[1]) / 1024


def processor_seconds(process: int) -> float:
    """What a process has computed, whatever else the machine does."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def judging(folder: Path) -> dict[str, Any]:
    """Latency and memory of `/api/judge`."""
    from mekiki.judging.calibrate import CalibrationSettings, calibrate_run

    ok = folder / "ok"
    ok.mkdir()
    good = sorted((TILES / "free").iterdir())
    for path in good[:476]:
        shutil.copy(path, ok)
    run = folder / "run"
    calibrate_run(run, [ok], encoder=BACKBONE, settings=CalibrationSettings(0.05))
    bodies = [form(path) for path in [*good[476:536], *sorted((TILES / "crack").iterdir())]]
    return asked(run, bodies)


def asked(run: Path, bodies: list[bytes]) -> dict[str, Any]:
    """The same of a run that is there, for these photographs."""
    with serving(run) as (port, process):
        caller = Caller(port)
        alone(caller, bodies, 40)
        before = processor_seconds(process)
        found: dict[str, Any] = {"alone_ms": alone(caller, bodies, ALONE)}
        found["processor_ms"] = 1000 * (processor_seconds(process) - before) / ALONE
        found["load_average"] = os.getloadavg()[0]
        found["at_rate"] = at_a_rate(caller, bodies, RATE, SECONDS)
        done = 40 + ALONE + RATE * SECONDS
        memory = [(done, resident_mb(process))]
        while done < WARM_UP + REQUESTS:
            alone(caller, bodies, WARM_UP)
            done += WARM_UP
            memory.append((done, resident_mb(process)))
        found["memory_mb"] = memory
        found["grown_mb"] = memory[-1][1] - memory[0][1]
    return found


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser that draws in software, its window 1280 × 720."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("no chromium on this machine")
    given = [
        "--no-sandbox",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--ignore-gpu-blocklist",
    ]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=given)
        yield browser
        browser.close()


def wait(page: Any, true: str) -> None:
    """Until a script gives something; the page's policy forbids `wait_for_function`, which evals."""
    deadline = time.monotonic() + 60
    while not page.evaluate(true):
        if time.monotonic() > deadline:
            sys.exit(f"nothing was drawn in a minute: {true}")
        time.sleep(0.02)


def dragged(page: Any) -> float:
    """Frames a second while the mouse drags over the middle of a plot."""
    page.evaluate(_COUNT)
    page.mouse.move(400, 350)
    page.mouse.down()
    before, begun, moves = page.evaluate("window.frames_"), time.perf_counter(), 0
    while time.perf_counter() - begun < DRAG:
        moves += 1
        page.mouse.move(400 + moves * 7 % 200, 350 + moves * 3 % 100)
    frames, seconds = page.evaluate("window.frames_") - before, time.perf_counter() - begun
    page.mouse.up()
    return float(frames / seconds)


def maps(folder: Path) -> dict[str, Any]:
    """Seconds to the first paint, and frames while panning, of ours and of plotly's scattergl."""
    found: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    drawn = "document.querySelector('canvas[tabindex]')?.plot.painted >= {}"
    for count in POINTS:
        labels = np.arange(count) % 3
        vectors = (np.eye(32)[labels] * 5 + rng.normal(size=(count, 32))).astype(np.float32)
        path, run = folder / f"{count}.npz", folder / f"empty-{count}"
        run.mkdir()
        np.savez(path, vectors=vectors, labels=labels)
        with serving(run, "--vectors", path) as (port, _), chromium() as browser:
            paints = []
            for _ in range(OPENED):
                page = browser.new_page(viewport={"width": 1280, "height": 720})
                begun = time.perf_counter()
                page.goto(f"http://127.0.0.1:{port}/#/map")
                wait(page, drawn.format(count))
                paints.append(time.perf_counter() - begun)
                if len(paints) < OPENED:
                    page.close()
            found[str(count)] = {
                "first_paint_seconds": paints[0],
                "again_seconds": median(paints[1:]),
                "frames_per_second": dragged(page),
                "plotly_frames_per_second": _plotly(browser, count),
            }
    return found


def _plotly(browser: Any, count: int) -> float:
    """The same drag on scattergl."""
    import plotly

    script = (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_bytes()
    files = {
        "/": (
            b"<!doctype html><meta charset=utf-8><div id=plot></div>"
            b"<script src=/plotly.js></script><script src=/go.js></script>"
        ),
        "/plotly.js": script,
        "/go.js": _RIVAL.encode(),
    }

    class Files(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = self.path.partition("?")[0]
            self.send_response(200)
            self.send_header("content-type", "text/html" if place == "/" else "text/javascript")
            self.end_headers()
            self.wfile.write(files.get(place, b""))

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = browser.new_page(viewport={"width": 900, "height": 600})
    page.goto(f"http://127.0.0.1:{server.server_address[1]}/?n={count}")
    wait(page, "window.drawn")
    try:
        return dragged(page)
    finally:
        page.close()
        server.shutdown()


def main() -> dict[str, Any] | None:
    """All of it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        result: dict[str, Any] = {"maps": maps(folder)}
        if not TILES.is_dir():
            print(f"no tiles at {TILES}; set MEKIKI_DATA")
            return result
        result["judging"] = judging(folder)
    return result


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
