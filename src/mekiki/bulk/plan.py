"""The plan of a bulk job: which images are in which shard, written before any is processed.

In the output folder `about.json` says what is done and with which run, `plan/000000.json` lists the images of a shard,
and `part-000000.parquet` has its rows, one per image; it exists if, and only if, the shard is done.
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

SHARD_LENGTH = 2000
"""Images per shard, unless another number is given: some seconds of work, which is what a kill loses at most."""


@dataclass(frozen=True)
class Plan:
    """The shards in an output folder.

    Attributes:
        folder: where.
    """

    folder: Path

    @classmethod
    def create(
        cls, folder: Path, about: Mapping[str, Any], names: Sequence[str], length: int = SHARD_LENGTH
    ) -> Plan:
        """Divide images into shards; those that are in a shard from before stay there.

        Args:
            folder: may be new, or hold an earlier plan for the same job.
            about: what is done, and with which run.
            names: of all images.
            length: images per shard at most.

        Raises:
            InputError: the folder holds something else, or the job of another run.
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
        for rest in (*folder.glob(f".*{PARTIAL}*"), *(folder / BULK_PLANS).glob(f".*{PARTIAL}*")):
            rest.unlink(missing_ok=True)  # of a process that was killed while it wrote
        shards = plan.shards()
        known = {name for shard in shards for name in plan.names(shard)}
        new = [name for name in dict.fromkeys(names) if name not in known]
        first = max(shards, default=-1) + 1
        for shard, start in enumerate(range(0, len(new), length), start=first):
            write_text(plan._list_path(shard), json.dumps(new[start : start + length]) + "\n")
        return plan

    def shards(self) -> list[int]:
        """The numbers of all shards."""
        return sorted(int(path.stem) for path in (self.folder / BULK_PLANS).glob("[0-9]*.json"))

    def names(self, shard: int) -> list[str]:
        """The images of a shard, in order."""
        path = self._list_path(shard)
        try:
            names: list[str] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: cannot be read ({error}); delete {self.folder} to start over"
            ) from None
        return names

    def table(self, shard: int) -> Path:
        """The file of a shard's rows, which exists when the shard is done."""
        return self.folder / f"part-{shard:06}.parquet"

    def missing(self) -> list[int]:
        """The shards that are not done."""
        return [shard for shard in self.shards() if not self.table(shard).is_file()]

    def _list_path(self, shard: int) -> Path:
        return self.folder / BULK_PLANS / f"{shard:06}.json"

    def _check(self, about: Mapping[str, Any]) -> None:
        path = self.folder / BULK_ABOUT
        try:
            written = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error}); give another -o") from None
        if written != about:
            different = [key for key in about if written.get(key) != about[key]]
            raise InputError(
                f"{self.folder}: holds the work of another run or command ({', '.join(different)} differs); give "
                "another -o"
            )
