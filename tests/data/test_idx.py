"""idx files: reading, finding, downloading from a server of our own, and what damage looks like."""

import gzip
import hashlib
import http.server
import os
import struct
import threading
from dataclasses import replace

import numpy as np
import pytest

from mekiki.data import idx
from mekiki.data.catalogue import catalogue, fetch
from mekiki.data.idx import FILES, SOURCES, read_idx
from mekiki.data.load import load_images, load_one
from mekiki.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::mekiki.errors.DataWarning")
needs_data = pytest.mark.skipif(
    "MEKIKI_DATA" not in os.environ or idx.find("mnist") is None, reason="MEKIKI_DATA holds no mnist"
)


@pytest.fixture(autouse=True)
def own_cache(request, tmp_path, monkeypatch):
    monkeypatch.setenv("MEKIKI_CACHE", str(tmp_path / "cache"))
    if "real" not in request.fixturenames:
        monkeypatch.delenv("MEKIKI_DATA", raising=False)


@pytest.fixture
def real():
    """The test wants the data that MEKIKI_DATA names."""


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def small_set(train=40, test=20, side=6):
    rng = np.random.default_rng(0)
    return dict(
        zip(
            FILES,
            (
                idx_bytes(rng.integers(0, 256, (train, side, side), dtype=np.uint8)),
                idx_bytes((np.arange(train) % 10).astype(np.uint8)),
                idx_bytes(rng.integers(0, 256, (test, side, side), dtype=np.uint8)),
                idx_bytes((np.arange(test) % 10).astype(np.uint8)),
            ),
            strict=True,
        )
    )


def write_set(folder, *, packed=True, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in {**small_set(), **changes}.items():
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)
    return folder


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves bytes with Range; the class attributes say how it misbehaves."""

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        side, name = self.path.strip("/").split("/")
        data = server.files.get(name)
        if data is None or side == "gone":
            return self.send_error(404)
        if side == "wrong":
            data = b"<html>please log in</html>"
        start = 0
        wanted = self.headers.get("Range")
        if wanted and side != "norange":
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        stop = start + 50 if side == "breaks" else None
        self.wfile.write(data[start:stop])
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.files = {f"{name}.gz": gzip.compress(data) for name, data in small_set().items()}
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def use(*sides):
        monkeypatch.setitem(
            idx.SOURCES,
            "mnist",
            replace(
                SOURCES["mnist"],
                mirrors=tuple(f"http://127.0.0.1:{server.server_port}/{side}/" for side in sides),
                md5=tuple(hashlib.md5(server.files[f"{name}.gz"]).hexdigest() for name in FILES),
            ),
        )

    server.use = use
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_downloads_into_the_cache_once_and_reports_progress(mirror, tmp_path):
    mirror.use("good")
    calls = []
    train, test = load_images("mnist", progress=lambda *call: calls.append(call))
    assert (len(train), len(test)) == (40, 20)
    assert train.names[17] == "mnist/train/17"
    assert len(mirror.asked) == 4
    assert calls[0][0] == "fetching train-images-idx3-ubyte.gz"
    assert calls[0][1] == calls[0][2] == len(mirror.files["train-images-idx3-ubyte.gz"])
    load_images("mnist")
    assert len(mirror.asked) == 4
    assert not list(tmp_path.rglob("*.part"))


def test_fetch_with_a_root_downloads_there(mirror, tmp_path):
    mirror.use("good")
    assert fetch("mnist", tmp_path / "mine") == tmp_path / "mine" / "mnist"
    assert fetch("mnist", tmp_path / "mine") == tmp_path / "mine" / "mnist"
    assert len(mirror.asked) == 4


def test_the_next_mirror_goes_on_where_the_first_broke_off(mirror):
    mirror.use("breaks", "good")
    folder = fetch("mnist")
    assert read_idx(folder / "train-images-idx3-ubyte.gz").shape == (40, 6, 6)
    images = [wanted for path, wanted in mirror.asked if "train-images" in path]
    assert images == [None, "bytes=50-"]


def test_a_download_is_resumed_by_the_next_call(mirror, tmp_path):
    mirror.use("breaks")
    with pytest.raises(InputError, match="broke off at 50 of"):
        fetch("mnist")
    mirror.use("good")
    mirror.asked.clear()
    fetch("mnist")
    assert mirror.asked[0][1] == "bytes=50-"


def test_a_server_without_range_is_read_from_the_start(mirror):
    mirror.use("breaks", "norange")
    assert read_idx(fetch("mnist") / "train-images-idx3-ubyte.gz").shape == (40, 6, 6)


def test_a_wrong_file_is_thrown_away_and_the_next_mirror_asked(mirror):
    mirror.use("wrong", "gone", "good")
    assert read_idx(fetch("mnist") / "t10k-labels-idx1-ubyte.gz").shape == (20,)


def test_a_bad_part_from_before_is_fetched_anew(mirror, tmp_path):
    mirror.use("good")
    folder = tmp_path / "cache" / "datasets" / "mnist"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz.part").write_bytes(b"rubbish")
    (folder / "train-labels-idx1-ubyte.gz.part").write_bytes(b"x" * 10**6)
    assert read_idx(fetch("mnist") / "train-images-idx3-ubyte.gz").shape == (40, 6, 6)


def test_without_a_connection_one_line_says_how_to_place_the_files(monkeypatch):
    monkeypatch.setitem(idx.SOURCES, "kmnist", replace(SOURCES["kmnist"], mirrors=("http://127.0.0.1:9/a/",)))
    with pytest.raises(InputError) as caught:
        load_images("kmnist")
    message = str(caught.value)
    assert "\n" not in message
    for hint in ("127.0.0.1:9", "train-images-idx3-ubyte.gz", "--root", "MEKIKI_DATA", "kmnist/"):
        assert hint in message


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", ["", "fashion-mnist"])
def test_root_may_be_the_folder_or_the_one_above(tmp_path, packed, below):
    write_set(tmp_path / below, packed=packed)
    train, _ = load_images("fashion-mnist", root=tmp_path)
    assert train.class_names[:2] == ("T-shirt/top", "Trouser")


def test_mekiki_data_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("MEKIKI_DATA", str(tmp_path))
    write_set(tmp_path / "kmnist")
    train, _ = load_images("kmnist")
    assert train.class_names[0] == "o (お)"


def test_unpacked_files_with_a_dot_are_found(tmp_path):
    for file in write_set(tmp_path, packed=False).iterdir():
        file.rename(file.with_name(file.name.replace("-idx", ".idx")))
    assert len(load_images("mnist", root=tmp_path).train) == 40


def test_train_images_that_are_also_test_images_are_left_out_of_training(tmp_path):
    data = small_set()
    images = np.frombuffer(data[FILES[0]], np.uint8, offset=16).reshape(40, 6, 6)
    write_set(tmp_path, **{FILES[2]: idx_bytes(images[:20])})
    split = load_images("mnist", root=tmp_path)
    assert len(split.train) == 20
    assert len(split.test) == 20
    assert split.notes == (
        "20 train images are also in the test set and left out of training: mnist/train/0, mnist/train/1, "
        "mnist/train/2 and 17 more",
    )


def test_resplit_pools_the_published_sides(tmp_path):
    write_set(tmp_path)
    split = load_images("mnist", root=tmp_path, resplit=True, test_fraction=0.5)
    assert len(split.train) == len(split.test) == 30
    assert any(name.startswith("mnist/test/") for name in split.train.names)


@pytest.mark.parametrize(
    ("stem", "data", "says"),
    [
        (FILES[0], b"", "no idx file"),
        (FILES[0], b"\0\0\x0d\x03" + bytes(12), "no idx file"),
        (FILES[0], small_set()[FILES[0]][:-1], "its header promises"),
        (FILES[0], small_set()[FILES[1]], "mixed up"),
        (FILES[1], small_set()[FILES[3]], "20] labels for 40 images"),
        (FILES[3], idx_bytes(np.full(20, 10, np.uint8)), "label 10"),
        (FILES[0], idx_bytes(np.zeros((40, 5, 5), np.uint8)), "train images are"),
        (FILES[0], b"\0\0\x08\x03" + b"\xff" * 12, "its header promises"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_damaged_idx_files_give_one_line(tmp_path, stem, data, says, packed):
    write_set(tmp_path, packed=packed, **{stem: data})
    with pytest.raises(InputError) as caught:
        load_images("mnist", root=tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("cut", [lambda data: data[:-9], lambda data: data[:40] + b"??" + data[42:]])
def test_a_damaged_gz_gives_one_line(tmp_path, cut):
    file = write_set(tmp_path) / "train-images-idx3-ubyte.gz"
    file.write_bytes(cut(file.read_bytes()))
    with pytest.raises(InputError, match="damaged or cut short"):
        load_images("mnist", root=tmp_path)


def test_one_image_by_its_published_place(tmp_path):
    write_set(tmp_path)
    wanted = np.frombuffer(small_set()[FILES[2]], np.uint8, offset=16).reshape(20, 6, 6)[7]
    assert (load_one("mnist:test:7", size=6, channels=1, root=tmp_path) == wanted).all()
    with pytest.raises(InputError, match="no image 20"):
        load_one("mnist:test:20", size=6, channels=1, root=tmp_path)


def test_catalogue_says_what_is_here(tmp_path):
    write_set(tmp_path / "kmnist")
    where = {entry.name: entry.where for entry in catalogue(tmp_path)}
    assert where == {
        "mnist": "not here",
        "fashion-mnist": "not here",
        "kmnist": str(tmp_path / "kmnist"),
        "digits": "built in",
        "surfaces": "built in",
    }


@pytest.mark.parametrize(("name", "says"), [("digits", "built in"), ("mnits", "did you mean mnist")])
def test_what_cannot_be_fetched_is_refused(name, says):
    with pytest.raises(InputError, match=says):
        fetch(name)


@needs_data
def test_mnist_is_what_was_published(real):
    split = load_images("mnist")
    assert (len(split.train), len(split.test), split.train.shape) == (60_000, 10_000, (1, 28, 28))
    assert list(split.train.counts().values()) == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert list(split.test.counts().values()) == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert split.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert split.notes == ()
    folder = idx.find("mnist")
    for stem, md5 in zip(FILES, SOURCES["mnist"].md5, strict=True):
        file = folder / f"{stem}.gz"
        if file.exists():
            assert hashlib.md5(file.read_bytes()).hexdigest() == md5


@needs_data
def test_per_class_limits_each_side_of_mnist(real):
    split = load_images("mnist", per_class=30, size=14, channels=3)
    assert set(split.train.counts().values()) == set(split.test.counts().values()) == {30}
    assert split.train.shape == (3, 14, 14)
