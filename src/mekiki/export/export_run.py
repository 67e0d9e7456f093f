"""Export of a run folder: make the graph, compare it with the program, and only then write it."""

from __future__ import annotations

import hashlib
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mekiki.console import Progress, silent
from mekiki.data.decoding import decode, resize_images
from mekiki.data.image_set import Pixels
from mekiki.errors import InputError
from mekiki.experiments.request import DataRequest
from mekiki.export.onnx_graph import OPSET, ExportModule, Runtime, quantise, trace
from mekiki.export.parity import (
    MOST_PHOTOGRAPHS,
    TOLERANCE,
    ParityRow,
    Program,
    compare,
    number_compared,
    odd_images,
    threshold_neighbours,
)
from mekiki.judging.extractors import make_extractor
from mekiki.judging.features import FeatureExtractor
from mekiki.judging.judge_photos import Inspector
from mekiki.storage.atomic import replace_file
from mekiki.storage.json_files import finite, write_json
from mekiki.storage.run_folder import EXPORT, EXPORT_INT8, JUDGE, JUDGE_ARRAYS, JUDGE_SETTINGS
from mekiki.storage.training_run import Run

MOST_CALIBRATING = 48
"""Photographs from which the range of each activation is read, for eight bits."""
TIMED = 15
"""Single images that are timed, program and graph in turn."""
LARGEST_SIDE = 4096
NAMES = {False: EXPORT, True: EXPORT_INT8}
"""File name in the run folder where none is given; beside it lies the same name with .json."""


@dataclass(frozen=True, eq=False)
class _Source:
    """A feature extractor, its judge if asked for, and photographs of the run to compare on."""

    extractor: FeatureExtractor
    inspector: Inspector | None
    size: tuple[int, int]
    channels: int
    metadata: dict[str, Any]
    photographs: list[Pixels]
    origin: str


def export_run(
    folder: Path,
    output: Path | None = None,
    *,
    with_judge: bool = False,
    int8: bool = False,
    flips: float = 0.0,
    size: tuple[int, int] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write a run as one ONNX graph, if it gives what the program gives.

    The graph takes photographs as decoded, uint8 `[N, H, W, 3]`, or `[N, H, W]` where those that the run learnt from or
    was calibrated on are all grey, of one size and any number. It gives `vector`; with the judge also `distance`,
    `score`, `p`, `ng`, `surprise` (−log p of each feature group) and `kind` (defect type).

    Args:
        folder: a trained run, or one that was calibrated.
        output: the `.onnx` file to write; `None` is `export.onnx` in the run folder. Beside it the comparison is
            written, under the same name with `.json`.
        with_judge: the calibrated judge too, with its threshold and corrections.
        int8: weights and activations of the network in eight bits; what that costs is part of the result.
        flips: share of the run's own photographs whose verdicts may differ, for eight bits.
        size: height and width of the photographs; `None` is the one size of those calibrated on, or learnt from.
        progress: called during long steps.

    Returns:
        What is also in the `.json`: `file`, `opset`, `size`, `mode`, `outputs`, `views` (feature groups), `kinds`,
        `threshold`, `parity` (a row for each group of images), `milliseconds`, and with `int8` what that `costs`.

    Raises:
        MissingExtraError: the extra `export` is not installed.
        InputError: there is nothing to export, the size is not known, or the graph differs from the program; no file is
            written then, and one that was there stays.
    """
    output = folder / NAMES[int8] if output is None else output
    _check_options(output, int8, flips)
    source = _read_source(folder, with_judge, size, progress)
    module = ExportModule(source.extractor, source.size, source.inspector, source.channels)
    metadata, images = source.metadata | _graph_metadata(source, module), source.photographs
    progress("writing the graph", 0, 1)
    model, networks = trace(module, np.stack((images * 2)[:2]), metadata)
    progress("writing the graph", 1, 1)
    program = Program(source.extractor, list(module.widths), source.inspector)
    groups = _image_groups(program, source, progress)
    threads = torch.get_num_threads()

    def compare_all(graph: Runtime, *, steps: bool = True) -> list[ParityRow]:
        return [
            compare(name, graph, program, module.widths, module.types, group, progress, steps=steps)
            for name, group in groups.items()
        ]

    content = model.SerializeToString()
    graph = Runtime(content, threads)
    parity = compare_all(graph)
    _refuse_differences(parity, output)
    milliseconds = _time_each(
        {"program": lambda image: program([image]), "onnxruntime": lambda image: graph(image[None])}, images
    )
    costs = None
    if int8:
        with tempfile.TemporaryDirectory() as temporary:
            small = quantise(model, networks, images[:MOST_CALIBRATING], Path(temporary)).SerializeToString()
        reduced = Runtime(small, threads)
        after = compare_all(reduced, steps=False)
        _refuse_flips(after, flips, output)
        costs = {
            "parity": [row.to_dict() for row in after],
            "bytes": {"float": len(content), "int8": len(small)},
            "milliseconds": _time_each(
                {"float": lambda image: graph(image[None]), "int8": lambda image: reduced(image[None])},
                images,
            ),
            "flips_allowed": flips,
        }
        content = small
    result: dict[str, Any] = finite(
        metadata
        | {
            "file": str(output),
            "outputs": module.names,
            "photographs": source.origin,
            "tolerance": TOLERANCE,
            "parity": [row.to_dict() for row in parity],
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "milliseconds": milliseconds,
            "threads": threads,
            "made_with": {name: version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime")}
            | {"machine": platform.machine()},
            "costs": costs,
        }
    )
    with _name_write_errors(output):
        with replace_file(output) as temporary_file:
            temporary_file.write_bytes(content)
        write_json(output.with_suffix(".json"), result)
    return result


def _check_options(output: Path, int8: bool, flips: float) -> None:
    if output.suffix.lower() != ".onnx":
        raise InputError(f"{output}: give a file that ends in .onnx")
    if not 0 <= flips < 1:
        raise InputError(f"--flips {flips}: give a share from 0 to below 1, such as 0.01")
    if flips and not int8:
        raise InputError("--flips goes with --int8: otherwise no verdict may differ")


@contextmanager
def _name_write_errors(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror})") from None


def _read_source(folder: Path, with_judge: bool, size: tuple[int, int] | None, progress: Progress) -> _Source:
    """Extractor, judge and photographs of a run folder."""
    run = Run(folder)
    calibrated = (folder / JUDGE / JUDGE_SETTINGS).is_file()
    inspector = Inspector.open(folder) if with_judge or (calibrated and not run.complete) else None
    extractor = make_extractor(folder, "embedder") if inspector is None else inspector.extractor
    metadata: dict[str, Any] = {
        "version": version("mekiki"),
        "run": folder.absolute().name,
        "model": extractor.description,
        "model_fingerprint": extractor.fingerprint,
    }
    about: dict[str, Any] = {}
    if extractor.embedder is not None:
        about = run.config().get("about") or {}
        if about:
            metadata |= {
                "data_fingerprint": about["data"]["fingerprint"],
                "classes": list(about["class_names"]),
            }
    if inspector is not None:
        judge = (folder / JUDGE / JUDGE_ARRAYS).read_bytes()
        metadata |= {"judge_fingerprint": hashlib.sha256(judge).hexdigest()}
        size = size or _one_size(inspector)
    # Without a judge the extractor is an embedder, which reads photographs of any size at its own.
    size = size or extractor.frame(1, 1)
    if not 1 <= min(size) <= max(size) <= LARGEST_SIDE:
        raise InputError(f"--size {size[0]}x{size[1]}: give 1 … {LARGEST_SIDE} pixels")
    progress("reading photographs", 0, 1)
    # Where none that were calibrated on has colour, none is asked for: a grey photograph is a third of the work.
    channels = 1 if inspector is not None and not inspector.conditions.coloured else extractor.channels
    photographs, origin = _photographs(inspector, about, size, channels, progress)
    progress("reading photographs", 1, 1)
    return _Source(
        extractor, inspector if with_judge else None, size, channels, metadata, photographs, origin
    )


def _graph_metadata(source: _Source, module: ExportModule) -> dict[str, Any]:
    """What the user of a graph must know."""
    height, width = source.size
    colours = ", 3" if source.channels == 3 else ""
    metadata: dict[str, Any] = {
        "opset": OPSET,
        "size": list(source.size),
        "mode": "L" if source.channels == 1 else "RGB",
        "input": f"image: uint8 [N, {height}, {width}{colours}], upright, as decoded",
        "views": module.widths,
    }
    if source.inspector is not None:
        judge = source.inspector.judge
        metadata |= {
            "kinds": module.types,
            "threshold": None if judge.threshold is None else judge.threshold.value,
            "false_reject": judge.rate,
            "guarantee": source.inspector.metadata["guarantee"],
            "lessons": [part.note for part in judge.taught],
        }
    return metadata


def _one_size(inspector: Inspector) -> tuple[int, int]:
    """The size of the photographs calibrated on, if they have one."""
    (low, high), (narrow, wide) = inspector.conditions.heights, inspector.conditions.widths
    if (low, narrow) != (high, wide):
        raise InputError(
            f"the photographs calibrated on have {low}…{high}×{narrow}…{wide} pixels, and a graph takes one size; say "
            "which with --size HxW"
        )
    return low, narrow


def _photographs(
    inspector: Inspector | None,
    about: dict[str, Any],
    size: tuple[int, int],
    channels: int,
    progress: Progress,
) -> tuple[list[Pixels], str]:
    """Photographs of the run at the size of the graph, and where they come from."""
    if inspector is not None:
        paths, origin = _calibration_photographs(inspector, number_compared(size))
        images = list(_decode_readable(paths, channels))
    else:
        images, origin = _test_images(about, progress)
    if not images:
        origin = "thumbnails and noise: the run's own photographs cannot be reached"
        images = odd_images(size)
        if inspector is not None:
            examples = inspector.references
            rows = np.unique(np.linspace(0, len(examples.names) - 1, number_compared(size)).astype(int))
            images = [examples.thumbnail(int(row)) for row in rows]
    return [resize_images(pixels[None], size, channels)[0] for pixels in images], origin


def _calibration_photographs(inspector: Inspector, most: int) -> tuple[list[Path], str]:
    """Photographs that the judge was made from: those whose scores lie nearest the threshold, and NG ones."""
    settings, judge = inspector.metadata, inspector.judge
    scores = judge.calibration_scores
    learnt, value = (
        settings["ok_parts"] - len(scores),
        None if judge.threshold is None else judge.threshold.value,
    )
    if value is None:
        value = float(np.quantile(scores, 1 - settings["false_reject"]))
    order = np.argsort(np.abs(scores - value), kind="stable")
    ok = [settings["ok"][learnt + int(place)] for place in order] + settings["ok"][:learnt]
    ng = list(settings["ng"])
    ng = ng[:: max(1, len(ng) // (most // 2))]
    ng_paths = [path for path in map(Path, ng) if path.is_file()][: most // 2]
    ok_paths = [path for path in map(Path, ok) if path.is_file()][: most - len(ng_paths)]
    return ok_paths + ng_paths, f"{len(ok_paths)} OK and {len(ng_paths)} NG photographs calibrated on"


def _test_images(about: dict[str, Any], progress: Progress) -> tuple[list[Pixels], str]:
    """Test images of a trained run, if they can still be had."""
    if not about:
        return [], ""
    try:
        images = DataRequest.of_run(about["data"]).load(progress).test.pixels[:MOST_PHOTOGRAPHS]
    except InputError:
        return [], ""
    return list(images), f"{len(images)} test images of the run"


def _decode_readable(paths: Sequence[Path], channels: int) -> Iterator[Pixels]:
    for path in paths:
        try:
            yield decode(path, None, channels).pixels
        except InputError:
            continue


def _image_groups(program: Program, source: _Source, progress: Progress) -> dict[str, list[Pixels]]:
    """The images that a graph is compared on, the neighbours of the threshold first."""
    groups: dict[str, list[Pixels]] = {}
    if source.inspector is not None:
        near = threshold_neighbours(program, source.photographs, progress)
        if near:
            groups["next to the threshold"] = near
    groups["photographs"] = source.photographs
    groups["odd images"] = odd_images(source.photographs[0].shape)
    return groups


def _refuse_differences(parity: Sequence[ParityRow], output: Path) -> None:
    for row in parity:
        if row.equal:
            continue
        difference = (
            f"{row.verdicts} of {row.images} verdicts differ"
            if row.verdicts
            else f"scores differ by up to {row.score:.1e}, vectors by {row.vector:.1e}, of themselves"
        )
        why = "export a run with another encoder"
        if row.vector <= TOLERANCE:  # what comes out of the network is right
            why = (
                "its distances magnify the last digits of vectors, as those of a network that has collapsed do; see "
                "`mekiki doctor`, and calibrate again"
            )
        raise InputError(
            f"{output}: is not written, because the graph differs from the program ({row.group}: {difference}); {why}"
        )


def _refuse_flips(parity: Sequence[ParityRow], flips: float, output: Path) -> None:
    (own,) = (row for row in parity if row.group == "photographs")
    if own.verdicts > flips * own.images:
        raise InputError(
            f"{output}: is not written, because in eight bits {own.verdicts} of the run's {own.images} photographs are "
            f"judged otherwise; leave out --int8, or allow it with --flips {own.verdicts / own.images:.3f}"
        )


def _time_each(sides: dict[str, Callable[[Pixels], Any]], images: Sequence[Pixels]) -> dict[str, float]:
    """Median milliseconds for one image, the sides in turn."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(TIMED + 2):
        image = images[number % len(images)]
        for name, side in sides.items():
            start = time.perf_counter()
            side(image)
            if number >= 2:  # the first calls prepare what later ones use
                spent[name].append(1000 * (time.perf_counter() - start))
    return {name: round(statistics.median(each), 3) for name, each in spent.items()}
