"""Which images an experiment uses, written down so that it can be repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from mekiki.console import Progress, silent
from mekiki.data.catalogue import NAMES
from mekiki.data.load import load_images
from mekiki.data.splits import ImageSplit
from mekiki.models.pretrained_folder import PREFIX, backbone_input_size


@dataclass(frozen=True)
class DataRequest:
    """Which images an experiment uses: the arguments of `load_images`, kept with the run so that it can be repeated.

    Attributes: see `mekiki.data.load_images`.
    """

    spec: str
    root: str | None = None
    size: tuple[int, int] | None = None
    channels: int | None = None
    per_class: int | None = None
    test_fraction: float = 0.2
    seed: int = 0
    resplit: bool = False

    @classmethod
    def of_run(cls, kept: Mapping[str, Any]) -> Self:
        """The request that a run was made from, at the place where its images were, if they are still there.

        Args:
            kept: `about["data"]` of the run's configuration.

        Example:
            >>> kept = {**vars(DataRequest("digits", size=(8, 8))), "size": [8, 8], "place": None}
            >>> DataRequest.of_run(kept) == DataRequest("digits", size=(8, 8))
            True
        """
        request = cls(**{each.name: kept[each.name] for each in fields(cls)})
        if request.size is not None:  # JSON has lists alone
            request = replace(request, size=(request.size[0], request.size[1]))
        if kept["place"] and Path(kept["place"]).exists():
            request = replace(request, spec=kept["place"])
        return request

    @property
    def subject(self) -> str:
        """What the images show, for a recipe to choose its augmentation by: `"digits"` or `"surfaces"`."""
        return "digits" if self.spec in NAMES and self.spec != "surfaces" else "surfaces"

    def for_encoder(self, encoder: str) -> DataRequest:
        """The same for an encoder: files come at the size a pretrained one was trained at, where none is asked for.

        Raises:
            InputError: there is no such pretrained encoder.
        """
        if not encoder.startswith(PREFIX) or self.size is not None or self.spec in NAMES:
            return self
        return replace(self, size=backbone_input_size(encoder))

    def place(self) -> str | None:
        """Where the images are, wherever one looks from; `None` for a set that is known by its name."""
        return None if self.spec in NAMES else str(Path(self.spec).absolute())

    def load(self, progress: Progress = silent) -> ImageSplit:
        """The images, train and test."""
        options = asdict(self)
        root = options.pop("root")
        return load_images(
            options.pop("spec"), root=Path(root) if root else None, **options, progress=progress
        )
