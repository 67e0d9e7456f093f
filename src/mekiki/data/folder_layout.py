"""Layout of an image folder: class and side of each file; one folder per class, train/test, or MVTec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mekiki.data.decoding import IMAGE_ENDINGS
from mekiki.data.image_set import Indices, Labels
from mekiki.errors import InputError, count_noun, name_some
from mekiki.storage.run_folder import CHECKPOINT, COMPARISON

TRAIN_SIDE = "train"
TEST_SIDES = ("test", "val", "valid")
MASKS = "ground_truth"
_NO_CONTENT = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


@dataclass(frozen=True, eq=False)
class Layout:
    """The image files of a folder, sorted, each with its class.

    Attributes:
        root: the folder.
        files: `[N]` paths.
        labels: int64 `[N]`, positions in `class_names`.
        class_names: the class folders that hold files.
        is_test: bool `[N]`, the side each file was found on; `None` without sides.
        masks: `[N]` mask files of the MVTec layout, `None` for an image without one; `None` without that layout.
        notes: what was left out.
    """

    root: Path
    files: tuple[Path, ...]
    labels: Labels
    class_names: tuple[str, ...]
    is_test: NDArray[np.bool_] | None
    masks: tuple[Path | None, ...] | None
    notes: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Paths below the root, with slashes on every system."""
        return [file.relative_to(self.root).as_posix() for file in self.files]

    def at(self, rows: Indices) -> Layout:
        """The files at `rows`."""
        return replace(
            self,
            files=tuple(self.files[i] for i in rows),
            labels=self.labels[rows],
            is_test=None if self.is_test is None else self.is_test[rows],
            masks=None if self.masks is None else tuple(self.masks[i] for i in rows),
        )


RESULTS = (CHECKPOINT, COMPARISON)
"""Files by which a folder is known to be a run or a comparison."""


def read_layout(root: Path) -> Layout:
    """Find the images below `root` without opening them.

    Three layouts are known: `root/<class>/…`; `root/train/<class>/…` beside `root/test/<class>/…` (or `val`, or
    `valid`); and the MVTec one, which adds `root/ground_truth/<class>/NAME_mask.png`. Folders inside a class folder
    belong to it. Hidden files are passed over.

    Raises:
        InputError: there is no class folder, or no image in any of them.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("ok/1.png", "ng/2.png", "ng/more/3.png"):
        ...     (root / name).parent.mkdir(parents=True, exist_ok=True)
        ...     (root / name).touch()
        >>> layout = read_layout(root)
        >>> layout.class_names, layout.names
        (('ng', 'ok'), ['ng/2.png', 'ng/more/3.png', 'ok/1.png'])
    """
    folders = {folder.name.lower(): folder for folder in _visible(root) if folder.is_dir()}
    test_side = next((side for side in TEST_SIDES if side in folders), None)
    notes: list[str] = []
    if TRAIN_SIDE in folders and (test_side is not None or len(folders) == 1):
        sides = [folders.pop(TRAIN_SIDE)]
        if test_side is None:
            notes.append("there is no test folder beside train, so train is split")
        else:
            sides.append(folders.pop(test_side))
        masks_folder = folders.pop(MASKS, None) if test_side is not None else None
        if folders:
            unused = name_some([folder.name for folder in folders.values()])
            notes.append(f"{count_noun(len(folders), 'folder')} beside train and test not used: {unused}")
    else:
        sides, masks_folder = [root], None

    found = [_classes_of(side, root, notes) for side in sides]
    class_names = sorted({name for side in found for name in side}, key=_class_order)
    if not class_names:
        raise InputError(f"{root}: {_what_is_missing(root)}")
    rows = [
        (file, class_names.index(name), i == 1)
        for i, side in enumerate(found)
        for name in class_names
        for file in side.get(name, ())
    ]
    is_test = np.array([row[2] for row in rows])
    files = tuple(row[0] for row in rows)
    return Layout(
        root,
        files,
        np.array([row[1] for row in rows], np.int64),
        tuple(class_names),
        is_test if len(sides) == 2 else None,
        None if masks_folder is None else tuple(_mask_of(file, sides[1], masks_folder) for file in files),
        tuple(notes),
    )


def image_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Image files anywhere below a folder, and the other files there, each sorted; by their endings.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png"):
        ...     (folder / name).touch()
        >>> images, others = image_files(folder)
        >>> [path.name for path in images], [path.name for path in others]
        (['a.jpg', 'b.PNG'], ['notes.txt'])
    """
    images: list[Path] = []
    others: list[Path] = []
    for file in sorted(
        _files_below(folder, frozenset(folder.resolve().parents)), key=lambda path: path.as_posix()
    ):
        (images if file.suffix.lower() in IMAGE_ENDINGS else others).append(file)
    return images, others


def _classes_of(side: Path, root: Path, notes: list[str]) -> dict[str, list[Path]]:
    classes: dict[str, list[Path]] = {}
    strangers: list[str] = []
    loose: list[str] = []
    empty: list[str] = []
    for entry in _visible(side):
        name = entry.relative_to(root).as_posix()
        if entry.is_dir():
            images, others = image_files(entry)
            strangers += [other.relative_to(root).as_posix() for other in others]
            if images:
                classes[entry.name] = images
            else:
                empty.append(name)
        else:
            (loose if entry.suffix.lower() in IMAGE_ENDINGS else strangers).append(name)
    if strangers:
        notes.append(
            f"{count_noun(len(strangers), 'file is', 'files are')} no image, by the name: {name_some(strangers)}"
        )
    if loose:
        notes.append(
            f"{count_noun(len(loose), 'image')} beside the class folders left out: {name_some(loose)}"
        )
    if empty:
        notes.append(f"{count_noun(len(empty), 'class folder')} without images left out: {name_some(empty)}")
    return classes


def _visible(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except PermissionError:
        raise InputError(f"{folder}: may not be opened; change its permissions") from None
    return [entry for entry in entries if entry.name[0] != "." and entry.name.lower() not in _NO_CONTENT]


def _files_below(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:  # a link that leads back up
        return
    if any((folder / mark).is_file() for mark in RESULTS):  # pictures that mekiki drew are no parts
        return
    for entry in _visible(folder):
        if entry.is_dir():
            yield from _files_below(entry, above | {real})
        else:
            yield entry


def _class_order(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _mask_of(file: Path, test_side: Path, masks: Path) -> Path | None:
    if not file.is_relative_to(test_side):
        return None
    mask = masks / file.relative_to(test_side).with_name(f"{file.stem}_mask.png")
    return mask if mask.is_file() else None


def _what_is_missing(root: Path) -> str:
    images, _ = image_files(root)
    if images:
        return f"{count_noun(len(images), 'image')} but no class folder; put the images of each class into a folder"
    return "holds no png, jpg, bmp, tif or webp image; give a folder with a sub-folder of images per class"
