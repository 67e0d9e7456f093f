"""Sharpening: the convolutions of a run learn where a defect lies and how large it is, from what people wrote of it.

A network that learnt to tell kinds apart had no reason to keep place and extent, and no describer brings back what is
lost. So a copy of its convolutions goes on learning, with a small reader behind it: the facts that texts name (defect,
place, severity), and, where there are masks, on a grid of `MARKS` cells a patch, which kind of defect covers each
(Long, Shelhamer and Darrell, *Fully Convolutional Networks for Semantic Segmentation*, 2015). The run itself stays as
it is: its vectors, its judge and its cases are those of its own network.

Where places go by the names of a 3×3 grid, photographs are flipped and turned while it learns, and their places go
along; and what it reads of a photograph is the mean over all of these views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mekiki.cases.encoders import open_photo_encoder
from mekiki.console import Progress, silent
from mekiki.data.decoding import decode_mask
from mekiki.data.image_set import Pixels
from mekiki.data.photo import iter_photos
from mekiki.describing.answer import Text, values_of
from mekiki.describing.fit_describer import Schooling, dealt
from mekiki.describing.localiser import (
    MARKS,
    Sharpened,
    View8,
    can_be_sharpened,
    eye_of,
    moved_places,
    turned,
)
from mekiki.describing.texts import located, read_texts, texts_of_parts
from mekiki.errors import InputError
from mekiki.storage.json_files import finite
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import replace_folder_with_manifest
from mekiki.storage.run import versions
from mekiki.storage.run_folder import LOCALISER, LOCALISER_CHECKPOINT
from mekiki.training.callbacks import AfterEpoch, MeanLoss, SaveCheckpoint, StepProgress
from mekiki.training.checkpoints import continue_from
from mekiki.training.fit import Callback, History, fit
from mekiki.training.schedules import one_cycle

Floats = NDArray[np.float32]

MARKED = 2.0
"""Weight of the marks beside the facts."""


def sharpen(
    run: Path,
    texts: Path,
    *,
    masks: Path | None = None,
    schooling: Schooling | None = None,
    resume: bool = False,
    command: str = "",
    progress: Progress = silent,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> dict[str, Any]:
    """Let a run's eye learn place and extent, and keep it in the run folder in one step.

    Better from other parts than those that will be described: what an eye reads of images that it learnt from is better
    than anything it will read again, and whoever learns to describe from that learns to trust it too much.

    Args:
        run: trained with a convolutional network.
        texts: .csv file of what people wrote; the columns defect, place and severity are learnt.
        masks: folder of masks under the names that the texts give; a part without one is marked nowhere.
        schooling: how it learns.
        resume: go on with a sharpening that was interrupted.
        command: the command line, for the record.
        progress: told of each step.
        on_epoch: told after each epoch.

    Returns:
        `right`, the share of each fact read rightly of parts kept apart; `frequent`, that of the most frequent value;
        the number of `parts`, `marked` ones among them, and `epochs`.

    Raises:
        InputError: the run has no convolutional network of its own, or there are too few texts that name facts.
    """
    schooling = schooling or Schooling(epochs=12, batch=96, rate=4e-3, decay=0.02)
    extractor = eye_of(open_photo_encoder(run))
    if not can_be_sharpened(extractor):
        raise InputError(
            f"{run}: does not look with a convolutional network of its own, and only such can be sharpened; "
            "train one with --encoder vgg or conv"
        )
    rows = read_texts(texts)
    files, which = located(rows, texts)
    said = texts_of_parts(rows, which)
    values = values_of(said)
    if not values:
        raise InputError(f"{texts}: no line has defect, place and severity, and it is these that are learnt")
    deal = dealt(said, schooling)
    with hold_lock(run / LOCALISER, "sharpening", timeout=0, role="training"):
        images = _images(extractor, files, texts, progress)
        embedder = extractor.embedder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(schooling.seed)
            sharp = Sharpened(embedder.encoder_, embedder.input_shape_, values, marked=masks is not None)
            lesson = Lesson(images, _facts(said, values, len(files)))
            if masks is not None:
                lesson = lesson.with_marks(
                    _marks(masks, files, texts, extractor.size, sharp.grid, said, values, progress)
                )
            history = _learnt(
                sharp,
                lesson,
                deal.teach,
                deal.stop,
                schooling,
                run / LOCALISER_CHECKPOINT,
                resume,
                progress,
                on_epoch,
            )
        right = _right(sharp, lesson, deal.prove)
        told = {
            "right": right,
            "frequent": {
                name: float(np.bincount(column[column >= 0]).max() / max(1, (column >= 0).sum()))
                for name, column in ((name, lesson.facts[name][deal.prove]) for name in values)
            },
            "parts": len(files),
            "marked": 0 if lesson.marks is None else int((lesson.marks.amax((1, 2)) > 0).sum()),
            "epochs": len(history["epoch"]),
        }
        with replace_folder_with_manifest(run / LOCALISER, run, "writing its sharpened eye") as new:
            sharp.save(
                new,
                finite(
                    {
                        "eye": extractor.fingerprint,
                        **told,
                        "schooling": asdict(schooling),
                        "history": history,
                        "texts": str(texts),
                        "masks": None if masks is None else str(masks),
                        "command": command,
                        "versions": versions(),
                    }
                ),
            )
        for left in run.glob(f"*{LOCALISER_CHECKPOINT}"):
            left.unlink()
    return told


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is learnt from.

    Attributes:
        images: as stored, uint8 `[N, …]`.
        facts: of each, int64 `[N]` by name: which value, −1 where it is not known.
        marks: uint8 `[N, 2h, 2w]`, 0 for nothing, else 1 + which defect; `None` without masks.
    """

    images: Tensor
    facts: Mapping[str, NDArray[np.int64]]
    marks: Tensor | None = None

    def with_marks(self, marks: Tensor) -> Lesson:
        """The same with marks."""
        return Lesson(self.images, self.facts, marks)


def _images(extractor: Any, files: Sequence[Path], texts: Path, progress: Progress) -> Tensor:
    read: list[Pixels] = []
    for block in iter_photos(files, extractor.frame, extractor.channels):
        for one in block:
            if one.pixels is None:
                raise InputError(f"{one.path}: {one.problem}; mend it, or leave it out of {texts}")
            read.append(one.pixels)
        progress("reading photographs", len(read), len(files))
    return torch.from_numpy(np.stack(read))


def _facts(
    said: Sequence[Text], values: Mapping[str, Sequence[str]], number: int
) -> dict[str, NDArray[np.int64]]:
    known = {name: np.full(number, -1, np.int64) for name in values}
    for text in said:
        for name, names in values.items():
            if text.fields.get(name) in names:
                known[name][text.part] = list(names).index(text.fields[name])
    return known


def _marks(
    folder: Path,
    files: Sequence[Path],
    texts: Path,
    size: tuple[int, int],
    grid: tuple[int, int],
    said: Sequence[Text],
    values: Mapping[str, Sequence[str]],
    progress: Progress,
) -> Tensor:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one of masks, under the names that {texts} gives")
    kind = {text.part: text.fields.get("defect") for text in said}
    rows, columns = (MARKS * cells for cells in grid)
    marks = torch.zeros((len(files), rows, columns), dtype=torch.uint8)
    found = 0
    for part, file in enumerate(files):
        relative = file.relative_to(texts.parent) if file.is_relative_to(texts.parent) else Path(file.name)
        path = next(
            (each for each in (folder / relative, (folder / relative).with_suffix(".png")) if each.is_file()),
            None,
        )
        if path is not None and kind.get(part) in values["defect"]:
            found += 1
            mask = torch.from_numpy(decode_mask(path, size).astype(np.float32))[None, None]
            covered = functional.adaptive_max_pool2d(mask, (rows, columns))[0, 0] > 0
            marks[part] = covered * (1 + list(values["defect"]).index(str(kind[part])))
        progress("reading masks", part + 1, len(files))
    if not found:
        raise InputError(f"{folder}: holds no mask by the names that {texts} gives, such as {files[0].name}")
    return marks


def _learnt(
    sharp: Sharpened,
    lesson: Lesson,
    teach: NDArray[np.intp],
    stop: NDArray[np.intp],
    schooling: Schooling,
    checkpoint: Path,
    resume: bool,
    progress: Progress,
    on_epoch: Callable[[dict[str, float]], None] | None,
) -> History:
    optimizer = torch.optim.AdamW(sharp.parameters(), lr=schooling.rate, weight_decay=schooling.decay)
    settings: dict[str, Any] = asdict(schooling) | {"parts": len(teach), "values": sharp.values}
    history: History = {}
    if resume:
        history = continue_from(checkpoint, settings, model=sharp, optimizer=optimizer)
    mean = MeanLoss()
    callbacks: list[Callback] = [mean, StepProgress(progress, "sharpening")]
    callbacks.append(SaveCheckpoint(checkpoint, settings, model=sharp, optimizer=optimizer))
    if on_epoch is not None:
        callbacks.append(AfterEpoch(lambda state: on_epoch(state.row)))

    def batches(epoch: int) -> tuple[int, Iterable[tuple[NDArray[np.intp], View8]]]:
        rng = np.random.default_rng((schooling.seed, epoch))
        sharp.train()
        rows = list(_batches(teach, schooling.batch, rng))
        views = [sharp.views[int(rng.integers(len(sharp.views)))] for _ in rows]
        return -(-len(teach) // schooling.batch), zip(rows, views, strict=True)

    def step(batch: tuple[NDArray[np.intp], View8]) -> tuple[Tensor, int]:
        return _loss(sharp, lesson, *batch), len(batch[0])

    fit(
        batches,
        step,
        optimizer,
        epochs=schooling.epochs,
        rate=lambda epoch, step, steps: schooling.rate * one_cycle(epoch + step / steps, schooling.epochs),
        measure=lambda state: {"loss": mean.value} | _right(sharp, lesson, stop, once=True),
        seed=schooling.seed,
        history=history,
        callbacks=callbacks,
    )
    sharp.eval()
    return history


def _loss(sharp: Sharpened, lesson: Lesson, rows: NDArray[np.intp], view: View8) -> Tensor:
    _, marks, facts = sharp(turned(lesson.images[rows], view))
    value = torch.zeros(())
    for name, logits in facts.items():
        wanted = torch.from_numpy(lesson.facts[name][rows])
        known = wanted >= 0
        if name == "place":
            wanted = torch.where(known, moved_places(sharp.values, view)[wanted], wanted)
        if known.any():
            value = value + functional.cross_entropy(logits, wanted, ignore_index=-1)
    if marks is not None and lesson.marks is not None:
        covered = turned(lesson.marks[rows], view).long()
        value = value + MARKED * functional.cross_entropy(marks, covered)
    return value


def _batches(teach: NDArray[np.intp], size: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    order = rng.permutation(teach)
    for start in range(0, len(order), size):
        if len(order) - start > 1:  # of one image, a batch normalisation makes nothing
            yield order[start : start + size]


def _right(
    sharp: Sharpened, lesson: Lesson, rows: NDArray[np.intp], *, once: bool = False
) -> dict[str, float]:
    """Share of each fact that is read rightly; from the photographs as they are, or, as `see` does, turned too."""
    sharp.eval()
    right: dict[str, list[bool]] = {name: [] for name in sharp.values}
    with torch.inference_mode():
        if once:
            read = {name: torch.empty((0, len(each))) for name, each in sharp.values.items()}
            for start in range(0, len(rows), 256):
                _, _, facts = sharp(lesson.images[rows[start : start + 256]])
                read = {name: torch.cat((read[name], facts[name])) for name in read}
            columns = {name: each.numpy() for name, each in read.items()}
        else:
            all_read, _ = sharp.extract([image.numpy() for image in lesson.images[rows]])
            ends = np.cumsum([len(each) for each in sharp.values.values()])[:-1]
            columns = dict(zip(sharp.values, np.split(all_read, ends, axis=1), strict=True))
    for name, column in columns.items():
        truth = lesson.facts[name][rows]
        right[name] = list((column.argmax(1) == truth)[truth >= 0])
    return {name: float(np.mean(each)) if each else float("nan") for name, each in right.items()}
