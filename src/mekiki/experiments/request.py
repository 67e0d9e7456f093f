"""The images of an experiment, as a record from which they can be loaded again."""

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
    """The arguments of `mekiki.data.load_images`, which a run records.

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
    def of_run(cls, saved: Mapping[str, Any]) -> Self:
        """The request of a run, at the absolute path of its images where they are still there.

        Args:
            saved: `about["data"]` of the run's configuration.

        Example:
            >>> saved = {**vars(DataRequest("digits", size=(8, 8))), "size": [8, 8], "place": None}
            >>> DataRequest.of_run(saved) == DataRequest("digits", size=(8, 8))
            True
        """
        request = cls(**{each.name: saved[each.name] for each in fields(cls)})
        if request.size is not None:  # JSON has lists only
            request = replace(request, size=(request.size[0], request.size[1]))
        if saved["place"] and Path(saved["place"]).exists():
            request = replace(request, spec=saved["place"])
        return request

    @property
    def domain(self) -> str:
        """What the images show, from which a recipe chooses its augmentation: `"digits"` or `"surfaces"`."""
        return "digits" if self.spec in NAMES and self.spec != "surfaces" else "surfaces"

    def for_encoder(self, encoder: str) -> DataRequest:
        """The same at the image size of a pretrained encoder, unless a size is requested or the set has its own.

        Raises:
            InputError: there is no such pretrained encoder.
        """
        if not encoder.startswith(PREFIX) or self.size is not None or self.spec in NAMES:
            return self
        return replace(self, size=backbone_input_size(encoder))

    def place(self) -> str | None:
        """The absolute path of the images; `None` for a data set with a name."""
        return None if self.spec in NAMES else str(Path(self.spec).absolute())

    def load(self, progress: Progress = silent) -> ImageSplit:
        """The images, train and test."""
        options = asdict(self)
        root = options.pop("root")
        return load_images(
            options.pop("spec"), root=Path(root) if root else None, **options, progress=progress
        )
