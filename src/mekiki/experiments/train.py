"""One run: train, measure, draw, and write the run folder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mekiki.console import Progress, silent
from mekiki.data.splits import ImageSplit
from mekiki.embedder import Embedder
from mekiki.errors import InputError
from mekiki.evaluation.summary import Evaluation, evaluate
from mekiki.experiments.draw import FILES, Vectors, draw_run
from mekiki.experiments.request import DataRequest
from mekiki.experiments.snapshots import keep_snapshot
from mekiki.report import figures
from mekiki.storage.json_files import finite, write_json
from mekiki.storage.lock import hold_lock
from mekiki.storage.run import Run, versions
from mekiki.storage.run_folder import HISTORY, METRICS
from mekiki.training.callbacks import AfterEpoch
from mekiki.training.collapse import is_collapsed
from mekiki.training.distributed import ALONE, Ranks
from mekiki.training.fit import History, TrainingState
from mekiki.training.history import write_history

if TYPE_CHECKING:
    from lightning_fabric import Fabric

ACCURACIES = ("accuracy", "pair_accuracy", "triplet_accuracy")

OnEpoch = Callable[[Mapping[str, float], Sequence[Any]], None]


@dataclass(frozen=True, eq=False)
class Result:
    """What a finished run has to show.

    Attributes:
        run: its folder.
        embedder: the trained embedder.
        metrics: what `metrics.json` holds.
        overlap: `[C, C]`, NaN for a class the test side has not.
        test_vectors: float32 `[N, d]`.
    """

    run: Run
    embedder: Embedder
    metrics: dict[str, Any]
    overlap: NDArray[np.float64] = field(repr=False)
    test_vectors: Vectors = field(repr=False)


def train_run(
    request: DataRequest,
    split: ImageSplit,
    embedder: Embedder,
    folder: Path,
    *,
    resume: bool = False,
    projection: str = "pca",
    command: str = "",
    on_epoch: OnEpoch | None = None,
    fabric: Fabric | None = None,
    snapshots: bool = False,
    progress: Progress = silent,
) -> Result:
    """Train, measure on the test side, and write the run folder.

    Args:
        request: where the images came from.
        split: the images themselves.
        embedder: not yet fitted; its settings are the experiment.
        folder: the run folder.
        resume: go on from the folder's checkpoint.
        projection: `"pca"` or `"tsne"`, for vectors of more than two dimensions.
        command: the command line, to be kept with the run.
        on_epoch: called after each epoch with its row and the doctor's findings.
        fabric: where several processes train together: all joined, this one the first; the others `take_part`.
        snapshots: keep where the same images, up to 2,000, lie after each epoch; see `mekiki.experiments.snapshots`.
        progress: called during long steps.

    Raises:
        InputError: the folder holds another run, or the images cannot be used.
    """
    figures.check_method(projection)
    train = split.train
    if len(train) == 0:
        raise InputError(f"{train.source}: no image to learn from; choose a --test-fraction below 1")
    with hold_lock(folder, "training", timeout=0, role="training"):
        return _trained(
            request,
            split,
            embedder,
            Run(folder),
            resume,
            projection,
            command,
            on_epoch,
            fabric,
            snapshots,
            progress,
        )


def _trained(
    request: DataRequest,
    split: ImageSplit,
    embedder: Embedder,
    run: Run,
    resume: bool,
    projection: str,
    command: str,
    on_epoch: OnEpoch | None,
    fabric: Fabric | None,
    snapshots: bool,
    progress: Progress,
) -> Result:
    train, test = split
    ranks = ALONE if fabric is None else Ranks.of(fabric)
    started = ranks.broadcast(lambda: run.begin(resume=resume))
    fingerprint = _fingerprint(split)
    done = None
    if run.complete:
        done = _as_it_is(run, embedder, fingerprint, projection, split, progress)
    if ranks.broadcast(lambda: done is not None):
        assert done is not None
        return done

    def keep(state: TrainingState) -> None:
        assert state.sample is not None
        codes, vectors = (part.numpy() for part in state.sample)
        labels = embedder.classes_[codes].astype(np.int64)
        keep_snapshot(run.folder, state.epoch + 1, vectors, labels, train.class_names)

    def after_epoch(history: History, findings: Sequence[Any]) -> None:
        if not run.complete:  # what is there is whole, and stays so until the new one is
            write_history(run.folder / HISTORY, history)
        if on_epoch is not None:
            on_epoch({name: column[-1] for name, column in history.items()}, findings)

    try:
        embedder.fit(
            train.pixels,
            train.labels,
            validation=(test.pixels, test.labels),
            checkpoint=run.checkpoint,
            resume=started,
            identity={"data": fingerprint},
            on_epoch=after_epoch,
            fabric=fabric,
            callbacks=[AfterEpoch(keep)] if snapshots and not run.complete else [],
            progress=progress,
        )
    except BaseException:
        run.remove_if_empty()
        raise
    vectors = embedder.transform(test.pixels, progress)
    progress("measuring", 0, 1)
    start = time.perf_counter()
    evaluation = evaluate(vectors, test.labels, (embedder.reference_vectors_, train.labels))
    seconds = time.perf_counter() - start
    progress("measuring", 1, 1)
    overlap = _whole_overlap(evaluation, len(train.class_names))
    metrics = _metrics(embedder, evaluation, overlap, split, fingerprint) | {"seconds_evaluation": seconds}
    about = {
        "data": asdict(request)
        | {
            "place": request.place(),
            "source": train.source,
            "fingerprint": fingerprint,
            "notes": list(split.notes),
        },
        "projection": projection,
        "class_names": list(train.class_names),
        "command": command,
        "versions": versions(),
    }
    with run.replace_results([name for name, _ in FILES]) as new:
        embedder.write_into(new, about)
        write_json(new / METRICS, metrics)
        draw_run(new, embedder, split, vectors, evaluation, overlap, metrics, about, projection, progress)
    return Result(run, embedder, finite(metrics), overlap, vectors)


def take_part(split: ImageSplit, embedder: Embedder, folder: Path, fabric: Fabric) -> None:
    """What every process but the first does while that is in `train_run`: its share of the work, and no writing.

    Args:
        split: the same images.
        embedder: the same settings.
        folder: the run folder; only the first process reads and writes it.
        fabric: all processes, joined.

    Raises:
        InputError: the first process cannot go on, or has other images.
    """
    ranks = Ranks.of(fabric)
    started = ranks.broadcast(lambda: False)
    if ranks.broadcast(lambda: False):  # the run is complete as it is
        return
    embedder.fit(
        split.train.pixels,
        split.train.labels,
        validation=(split.test.pixels, split.test.labels),
        checkpoint=Run(folder).checkpoint,
        resume=started,
        identity={"data": _fingerprint(split)},
        fabric=fabric,
    )


def _fingerprint(split: ImageSplit) -> dict[str, str]:
    return {"train": split.train.fingerprint(), "test": split.test.fingerprint()}


def _as_it_is(
    run: Run,
    asked: Embedder,
    fingerprint: Mapping[str, str],
    projection: str,
    split: ImageSplit,
    progress: Progress,
) -> Result | None:
    """A complete run, if it is just what is asked for: nothing is trained, measured or written again."""
    about, embedder = run.config()["about"], Embedder.load(run.folder)
    same = (
        embedder.get_params() == asked.get_params() | {"device": embedder.device}
        and about["data"]["fingerprint"] == fingerprint
        and about["projection"] == projection
    )
    if not same:
        return None
    metrics = run.metrics()
    overlap = np.array(metrics["overlap"], dtype=np.float64)  # null becomes NaN
    return Result(run, embedder, metrics, overlap, embedder.transform(split.test.pixels, progress))


def _metrics(
    embedder: Embedder,
    evaluation: Evaluation,
    overlap: NDArray[np.float64],
    split: ImageSplit,
    fingerprint: Mapping[str, str],
) -> dict[str, Any]:
    history = embedder.history_
    seconds = float(sum(history["seconds"]))
    images = sum(s * r for s, r in zip(history["seconds"], history["images_per_second"], strict=True))
    last = {
        name: column[-1] for name, column in history.items() if name not in ("seconds", "images_per_second")
    }
    # `pair_accuracy` is that of the evaluation; what the history calls so was seen while training.
    last = {f"train_{name}" if name in ACCURACIES else name: value for name, value in last.items()}
    return (
        evaluation.to_dict()
        | last
        | {
            "overlap": overlap.tolist(),
            "epochs": int(last["epoch"]),
            "seconds_training": seconds,
            "images_per_second": images / seconds,
            "collapsed": is_collapsed(embedder.findings_),
            "findings": [vars(finding) for finding in embedder.findings_],
            "loss": embedder.loss,
            "dim": embedder.dim,
            "encoder": embedder.encoder,
            "seed": embedder.seed_,
            "n_train": len(split.train),
            "n_test": len(split.test),
            "class_names": list(split.train.class_names),
            "data": split.train.source,
            "data_fingerprint": dict(fingerprint),
            "data_notes": list(split.notes),
            "versions": versions(),
        }
    )


def _whole_overlap(evaluation: Evaluation, classes: int) -> NDArray[np.float64]:
    """The overlap matrix over all classes; NaN where the test side has none of a class."""
    whole = np.full((classes, classes), math.nan)
    places = np.array([int(label) for label in evaluation.overlap_classes])
    whole[np.ix_(places, places)] = evaluation.overlap
    return whole
