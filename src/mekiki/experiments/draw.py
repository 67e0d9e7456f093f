"""The pictures and the report of one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mekiki import console
from mekiki.console import Progress
from mekiki.data.image_set import ImageSet
from mekiki.data.splits import ImageSplit
from mekiki.embedder import Embedder
from mekiki.evaluation.confused_pairs import confused_pairs
from mekiki.evaluation.summary import Evaluation
from mekiki.evaluation.verification import pair_histogram
from mekiki.experiments.headline import in_metrics
from mekiki.report import figures
from mekiki.report.content import (
    ConfusedPairs,
    Headline,
    PairDistances,
    ReportContent,
    ScatterContent,
)
from mekiki.report.run_page import write_report
from mekiki.storage.json_files import finite
from mekiki.storage.run_folder import (
    BACKBONE,
    CHECKPOINT,
    CONFIG,
    CONFUSED_DIFFERENT,
    CONFUSED_SAME,
    HISTORY,
    LOSS_CURVE,
    METRICS,
    MODEL,
    OVERLAP,
    PAIR_DISTANCES,
    REFERENCE,
    REPORT,
    SCATTER_TEST,
    SCATTER_TRAIN,
)

if TYPE_CHECKING:
    from mekiki.report.figures.projection import Projection

TSNE_IMAGES = 20_000
"""Images of a side that t-SNE draws; of more, a seeded sample."""

FILES = (
    (MODEL, "weights of the network, standardisation included"),
    (BACKBONE, "the pretrained network as it was fine-tuned, as transformers reads it"),
    (REFERENCE, "vectors and labels of the training images"),
    (CONFIG, "how the run was made, and what is needed to load the model"),
    (HISTORY, "loss, accuracy, rate, seconds and the numbers of the collapse check, one row an epoch"),
    (METRICS, "every number of this page"),
    (CHECKPOINT, "state after the last epoch, for --resume"),
    (SCATTER_TRAIN, "training images by label"),
    (SCATTER_TEST, "test images by label"),
    (LOSS_CURVE, "loss and accuracy by epoch"),
    (PAIR_DISTANCES, "distances of same-class and different-class pairs"),
    (OVERLAP, "overlap between classes"),
    (CONFUSED_DIFFERENT, "pairs of different classes that lie closest"),
    (CONFUSED_SAME, "pairs of one class that lie farthest apart"),
)


def draw_run(
    folder: Path,
    embedder: Embedder,
    split: ImageSplit,
    vectors: NDArray[np.float32],
    evaluation: Evaluation,
    metrics: Mapping[str, Any],
    about: Mapping[str, Any],
    progress: Progress,
) -> None:
    """Draw all pictures of a run, and write its report.

    Args:
        folder: where they are written.
        embedder: trained.
        split: the images.
        vectors: of the test images, `[N, d]`.
        evaluation: of these vectors.
        metrics: the content of `metrics.json`.
        about: how the run was made.
        progress: called after each picture.
    """
    train, test = split
    names = train.class_names
    steps = iter(range(1, 8))

    def report_step(what: str) -> None:
        progress(f"drawing {what}", next(steps), 7)

    scatters = _draw_scatters(folder, embedder, split, vectors, about["projection"])
    for side in scatters:
        report_step(f"scatter of the {side} images")
    figures.save(figures.loss_curve(embedder.history_), folder / LOSS_CURVE)
    report_step("loss curve")
    distances = None
    if evaluation.n_pairs:
        curves = pair_histogram(vectors, test.labels).curves(120)
        distances = PairDistances(
            curves.edges,
            curves.same,
            curves.different,
            evaluation.eer_threshold,
            evaluation.pair_eer,
            f"Euclidean distance {embedder.distances_.unit}",
        )
        figures.save(figures.pair_distances(**vars(distances)), folder / PAIR_DISTANCES)
    report_step("pair distances")
    overlap = np.array(metrics["overlap"], dtype=np.float64)
    figures.save(figures.overlap_matrix(overlap, names), folder / OVERLAP)
    report_step("overlap")
    confused = _draw_confused(folder, test, vectors) if len(test) > 1 else []
    report_step("confused pairs")
    content = ReportContent(
        title=f"{about['data']['spec']}: {embedder.loss}, {embedder.dim} dimensions",
        class_names=names,
        subtitle=f"{len(train):,} training and {len(test):,} test images of {len(names)} classes",
        facts=_facts(embedder, about),
        headline=_headline(metrics),
        findings=[(f.severity, f.message, f.advice) for f in embedder.findings_],
        notes=[*split.notes, *evaluation.notes],
        history=embedder.history_,
        test=scatters["test"],
        train=scatters["train"],
        distances=distances,
        overlap=overlap,
        confused=confused,
        metrics=finite(metrics),
        files=[(name, text) for name, text in FILES if (folder / name).exists() or name == CHECKPOINT],
    )
    write_report(folder / REPORT, content)
    report_step("report")


def scatter_content(
    points: NDArray[np.float64], images: ImageSet, rows: NDArray[np.int64], projection: Projection
) -> ScatterContent:
    """Points of some images, given by their rows, with the images themselves, for a report."""
    pixels = images.pixels if len(rows) == len(images) else images.pixels[rows]
    names = [images.names[row] for row in rows]
    return ScatterContent(
        points, images.labels[rows], names, pixels, projection.axis_names, projection.note, rows
    )


def _draw_scatters(
    folder: Path, embedder: Embedder, split: ImageSplit, vectors: NDArray[np.float32], method: str
) -> dict[str, ScatterContent]:
    # Pictures and report thin their points themselves; only t-SNE is too slow for every image.
    most = TSNE_IMAGES if method == "tsne" and embedder.dim > 2 else None
    train_rows, test_rows = (_sample(len(images), most) for images in split)
    reference = embedder.reference_vectors_[train_rows]
    projection = figures.project(vectors[test_rows], method, fit=reference)  # type: ignore[arg-type]
    scatters = {}
    for side, file, images, rows, points in (
        ("test", SCATTER_TEST, split.test, test_rows, projection.points),
        ("train", SCATTER_TRAIN, split.train, train_rows, projection.transform(reference)),
    ):
        shown = f"{len(images):,}" if len(rows) == len(images) else f"{len(rows):,} of {len(images):,}"
        title = f"Embedding of {shown} {'training' if side == 'train' else 'test'} images"
        figure = figures.scatter(
            points, images.labels[rows], images.class_names, projection.axis_names, title
        )
        figures.save(figure, folder / file)
        scatters[side] = scatter_content(points, images, rows, projection)
    return scatters


def _sample(n: int, most: int | None) -> NDArray[np.int64]:
    if most is None or n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).permutation(n)[:most])


def _draw_confused(folder: Path, test: ImageSet, vectors: NDArray[np.float32]) -> list[ConfusedPairs]:
    kinds = (
        (
            CONFUSED_DIFFERENT,
            "Different classes, closest together",
            "Each pair would pass for one class; look for wrong labels and for classes that people confuse too.",
        ),
        (
            CONFUSED_SAME,
            "One class, farthest apart",
            "Each pair would pass for two classes; look for wrong labels, bad photographs and classes of two kinds.",
        ),
    )
    drawn = []
    for pairs, (file, title, explanation) in zip(confused_pairs(vectors, test.labels), kinds, strict=True):
        if not len(pairs.indices):
            continue
        left, right = pairs.indices[:, 0], pairs.indices[:, 1]
        captions = [
            f"{test.class_names[test.labels[a]]} – {test.class_names[test.labels[b]]}: {distance:.3g}"
            for a, b, distance in zip(left, right, pairs.distances, strict=True)
        ]
        content = ConfusedPairs(title, test.pixels[left], test.pixels[right], captions, explanation)
        figure = figures.confused_pairs(content.pixels_a, content.pixels_b, captions, title)
        figures.save(figure, folder / file)
        drawn.append(content)
    return drawn


def _facts(embedder: Embedder, about: Mapping[str, Any]) -> dict[str, str]:
    data = about["data"]
    margin = f", margin {embedder.margin:g}" if embedder.margin_ is not None else ""
    augmented = f", augmented: {embedder.augment}" if embedder.augment else ""
    encoder = f"{embedder.encoder}, {' × '.join(map(str, embedder.input_shape_))} → {embedder.dim}"
    backbone = embedder.backbone_
    if backbone is not None:
        encoder += (
            f"; {'fine-tuned' if embedder.fine_tune else 'frozen'}, hidden state {backbone.default_layer} of "
            f"0 … {backbone.layers - 1}, fingerprint {backbone.fingerprint[:12]}"
        )
    return {
        "command": about["command"] or "from Python",
        "data": data["source"],
        "fingerprint of the data": f"train {data['fingerprint']['train']}, test {data['fingerprint']['test']}",
        "loss": embedder.loss + margin,
        "encoder": encoder,
        "training": f"{embedder.epochs} epochs of batches of {embedder.batch_size}, Adam at {embedder.lr:g}, "
        f"schedule {embedder.schedule}{augmented}",
        "seed": str(embedder.seed_),
        "versions": ", ".join(f"{name} {number}" for name, number in about["versions"].items()),
    }


def _headline(metrics: Mapping[str, Any]) -> list[Headline]:
    numbers = [
        Headline(each.label, console.number(metrics[each.key], each.factor, each.unit), each.explanation)
        for each in in_metrics(metrics)
        if each.explanation
    ]
    speed = f"{metrics['images_per_second']:,.0f} images a second through the network, both sides of a pair counted"
    return [*numbers, Headline("training", f"{metrics['seconds_training']:.1f} s", speed)]
