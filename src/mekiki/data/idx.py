"""MNIST and similar sets: idx files, where they are looked for, and how they are fetched.

The format: http://yann.lecun.com/exdb/mnist/ (LeCun, Cortes, Burges). Fashion-MNIST: Xiao, Rasul, Vollgraf 2017,
arXiv:1708.07747. Kuzushiji-MNIST: Clanuwat et al. 2018, arXiv:1812.01718.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import struct
import zlib
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mekiki.console import Progress, silent
from mekiki.data.download import download
from mekiki.data.image_set import ImageSet
from mekiki.errors import InputError
from mekiki.storage.cache_folder import cache_folder

_UBYTE = 0x08
_LONGEST_HEADER = 4 + 4 * 255
_PIECE = 1 << 20


@dataclass(frozen=True)
class IdxSource:
    """A published set of four idx files.

    Attributes:
        what: one line for a person to read.
        mirrors: folders on the web, tried in this order.
        md5: of the four gz files, train images, train labels, test images, test labels.
        size: bytes of the four together.
        class_names: in the order of the labels.
        licence: under which terms it is published.
        home: its page.
    """

    what: str
    mirrors: tuple[str, ...]
    md5: tuple[str, str, str, str]
    size: int
    class_names: tuple[str, ...]
    licence: str
    home: str


FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

SOURCES = {
    "mnist": IdxSource(
        "handwritten digits, 28×28 grey",
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ),
        (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        11_594_722,
        tuple("0123456789"),
        "none stated; free for research use",
        "http://yann.lecun.com/exdb/mnist/",
    ),
    "fashion-mnist": IdxSource(
        "articles of clothing, 28×28 grey",
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        30_878_645,
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        "MIT",
        "https://github.com/zalandoresearch/fashion-mnist",
    ),
    "kmnist": IdxSource(
        "Kuzushiji: cursive Japanese characters, 28×28 grey",
        ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/", "http://codh.rois.ac.jp/kmnist/dataset/kmnist/"),
        (
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
        21_240_888,
        (
            "o (お)",
            "ki (き)",
            "su (す)",
            "tsu (つ)",
            "na (な)",
            "ha (は)",
            "ma (ま)",
            "ya (や)",
            "re (れ)",
            "wo (を)",
        ),
        "CC BY-SA 4.0",
        "https://github.com/rois-codh/kmnist",
    ),
}


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes, gzip-compressed or not (its content decides, not its name).

    Raises:
        InputError: the file is damaged, cut short or of another kind.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels"
        >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
        >>> read_idx(path)
        array([7, 8, 9], dtype=uint8)
    """
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            # No more than the header promises, and one byte to see that there is none: a small file may unpack to any.
            with gzip.open(plain) if packed else contextlib.nullcontext(plain) as file:
                data = _up_to(file, _LONGEST_HEADER)
                if len(data) == _LONGEST_HEADER:
                    data += _up_to(file, max(0, _expected_bytes(data) - len(data)) + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: damaged or cut short ({error}); fetch it again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    dimensions, start = _header(data)
    if data[:2] != b"\0\0" or not dimensions or data[2] != _UBYTE or len(data) < start:
        raise InputError(f"{path}: no idx file of unsigned bytes; fetch it again or check what it is")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    if len(data) - start != int(np.prod(shape, dtype=object)):
        more = "more" if len(data) > _expected_bytes(data) else f"{len(data) - start:,}"
        raise InputError(f"{path}: its header promises {list(shape)} bytes and {more} follow; fetch it again")
    try:
        return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
    except ValueError:  # more dimensions than there can be, or none in one and too many in another
        raise InputError(f"{path}: its header promises {list(shape)} bytes; fetch it again") from None


def _up_to(file: gzip.GzipFile | BufferedReader, most: int) -> bytearray:
    """What a file still has, but no more than so much; piece by piece, for `most` may be any lie."""
    data = bytearray()
    while piece := file.read(min(_PIECE, most - len(data))):
        data += piece
    return data


def _header(data: bytes | bytearray) -> tuple[int, int]:
    """How many dimensions there are, and where the content starts."""
    dimensions = data[3] if len(data) > 3 else 0
    return dimensions, 4 + 4 * dimensions


def _expected_bytes(data: bytes | bytearray) -> int:
    """Length of the whole file by its header, of any length if that cannot be."""
    dimensions, start = _header(data)
    return start + int(math.prod(struct.unpack(f">{dimensions}I", data[4:start])))


def find(name: str, root: Path | None = None) -> Path | None:
    """The folder that holds the four files of a set, gz or not; `None` if there is none.

    Looked at in this order: `root`, `root/<name>`, `$MEKIKI_DATA/<name>`, and the cache.
    """
    candidates = [] if root is None else [root, root / name]
    if os.environ.get("MEKIKI_DATA"):
        candidates.append(Path(os.environ["MEKIKI_DATA"]).expanduser() / name)
    candidates.append(_cache_path(name))
    return next((folder for folder in candidates if all(_file(folder, stem) for stem in FILES)), None)


def fetch_idx(name: str, root: Path | None = None, *, progress: Progress = silent) -> Path:
    """The folder that holds a set, after downloading what is missing into `root/<name>`, or else into the cache.

    Raises:
        InputError: no mirror could deliver; the message says how to place the files by hand.
    """
    found = find(name, root)
    wanted = () if root is None else (root, root / name)
    if found is not None and (root is None or found in wanted):
        return found
    folder = _cache_path(name) if root is None else root / name
    source = SOURCES[name]
    for stem, md5 in zip(FILES, source.md5, strict=True):
        if _file(folder, stem) is not None:
            continue
        file = f"{stem}.gz"
        try:
            download([mirror + file for mirror in source.mirrors], folder / file, md5, progress=progress)
        except InputError as error:
            raise InputError(
                f"{name}: {error}; or put {', '.join(f'{stem}.gz' for stem in FILES)} into a folder and give that "
                f"as root (--root), or into {name}/ below the folder that MEKIKI_DATA names"
            ) from None
    return folder


def load_idx(
    name: str, root: Path | None = None, *, progress: Progress = silent
) -> tuple[ImageSet, NDArray[np.bool_]]:
    """Load a set, fetching it into the cache if it is nowhere.

    Returns:
        All images, named `mnist/train/17` by their place in the published files, and which of them are test images.

    Raises:
        InputError: the files are damaged or do not belong together, or cannot be fetched.
    """
    folder = find(name, root) or fetch_idx(name, progress=progress)
    sides = []
    for images_stem, labels_stem in (FILES[:2], FILES[2:]):
        images_file, labels_file = _file(folder, images_stem), _file(folder, labels_stem)
        if images_file is None or labels_file is None:
            raise InputError(f"{folder}: {images_stem} or {labels_stem} has gone; fetch it again")
        sides.append(_read_side(images_file, labels_file, len(SOURCES[name].class_names)))
    (train, train_labels), (test, test_labels) = sides
    if train.shape[1:] != test.shape[1:]:
        raise InputError(f"{folder}: train images are {train.shape[1:]}, test images {test.shape[1:]} pixels")
    names = [f"{name}/train/{i}" for i in range(len(train))] + [f"{name}/test/{i}" for i in range(len(test))]
    pool = ImageSet(
        np.concatenate([train, test]),
        np.concatenate([train_labels, test_labels]).astype(np.int64),
        SOURCES[name].class_names,
        names,
        f"{name} ({folder})",
    )
    return pool, np.arange(len(names)) >= len(train)


def _read_side(
    images_file: Path, labels_file: Path, classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images, labels = read_idx(images_file), read_idx(labels_file)
    if images.ndim != 3 or not images.size:
        raise InputError(f"{images_file}: holds {list(images.shape)}, not images; are the files mixed up?")
    if labels.ndim != 1 or len(labels) != len(images):
        raise InputError(
            f"{labels_file}: {list(labels.shape)} labels for {len(images):,} images; fetch both again"
        )
    if labels.max() >= classes:
        raise InputError(
            f"{labels_file}: holds label {labels.max()}, and there are {classes} classes; fetch it again"
        )
    return images, labels


def _file(folder: Path, stem: str) -> Path | None:
    # Unpacked copies are also found with a dot, as in train-images.idx3-ubyte.
    dotted = stem.replace("-idx", ".idx")
    names = (stem, f"{stem}.gz", dotted, f"{dotted}.gz")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _cache_path(name: str) -> Path:
    return cache_folder() / "datasets" / name
