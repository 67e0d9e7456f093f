"""An adapter: a residual map of vectors, learnt from feedback; the stored vectors stay as they are.

    f(x) = x + s·U·φ(V·(x − m)/s)        m the mean of the cases, s their root mean square distance from it

φ is the identity (`linear`) or ReLU (`mlp`). U starts as zero, so an untrained adapter is the identity. Its rank is low
where there are few queries for many dimensions (low-rank adaptation of weights: Hu et al. 2021).

It is trained with the triplet loss: for each query, cases judged good should be nearer than cases judged bad, by a
margin. The store adds hard negatives: of the cases with the label of one judged bad for this query, and of none judged
good, one of the ten nearest.

The queries are split into three: those for training, those for early stopping, and those for the test that compares the
new adapter with the old one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.cases.case_triplets import CaseTriplets
from mekiki.console import Progress, silent
from mekiki.errors import InputError, not_known
from mekiki.models.losses import TripletLoss
from mekiki.training.callbacks import AfterEpoch, EarlyStopping
from mekiki.training.fit import fit

Floats = NDArray[np.float32]

KINDS = ("linear", "mlp")
MIN_QUERIES = 10
"""Fewest judged queries that can be split."""
BATCH = 64
"""Triplets in one step."""
POOL = 20_000
"""Largest number of cases among which hard negatives are looked for."""


@dataclass(frozen=True)
class AdapterConfig:
    """How an adapter is trained.

    Attributes:
        kind: `linear` or `mlp`.
        rank: of the change, or width of the MLP; `None` is that of the vectors, but at most a quarter of the queries.
        margin: of the loss, as a share of the median distance between anchors and negatives.
        rate: learning rate of AdamW.
        decay: weight decay, towards the identity.
        epochs: at most.
        patience: epochs without improvement after which it stops.
        held_out: share of the queries kept from training; half of them are for early stopping, half for the test.
        seed: of the split and the order.
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
    """A residual map of vectors, `[N, d]` → `[N, d]`; starts as the identity.

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
            # A copy, because torch does not take Arrow's read-only arrays.
            return self.forward(torch.from_numpy(np.array(vectors, np.float32))).numpy()


@dataclass(frozen=True)
class AdapterResult:
    """Figures of a trained adapter.

    Attributes:
        before: share of test triplets in the right order with the old adapter, 0…1.
        after: the same with the new one.
        frozen: the same without an adapter.
        triplets: how many were for training.
        held_out: how many were for the test.
        epochs: how many were trained.
    """

    before: float
    after: float
    frozen: float
    triplets: int
    held_out: int
    epochs: int

    @property
    def better(self) -> bool:
        """Whether the new adapter should replace the old one."""
        return self.after > self.before


def train_adapter(
    triplets: CaseTriplets,
    cases: Floats | None = None,
    labels: Sequence[str] | None = None,
    *,
    old: Adapter | None = None,
    config: AdapterConfig | None = None,
    progress: Progress = silent,
) -> tuple[Adapter, AdapterResult]:
    """Train an adapter for vectors of any origin.

    Args:
        triplets: the judged ones. Those of one query are on the same side of the split.
        cases: float32 `[N, d]`, of the store, for hard negatives; `None` takes the judged ones alone.
        labels: of these cases, `[N]`.
        old: the adapter to compare with; `None` is the identity.
        config: how it is trained.
        progress: called after each epoch.

    Returns:
        The adapter and its figures. The caller should replace the old adapter only if `result.better`.

    Raises:
        InputError: too few queries.

    Example:
        >>> from mekiki.cases.case_triplets import CaseTriplets
        >>> rng = np.random.default_rng(0)
        >>> anchors = rng.normal(size=(80, 8)).astype(np.float32)
        >>> noise = rng.normal(size=(2, 80, 8)).astype(np.float32)
        >>> noise[0, :, 0], noise[1, :, 0] = 0, 2  # wanted cases are alike in the first dimension only
        >>> _, result = train_adapter(CaseTriplets(anchors, anchors + noise[0], anchors + noise[1]))
        >>> result.better
        True
    """
    config = config or AdapterConfig()
    train, stop, test = split_triplets(triplets, config.held_out, config.seed)
    pool = train.anchors if cases is None else np.asarray(cases, np.float32)
    if pool.shape[1] != triplets.anchors.shape[1]:
        raise InputError(
            f"triplets have {triplets.anchors.shape[1]} dimensions and the cases {pool.shape[1]}; give the same"
        )
    mean = pool.mean(axis=0)
    scale = float(np.sqrt(np.square(pool - mean).sum(axis=1).mean())) or 1.0
    queries = len(np.unique(train.anchors, axis=0))
    rank = config.rank or max(1, min(pool.shape[1], queries // 4))
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        adapter = Adapter(mean, scale, rank, config.kind)
    judged = [torch.from_numpy(part) for part in (train.anchors, train.positives, train.negatives)]
    hard = _HardNegatives.of(train, pool, labels) if cases is not None and labels is not None else None
    with torch.no_grad():
        distances = (judged[0] - judged[2]).norm(dim=1)
    loss = TripletLoss(config.margin * float(distances.median()))
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=config.rate, weight_decay=config.decay)

    def batches(epoch: int) -> tuple[int, Iterable[list[Tensor]]]:
        sides = judged
        if hard is not None:
            sides = [torch.cat(pair) for pair in zip(judged, hard.draw(adapter, generator), strict=True)]
        rows = torch.split(torch.randperm(len(sides[0]), generator=generator), BATCH)
        return len(rows), ([side[batch] for side in sides] for batch in rows)

    def step(batch: list[Tensor]) -> tuple[Tensor, int]:
        return loss(*map(adapter, batch)), len(batch[0])

    early = EarlyStopping(adapter, "held_out", config.patience, [_stopping_loss(adapter, stop, loss)])
    history = fit(
        batches,
        step,
        optimizer,
        epochs=config.epochs,
        rate=lambda epoch, step, steps: config.rate,
        measure=lambda state: {"held_out": _stopping_loss(adapter, stop, loss)},
        callbacks=[
            early,
            AfterEpoch(lambda state: progress("training the adapter", state.epoch + 1, config.epochs)),
        ],
    )
    early.restore()
    epoch = len(history["epoch"])
    adapter.requires_grad_(False)
    before, after, frozen = (ranking_accuracy(each, test) for each in (old, adapter, None))
    return adapter, AdapterResult(before, after, frozen, len(train), len(test), epoch)


def ranking_accuracy(adapter: Adapter | None, triplets: CaseTriplets) -> float:
    """Share of triplets whose positive is nearer than the negative."""
    a, p, n = (
        part if adapter is None else adapter(part)
        for part in (triplets.anchors, triplets.positives, triplets.negatives)
    )
    nearer = np.square(a - p).sum(axis=1) < np.square(a - n).sum(axis=1)
    return float(nearer.mean())


def split_triplets(
    triplets: CaseTriplets, held_out: float, seed: int
) -> tuple[CaseTriplets, CaseTriplets, CaseTriplets]:
    """Triplets for training, early stopping and test; all of one query are in one of the three.

    Raises:
        InputError: there are fewer than `MIN_QUERIES` queries.
    """
    _, query = np.unique(triplets.anchors, axis=0, return_inverse=True)
    train, stop, test = split_queries(query.reshape(-1).tolist(), held_out, seed)
    return triplets.rows(train), triplets.rows(stop), triplets.rows(test)


def split_queries(
    queries: Sequence[Any], held_out: float, seed: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Which triplets are for training, early stopping and test, bool `[T]` each, given the query of each.

    Raises:
        InputError: there are fewer than `MIN_QUERIES` different ones.

    Example:
        >>> train, stop, test = split_queries([f"query {i // 2}" for i in range(40)], 0.3, 0)
        >>> int(train.sum()), int(stop.sum()), int(test.sum())
        (28, 6, 6)
    """
    names = {query: number for number, query in enumerate(sorted(set(queries)))}
    if len(names) < MIN_QUERIES:
        raise InputError(
            f"{len(names)} judged queries are too few to learn from; judge at least {MIN_QUERIES}"
        )
    query = np.array([names[each] for each in queries])
    order = np.random.default_rng(seed).permutation(len(names))
    each = max(2, round(held_out * len(names) / 2))
    stop, test = np.isin(query, order[:each]), np.isin(query, order[each : 2 * each])
    return ~stop & ~test, stop, test


@dataclass(frozen=True, eq=False)
class _HardNegatives:
    """Further negatives `[A, d]` for some triplets, drawn from those of the cases `[N, d]` that `allowed` marks."""

    anchors: Tensor
    positives: Tensor
    cases: Tensor
    allowed: Tensor

    @classmethod
    def of(cls, triplets: CaseTriplets, cases: Floats, labels: Sequence[str]) -> _HardNegatives | None:
        """From labels of cases; the judged ones are identified by their vectors."""
        if len(labels) != len(cases):
            raise InputError(f"{len(labels)} labels for {len(cases)} cases; give one a case")
        by_vector = {vector.tobytes(): label for vector, label in zip(cases, labels, strict=True)}
        bad = np.array([by_vector.get(vector.tobytes(), "") for vector in triplets.negatives], object)
        # A label is unwanted only where the same query had a case of it judged bad and none judged good.
        good: dict[bytes, set[str]] = {}
        for anchor, positive in zip(triplets.anchors, triplets.positives, strict=True):
            good.setdefault(anchor.tobytes(), {""}).add(by_vector.get(positive.tobytes(), ""))
        rows = [row for row, anchor in enumerate(triplets.anchors) if bad[row] not in good[anchor.tobytes()]]
        if not rows:
            return None
        names = np.array(labels, object)
        chosen = np.flatnonzero(np.isin(names, bad[rows]))
        if len(chosen) > POOL:
            chosen = np.sort(np.random.default_rng(0).permutation(chosen)[:POOL])
        return cls(
            torch.from_numpy(triplets.anchors[rows]),
            torch.from_numpy(triplets.positives[rows]),
            torch.from_numpy(cases[chosen]),
            torch.from_numpy((bad[rows][:, None] == names[chosen]).astype(np.bool_)),
        )

    def draw(self, adapter: Adapter, generator: torch.Generator) -> list[Tensor]:
        """For each query one of the ten nearest allowed cases, after the adapter as it is now."""
        with torch.no_grad():
            distances = torch.cdist(adapter(self.anchors), adapter(self.cases))
            distances = distances.masked_fill(~self.allowed, torch.inf)
            near = distances.topk(min(10, len(self.cases)), dim=1, largest=False)
            allowed = near.values.isfinite()
            chosen = (torch.rand(allowed.shape, generator=generator) * allowed).argmax(dim=1)
            rows = near.indices.gather(1, chosen[:, None])[:, 0]
        return [self.anchors, self.positives, self.cases[rows]]


def _stopping_loss(adapter: Adapter, stop: CaseTriplets, loss: TripletLoss) -> float:
    with torch.no_grad():
        sides = (stop.anchors, stop.positives, stop.negatives)
        return float(loss(*(adapter(torch.from_numpy(side)) for side in sides)))
