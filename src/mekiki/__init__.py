"""mekiki (目利き): image embeddings by Siamese and triplet losses, and visual inspection with them.

All modules exchange float32 arrays of shape `[N, d]`. Names are imported when they are first used.

Example:
    >>> from mekiki import Embedder, load_images
    >>> train, test = load_images("digits")
    >>> embedder = Embedder(epochs=1).fit(train.pixels, train.labels)
    >>> embedder.transform(test.pixels).shape[1]
    2
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mekiki.extras import lazy_names

if TYPE_CHECKING:
    from mekiki.data.image_set import ImageSet
    from mekiki.data.load import load_images
    from mekiki.data.splits import ImageSplit
    from mekiki.embedder import Distance, Embedder
    from mekiki.errors import InputError, MekikiError
    from mekiki.evaluation.summary import Evaluation, evaluate

_HOMES = {
    "Distance": "embedder",
    "Embedder": "embedder",
    "Evaluation": "evaluation.summary",
    "ImageSet": "data.image_set",
    "ImageSplit": "data.splits",
    "InputError": "errors",
    "MekikiError": "errors",
    "evaluate": "evaluation.summary",
    "load_images": "data.load",
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

__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
