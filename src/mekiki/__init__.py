"""mekiki (目利き): teach an eye from labelled examples.

Images and labels in, vectors out; what they are good for is measured and shown. Names are imported when first used, so
that importing the package costs nothing.

Example:
    >>> from mekiki import Embedder, load_images
    >>> train, test = load_images("digits")
    >>> embedder = Embedder(epochs=1).fit(train.pixels, train.labels)
    >>> embedder.transform(test.pixels).shape[1]
    2
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mekiki.datasets import ImageSplit, load_images
    from mekiki.embedder import Distance, Embedder
    from mekiki.errors import InputError, MekikiError
    from mekiki.evaluation import Evaluation, evaluate
    from mekiki.images import ImageSet

_HOMES = {
    "Distance": "embedder",
    "Embedder": "embedder",
    "Evaluation": "evaluation",
    "ImageSet": "images",
    "ImageSplit": "datasets",
    "InputError": "errors",
    "MekikiError": "errors",
    "evaluate": "evaluation",
    "load_images": "datasets",
}

__all__ = [
    "Distance",
    "Embedder",
    "Evaluation",
    "ImageSet",
    "ImageSplit",
    "InputError",
    "MekikiError",
    "evaluate",
    "load_images",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mekiki' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mekiki.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
