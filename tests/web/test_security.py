"""Who may call the page, from where, and how much they may send."""

import http.client
import io
import os
import re
import signal
import socket
import struct
import threading
import time
import zlib

import pytest
from PIL import Image

from pages import calling, error_of, events, photo_of, serving
from parts import QUADRANTS, held_elsewhere, part, process, save

pytest.importorskip("fastapi")

TOKEN = "a-token-that-nobody-guesses"
IDLE, WHOLE = 3.0, 5.0


@pytest.fixture(scope="module")
def client(calibrated_once, tmp_path_factory):
    import shutil

    from mekiki.web.uploads import RequestLimits

    run = shutil.copytree(calibrated_once, tmp_path_factory.mktemp("safe") / "run")
    limits = RequestLimits(upload=300_000, other=2_000, files=3, pixels=10_000)
    with calling(run, limits=limits) as client:
        client.run = run
        yield client


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A page on an address that others can reach."""
    from fastapi.testclient import TestClient

    from mekiki.web.security import AccessRules
    from mekiki.web.server import create_app

    app = create_app(tmp_path_factory.mktemp("locked"), rules=AccessRules("192.0.2.1", TOKEN))
    with TestClient(app, base_url="http://192.0.2.1") as client:
        yield client


@pytest.fixture
def bad(tmp_path):
    return save(tmp_path / "bad.png", part(5000, blot=QUADRANTS[0]))


def test_it_listens_on_loopback_alone_by_default():
    import inspect

    from mekiki.web.commands import serve
    from mekiki.web.security import AccessRules
    from mekiki.web.server import run_server

    for function in (serve, run_server):
        assert inspect.signature(function).parameters["host"].default == "127.0.0.1"
    assert AccessRules.for_host("127.0.0.1").token is None
    assert AccessRules.for_host("::1").token is None
    for host in ("0.0.0.0", "192.0.2.1", "::", "host.example"):
        assert len(AccessRules.for_host(host).token) >= 32, host
    assert AccessRules.for_host("0.0.0.0").token != AccessRules.for_host("0.0.0.0").token


def test_the_token_may_be_given(monkeypatch):
    from mekiki.web.security import AccessRules

    monkeypatch.setenv("MEKIKI_TOKEN", TOKEN)
    assert AccessRules.for_host("0.0.0.0").token == TOKEN
    assert AccessRules.for_host("127.0.0.1").token == TOKEN


def test_without_the_token_every_request_is_refused(locked):
    locked.cookies.clear()
    for path in ("/", "/api/run", "/api/maps", "/static/main.js", "/api/openapi.json", "/nothing"):
        answer = locked.get(path)
        assert "token" in error_of(answer, 401), path
    for wrong in ("", "x", TOKEN[:-1], TOKEN + "x", "日本"):
        assert locked.get("/api/run", params={"token": wrong}).status_code == 401
        header = {"Authorization": f"Bearer {wrong}".encode()}
        assert locked.get("/api/run", headers=header).status_code == 401


def test_the_address_with_the_token_becomes_a_cookie_that_scripts_cannot_read(locked):
    locked.cookies.clear()
    answer = locked.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie, "the cookie does not hold the token"
    assert locked.get("/api/run").status_code == 200
    locked.cookies.clear()
    locked.cookies.set("mekiki", "wrong")
    assert locked.get("/api/run").status_code == 401
    locked.cookies.clear()


def test_the_token_leads_to_no_other_machine(locked):
    locked.cookies.clear()
    for path in ("//evil.example/", "/\\evil.example", "/%2f%2fevil.example"):
        answer = locked.get(f"http://192.0.2.1{path}?token={TOKEN}", follow_redirects=False)
        where = answer.headers.get("location", "/")
        assert re.match(r"/(?![/\\])", where), where


def test_a_script_may_bring_the_token_as_a_header(locked):
    locked.cookies.clear()
    header = {"Authorization": f"Bearer {TOKEN}"}
    assert locked.get("/api/run", headers=header).status_code == 200
    assert error_of(locked.post("/api/search", headers=header, json={}), 400), (
        "no cookie, so nothing can be forged"
    )


def test_tokens_are_compared_in_constant_time(monkeypatch, locked):
    import hmac

    compared = []
    true = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or true(a, b))
    locked.get("/api/run", params={"token": "guess"})
    locked.get("/api/run", headers={"Authorization": "Bearer guess"})
    locked.cookies.set("mekiki", "guess")
    locked.get("/api/run")
    locked.cookies.clear()
    assert len([pair for pair in compared if pair[0] == b"guess"]) == 3


def test_a_changing_call_proves_that_it_comes_from_the_page(client):
    asked = {"text": "crack"}
    own = client.headers["X-Mekiki-CSRF"]
    assert client.post("/api/search", json=asked).status_code == 400
    for wrong in ("", "x", own[:-1]):
        error_of(client.post("/api/search", json=asked, headers={"X-Mekiki-CSRF": wrong}), 403)
    for origin in ("http://evil.example", "null", "http://127.0.0.1:81", "http://127.0.0.1.evil.example"):
        error_of(client.post("/api/search", json=asked, headers={"Origin": origin}), 403)
    assert client.post("/api/search", json=asked, headers={"Origin": "http://127.0.0.1"}).status_code == 400
    error_of(client.post("/api/search", json=asked, headers={"Sec-Fetch-Site": "cross-site"}), 403)
    for method in ("PUT", "DELETE", "PATCH"):
        error_of(client.request(method, "/api/run", headers={"X-Mekiki-CSRF": ""}), 403)


def test_another_name_for_this_machine_is_not_answered_to(client):
    for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:80", "", "localhost.evil.example"):
        error_of(client.get("/api/run", headers={"Host": host}), 403)
    for host in ("localhost", "localhost:8765", "127.0.0.1:8765", "[::1]:8765"):
        assert client.get("/api/run", headers={"Host": host}).status_code == 200, host


def test_every_answer_carries_the_policy(client, locked, bad):
    answers = [
        client.get("/"),
        client.get("/api/run"),
        client.get("/static/main.js"),
        client.get("/nothing"),
        client.post("/api/photos", files=[photo_of(bad)]),
        client.post("/api/search", json={}, headers={"X-Mekiki-CSRF": "x"}),
        client.post("/api/search", content=b"x" * 3_000),
        locked.get("/"),
    ]
    for answer in answers:
        policy = dict(part_.split(" ", 1) for part_ in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["base-uri"] == "'none'"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
    assert answers[1].headers["cache-control"] == "no-store"


def test_uploads_are_limited_in_bytes_files_and_pixels(client, bad, tmp_path):
    assert "MiB" in error_of(client.post("/api/search", content=b"x" * 2_001), 413)
    noise = tmp_path / "noise.png"
    Image.frombytes("L", (600, 600), os.urandom(360_000)).save(noise)
    assert "MiB" in error_of(client.post("/api/judge", files=[photo_of(noise)]), 413)
    assert "at most 3" in error_of(client.post("/api/photos", files=[photo_of(bad)] * 4), 413)
    wide = save(tmp_path / "wide.png", part(1, 101, 100))
    (photo,) = client.post("/api/photos", files=[photo_of(wide)]).json()["photos"]
    assert photo["photo"] is None
    assert "pixels" in photo["problem"]
    (verdict,) = client.post("/api/judge", files=[photo_of(wide)]).json()["verdicts"]
    assert (verdict["verdict"], verdict["photo"]) == ("unreadable", None)


def test_a_body_that_does_not_say_how_long_it_is_is_counted_while_it_comes(client):
    def endless():
        for _ in range(10_000):
            yield b"x" * 1000

    header = {"Content-Type": "application/json"}
    assert error_of(client.post("/api/search", content=endless(), headers=header), 413)
    for length in ("-1", "1e3", "abc"):
        assert error_of(client.post("/api/search", content=b"{}", headers={"Content-Length": length})), length


def bomb(width, height):
    """A PNG of a few bytes whose header promises an enormous picture, and whose data keep the promise for long."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 20_000_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("shape", [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (20_000_000, 1), (100, 100)])
def test_a_picture_that_unpacks_to_more_than_it_says_is_refused_at_once(client, shape):
    begun = time.perf_counter()
    sent = {"photos": ("bomb.png", bomb(*shape), "image/png")}
    (verdict,) = client.post("/api/judge", files=sent).json()["verdicts"]
    assert time.perf_counter() - begun < 5
    if shape != (100, 100):
        assert verdict["verdict"] == "unreadable"
        assert verdict["photo"] is None, "it is not kept"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("page.png", b"<html><script>alert(1)</script></html>"),
        ("page.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
        ("model.png", b"\x80\x04\x95"),
        ("archive.png", b"PK\x03\x04" + b"\0" * 100),
        ("program.png", b"\x7fELF" + b"\0" * 100),
        ("nothing.png", b""),
        ("cut.png", b"\x89PNG\r\n\x1a\n"),
        ("animated.gif", b"GIF89a" + b"\0" * 100),
    ],
)
def test_what_is_no_photograph_is_not_kept(client, name, content):
    sent = {"photos": (name, content, "image/png")}
    (photo,) = client.post("/api/photos", files=sent).json()["photos"]
    assert photo["photo"] is None
    assert photo["problem"]


def test_pictures_go_out_as_pictures_whatever_came_in(client, bad):
    content = bad.read_bytes() + b"<script>alert(1)</script>"
    (photo,) = client.post("/api/photos", files={"photos": ("a.html", content, "text/html")}).json()["photos"]
    answer = client.get(f"/api/photos/{photo['photo']}/picture")
    assert answer.headers["content-type"] == "image/png"
    assert b"<script>" not in answer.content
    Image.open(io.BytesIO(answer.content)).verify()


NAMES = [
    "../../etc/passwd",
    "/etc/passwd",
    "..\\..\\windows\\win.ini",
    "C:\\secret.png",
    "\\\\machine\\share\\a.png",
    "a\x00.png",
    "run/../../outside",
    "~root/x",
    "link",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_path_outside_is_opened(client, name, tmp_path_factory):
    link = client.run / "link"
    if not link.exists():
        secret = tmp_path_factory.mktemp("secret")
        save(secret / "a" / "1.png", part(1))
        link.symlink_to(secret)
    answer = client.post("/api/trainings", json={"data": name})
    assert answer.status_code in (400, 403, 422), answer.text
    error_of(answer)
    error_of(client.post("/api/trainings", json={"data": "digits", "encoder": f"hf:{name}"}))
    for path in ("/static/", "/api/maps/", "/api/trainings/", "/api/cases/", "/api/photos/"):
        from urllib.parse import quote

        error_of(client.get(path + quote(name, safe="")))
    assert not (client.run / "trainings").exists()


def test_names_of_uploads_are_only_names(client, bad):
    sent = {"photos": ("../../../tmp/evil.png", bad.read_bytes(), "image/png")}
    (photo,) = client.post("/api/photos", files=sent).json()["photos"]
    assert photo["file"] == "evil.png"


def test_uploads_are_gone_when_the_server_is(calibrated_once, bad):
    with calling(calibrated_once) as client:
        client.post("/api/photos", files=[photo_of(bad)])
        folder = client.app.state.app_state.uploads.folder
        assert len(list(folder.iterdir())) == 1
    assert not folder.exists()


def test_old_uploads_make_room(calibrated_once, tmp_path, monkeypatch):
    from mekiki.web import uploads

    monkeypatch.setattr(uploads, "MAX_UPLOADS", 2)
    with calling(calibrated_once) as client:
        ids = [
            client.post("/api/photos", files=[photo_of(save(tmp_path / f"{n}.png", part(n)))]).json()[
                "photos"
            ][0]["photo"]
            for n in range(3)
        ]
        error_of(client.get(f"/api/photos/{ids[0]}/picture"), 404)
        assert client.get(f"/api/photos/{ids[2]}/picture").status_code == 200
        assert len(list(client.app.state.app_state.uploads.folder.iterdir())) == 2


@pytest.fixture(scope="module")
def address(calibrated_once):
    """A real server, impatient."""
    from mekiki.web.uploads import RequestLimits

    with serving(calibrated_once, limits=RequestLimits(idle=IDLE, whole=WHOLE)) as address:
        yield address


def line_to(address):
    host, _, port = address.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def test_slow_and_half_uploads_hold_up_nobody(address, bad):
    import httpx

    csrf = httpx.get(f"{address}/api/run").json()["csrf"]
    head = (
        "POST /api/judge HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        f"X-Mekiki-CSRF: {csrf}\r\nContent-Length: 100000\r\n\r\n--x\r\n"
    )
    lines = [line_to(address) for _ in range(40)]
    try:
        for line in lines:
            line.sendall(head.encode())
        for line in lines[:10]:
            line.close()  # half an upload, and gone
        begun = time.perf_counter()
        answer = httpx.post(
            f"{address}/api/judge", files=[photo_of(bad)], headers={"X-Mekiki-CSRF": csrf}, timeout=20
        )
        assert answer.json()["verdicts"][0]["verdict"] == "NG"
        assert time.perf_counter() - begun < IDLE - 0.5, "before any of those was given up"
        said = lines[-1].makefile("rb").read().decode()
        assert said.startswith("HTTP/1.1 408")
        assert "did not come in time" in said
    finally:
        for line in lines:
            line.close()


@pytest.mark.slow
def test_who_dribbles_is_given_up_too(address):
    import httpx

    csrf = httpx.get(f"{address}/api/run").json()["csrf"]
    line = line_to(address)
    line.sendall(
        b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"X-Mekiki-CSRF: " + csrf.encode() + b"\r\nContent-Length: 1000\r\n\r\n"
    )
    begun, said = time.perf_counter(), b""
    line.settimeout(0.5)
    while not said and time.perf_counter() - begun < 10:
        try:
            line.sendall(b" ")
            said = line.recv(1000)
        except TimeoutError:
            continue
    line.close()
    assert said.startswith(b"HTTP/1.1 408")
    assert time.perf_counter() - begun < WHOLE + 3


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00" + b"\0" * 50,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"POST /api/judge HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /api/run HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    ],
    ids=["tls", "version", "long address", "many headers", "no host", "two hosts", "chunks", "websocket"],
)
def test_what_is_no_call_does_not_bring_it_down(address, sent):
    import httpx

    line = line_to(address)
    line.settimeout(8)
    try:
        line.sendall(sent)
        said = line.recv(200)
    except (ConnectionError, TimeoutError):
        said = b""
    finally:
        line.close()
    assert not re.match(rb"HTTP/1.1 5", said), said
    assert httpx.get(f"{address}/api/run").status_code == 200


def test_one_writer_at_a_time(client, bad, monkeypatch):
    """Another process holds the run: changes wait, and give up with a word; reading goes on."""
    from mekiki.web import state

    monkeypatch.setattr(state, "LOCK_TIMEOUT_S", 0.2)
    (verdict,) = client.post("/api/judge", files=[photo_of(bad)]).json()["verdicts"]
    with held_elsewhere(client.run, "changing the run", role="page"):
        answer = client.post("/api/teach", json={"photo": verdict["photo"], "label": "OK"})
        assert "another process" in error_of(answer, 409)
        assert client.post("/api/judge", files=[photo_of(bad)]).status_code == 200
        assert client.get("/api/lessons").json()["lessons"] == []
    taught = client.post("/api/teach", json={"photo": verdict["photo"], "label": "OK"})
    assert taught.status_code == 200
    client.post(f"/api/teach/{taught.json()['lesson']['number']}/undo")


def test_writers_of_one_server_come_one_after_the_other(run, bad):
    with serving(run) as address:
        import httpx

        csrf = {"X-Mekiki-CSRF": httpx.get(f"{address}/api/run").json()["csrf"]}
        (photo,) = httpx.post(f"{address}/api/photos", files=[photo_of(bad)], headers=csrf).json()["photos"]
        answers = []

        def teach():
            asked = {"photo": photo["photo"], "label": "NG:blot"}
            answers.append(httpx.post(f"{address}/api/teach", json=asked, headers=csrf, timeout=60))

        threads = [threading.Thread(target=teach) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200] * 8
        lessons = httpx.get(f"{address}/api/lessons").json()["lessons"]
        assert sorted(each["number"] for each in lessons) == list(range(1, 9))


def test_a_fault_of_ours_tells_nothing_of_how_it_is_made(tmp_path, monkeypatch):
    from fastapi.testclient import TestClient

    from mekiki.web.server import create_app
    from mekiki.web.state import AppState

    app = create_app(tmp_path)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        monkeypatch.setattr(AppState, "summarise", lambda self: 1 / 0)
        answer = client.get("/api/run")
    assert answer.status_code == 500
    assert "ZeroDivision" not in answer.text
    assert "content-security-policy" in answer.headers


def test_the_command_serves_until_ctrl_c_and_leaves_nothing(calibrated_once, tmp_path):
    import httpx

    served = process("serve", calibrated_once, "--port", "0", cwd=tmp_path)
    try:
        address = served.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        assert httpx.get(f"{address}api/run").json()["name"] == "run"
        served.send_signal(signal.SIGINT)
        out, err = served.communicate(timeout=30)
        assert (served.returncode, out, err) == (0, "", "")
    finally:
        served.kill()


def test_an_address_that_cannot_be_listened_on_is_refused_in_one_line(mekiki):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = mekiki("serve", ".", "--port", taken.getsockname()[1]).error
    assert "another --port" in said
    assert "--host" in mekiki("serve", ".", "--port", "0", "--host", "256.1.1.1").error


def test_an_unusable_table_or_folder_is_reported_before_anything_is_served(tmp_path):
    from mekiki.errors import InputError
    from mekiki.web.server import create_app

    (tmp_path / "broken.npz").write_bytes(b"PK")
    for vectors in ("no.npz", "broken.npz"):
        with pytest.raises(InputError, match=vectors):
            create_app(tmp_path, vectors=tmp_path / vectors)
    with pytest.raises(InputError, match="no such folder"):
        create_app(tmp_path, allow=[tmp_path / "nothing"])
    with pytest.raises(InputError, match="no such folder"):
        create_app(tmp_path / "nothing")


def test_streams_are_not_without_number(tmp_path, monkeypatch):
    from mekiki.experiments import routes

    monkeypatch.setattr(routes, "MAX_STREAMS", 0)
    (tmp_path / "history.csv").write_text("epoch,train_loss\n1,0.5\n")
    with calling(tmp_path) as client:
        assert "close one" in error_of(client.get("/api/trainings/run/events"), 409)
    monkeypatch.setattr(routes, "MAX_STREAMS", 1)
    with calling(tmp_path) as client:
        assert events(client.get("/api/trainings/run/events").text)
        assert events(client.get("/api/trainings/run/events").text), "the first has ended"


def test_a_connection_that_only_stands_there_holds_up_nobody(address):
    lines = [line_to(address) for _ in range(50)]
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    connection.request("GET", "/api/run")
    assert connection.getresponse().status == 200
    connection.close()
    for line in lines:
        line.close()
