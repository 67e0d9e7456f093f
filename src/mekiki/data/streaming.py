"""Images without labels for a trained model: all at once, or as a stream of blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from mekiki.console import Progress, silent
from mekiki.data.decode_blocks import Findings, decode_blocks
from mekiki.data.folder_layout import image_files
from mekiki.data.image_set import Pixels
from mekiki.errors import InputError, count_noun, name_some

Places = str | Path | Iterable[str | Path]
"""One file or folder, or several of them."""


class ImageStream:
    """Blocks of `(pixels, names)` from files and folders, decoded one block ahead; made by `iter_images`.

    Attributes:
        paths: every file that will be tried.
        notes: what was skipped and why; complete when the stream has ended.
    """

    def __init__(
        self, places: Places, *, size: tuple[int, int], channels: int, batch: int, progress: Progress
    ) -> None:
        if channels not in (1, 3):
            raise InputError(f"channels must be 1 (grey) or 3 (RGB), not {channels}")
        if batch < 1:
            raise InputError(f"batch must be at least 1, not {batch}")
        self.paths, self.notes = _collect(places)
        self._size, self._channels, self._batch, self._progress = size, channels, batch, progress

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[tuple[Pixels, list[str]]]:
        findings = Findings()
        names = [str(path) for path in self.paths]
        some = False
        for rows, pixels in decode_blocks(
            self.paths,
            names,
            self._size,
            self._channels,
            findings,
            batch=self._batch,
            progress=self._progress,
        ):
            if rows:
                some = True
                yield pixels, [names[i] for i in rows]
        self.notes = findings.finish(self.notes, self._size, some=some)


def iter_images(
    places: Places, *, size: tuple[int, int], channels: int, batch: int = 256, progress: Progress = silent
) -> ImageStream:
    """Stream images for a trained model, two blocks in memory at a time: the next is decoded while one is used.

    Bad files are skipped, and noted at the end.

    Args:
        places: files and folders (searched to the bottom), in this order.
        size: height and width.
        channels: 1 or 3.
        batch: images a block, less what is skipped.
        progress: called after each block.

    Returns:
        An iterable of `(uint8 [n, H, W] or [n, H, W, 3], paths as text)`; `len()` of it is the number of files to try,
        and its `notes` are complete when it has ended.

    Raises:
        InputError: a path does not exist, or (at the end) no file could be read.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> for i in range(5):
        ...     Image.new("L", (20, 10), i).save(folder / f"{i}.png")
        >>> stream = iter_images(folder, size=(8, 8), channels=1, batch=2)
        >>> [pixels.shape for pixels, names in stream], stream.notes
        ([(2, 8, 8), (2, 8, 8), (1, 8, 8)], [])
    """
    return ImageStream(places, size=size, channels=channels, batch=batch, progress=progress)


def read_images(
    places: Places, *, size: tuple[int, int], channels: int, progress: Progress = silent
) -> tuple[Pixels, list[str], tuple[str, ...]]:
    """Read images for a trained model, all into memory; see `iter_images`.

    Returns:
        uint8 `[N, H, W]` or `[N, H, W, 3]`, paths as text, and notes.

    Raises:
        InputError: a path does not exist, or no file could be read.
    """
    stream = iter_images(places, size=size, channels=channels, progress=progress)
    blocks = list(stream)
    names = [name for _, block_names in blocks for name in block_names]
    return np.concatenate([pixels for pixels, _ in blocks]), names, tuple(stream.notes)


def _collect(places: Places) -> tuple[list[Path], list[str]]:
    several_places = [places] if isinstance(places, str | Path) else list(places)
    files: list[Path] = []
    strangers: list[str] = []
    for place in several_places:
        path = Path(place).expanduser()
        if path.is_dir():
            images, others = image_files(path)
            files += images
            strangers += [str(other) for other in others]
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"{path}: does not exist; give image files or folders")
    if not files:
        where = ", ".join(map(str, several_places)) or "nothing given"
        raise InputError(f"{where}: no image to read; give files or folders of png, jpg, bmp, tif or webp")
    if not strangers:
        return files, []
    return files, [
        f"{count_noun(len(strangers), 'file is', 'files are')} no image, by the name: {name_some(strangers)}"
    ]
