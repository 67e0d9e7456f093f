"""The adapter: what it learns from, what it changes, and that it can be taken back."""

import numpy as np
import pytest
import torch

from mekiki.cases.adapter import (
    Adapter,
    AdapterConfig,
    AdapterResult,
    ranking_accuracy,
    split_triplets,
    train_adapter,
)
from mekiki.cases.adapter_store import AdapterStore, load_adapter
from mekiki.cases.case import Cases, EncoderInfo
from mekiki.cases.case_triplets import CaseTriplets, judged_triplets, read_triplets
from mekiki.cases.feedback import FeedbackLog
from mekiki.cases.memory import Memory
from mekiki.cases.store_address import open_store
from mekiki.errors import InputError

D = 12
FEW = AdapterConfig(epochs=60)


def matter(seed=0, n=400):
    """Cases whose vectors say mostly what does not matter, and in two items what does: cases, kinds, topics."""
    rng = np.random.default_rng(seed)
    topic, kind = rng.integers(6, size=n), rng.integers(2, size=n)
    centres = np.random.default_rng(9).normal(size=(6, D)) * 2
    vectors = centres[topic] + rng.normal(size=(n, D))
    vectors[:, 0] += kind * 2.5
    return vectors.astype(np.float32), kind, topic


def judged(seed=0, queries=60):
    """CaseTriplets: of one topic, the same kind is wanted and the other is not."""
    vectors, kind, topic = matter()
    rng = np.random.default_rng(seed)
    rows = []
    for anchor in rng.permutation(len(vectors))[:queries]:
        same = topic == topic[anchor]
        good = rng.choice(np.flatnonzero(same & (kind == kind[anchor])))
        bad = rng.choice(np.flatnonzero(same & (kind != kind[anchor])))
        rows.append((vectors[anchor], vectors[good], vectors[bad]))
    return CaseTriplets(*(np.stack(side) for side in zip(*rows, strict=True)))


def unwanted(adapter):
    """Share of the wrong kind among the ten nearest of new queries."""
    vectors, kind, _ = matter()
    queries, kinds, _ = matter(1, 100)
    seen, asked = (vectors, queries) if adapter is None else (adapter(vectors), adapter(queries))
    near = np.argsort(np.linalg.norm(asked[:, None] - seen[None], axis=2), axis=1)[:, :10]
    return (kind[near] != kinds[:, None]).mean()


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_it_starts_as_the_identity(kind):
    x = np.random.default_rng(0).normal(size=(20, D)).astype(np.float32)
    np.testing.assert_array_equal(Adapter(x.mean(axis=0), 3.0, 4, kind)(x), x)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_it_learns_what_matters_and_serves_new_queries(kind):
    triplets = judged(queries=150)
    adapter, result = train_adapter(triplets, config=AdapterConfig(kind))
    assert result.frozen == result.before
    assert result.better
    assert result.after > result.frozen + 0.1
    assert unwanted(adapter) < 0.8 * unwanted(None)


def test_hard_negatives_from_the_store_help():
    vectors, kind, topic = matter()
    labels = [f"{t}-{k}" for t, k in zip(topic, kind, strict=True)]
    triplets = judged(queries=60)
    alone, _ = train_adapter(triplets)
    helped, _ = train_adapter(triplets, vectors, labels)
    assert unwanted(helped) < unwanted(alone)


def test_the_same_seed_learns_the_same_and_leaves_the_callers_randomness_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one, _ = train_adapter(judged(), config=FEW)
    assert torch.equal(torch.rand(3), expected)
    two, _ = train_adapter(judged(), config=FEW)
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name])


def test_queries_are_held_out_whole():
    triplets = judged()
    twice = CaseTriplets(*(np.concatenate([side, side]) for side in vars(triplets).values()))
    parts = split_triplets(twice, 0.3, 0)
    assert sum(map(len, parts)) == len(twice)
    asked = [{row.tobytes() for row in part.anchors} for part in parts]
    assert not asked[0] & asked[1]
    assert not asked[0] & asked[2]
    assert not asked[1] & asked[2]
    with pytest.raises(InputError, match="9 judged queries are too few"):
        split_triplets(judged(queries=9), 0.3, 0)


def test_nothing_to_learn_is_no_better():
    rng = np.random.default_rng(3)
    noise = [rng.normal(size=(60, D)).astype(np.float32) for _ in range(3)]
    better = [
        train_adapter(CaseTriplets(*noise), config=AdapterConfig(epochs=30, seed=seed))[1].better
        for seed in range(4)
    ]
    assert not all(better)
    good = judged(queries=150)
    learnt, _ = train_adapter(good)
    _, again = train_adapter(good, old=learnt)
    assert again.before > again.frozen


def test_only_one_with_a_better_figure_takes_the_place_and_it_can_be_taken_back(tmp_path):
    adapter_store = AdapterStore(tmp_path, "images", "f" * 32)
    assert adapter_store.current() is None
    with pytest.raises(InputError, match="none to take back"):
        adapter_store.revert()
    x = matter()[0]
    result = AdapterResult(0.5, 0.6, 0.5, 10, 5, 3)
    adapters = [train_adapter(judged(seed), config=FEW)[0] for seed in range(2)]
    for adapter in adapters:
        adapter_store.put(adapter, result)
    np.testing.assert_array_equal(adapter_store.current()(x), adapters[1](x))
    adapter_store.revert()
    np.testing.assert_array_equal(adapter_store.current()(x), adapters[0](x))
    adapter_store.put(adapters[1], result)
    np.testing.assert_array_equal(adapter_store.current()(x), adapters[1](x))
    adapter_store.revert()
    adapter_store.revert()
    assert adapter_store.current() is None
    assert AdapterStore(tmp_path, "images", "e" * 32).current() is None
    (tmp_path / "bad.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="untrain"):
        load_adapter(tmp_path / "bad.safetensors")


def test_judged_triplets_a_log_and_a_memory_with_an_adapter(tmp_path):
    vectors, kind, _ = matter()
    store = open_store(tmp_path / "store", encoder=EncoderInfo("by hand", "f1", D))
    ids, labels = [f"{row:03}" for row in range(len(vectors))], [f"kind {k}" for k in kind]
    store.add(
        Cases.from_columns(
            vectors, np.arange(len(vectors)), id=ids, label=labels, encoder=["f1"] * len(vectors)
        )
    )
    log = FeedbackLog(tmp_path)
    with pytest.raises(InputError, match="judge some of each"):
        judged_triplets(log.active("images", "f1"))
    log.add(store, "images", vectors[0] + 1, ["001", "002"], ["003", "004", "005"])
    log.add(store, "images", vectors[1] + 1, ["001"], [])
    triplets = judged_triplets(log.active("images", "f1"))
    assert len(triplets) == 6
    np.testing.assert_array_equal(triplets.positives[0], vectors[1])
    log.undo(1)
    adapter, _ = train_adapter(judged(queries=150), config=FEW)
    seen = adapter(vectors)
    for query in vectors[:3] + np.float32(0.1):
        expected = np.linalg.norm(seen - adapter(query[None]), axis=1)
        found = Memory(store, adapter=adapter).search(query, 7)
        assert found.cases.ids == [ids[row] for row in np.argsort(expected)[:7]]
        np.testing.assert_allclose(found.distances, np.sort(expected)[:7], rtol=1e-4)


def test_triplets_from_files(tmp_path):
    import pyarrow
    import pyarrow.parquet

    triplets = judged()
    sides = {name.removesuffix("s"): value for name, value in vars(triplets).items()}
    np.savez(tmp_path / "a.npz", **sides)
    table = pyarrow.table({name: list(value.tolist()) for name, value in sides.items()})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for path in (tmp_path / "a.npz", tmp_path / "a.parquet"):
        np.testing.assert_array_equal(read_triplets(path).negatives, triplets.negatives)
    np.savez(tmp_path / "b.npz", anchor=sides["anchor"], positive=sides["positive"])
    np.savez(tmp_path / "c.npz", **{**sides, "negative": sides["negative"][:3]})
    (tmp_path / "d.parquet").write_bytes(b"x")
    for name, message in (
        ("b.npz", "negative"),
        ("c.npz", r"must be \[T, d\]"),
        ("d.parquet", "holds no triplets"),
        ("e.npz", "no such file"),
        ("f.csv", ".npz or .parquet"),
    ):
        with pytest.raises(InputError, match=message):
            read_triplets(tmp_path / name)


def test_settings_that_make_no_sense():
    for wrong in ({"kind": "deep"}, {"held_out": 1.5}, {"rank": 0}):
        with pytest.raises(InputError):
            AdapterConfig(**wrong)
    with pytest.raises(InputError, match="dimensions"):
        train_adapter(judged(), np.zeros((5, 3), np.float32), ["a"] * 5)
    with pytest.raises(InputError, match="one a case"):
        train_adapter(judged(), matter()[0], ["a"] * 5)
    with pytest.raises(InputError, match="NaN"):
        CaseTriplets(*(np.full((2, 2), np.nan, np.float32),) * 3)
    assert ranking_accuracy(None, judged()) > 0.4
