"""Stores of cases: one suite, which every store passes."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient

from mekiki.cases.case import Case, Cases, EncoderInfo
from mekiki.cases.lance import LanceStore
from mekiki.cases.parquet import encoder_of, export_cases, import_cases
from mekiki.cases.qdrant import QdrantStore
from mekiki.cases.store import distances_to, stats
from mekiki.cases.store_address import open_store
from mekiki.cases.where import matches, parse_where
from mekiki.errors import InputError
from mekiki.storage.events import read_events
from mekiki.storage.lock import lock_timeout
from mekiki.storage.manifest import digest_of
from parts import held_elsewhere

pytestmark = pytest.mark.filterwarnings("ignore:Local mode:UserWarning")

ENCODER = EncoderInfo("run tiles", "f" * 32, 4)
NOON = datetime(2026, 11, 25, 12, 0, 0, 123456, UTC)


def case(id_, *vector, **facts):
    given_ = np.array(vector or [0, 0, 0, 0], np.float32)
    return Case(id_, given_, **{"time": NOON, "encoder": ENCODER.fingerprint} | facts)


class Lance:
    def __init__(self, folder):
        self.folder = folder

    def open(self, encoder=ENCODER):
        return LanceStore(self.folder, "images", encoder)


class Qdrant:
    def __init__(self, client):
        self.client, self.name = client, f"mekiki-test-{uuid.uuid4()}"

    def open(self, encoder=ENCODER):
        return QdrantStore(self.client, self.name, encoder)


@pytest.fixture(params=["lance", "qdrant local", "qdrant server"])
def place(request, tmp_path):
    """Somewhere to open a store, again and again."""
    if request.param == "lance":
        yield Lance(tmp_path / "cases")
        return
    if request.param == "qdrant local":
        client = QdrantClient(":memory:")
    elif url := os.environ.get("MEKIKI_QDRANT_URL"):
        client = QdrantClient(url=url, api_key=os.environ.get("MEKIKI_QDRANT_KEY"))
    else:
        pytest.skip("needs MEKIKI_QDRANT_URL")
    found = Qdrant(client)
    yield found
    if client.collection_exists(found.name):
        client.delete_collection(found.name)
    client.close()


def same(a, b):
    assert a.table.equals(b.table)


def test_what_is_kept_comes_back_to_the_bit(place):
    rng = np.random.default_rng(0)
    vector = rng.normal(size=4).astype(np.float32)
    vector[1] = np.float32(1e-38)
    kept = Cases.of(
        [
            case(
                "a",
                *vector,
                label="crack",
                note="割れ it's\n",
                image="x/y.png",
                thumbnail=b"\x00\xff\n",
                who="佐藤",
                run="r",
            ),
            case("b", *rng.normal(size=4), time=NOON - timedelta(days=9000, microseconds=1)),
        ]
    )
    assert place.open().add(kept) == 2
    same(place.open().get(["a", "b"]), kept)
    same(place.open(None).get(["b", "nobody", "a"]), kept.rows([1, 0]))
    assert place.open(None).encoder == ENCODER
    assert place.open().get(["a"])[0].to_dict()["time"] == "2026-11-25T12:00:00.123456+00:00"


def test_adding_twice_keeps_one_and_the_last_word_counts(place):
    store = place.open()
    assert store.add(Cases.of([case("a", note="first"), case("b")])) == 2
    assert (
        store.add(Cases.of([case("a", note="wrong"), case("a", 1, 2, 3, 4, note="second"), case("c")])) == 1
    )
    assert store.count() == 3
    found = store.get(["a"])[0]
    assert found.note == "second"
    assert found.vector.tolist() == [1, 2, 3, 4]


def test_search_agrees_with_brute_force(place):
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(500, 4)).astype(np.float32)
    labels = ["odd" if i % 2 else "even" for i in range(500)]
    store = place.open()
    ids = [f"{i:03}" for i in range(500)]
    encoders = [ENCODER.fingerprint] * 500
    store.add(Cases.from_columns(vectors, np.arange(500), id=ids, label=labels, encoder=encoders))
    for query in rng.normal(size=(5, 4)).astype(np.float32):
        apart = distances_to(vectors, query)
        for where, meant in ((None, slice(None)), (parse_where("label = 'odd'"), slice(1, None, 2))):
            best = np.arange(500)[meant][np.argsort(apart[meant])[:10]]
            found = store.search(query, 10, where)
            assert found.cases.ids == [ids[i] for i in best]
            np.testing.assert_array_equal(found.distances, apart[best])


def test_of_equally_near_cases_the_lower_ids_come_first(place):
    store = place.open()
    store.add(Cases.of([case(f"{i:03}") for i in reversed(range(100))] + [case("z", 1, 0, 0, 0)]))
    assert store.search(np.zeros(4, np.float32), 3).cases.ids == ["000", "001", "002"]
    assert len(store.search(np.zeros(4, np.float32), 1000).cases) == 101


def test_an_empty_store_answers(place):
    store = place.open()
    assert len(store.search(np.zeros(4, np.float32), 3).cases) == 0
    assert len(store.get(["a"])) == 0
    assert len(store.get([])) == 0
    assert store.count() == 0
    assert list(store.read()) == []
    assert store.forget(["a"]) == 0
    assert stats(store)["cases"] == 0


def test_forgetting(place):
    store = place.open()
    store.add(Cases.of([case(c) for c in ("a", "b'; drop", "c")]))
    assert store.forget(["b'; drop", "nobody"]) == 1
    assert sorted(c.id for part in store.read() for c in part) == ["a", "c"]


def test_vectors_of_another_encoder_or_size_are_refused_with_both_names(place):
    store = place.open()
    with pytest.raises(InputError, match=r"run tiles \(ffffffffffff, 4 dimensions\).*other"):
        store.add(Cases.of([case("a", encoder="other")]))
    with pytest.raises(InputError, match=r"run tiles.*these have 3"):
        store.add(Cases.of([case("a", 1, 2, 3)]))
    for other in (EncoderInfo("run bolts", "e" * 32, 4), EncoderInfo("run bolts", "f" * 32, 5)):
        with pytest.raises(InputError, match=r"run tiles.*run bolts"):
            place.open(other)
    with pytest.raises(InputError, match=r"run tiles.*query"):
        store.search(np.zeros(5, np.float32), 1)
    with pytest.raises(InputError, match="k must be at least 1"):
        store.search(np.zeros(4, np.float32), 0)
    assert store.count() == 0


def test_a_store_that_is_not_there_is_refused(place):
    with pytest.raises(InputError, match="mekiki remember"):
        place.open(None)


def test_statistics(place):
    store = place.open()
    store.add(
        Cases.of([case("a", label="x", who="u", note="n"), case("b", label="x", time=NOON + timedelta(1))])
    )
    result = stats(store)
    assert result["cases"] == 2
    assert result["labels"] == {"x": 2}
    assert result["who"] == {"": 1, "u": 1}
    assert result["notes"] == 1
    assert result["from"].startswith("2026-11-25T12")
    assert result["to"].startswith("2026-11-26")
    assert result["encoder"]["name"] == "run tiles"


def test_parquet_there_and_back_loses_nothing(place, tmp_path):
    rng = np.random.default_rng(2)
    rows = [
        case(f"{i:03}", *rng.normal(size=4), note=f"割れ {i}", thumbnail=bytes([i % 256])) for i in range(300)
    ]
    store = place.open()
    store.add(Cases.of(rows))
    path = tmp_path / "cases.parquet"
    assert export_cases(store, path) == 300
    assert encoder_of(path) == ENCODER
    other = LanceStore(tmp_path / "other", "images", encoder_of(path))
    assert import_cases(other, path) == (300, 300)
    assert import_cases(other, path) == (300, 0)
    ids = [row.id for row in rows]
    same(other.get(ids), store.get(ids))
    again = tmp_path / "again.parquet"
    export_cases(other, again)
    a, b = (pyarrow.parquet.read_table(file).sort_by("id") for file in (path, again))
    assert a.equals(b)
    assert export_cases(store, path, parse_where("id < '010'")) == 10


TEXT = st.text(st.sampled_from("ab%_\\'\"\n é割`;-"), max_size=4)
FIELD = st.sampled_from(["label", "note", "who"])


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def escaped(text):
    return "".join("\\" + letter if letter in "%_\\" else letter for letter in text)


def listed(values):
    return ", ".join(map(quoted, values))


PATTERN = st.lists(st.one_of(st.sampled_from(["%", "_"]), TEXT.map(escaped)), max_size=3).map("".join)
SIGN = st.sampled_from(["=", "!=", "<>", "<", "<=", ">", ">="])
TIME = st.sampled_from(["2026-11-25", "2026-11-25T12:00:00.123456", "2026-11-25T21:00:00.123457+09:00"])
LEAF = st.one_of(
    st.builds(lambda f, s, v: f"{f} {s} {quoted(v)}", FIELD, SIGN, TEXT),
    st.builds(lambda s, v: f"time {s} '{v}'", SIGN, TIME),
    st.builds(
        lambda f, n, v: f"{f} {n} ({listed(v)})",
        FIELD,
        st.sampled_from(["in", "not IN"]),
        st.lists(TEXT, min_size=1, max_size=3),
    ),
    st.builds(lambda v: f"time in ({listed(v)})", st.lists(TIME, min_size=1, max_size=2)),
    st.builds(lambda f, n, v: f"{f} {n} {quoted(v)}", FIELD, st.sampled_from(["like", "not like"]), PATTERN),
)
WHERE = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.builds(lambda a, w, b: f"({a} {w} {b})", inner, st.sampled_from(["and", "or", "AND"]), inner),
        st.builds(lambda a: f"not {a}", inner),
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same cases in a store of each kind, and as rows."""
    rng = np.random.default_rng(3)
    letters = np.array(list("ab%_\\'\"\n é割`;-"))

    def text():
        return "".join(rng.choice(letters, rng.integers(0, 4)))

    def time():
        return NOON + timedelta(microseconds=int(rng.integers(-1, 2)))

    rows = [case(str(i), label=text(), note=text(), who=text(), time=time()) for i in range(120)]
    stores = [
        LanceStore(tmp_path_factory.mktemp("where"), "images", ENCODER),
        QdrantStore(QdrantClient(":memory:"), "where", ENCODER),
    ]
    for store in stores:
        store.add(Cases.of(rows))
    result = [
        row.to_dict() | {"time": int(since)} for row, since in zip(rows, Cases.of(rows).times, strict=True)
    ]
    return stores, result


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(where=WHERE)
def test_a_condition_means_the_same_everywhere(both, where):
    stores, rows = both
    condition = parse_where(where)
    meant = {row["id"] for row in rows if matches(condition, row)}
    for store in stores:
        assert {c.id for part in store.read(condition, thumbnails=False) for c in part} == meant, (
            store.place,
            where,
        )
        assert store.count(condition) == len(meant)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label = crack", "single quotes"),
        ("label = 'crack", "wanted at"),
        ("lable = 'x'", "did you mean label"),
        ("vector = '1'", "not known"),
        ("label = 'a' or", "wanted at the end"),
        ("label = 'a'; drop table", "wanted at"),
        ("label = 'a' -- x", "wanted at"),
        ("1 = 1", "wanted at"),
        ("", "wanted at the end"),
        ("time > 'yesterday'", "2026-11-25"),
        ("time like '2026%'", "no pattern"),
        ("note like 'a\\b'", "backslash"),
        ("label in ()", "single quotes"),
        ("not " * 100 + "label = 'a'", "simpler"),
        ("label = 'a\ud800'", "no text"),
    ],
)
def test_conditions_that_cannot_be_read(text, message):
    with pytest.raises(InputError, match=message) as said:
        parse_where(text)
    assert "\n" not in str(said.value)


def test_cases_that_cannot_be_kept():
    with pytest.raises(InputError, match="no cases"):
        Cases.of([])
    with pytest.raises(InputError, match="3 and 4 dimensions"):
        Cases.of([case("a"), case("b", 1, 2, 3)])
    with pytest.raises(InputError, match="NaN"):
        Cases.of([case("a", np.nan, 0, 0, 0)])
    with pytest.raises(InputError, match="time zone"):
        Cases.of([case("a", time=datetime(2026, 1, 1))])
    with pytest.raises(InputError, match="no id"):
        Cases.of([case("")])
    with pytest.raises(InputError, match="cannot be stored"):
        Cases.of([case("a", note="\ud800")])


def test_addresses(tmp_path):
    with pytest.raises(InputError, match="holds no cases"):
        open_store(tmp_path / "nothing")
    with pytest.raises(InputError, match="qdrant\\+http"):
        open_store("qdrant+ftp://x")
    with pytest.raises(InputError, match="MEKIKI_QDRANT_KEY"):
        open_store("qdrant+http://me:secret@host")
    with pytest.raises(InputError, match="see that it runs") as said:
        open_store("qdrant+http://127.0.0.1:9/x", encoder=ENCODER)
    assert "\n" not in str(said.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        open_store(tmp_path / "file", encoder=ENCODER)


def test_a_table_that_a_crash_left_half_made_is_made_again(tmp_path):
    (tmp_path / "cases" / "images.lance" / "data").mkdir(parents=True)
    assert LanceStore(tmp_path / "cases", "images", ENCODER).count() == 0


WRITER = """
import sys, numpy as np
from pathlib import Path
from mekiki.cases.case import Case, Cases, EncoderInfo
from mekiki.cases.lance import LanceStore
folder, name, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
encoder = EncoderInfo("run tiles", "f" * 32, 4)
store = LanceStore(folder, "images", encoder)
print("open", flush=True)
for i in range(number):
    rows = [Case(f"{name}-{i}-{j}", np.full(4, i, np.float32), encoder=encoder.fingerprint) for j in range(3)]
    store.add(Cases.of(rows))
    print(i, flush=True)
"""


def writer(folder, name, number):
    command = [sys.executable, "-c", WRITER, str(folder), name, str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_writers_at_once_both_land(tmp_path):
    folder = tmp_path / "cases"
    writers = [writer(folder, name, 8) for name in ("one", "two")]
    for each in writers:
        each.communicate(timeout=60)
        assert each.returncode == 0
    store = LanceStore(folder, "images")
    assert store.count() == 48
    assert (
        len(set(store.get([f"{n}-{i}-{j}" for n in ("one", "two") for i in range(8) for j in range(3)]).ids))
        == 48
    )


def test_a_flipped_byte_is_found_when_the_store_is_opened_and_the_file_named(tmp_path):
    folder = tmp_path / "cases"
    store = LanceStore(folder, "images", ENCODER)
    store.add(Cases.of([case(name) for name in "abc"]))
    store.add(Cases.of([case("b"), case("d")]))  # one that was there, so that a deletion is written
    store.forget(["a"])
    kept = [*folder.glob("images.lance/data/*"), *folder.glob("images.lance/_deletions/*")]
    kept += folder.glob("images.lance/_versions/*.manifest")
    assert len(kept) >= 8
    for path in kept:
        whole = path.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            with pytest.raises(InputError, match=re.escape(f"{path}: is damaged")):
                LanceStore(folder, "images")
        path.write_bytes(whole)
    assert sorted(id_ for part in LanceStore(folder, "images").read() for id_ in part.ids) == ["b", "c", "d"]


def test_what_stands_untouched_is_not_read_again_at_the_next_opening(tmp_path, monkeypatch):
    monkeypatch.setattr("mekiki.storage.database_checksums.SETTLED_NS", -1)  # as if a second had gone by
    folder = tmp_path / "cases"
    LanceStore(folder, "images", ENCODER).add(Cases.of([case("a")]))
    LanceStore(folder, "images")
    read = []
    monkeypatch.setattr(
        "mekiki.storage.database_checksums.digest_of", lambda path: read.append(path) or digest_of(path)
    )
    assert LanceStore(folder, "images").count() == 1
    assert read == []
    (path,) = folder.glob("images.lance/data/*")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    os.utime(path, ns=(1, 1))  # the clock of a file system may stand still for some milliseconds
    with pytest.raises(InputError, match="is damaged"):
        LanceStore(folder, "images")
    assert read == [path]


@pytest.mark.filterwarnings("ignore:optimize:UserWarning")
def test_checksums_of_files_that_were_tidied_away_go_with_them(tmp_path, monkeypatch):
    folder = tmp_path / "cases"
    store, log = LanceStore(folder, "images", ENCODER), folder / "images.sums.jsonl"
    for number in range(5):
        store.add(Cases.of([case(f"c{number}")]))
    store._table.optimize(cleanup_older_than=timedelta(microseconds=1))  # else what is old goes after a week

    def gone():
        return [name for row in read_events(log) for name in row["sums"] if not (folder / name).exists()]

    assert gone()
    monkeypatch.setattr("mekiki.cases.lance.TIDY_AFTER", 1)
    store = LanceStore(folder, "images")
    store.add(Cases.of([case("c5")]))
    assert not gone()
    assert len(read_events(log)) == 1
    assert LanceStore(folder, "images").count() == 6


def test_a_writer_that_waits_in_vain_is_asked_to_try_again(tmp_path):
    store = LanceStore(tmp_path / "cases", "images", ENCODER)
    with (
        held_elsewhere(tmp_path / "cases", "writing"),
        lock_timeout(0.1),
        pytest.raises(InputError, match="try again"),
    ):
        store.add(Cases.of([case("a")]))
    assert store.add(Cases.of([case("a")])) == 1


@pytest.mark.slow
def test_what_was_acknowledged_survives_a_kill(tmp_path):
    folder, rng = tmp_path / "cases", np.random.default_rng(5)
    expected = set()
    for attempt in range(2):
        each = writer(folder, f"try{attempt}", 10_000)
        assert each.stdout.readline() == "open\n"
        time.sleep(float(rng.uniform(0, 0.4)))
        each.send_signal(signal.SIGKILL)
        acknowledged = each.stdout.read().split()
        each.wait()
        expected |= {f"try{attempt}-{i}-{j}" for i in acknowledged for j in range(3)}
        store = LanceStore(folder, "images")
        there = {c.id for part in store.read() for c in part}
        assert expected <= there
        assert len(there) % 3 == 0, "an addition is whole or not there"
        assert store.count() == len(there)
    assert Path(folder).is_dir()
    assert expected
