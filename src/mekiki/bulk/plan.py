"""Which images are in which part, written down before any is done, so that a part has the same rows whoever does it.

In the output folder `about.json` says what is done and by which run, `plan/000000.json` names the images of a part, and
`part-000000.parquet` has its rows, one an image; it is there if, and only if, the part is done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mekiki.errors import InputError
from mekiki.storage.atomic import PARTIAL, write_text
from mekiki.storage.run_folder import BULK_ABOUT, BULK_PLANS

PART = 2000
"""Images a part, unless another number is asked for: some seconds of work, which is what a kill costs at most."""


@dataclass(frozen=True)
class Plan:
    """The parts in an output folder.

    Attributes:
        folder: where.
    """

    folder: Path

    @classmethod
    def made(cls, folder: Path, about: Mapping[str, Any], names: Sequence[str], length: int = PART) -> Plan:
        """Deal images into parts; those that are in one already, from before, stay there.

        Args:
            folder: may be new, or hold an earlier plan for the same work.
            about: what is done, and by which run.
            names: of all images.
            length: images a part at most.

        Raises:
            InputError: the folder holds something else, or the work of another run.
        """
        plan = cls(folder)
        if (folder / BULK_ABOUT).is_file():
            plan._check(about)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder}: holds something else; give another -o, or one that is empty")
        try:
            (folder / BULK_PLANS).mkdir(parents=True, exist_ok=True)
            write_text(folder / BULK_ABOUT, json.dumps(about, indent=1) + "\n")
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror}); give another -o") from None
        for left in (*folder.glob(f".*{PARTIAL}*"), *(folder / BULK_PLANS).glob(f".*{PARTIAL}*")):
            left.unlink(missing_ok=True)  # by a process that was killed while it wrote
        numbers = plan.parts()
        known = {name for number in numbers for name in plan.names(number)}
        new = [name for name in dict.fromkeys(names) if name not in known]
        first = max(numbers, default=-1) + 1
        for number, start in enumerate(range(0, len(new), length), start=first):
            write_text(plan._plan(number), json.dumps(new[start : start + length]) + "\n")
        return plan

    def parts(self) -> list[int]:
        """The numbers of all parts."""
        return sorted(int(path.stem) for path in (self.folder / BULK_PLANS).glob("[0-9]*.json"))

    def names(self, part: int) -> list[str]:
        """The images of a part, in order."""
        path = self._plan(part)
        try:
            names: list[str] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: cannot be read ({error}); delete {self.folder} to start anew"
            ) from None
        return names

    def table(self, part: int) -> Path:
        """Where the rows of a part are, or will be."""
        return self.folder / f"part-{part:06}.parquet"

    def missing(self) -> list[int]:
        """The parts that are not done."""
        return [part for part in self.parts() if not self.table(part).is_file()]

    def _plan(self, part: int) -> Path:
        return self.folder / BULK_PLANS / f"{part:06}.json"

    def _check(self, about: Mapping[str, Any]) -> None:
        path = self.folder / BULK_ABOUT
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error}); give another -o") from None
        if there != about:
            different = [key for key in about if there.get(key) != about[key]]
            raise InputError(
                f"{self.folder}: holds the work of another run or command ({', '.join(different)} differs); give "
                "another -o"
            )
