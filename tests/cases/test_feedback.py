"""Feedback: what it moves, what it leaves alone, and that it can be taken back."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient

from mekiki.cases import memory as memory_module
from mekiki.cases.case import Cases, EncoderInfo
from mekiki.cases.cell_index import CellIndex
from mekiki.cases.feedback import DEPTH, REACH, FeedbackLog, case_lengths, query_lengths, relevant, shifts
from mekiki.cases.lance import LanceStore
from mekiki.cases.memory import Memory, move_query
from mekiki.cases.qdrant import QdrantStore
from mekiki.cases.store import distances_to
from mekiki.cases.where import matches, parse_where
from mekiki.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:Local mode:UserWarning")
ENCODER = EncoderInfo("run tiles", "f" * 32, 6)
N = 1200


def many(seed=0, n=N):
    """Clusters of cases, as real ones lie, and some copies."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, 6)) * 3 + 50
    vectors = (centres[rng.integers(12, size=n)] + rng.normal(size=(n, 6))).astype(np.float32)
    vectors[10:13] = vectors[9]
    ids = [f"{i:04}" for i in range(n)]
    labels = [f"kind {i % 3}" for i in range(n)]
    return vectors, Cases.from_columns(
        vectors, np.arange(n), id=ids, label=labels, encoder=[ENCODER.fingerprint] * n
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    found = LanceStore(tmp_path_factory.mktemp("feedback"), "images", ENCODER)
    found.add(many()[1])
    return found


@pytest.fixture
def log(tmp_path):
    return FeedbackLog(tmp_path)


def force(log):
    return log.active("images", ENCODER.fingerprint)


def ranking(store, log, query, k=N):
    found = Memory(store, force(log)).search(query, k)
    return found.cases.ids, (found.distances + found.shifts).tolist()


VECTORS = many()[0]
QUERY = VECTORS[100] + np.float32(0.1)


@settings(max_examples=20, deadline=None)
@given(place=st.integers(0, N - 1), case=st.integers(0, N - 1), good=st.booleans())
def test_one_judgement_moves_few_cases_and_only_so_far(store, tmp_path_factory, place, case, good):
    log = FeedbackLog(tmp_path_factory.mktemp("log"))
    query = VECTORS[place] + np.float32(0.2)
    id_ = f"{case:04}"
    said = log.add(store, "images", query, [id_] if good else [], [] if good else [id_])[0]
    moved = shifts([said], query, VECTORS)
    others = np.unique(VECTORS[moved != 0], axis=0)
    assert len(others) <= REACH
    near = np.sort(distances_to(VECTORS, query))
    assert np.abs(moved).max() == said.step
    assert said.step == near[DEPTH - 1] - near[0]
    assert (moved <= 0).all() if good else (moved >= 0).all()
    assert moved[case] == (-said.step if good else said.step)


@settings(max_examples=20, deadline=None)
@given(
    place=st.integers(0, N - 1),
    case=st.integers(0, N - 1),
    before=st.lists(st.tuples(st.integers(0, N - 1), st.booleans()), max_size=4),
)
def test_positive_feedback_never_lowers_a_rank_and_negative_never_raises_it(
    store, tmp_path_factory, place, case, before
):
    query = VECTORS[place] + np.float32(0.2)
    id_ = f"{case:04}"
    log = FeedbackLog(tmp_path_factory.mktemp("log"))
    for other, good in before:
        log.add(store, "images", query, *(([f"{other:04}"], []) if good else ([], [f"{other:04}"])))
    rank = ranking(store, log, query)[0].index(id_)
    log.add(store, "images", query, [id_], [])
    praised = ranking(store, log, query)[0].index(id_)
    assert praised <= rank
    log.add(store, "images", query, [], [id_])
    assert ranking(store, log, query)[0].index(id_) >= praised


def test_the_nearest_case_judged_bad_leaves_the_first_ten_but_is_not_buried(store, log):
    before, _ = ranking(store, log, QUERY)
    log.add(store, "images", QUERY, [], before[:1])
    place = ranking(store, log, QUERY)[0].index(before[0])
    assert 10 <= place <= DEPTH + REACH


def test_the_same_holds_for_a_similar_query_and_nothing_for_a_far_one(store, log):
    similar = QUERY + np.float32(0.05)
    far = VECTORS[np.argmax(distances_to(VECTORS, QUERY))]
    before = ranking(store, log, similar)
    far_before = ranking(store, log, far)
    log.add(store, "images", QUERY, [], before[0][:1])
    assert ranking(store, log, similar)[0].index(before[0][0]) >= 10
    assert ranking(store, log, far) == far_before
    assert relevant(force(log), far) == []


def test_undo_restores_the_ranking_exactly(store, log):
    states, log_lengths = [ranking(store, log, QUERY)], [0]
    rng = np.random.default_rng(7)
    for _ in range(6):
        near = Memory(store, force(log)).search(QUERY, 20).cases.ids
        chosen = rng.permutation(near)[:3].tolist()
        log.add(
            store, "images", QUERY + rng.normal(scale=0.02, size=6).astype(np.float32), chosen[:1], chosen[1:]
        )
        states.append(ranking(store, log, QUERY))
        log_lengths.append(len(log.path.read_bytes()))
    assert len({str(state) for state in states}) == 7
    for expected in reversed(states[:-1]):
        log.undo()
        assert ranking(store, log, QUERY) == expected
        log_lengths.append(len(log.path.read_bytes()))
    assert log_lengths == sorted(log_lengths), "the log only grows"
    with pytest.raises(InputError, match="none to undo"):
        log.undo()


def test_one_of_several_can_be_taken_back(store, log):
    log.add(store, "images", QUERY, ["0001"], [])
    only_first = ranking(store, log, QUERY)
    log.add(store, "images", QUERY, ["0005"], [])
    log.add(store, "images", QUERY, [], ["0100"])
    log.undo(2)
    log.undo(3)
    assert ranking(store, log, QUERY) == only_first
    assert [each.undone for each in log.judgements()] == [False, True, True]
    with pytest.raises(InputError, match="was undone before"):
        log.undo(2)
    with pytest.raises(InputError, match="there is none"):
        log.undo(9)


def test_the_last_judgement_of_a_case_counts(store, log):
    log.add(store, "images", QUERY, ["0001"], [], who="sato", asked="part.png")
    once = ranking(store, log, QUERY)
    log.add(store, "images", QUERY, [], ["0001"])
    log.add(store, "images", QUERY, ["0001"], [])
    assert ranking(store, log, QUERY) == once
    result = log.judgements()[0].to_dict()
    assert (result["who"], result["asked"], result["case"], result["good"]) == (
        "sato",
        "part.png",
        "0001",
        True,
    )
    json.dumps(result)


def test_what_is_forgotten_still_speaks_and_a_growing_store_changes_no_word(tmp_path, log):
    own = LanceStore(tmp_path / "own", "images", ENCODER)
    own.add(many()[1])
    log.add(own, "images", QUERY, [], ["0100"])
    before = shifts(force(log), QUERY, VECTORS)
    own.forget(["0100"])
    own.add(many(1)[1].rows(range(500)))
    np.testing.assert_array_equal(shifts(force(log), QUERY, VECTORS), before)


def test_feedback_that_makes_no_sense(store, log):
    with pytest.raises(InputError, match="name some"):
        log.add(store, "images", QUERY, [], [])
    with pytest.raises(InputError, match="good and bad"):
        log.add(store, "images", QUERY, ["0001"], ["0001"])
    with pytest.raises(InputError, match="case nobody"):
        log.add(store, "images", QUERY, ["0001", "nobody"], [])
    assert log.judgements() == []


def test_a_last_line_that_was_cut_short_does_not_count_and_a_damaged_one_is_named(store, log):
    log.add(store, "images", QUERY, ["0001"], ["0002"])
    whole = log.path.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        log.path.write_bytes(whole + whole[:cut])
        assert len(log.judgements()) == 2
    log.undo()
    assert all(each.undone for each in log.judgements())
    log.path.write_bytes(b"{half\n" + whole)
    with pytest.raises(InputError, match="line 1"):
        log.judgements()


def test_feedback_of_another_encoder_or_space_is_silent(store, log):
    log.add(store, "images", QUERY, ["0001"], [])
    assert log.active("images", "other") == []
    assert log.active("notes", ENCODER.fingerprint) == []


@pytest.mark.parametrize("way", ["in memory", "indexed", "by the store"])
@pytest.mark.parametrize("words", [0, 12])
def test_all_ways_of_searching_agree_with_the_formula(store, log, monkeypatch, way, words):
    if way == "indexed":  # into all cells, so that nothing is missed
        monkeypatch.setattr(memory_module, "INDEXED", 100)
        monkeypatch.setattr("mekiki.cases.cell_index.RECALL", 1.0)
    if way == "by the store":
        monkeypatch.setattr(LanceStore, "version", lambda self: None)
    rng = np.random.default_rng(8)
    for _ in range(words):
        query = QUERY + rng.normal(scale=0.3, size=6).astype(np.float32)
        near = [f"{row:04}" for row in np.argsort(distances_to(VECTORS, query))[:80]]
        log.add(store, "images", query, [near[rng.integers(80)]], [near[0]])
    memory = Memory(store, force(log))
    cases = many()[1]
    for query in (QUERY, QUERY + np.float32(0.1), VECTORS[9], VECTORS[500]):
        expected = distances_to(VECTORS, query) + shifts(force(log), query, VECTORS)
        for where in (None, parse_where("label = 'kind 1'")):
            meant = np.array([where is None or matches(where, c.to_dict() | {"time": 0}) for c in cases])
            rows = np.flatnonzero(meant)
            rows = rows[np.lexsort((rows, expected[rows]))]
            found = memory.search(query, 15, where)
            assert found.cases.ids == [f"{row:04}" for row in rows[:15]]
            np.testing.assert_allclose(found.distances + found.shifts, expected[rows[:15]], atol=1e-9)
            found = memory.search(query, 5, where, without=[f"{rows[0]:04}"])
            assert found.cases.ids == [f"{row:04}" for row in rows[1:6]]
    assert len(memory.search(QUERY, 5, parse_where("label = 'nothing'")).cases) == 0
    assert len(memory.search(QUERY, 5000).cases) == N


def test_an_index_finds_nearly_all_and_what_it_finds_is_right():
    rng = np.random.default_rng(11)
    centres = rng.normal(size=(60, 16)) * 2 + 30
    vectors = (centres[rng.integers(60, size=20_000)] + rng.normal(size=(20_000, 16))).astype(np.float32)
    queries = (centres[rng.integers(60, size=100)] + rng.normal(size=(100, 16))).astype(np.float32)
    index = CellIndex.of(vectors)
    assert index.probes < len(index.centres) / 2
    found = 0
    for query in queries:
        apart = distances_to(vectors, query)
        near = index.nearest(query, 10)
        assert (np.diff(apart[near]) > -1e-4).all()
        found += len(set(near.tolist()) & set(np.argsort(apart)[:10].tolist()))
    assert found >= 980


def test_a_memory_sees_what_was_added_since(tmp_path):
    own = LanceStore(tmp_path / "own", "images", ENCODER)
    memory = Memory(own)
    assert len(memory.search(QUERY, 5).cases) == 0
    own.add(many()[1])
    assert len(memory.search(QUERY, 5).cases) == 5
    LanceStore(tmp_path / "own", "images").forget(memory.search(QUERY, 5).cases.ids)
    assert memory.search(QUERY, N).cases.ids.__len__() == N - 5


def test_a_server_gives_the_same_order(store, log):
    server = QdrantStore(QdrantClient(":memory:"), "feedback", ENCODER)
    server.add(many()[1])
    log.add(server, "images", QUERY, ["0007"], ["0100"])
    assert query_lengths(server, QUERY) == query_lengths(store, QUERY)
    assert case_lengths(server, QUERY) == case_lengths(store, QUERY)
    assert ranking(server, log, QUERY, 30) == ranking(store, log, QUERY, 30)


def test_a_small_store_can_be_judged(tmp_path, log):
    tiny = LanceStore(tmp_path / "tiny", "images", ENCODER)
    tiny.add(many(n=30)[1].rows(range(3)))
    log.add(tiny, "images", QUERY, ["0001"], ["0002"])
    assert len(Memory(tiny, force(log)).search(QUERY, 3).cases) == 3


def test_steering():
    a, b = np.array([[4, 0]], np.float32), np.array([[0, 4]], np.float32)
    nothing = np.zeros((0, 2), np.float32)
    np.testing.assert_allclose(move_query(np.zeros(2, np.float32), a, b), [3, -1])
    np.testing.assert_allclose(move_query(None, a, nothing), [4, 0])
    with pytest.raises(InputError, match="nothing to search for"):
        move_query(None, nothing, b)
