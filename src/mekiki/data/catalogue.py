"""Data sets known by name: what they are, where they are, and how they are fetched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mekiki.console import Progress, silent
from mekiki.data.idx import SOURCES, fetch_idx, find
from mekiki.data.surfaces import CLASSES, DEFAULT_PER_CLASS
from mekiki.errors import InputError, nearest

NAMES = (*SOURCES, "digits", "surfaces")
"""The data sets that have a name."""


_DIGITS_IMAGES = 1797


_IDX_IMAGES = 70_000


@dataclass(frozen=True)
class DataSet:
    """A data set with a name: what it is, and where it is.

    Attributes:
        name: what `load_images` takes.
        what: one line.
        where: the folder that holds it, `built in`, or `not here`.
        images: how many there are.
        bytes: to download; 0 for what needs none.
        licence: its terms.
        home: its page.
    """

    name: str
    what: str
    where: str
    images: int
    bytes: int
    licence: str
    home: str


def catalogue(root: str | Path | None = None) -> list[DataSet]:
    """The data sets that have a name.

    Example:
        >>> [entry.name for entry in catalogue()]
        ['mnist', 'fashion-mnist', 'kmnist', 'digits', 'surfaces']
    """
    folder = None if root is None else Path(root).expanduser()
    return [
        *(
            DataSet(
                name,
                source.what,
                str(find(name, folder) or "not here"),
                _IDX_IMAGES,
                source.size,
                source.licence,
                source.home,
            )
            for name, source in SOURCES.items()
        ),
        DataSet(
            "digits",
            "handwritten digits, 8×8 grey",
            "built in",
            _DIGITS_IMAGES,
            0,
            "CC BY 4.0",
            "https://archive.ics.uci.edu/dataset/80",
        ),
        DataSet(
            "surfaces",
            "generated grey surfaces with scratches, pits, stains and cracks",
            "built in",
            DEFAULT_PER_CLASS * len(CLASSES),
            0,
            "MIT, as this package",
            "",
        ),
    ]


def fetch(name: str, root: str | Path | None = None, *, progress: Progress = silent) -> Path:
    """Download a published set into `root/<name>`, or into the cache, unless it is there; give its folder.

    Raises:
        InputError: the name is unknown, needs no download, or no mirror could be reached.
    """
    if name in SOURCES:
        return fetch_idx(name, None if root is None else Path(root).expanduser(), progress=progress)
    if name in NAMES:
        raise InputError(f"{name}: nothing to fetch, it is built in")
    raise InputError(f"{name}: no such data set; {', '.join(SOURCES)} can be fetched{nearest(name, NAMES)}")
