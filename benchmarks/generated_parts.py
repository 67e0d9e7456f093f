"""Photographs of parts, OK and NG, drawn at random: boards, bars, grain, screws, castings and fabric.

    python -m benchmarks.generated_parts FOLDER [KIND …] [--ok N] [--ng N] [--size HEIGHT WIDTH] [--seed N]

writes `FOLDER/KIND/ok` and `FOLDER/KIND/ng/DEFECT`. Parts come in lots, which differ in material and light. Every
defect is drawn into the scene before lens and noise, by code of its own. `mekiki.judging.painted_defects` has no part
in it: weights of detectors found by painted defects would be flattered by more of the same.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image

from benchmarks.parts.bars import BARS
from benchmarks.parts.boards import BOARDS
from benchmarks.parts.castings import CASTINGS
from benchmarks.parts.drawing import Chance, PartKind, Pixels
from benchmarks.parts.fabric import FABRIC
from benchmarks.parts.grain import GRAIN
from benchmarks.parts.screws import SCREWS
from mekiki.errors import InputError, not_known

KINDS: dict[str, PartKind] = {
    "boards": BOARDS,
    "bars": BARS,
    "grain": GRAIN,
    "screws": SCREWS,
    "castings": CASTINGS,
    "fabric": FABRIC,
}
"""Kinds of parts, by name."""
LOTS = 5
"""Lots that the parts of a set come from."""
LEAST_SIDE = 96
"""Pixels of the shorter side of a photograph, below which there is no room for a part."""
OK, NG = 160, 60
"""Photographs of a set, unless others are asked for."""


def draw_part(
    kind: str, number: int, defect: str | None = None, *, seed: int = 0, size: tuple[int, int] | None = None
) -> Pixels:
    """A photograph of a part: uint8 `[h, w]` or `[h, w, 3]`.

    The same part with and without a defect differs near the defect alone.

    Args:
        kind: one of `KINDS`.
        number: of the part, from 0.
        defect: one of the kind's defects; `None` draws a good part.
        seed: of the set of parts.
        size: height and width in pixels; those of the kind if `None`. On bars, screws and castings the part grows with
            the photograph; of boards, grain and fabric there is more to be seen.

    Raises:
        InputError: there is no such kind or defect, or the size leaves no room for a part.

    Example:
        >>> draw_part("boards", 3, "open", size=(100, 120)).shape
        (100, 120, 3)
    """
    if kind not in KINDS:
        raise not_known("kind of generated parts", kind, KINDS)
    if defect is not None and defect not in KINDS[kind].defects:
        raise not_known(f"defect of {kind}", defect, KINDS[kind].defects)
    height, width = size or KINDS[kind].size
    if min(height, width) < LEAST_SIDE:
        raise InputError(f"size {height} × {width}: give {LEAST_SIDE} pixels or more for each side")
    design = np.random.default_rng([seed, crc32(kind.encode())])
    own = np.random.default_rng([seed, crc32(kind.encode()), number])
    lot = np.random.default_rng([seed, crc32(kind.encode()), int(own.integers(LOTS)), LOTS])
    # Not of the kind: a defect's name is what it is drawn by.
    spoil = np.random.default_rng([seed, crc32((defect or "").encode()), number, LOTS])
    return KINDS[kind].draw(height, width, Chance(design, lot, own, spoil), defect)


def write_parts(
    folder: Path, kind: str, *, ok: int = OK, ng: int = NG, size: tuple[int, int] | None = None, seed: int = 0
) -> None:
    """Write a set of photographs as `ok/NUMBER.png` and `ng/DEFECT/NUMBER.png`, as many of each defect.

    Args:
        folder: made if it is missing.
        kind: one of `KINDS`.
        ok: good parts.
        ng: parts with a defect; none of them is one of the good ones.
        size: height and width in pixels; those of the kind if `None`.
        seed: of the set.

    Raises:
        InputError: there is no such kind, or the size leaves no room for a part.
    """
    if kind not in KINDS:
        raise not_known("kind of generated parts", kind, KINDS)
    defects = KINDS[kind].defects
    for number in range(ok + ng):
        defect = defects[(number - ok) % len(defects)] if number >= ok else None
        place = folder / "ok" if defect is None else folder / "ng" / defect.replace(" ", "_")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_part(kind, number, defect, seed=seed, size=size)).save(
            place / f"{number:05}.png"
        )


def main(arguments: list[str]) -> None:
    """Write the sets that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generated_parts", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--ok", type=int, default=OK, help="good parts of each kind")
    parser.add_argument("--ng", type=int, default=NG, help="parts with a defect")
    parser.add_argument("--size", nargs=2, type=int, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    try:
        for kind in asked.kinds or KINDS:
            size = tuple(asked.size) if asked.size else None
            write_parts(asked.folder / kind, kind, ok=asked.ok, ng=asked.ng, size=size, seed=asked.seed)
            print(f"{asked.folder / kind}: {asked.ok} OK, {asked.ng} NG", flush=True)
    except InputError as error:
        sys.exit(f"generated_parts: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
