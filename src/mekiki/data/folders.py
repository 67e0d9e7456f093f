"""Images of a folder: decode, find copies, split; on disk instead of in memory when they are many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mekiki.console import Progress, silent
from mekiki.data.decode_blocks import Findings, decode_blocks, read_headers
from mekiki.data.decoding import choose_size, decode_mask
from mekiki.data.folder_layout import Layout, read_layout
from mekiki.data.image_set import ImageSet, Pixels, content_hashes
from mekiki.data.pixel_cache import pool_for, read_split, store_key, write_split
from mekiki.data.splits import Division, ImageSplit, SplitPolicy, divide
from mekiki.errors import InputError, count_noun, name_some


def load_folder(
    root: Path,
    policy: SplitPolicy,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    progress: Progress = silent,
) -> ImageSplit:
    """Load and split a folder of images; see `read_layout` for the layouts.

    Args:
        root: the folder.
        policy: how to split.
        size: height and width; `None` keeps a common size up to 128 px and squeezes anything else to 64×64.
        channels: 1 or 3; `None` gives RGB if any image has colour.
        progress: called for headers and for decoding.

    Raises:
        InputError: no class folders, fewer than two classes to learn from, or most files unreadable.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for i in range(10):
        ...     path = root / ("dark" if i < 5 else "light") / f"{i}.png"
        ...     path.parent.mkdir(exist_ok=True)
        ...     Image.new("L", (8, 8), 20 * i).save(path)
        >>> train, test = load_folder(root, SplitPolicy())
        >>> train.counts(), len(test), test.names[0].split("/")[0]
        ({'dark': 4, 'light': 4}, 2, 'dark')
    """
    layout = read_layout(root)
    _check_train_classes(layout, policy)
    layout = layout.at(policy.select(layout.labels, layout.is_test))
    key = store_key(
        [_identity(file) for file in layout.files], (layout.root.resolve(), policy, size, channels)
    )
    stored = read_split(key)
    if stored is not None:
        return stored

    findings = Findings()
    files = len(layout.files)
    notes = list(layout.notes)
    headers = read_headers(layout.files, layout.names, findings, progress=progress)
    readable = np.array([header is not None for header in headers])
    _check_readable(root, files, int(readable.sum()), findings)
    known = [header for header in headers if header is not None]
    shape, size_notes = choose_size({(header.height, header.width) for header in known}, size)
    notes += size_notes
    layout = layout.at(np.flatnonzero(readable))
    decoded_channels = channels or (1 if all(header.grey for header in known) else 3)

    pool_shape = (len(layout.files), *shape, *((3,) if decoded_channels == 3 else ()))
    with pool_for(key, pool_shape) as pixels:
        contents, whole = _decode_all(layout, pixels, findings, progress)
        _check_readable(root, files, int(whole.sum()), findings)
        notes += findings.notes(shape)
        masks = None if layout.masks is None else _masks(layout, shape, notes)
        division = _divide(layout, contents, whole, policy)
        names = layout.names
        pool = ImageSet(pixels, np.maximum(division.labels, 0), division.class_names, names, str(root), masks)
        grey = channels is None and decoded_channels == 3 and not findings.coloured
        everything = (*notes, *division.notes)
        if isinstance(pixels, np.memmap):
            split = write_split(key, pool, division, everything, grey=grey)
        else:
            split = _in_memory(pool, division, everything, grey=grey)
        del pixels, pool  # Windows removes no file that is still mapped
    return split


def _divide(
    layout: Layout, contents: NDArray[np.uint64], whole: NDArray[np.bool_], policy: SplitPolicy
) -> Division:
    """Divide the images that could be decoded; rows and labels are those of the whole layout."""
    rows = np.flatnonzero(whole)
    kept = layout.at(rows)
    division = divide(
        kept.labels, contents[rows], kept.names, kept.class_names, str(layout.root), kept.is_test, policy
    )
    labels = np.full(len(whole), -1)
    labels[rows] = division.labels
    return replace(division, train=rows[division.train], test=rows[division.test], labels=labels)


def _in_memory(pool: ImageSet, division: Division, notes: tuple[str, ...], *, grey: bool) -> ImageSplit:
    if grey:
        pool = replace(pool, pixels=pool.pixels[..., 0])
    return ImageSplit(pool.subset(division.train), pool.subset(division.test), notes)


def _decode_all(
    layout: Layout, pixels: Pixels, findings: Findings, progress: Progress
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Fill `pixels`; give the content hash of each image and whether it could be decoded."""
    contents = np.zeros(len(pixels), np.uint64)
    whole = np.zeros(len(pixels), bool)
    height, width = pixels.shape[1:3]
    blocks = decode_blocks(
        layout.files,
        layout.names,
        (height, width),
        3 if pixels.ndim == 4 else 1,
        findings,
        progress=progress,
    )
    for rows, block in blocks:
        pixels[rows] = block
        contents[rows] = content_hashes(block)
        whole[rows] = True
    return contents, whole


def _masks(layout: Layout, size: tuple[int, int], notes: list[str]) -> NDArray[np.bool_]:
    masks = np.zeros((len(layout.files), *size), bool)
    without: list[str] = []
    for i, (name, mask) in enumerate(zip(layout.names, layout.masks or (), strict=True)):
        if mask is not None:
            try:
                masks[i] = decode_mask(mask, size)
            except InputError:
                without.append(name)
        elif (
            layout.is_test is not None
            and layout.is_test[i]
            and layout.class_names[layout.labels[i]] != "good"
        ):
            without.append(name)
    if without:
        notes.append(
            f"{count_noun(len(without), 'test image')} without a readable mask: {name_some(without)}"
        )
    return masks


def _check_train_classes(layout: Layout, policy: SplitPolicy) -> None:
    if layout.is_test is None or policy.resplit or policy.test_fraction == 1:
        return
    learning = np.unique(layout.labels[~layout.is_test])
    if len(learning) < policy.least_classes:
        found = repr(layout.class_names[learning[0]]) if len(learning) else "no class"
        raise InputError(
            f"{layout.root}: train holds only {found}, and two classes are needed to learn from; pool train and "
            "test with resplit=True (--resplit)"
        )


def _check_readable(root: Path, files: int, readable: int, findings: Findings) -> None:
    if 2 * readable < files:
        bad = findings.unreadable + findings.too_large
        raise InputError(
            f"{root}: {len(bad):,} of {count_noun(files, 'file')} cannot be read ({name_some(bad)}); check the copy"
        )


def _identity(file: Path) -> tuple[str, int, int]:
    try:
        status = file.stat()
    except OSError:  # a link to nowhere: it is counted as unreadable when it is opened
        return file.as_posix(), 0, 0
    return file.as_posix(), status.st_size, status.st_mtime_ns
