"""Exporting a run: the graph is made, compared with the program, and only then put in place."""

from __future__ import annotations

import hashlib
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mekiki.console import Progress, silent
from mekiki.data.decoding import decode, resize_images
from mekiki.data.image_set import Pixels
from mekiki.errors import InputError
from mekiki.experiments.request import DataRequest
from mekiki.export.graph import OPSET, Runtime, Whole, in_eight_bits, traced
from mekiki.export.parity import TOLERANCE, Program, Row, compared, neighbours, odd
from mekiki.judging.extractors import make_extractor
from mekiki.judging.features import FeatureExtractor
from mekiki.judging.inspector import Inspector
from mekiki.storage.atomic import replace_file
from mekiki.storage.json_files import finite, write_json
from mekiki.storage.run import Run
from mekiki.storage.run_folder import EXPORT, EXPORT_INT8, JUDGE, JUDGE_ARRAYS, JUDGE_SETTINGS

MOST_PHOTOGRAPHS = 128
"""Of the run's own, that a graph is compared on."""
MOST_CALIBRATING = 48
"""Photographs from which the range of each activation is read, for eight bits."""
TIMED = 15
"""Single images that are timed, program and graph in turn."""
LARGEST_SIDE = 4096
NAMES = {False: EXPORT, True: EXPORT_INT8}
"""In the run folder, where no file is named; beside it lies the same name with .json."""


@dataclass(frozen=True, eq=False)
class _Subject:
    """What is exported: an eye, its judge if asked for, and photographs of the run to compare on."""

    extractor: FeatureExtractor
    inspector: Inspector | None
    size: tuple[int, int]
    channels: int
    facts: dict[str, Any]
    photographs: list[Pixels]
    where_from: str


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
    """Write a run as one ONNX graph, once it has been seen to say what the program says.

    The graph takes photographs as decoded, uint8 `[N, H, W, 3]`, or `[N, H, W]` where those that the run learnt from or
    was calibrated on are all grey, of one size and any number. It gives `vector`; with the judge also `distance`,
    `score`, `p`, `ng`, `surprise` and `kind`.

    Args:
        folder: a trained run, or one that was calibrated.
        output: the `.onnx` file to write; `None` is `export.onnx` in the run folder. Beside it the comparison is
            written, under the same name with `.json`.
        with_judge: the calibrated judge too, with its threshold and the lessons in force.
        int8: weights and activations of the network in eight bits; what that costs is part of what is returned.
        flips: share of the run's own photographs whose verdicts may differ, for eight bits.
        size: height and width of the photographs; `None` is the one size of those calibrated on, or learnt from.
        progress: told during long steps.

    Returns:
        What is also in the `.json`: `file`, `opset`, `size`, `mode`, `outputs`, `views`, `kinds`, `threshold`, `parity`
        (a row for each group of images), `milliseconds`, and with `int8` what that `costs`.

    Raises:
        MissingExtraError: the extra `export` is not installed.
        InputError: there is nothing to export, the size is not known, or the graph differs from the program; no file is
            written then, and one that was there stays.
    """
    output = folder / NAMES[int8] if output is None else output
    _check(output, int8, flips)
    subject = _subject(folder, with_judge, size, progress)
    whole = Whole(subject.extractor, subject.size, subject.inspector, subject.channels)
    images = subject.photographs
    progress("writing the graph", 0, 1)
    model, networks = traced(whole, np.stack((images * 2)[:2]), subject.facts | _of_graph(subject, whole))
    progress("writing the graph", 1, 1)
    program = Program(subject.extractor, list(whole.views), subject.inspector)
    groups = _groups(program, subject, progress)
    threads = torch.get_num_threads()

    def rows(graph: Runtime, *, steps: bool = True) -> list[Row]:
        return [
            compared(name, graph, program, whole.views, whole.kinds, group, progress, steps=steps)
            for name, group in groups.items()
        ]

    content = model.SerializeToString()
    graph = Runtime(content, threads)
    parity = rows(graph)
    _refuse(parity, output)
    told: dict[str, Any] = subject.facts | _of_graph(subject, whole)
    told |= {
        "file": str(output),
        "outputs": whole.names,
        "photographs": subject.where_from,
        "tolerance": TOLERANCE,
        "parity": [row.as_dict() for row in parity],
    }
    costs = None
    if int8:
        with tempfile.TemporaryDirectory() as room:
            small = in_eight_bits(model, networks, images[:MOST_CALIBRATING], Path(room)).SerializeToString()
        reduced = Runtime(small, threads)
        after = rows(reduced, steps=False)
        _refuse_flips(after, flips, output)
        times = _times({"float": graph, "int8": reduced}, images)
        costs = {
            "parity": [row.as_dict() for row in after],
            "bytes": {"float": len(content), "int8": len(small)},
            "milliseconds": times,
            "flips_allowed": flips,
        }
        content = small
    told |= {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "milliseconds": _times({"program": program, "onnxruntime": graph}, images),
        "threads": threads,
        "made_with": {name: version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime")}
        | {"machine": platform.machine()},
        "costs": costs,
    }
    told = finite(told)
    with _writing(output):
        with replace_file(output) as temporary:
            temporary.write_bytes(content)
        write_json(output.with_suffix(".json"), told)
    return told


def _check(output: Path, int8: bool, flips: float) -> None:
    if output.suffix.lower() != ".onnx":
        raise InputError(f"{output}: give a file that ends in .onnx")
    if not 0 <= flips < 1:
        raise InputError(f"--flips {flips}: give a share from 0 to below 1, such as 0.01")
    if flips and not int8:
        raise InputError("--flips goes with --int8: otherwise no verdict may differ")


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror})") from None


def _subject(folder: Path, with_judge: bool, size: tuple[int, int] | None, progress: Progress) -> _Subject:
    """What a run folder has to export."""
    run = Run(folder)
    judged = (folder / JUDGE / JUDGE_SETTINGS).is_file()
    inspector = Inspector.open(folder) if with_judge or (judged and not run.complete) else None
    extractor = make_extractor(folder, "embedder") if inspector is None else inspector.extractor
    facts: dict[str, Any] = {
        "version": version("mekiki"),
        "run": folder.absolute().name,
        "model": extractor.description,
        "model_fingerprint": extractor.fingerprint,
    }
    about: dict[str, Any] = {}
    if extractor.embedder is not None:
        about = run.config().get("about") or {}
        if about:
            facts |= {"data_fingerprint": about["data"]["fingerprint"], "classes": list(about["class_names"])}
    if inspector is not None:
        judge = (folder / JUDGE / JUDGE_ARRAYS).read_bytes()
        facts |= {"judge_fingerprint": hashlib.sha256(judge).hexdigest()}
        size = size or _one_size(inspector)
    else:
        size = size or extractor.frame(0, 0)  # an embedder takes one size
    if not 1 <= min(size) <= max(size) <= LARGEST_SIDE:
        raise InputError(f"--size {size[0]}x{size[1]}: give 1 … {LARGEST_SIDE} pixels")
    progress("reading photographs", 0, 1)
    places: Sequence[Path | Pixels]
    places, where_from = _own(inspector) if inspector is not None else _learnt(about, progress)
    # Where none that were calibrated on has colour, none is asked for: a grey photograph is a third of the work.
    channels = 1 if inspector is not None and not inspector.conditions.coloured else extractor.channels
    photographs = _at(places, size, channels)
    if not photographs:
        photographs = _at(_kept(inspector, size), size, channels)
        where_from = "thumbnails and noise: the run's own photographs cannot be reached"
    progress("reading photographs", 1, 1)
    if not with_judge:
        inspector = None
    return _Subject(extractor, inspector, size, channels, facts, photographs, where_from)


def _of_graph(subject: _Subject, whole: Whole) -> dict[str, Any]:
    """What the user of a graph must know."""
    height, width = subject.size
    colours = ", 3" if subject.channels == 3 else ""
    facts: dict[str, Any] = {
        "opset": OPSET,
        "size": list(subject.size),
        "mode": "L" if subject.channels == 1 else "RGB",
        "input": f"image: uint8 [N, {height}, {width}{colours}], upright, as decoded",
        "views": whole.views,
    }
    if subject.inspector is not None:
        judge = subject.inspector.judge
        facts |= {
            "kinds": whole.kinds,
            "threshold": None if judge.threshold is None else judge.threshold.value,
            "false_reject": judge.rate,
            "guarantee": subject.inspector.metadata["guarantee"],
            "lessons": [lesson.note for lesson in judge.taught],
        }
    return facts


def _one_size(inspector: Inspector) -> tuple[int, int]:
    """The size of the photographs calibrated on, if they have one."""
    (low, high), (narrow, wide) = inspector.conditions.heights, inspector.conditions.widths
    if (low, narrow) != (high, wide):
        raise InputError(
            f"the photographs calibrated on have {low}…{high}×{narrow}…{wide} pixels, and a graph takes one size; say "
            "which with --size HxW"
        )
    return low, narrow


def _own(inspector: Inspector) -> tuple[list[Path], str]:
    """Photographs that the judge was made from: those whose scores lie nearest the threshold, and NG ones."""
    facts, judge = inspector.metadata, inspector.judge
    scores, learnt = judge.calibration_scores, facts["ok_parts"] - len(judge.calibration_scores)
    value = None if judge.threshold is None else judge.threshold.value
    if value is None:
        value = float(np.quantile(scores, 1 - facts["false_reject"]))
    order = np.argsort(np.abs(scores - value), kind="stable")
    ok = [Path(facts["ok"][learnt + int(place)]) for place in order] + [Path(p) for p in facts["ok"][:learnt]]
    ng = [Path(place) for place in facts["ng"]]
    ng = ng[:: max(1, len(ng) // (MOST_PHOTOGRAPHS // 2))]
    there_ng = [path for path in ng if path.is_file()][: MOST_PHOTOGRAPHS // 2]
    there_ok = [path for path in ok if path.is_file()][: MOST_PHOTOGRAPHS - len(there_ng)]
    return there_ok + there_ng, f"{len(there_ok)} OK and {len(there_ng)} NG photographs calibrated on"


def _learnt(about: dict[str, Any], progress: Progress) -> tuple[list[Pixels], str]:
    """Test images of a trained run, if they can still be had."""
    if not about:
        return [], ""
    try:
        test = DataRequest.of_run(about["data"]).load(progress).test.pixels[:MOST_PHOTOGRAPHS]
    except InputError:
        return [], ""
    return list(test), f"{len(test)} test images of the run"


def _at(places: Sequence[Path | Pixels], size: tuple[int, int], channels: int) -> list[Pixels]:
    """Photographs at the size of the graph; files that cannot be read are left out."""
    found = []
    for place in places:
        if isinstance(place, Path):
            try:
                pixels = decode(place, None, channels).pixels
            except InputError:
                continue
        else:
            pixels = place
        found.append(resize_images(pixels[None], size, channels)[0])
    return found


def _kept(inspector: Inspector | None, size: tuple[int, int]) -> list[Pixels]:
    """Something like the run's photographs, where these cannot be reached."""
    if inspector is None:
        return odd(size)
    examples = inspector.references
    rows = np.unique(np.linspace(0, len(examples.names) - 1, MOST_PHOTOGRAPHS).astype(int))
    return [examples.thumbnail(int(row)) for row in rows]


def _groups(program: Program, subject: _Subject, progress: Progress) -> dict[str, list[Pixels]]:
    """The images that a graph is compared on, the neighbours of the threshold first."""
    groups: dict[str, list[Pixels]] = {}
    if subject.inspector is not None:
        near = neighbours(program, subject.photographs, progress)
        if near:
            groups["next to the threshold"] = near
    groups["photographs"] = subject.photographs
    groups["odd images"] = odd(subject.photographs[0].shape)
    return groups


def _refuse(parity: Sequence[Row], output: Path) -> None:
    for row in parity:
        if row.equal:
            continue
        said = (
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
            f"{output}: is not written, because the graph differs from the program ({row.group}: {said}); {why}"
        )


def _refuse_flips(after: Sequence[Row], flips: float, output: Path) -> None:
    (own,) = (row for row in after if row.group == "photographs")
    if own.verdicts > flips * own.images:
        raise InputError(
            f"{output}: is not written, because in eight bits {own.verdicts} of the run's {own.images} photographs are "
            f"judged otherwise; leave out --int8, or allow it with --flips {own.verdicts / own.images:.3f}"
        )


def _times(sides: dict[str, Any], images: Sequence[Pixels]) -> dict[str, float]:
    """Median milliseconds for one image, the sides in turn."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(TIMED + 2):
        image = images[number % len(images)]
        for name, side in sides.items():
            given: NDArray[np.uint8] | list[Pixels] = [image] if isinstance(side, Program) else image[None]
            start = time.perf_counter()
            side(given)
            if number >= 2:  # the first ones prepare what the later ones find
                spent[name].append(1000 * (time.perf_counter() - start))
    return {name: round(statistics.median(each), 3) for name, each in spent.items()}
