"""An adapter: what people judged, learnt as a way to compare vectors that themselves stay as they are.

    f(x) = x + s·U·φ(V·(x − m)/s)        m the mean of the cases, s how far they lie from it

φ is the identity (`linear`) or ReLU (`mlp`). U starts as zero, so an adapter that has learnt nothing changes nothing;
its rank is low where there are few queries for many dimensions (Hu et al. 2021 do so with weights of networks).

It learns by the triplet loss of this project: of a query, what was judged good should lie nearer than what was judged
bad, by a margin. Beside the negatives that people named, the store itself gives hard ones: of the cases that bear the
label of one that this query had judged bad, and of none judged good, one of the ten nearest.

Of the queries a share is held out. One half says after each epoch how it goes: it stops when these no longer gain,
and keeps the epoch at which they did best. The other half, which had no part in that, says whether the new adapter is
better than the old one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor, nn

from mekiki.cases.triplets import Triplets
from mekiki.console import Progress, silent
from mekiki.errors import InputError, first_line, not_known
from mekiki.models.losses import TripletLoss
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import read_tensors, write_tensors
from mekiki.storage.run_folder import ADAPTER_FORMAT
from mekiki.training.callbacks import AfterEpoch, EarlyStopping, copy_weights
from mekiki.training.fit import fit

Floats = NDArray[np.float32]

KINDS = ("linear", "mlp")
LEAST = 10
"""Queries that it takes at least, to hold some out."""
BATCH = 64
"""Triplets in one step."""
POOL = 20_000
"""Cases among which hard negatives are looked for, at most."""


@dataclass(frozen=True)
class Schooling:
    """How an adapter learns.

    Attributes:
        kind: `linear` or `mlp`.
        rank: of the change, or width of the MLP; `None` is as many as dimensions, but at most a quarter of the queries.
        margin: by which what is wanted should be nearer, as a share of the median distance of triplets.
        rate: highest learning rate of Adam.
        decay: weight decay towards the identity.
        epochs: at most.
        patience: epochs without gain after which it stops.
        held_out: share of the queries that teach nothing; half of them stop it, half judge it.
        seed: of the deal and the order.
    """

    kind: str = "linear"
    rank: int | None = None
    margin: float = 0.5
    rate: float = 3e-3
    decay: float = 1e-2
    epochs: int = 200
    patience: int = 25
    held_out: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise not_known("adapter", self.kind, KINDS)
        if not 0 < self.held_out < 1:
            raise InputError(f"held_out must lie between 0 and 1, not {self.held_out}")
        if self.rank is not None and self.rank < 1:
            raise InputError(f"rank must be at least 1, not {self.rank}")


class Adapter(nn.Module):
    """Vectors `[N, d]` → `[N, d]`, as they should be compared; starts as the identity.

    Args:
        mean: float32 `[d]`, of the cases.
        scale: their root mean square distance from it.
        rank: inner width.
        kind: `linear` or `mlp`.

    Example:
        >>> adapter = Adapter(np.zeros(3, np.float32), 1.0, rank=2)
        >>> adapter(np.ones((1, 3), np.float32))
        array([[1., 1., 1.]], dtype=float32)
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Floats, scale: float, rank: int, kind: str = "linear") -> None:
        super().__init__()
        self.kind, self.rank, self.dimension = kind, rank, len(mean)
        self.register_buffer("mean", torch.from_numpy(np.ascontiguousarray(mean, np.float32)))
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.inner = nn.Linear(len(mean), rank, bias=kind == "mlp")
        self.outer = nn.Linear(rank, len(mean), bias=False)
        nn.init.zeros_(self.outer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Tensors, with a gradient."""
        inside = self.inner((x - self.mean) / self.scale)
        if self.kind == "mlp":
            inside = torch.relu(inside)
        out: Tensor = x + self.scale * self.outer(inside)
        return out

    def __call__(self, vectors: Any) -> Any:
        """Arrays to arrays, tensors to tensors."""
        if isinstance(vectors, Tensor):
            return super().__call__(vectors)
        with torch.no_grad():
            rows = torch.from_numpy(
                np.array(vectors, np.float32)
            )  # a copy: Arrow's own may not be written to
            return self.forward(rows).numpy()


@dataclass(frozen=True)
class Lesson:
    """What training came to.

    Attributes:
        before: what the adapter that was in force till then gets right of the held-out triplets, 0…1.
        after: what the new one does.
        frozen: what vectors as they are do.
        triplets: how many taught.
        held_out: how many judged, and had no other part in it.
        epochs: how many were gone through.
    """

    before: float
    after: float
    frozen: float
    triplets: int
    held_out: int
    epochs: int

    @property
    def better(self) -> bool:
        """Whether the new one should take the old one's place."""
        return self.after > self.before


def train_adapter(
    triplets: Triplets,
    cases: Floats | None = None,
    labels: Sequence[str] | None = None,
    *,
    old: Adapter | None = None,
    schooling: Schooling | None = None,
    progress: Progress = silent,
) -> tuple[Adapter, Lesson]:
    """Learn an adapter for vectors of any origin.

    Args:
        triplets: what was judged. Those of one query are held out, or not, together.
        cases: float32 `[N, d]`, of the store, for hard negatives; `None` takes those named alone.
        labels: of these cases, `[N]`.
        old: what it should be better than; `None` is the identity.
        schooling: how it learns.
        progress: told after each epoch.

    Returns:
        The adapter, and how it does beside the old one. It is the caller's to replace that only if `lesson.better`.

    Raises:
        InputError: too few queries.

    Example:
        >>> from mekiki.cases.triplets import Triplets
        >>> rng = np.random.default_rng(0)
        >>> anchors = rng.normal(size=(80, 8)).astype(np.float32)
        >>> noise = rng.normal(size=(2, 80, 8)).astype(np.float32)
        >>> noise[0, :, 0], noise[1, :, 0] = 0, 2  # what is wanted is alike in the first item only
        >>> _, lesson = train_adapter(Triplets(anchors, anchors + noise[0], anchors + noise[1]))
        >>> lesson.better
        True
    """
    schooling = schooling or Schooling()
    teach, stop, judge = dealt(triplets, schooling.held_out, schooling.seed)
    pool = teach.anchors if cases is None else np.asarray(cases, np.float32)
    if pool.shape[1] != triplets.anchors.shape[1]:
        raise InputError(
            f"triplets have {triplets.anchors.shape[1]} dimensions and the cases {pool.shape[1]}; give the same"
        )
    mean = pool.mean(axis=0)
    scale = float(np.sqrt(np.square(pool - mean).sum(axis=1).mean())) or 1.0
    queries = len(np.unique(teach.anchors, axis=0))
    rank = schooling.rank or max(1, min(pool.shape[1], queries // 4))
    generator = torch.Generator().manual_seed(schooling.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(schooling.seed)
        adapter = Adapter(mean, scale, rank, schooling.kind)
    named = [torch.from_numpy(part) for part in (teach.anchors, teach.positives, teach.negatives)]
    hard = _HardNegatives.of(teach, pool, labels) if cases is not None and labels is not None else None
    with torch.no_grad():
        apart = (named[0] - named[2]).norm(dim=1)
    loss = TripletLoss(schooling.margin * float(apart.median()))
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=schooling.rate, weight_decay=schooling.decay)

    def batches(epoch: int) -> tuple[int, Iterable[list[Tensor]]]:
        sides = named
        more = None if hard is None else hard.draw(adapter, generator)
        if more is not None:
            sides = [torch.cat(pair) for pair in zip(named, more, strict=True)]
        rows = torch.split(torch.randperm(len(sides[0]), generator=generator), BATCH)
        return len(rows), ([side[batch] for side in sides] for batch in rows)

    def step(batch: list[Tensor]) -> tuple[Tensor, int]:
        return loss(*map(adapter, batch)), len(batch[0])

    early = EarlyStopping(adapter, "held_out", schooling.patience, [_held_loss(adapter, stop, loss)])
    history = fit(
        batches,
        step,
        optimizer,
        epochs=schooling.epochs,
        rate=lambda epoch, step, steps: schooling.rate,
        measure=lambda state: {"held_out": _held_loss(adapter, stop, loss)},
        callbacks=[
            early,
            AfterEpoch(lambda state: progress("training the adapter", state.epoch + 1, schooling.epochs)),
        ],
    )
    early.restore()
    epoch = len(history["epoch"])
    adapter.requires_grad_(False)
    before, after, frozen = (right(each, judge) for each in (old, adapter, None))
    return adapter, Lesson(before, after, frozen, len(teach), len(judge), epoch)


def right(adapter: Adapter | None, triplets: Triplets) -> float:
    """Share of triplets whose positive is nearer than the negative."""
    a, p, n = (
        part if adapter is None else adapter(part)
        for part in (triplets.anchors, triplets.positives, triplets.negatives)
    )
    nearer = np.square(a - p).sum(axis=1) < np.square(a - n).sum(axis=1)
    return float(nearer.mean())


def dealt(triplets: Triplets, share: float, seed: int) -> tuple[Triplets, Triplets, Triplets]:
    """Those that teach, those that say when to stop, and those that say whether it was worth it.

    All of one query are in one of the three.

    Raises:
        InputError: there are fewer than `LEAST` queries.
    """
    _, query = np.unique(triplets.anchors, axis=0, return_inverse=True)
    teach, stop, judge = dealt_queries(query.reshape(-1).tolist(), share, seed)
    return triplets.rows(teach), triplets.rows(stop), triplets.rows(judge)


def dealt_queries(
    queries: Sequence[Any], share: float, seed: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """The same for any queries, a triplet each: which triplets teach, which stop and which judge, bool `[T]` each.

    Raises:
        InputError: there are fewer than `LEAST` different ones.

    Example:
        >>> teach, stop, judge = dealt_queries([f"query {i // 2}" for i in range(40)], 0.3, 0)
        >>> int(teach.sum()), int(stop.sum()), int(judge.sum())
        (28, 6, 6)
    """
    names = {query: number for number, query in enumerate(sorted(set(queries)))}
    if len(names) < LEAST:
        raise InputError(f"{len(names)} judged queries are too few to learn from; judge at least {LEAST}")
    query = np.array([names[each] for each in queries])
    order = np.random.default_rng(seed).permutation(len(names))
    each = max(2, round(share * len(names) / 2))
    stop, judge = np.isin(query, order[:each]), np.isin(query, order[each : 2 * each])
    return ~stop & ~judge, stop, judge


@dataclass(frozen=True, eq=False)
class _HardNegatives:
    """Where to look for more negatives than people named: among cases of a kind that was judged bad.

    Attributes:
        anchors: `[A, d]`, queries.
        positives: `[A, d]`.
        pool: `[N, d]`, cases.
        allowed: bool `[A, N]`, which may be a negative of which.
    """

    anchors: Tensor
    positives: Tensor
    pool: Tensor
    allowed: Tensor

    @classmethod
    def of(cls, triplets: Triplets, pool: Floats, labels: Sequence[str]) -> _HardNegatives | None:
        """From labels of cases, those judged being found again by their vectors."""
        if len(labels) != len(pool):
            raise InputError(f"{len(labels)} labels for {len(pool)} cases; give one a case")
        place = {vector.tobytes(): label for vector, label in zip(pool, labels, strict=True)}
        good = [place.get(vector.tobytes(), "") for vector in triplets.positives]
        bad = [place.get(vector.tobytes(), "") for vector in triplets.negatives]
        names = np.array(labels, dtype=object)
        # A kind is unwanted only where this very query had one of it judged bad and none judged good.
        wanted: dict[bytes, set[str]] = {}
        for anchor, kind in zip(triplets.anchors, good, strict=True):
            wanted.setdefault(anchor.tobytes(), set()).add(kind)
        rows = [
            row
            for row, anchor in enumerate(triplets.anchors)
            if bad[row] and bad[row] not in wanted[anchor.tobytes()]
        ]
        if not rows:
            return None
        some = np.flatnonzero(np.isin(names, [bad[row] for row in rows]))
        if len(some) > POOL:
            some = np.sort(np.random.default_rng(0).permutation(some)[:POOL])
        allowed = np.stack([names[some] == bad[row] for row in rows])
        return cls(
            torch.from_numpy(triplets.anchors[rows]),
            torch.from_numpy(triplets.positives[rows]),
            torch.from_numpy(pool[some]),
            torch.from_numpy(allowed.astype(np.bool_)),
        )

    def draw(self, adapter: Adapter, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor] | None:
        """For each query one of the ten nearest that are allowed, as the adapter sees them now."""
        with torch.no_grad():
            apart = torch.cdist(adapter(self.anchors), adapter(self.pool)).masked_fill(
                ~self.allowed, torch.inf
            )
            near = apart.topk(min(10, len(self.pool)), dim=1, largest=False)
            there = near.values.isfinite()
            chosen = (torch.rand(there.shape, generator=generator) * there).argmax(dim=1)
            rows = near.indices.gather(1, chosen[:, None])[:, 0]
        return self.anchors, self.positives, self.pool[rows]


def _held_loss(adapter: Adapter, held: Triplets, loss: TripletLoss) -> float:
    with torch.no_grad():
        parts = [adapter(torch.from_numpy(part)) for part in (held.anchors, held.positives, held.negatives)]
        return float(loss(*parts))


class AdapterStore:
    """The adapter in force, and those before it, of one encoder: files in a folder.

    Args:
        folder: may be new.
        name: of the space.
        encoder: fingerprint of what makes the vectors.
    """

    def __init__(self, folder: Path, name: str, encoder: str) -> None:
        self.folder, self.name, self.encoder = folder, name, encoder

    def current(self) -> Adapter | None:
        """The adapter in force; `None` is the identity.

        Raises:
            InputError: its file cannot be read.
        """
        file = self.file()
        return None if file is None else load_adapter(file)

    def file(self) -> Path | None:
        """Where the adapter in force lies; a file is never changed, so the same name is the same adapter."""
        files = self._files()
        return files[-1] if files else None

    def put(self, adapter: Adapter, lesson: Lesson) -> Path:
        """Put an adapter in force, in one step; those before it stay."""
        with hold_lock(self.folder.parent, "writing what was learnt"):
            return self._put(adapter, lesson)

    def _put(self, adapter: Adapter, lesson: Lesson) -> Path:
        number = 1 + sum(1 for _ in self.folder.glob(f"{self._stem}-[0-9]*"))  # those taken back too
        path = self.folder / f"{self._stem}-{number:04}.safetensors"
        save_adapter(path, adapter, lesson)
        return path

    def revert(self) -> Path:
        """Take the adapter out of force; the one before it is in force again.

        Raises:
            InputError: there is none.
        """
        files = self._files()
        if not files:
            raise InputError(f"{self.folder}: no adapter is in force, so there is none to take back")
        taken = files[-1].with_suffix(".taken-back")
        files[-1].replace(taken)
        return taken

    @property
    def _stem(self) -> str:
        return f"{self.name}-{self.encoder[:12]}"

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self._stem}-[0-9]*.safetensors"))


def save_adapter(path: Path, adapter: Adapter, lesson: Lesson) -> None:
    """Write an adapter and what it was worth, in one step."""
    facts = {
        "format": ADAPTER_FORMAT,
        "kind": adapter.kind,
        "rank": adapter.rank,
        "dimension": adapter.dimension,
    }
    said = {"facts": json.dumps(facts), "lesson": json.dumps(vars(lesson))}
    write_tensors(path, save(copy_weights(adapter), said))


def load_adapter(path: Path) -> Adapter:
    """Read what `save_adapter` wrote.

    Raises:
        InputError: it cannot be read.
    """
    try:
        content, about = read_tensors(path)
        facts = json.loads(about["facts"])
        adapter = Adapter(np.zeros(facts["dimension"], np.float32), 1.0, facts["rank"], facts["kind"])
        adapter.load_state_dict(load(content))
    except Exception as error:  # damaged files raise nearly anything
        raise InputError(
            f"{path}: cannot be read ({first_line(error)}); `mekiki feedback RUN --untrain` takes it away"
        ) from None
    adapter.requires_grad_(False)
    return adapter
