"""Quality of anomaly maps, measured against masks of the defects: pixel AUROC and PRO."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import label

from mekiki.errors import InputError

FALSE_ALARMS = 0.3
"""Share of good pixels up to which `region_overlap` integrates, as its authors do."""
_EIGHT_NEIGHBOURS = np.ones((3, 3), np.int64)


def pixel_auroc(maps: Sequence[ArrayLike], masks: Sequence[ArrayLike]) -> float:
    """Probability that a defective pixel has a larger value than a good one, ties counted half.

    A defect counts by its area; see `region_overlap` for a measure that counts each defect alike.

    Args:
        maps: one an image, `[H, W]`, larger = farther from good; all in one unit.
        masks: of the same shapes, true where the image is defective; all false for good images.

    Raises:
        InputError: shapes differ, numbers are not finite, or all pixels are of one kind.

    Example:
        >>> pixel_auroc([[[0.1, 0.2, 0.9]]], [[[False, True, True]]])
        1.0
    """
    from sklearn.metrics import roc_auc_score

    values, bad = _pixels(maps, masks)
    return float(roc_auc_score(bad, values))


def region_overlap(
    maps: Sequence[ArrayLike], masks: Sequence[ArrayLike], false_alarms: float = FALSE_ALARMS
) -> float:
    """PRO, the per-region overlap: the mean share of a defect that is marked, over defects and thresholds.

    A defect is a set of pixels of a mask that touch, also by their corners; each counts alike, whatever its size. The
    mean share is integrated over the share of good pixels marked, from 0 to `false_alarms`, and divided by the latter:
    1 is perfect (Bergmann et al. 2020, *Uninformed Students*, arXiv 1911.02357).

    Args:
        maps: as in `pixel_auroc`.
        masks: as in `pixel_auroc`.
        false_alarms: share of good pixels marked up to which thresholds count.

    Raises:
        InputError: as `pixel_auroc`, or `false_alarms` is not in (0, 1].

    Example:
        >>> good_and_bad = np.array([[0.0, 0.0, 0.0, 5.0, 9.0]])
        >>> region_overlap([good_and_bad], [good_and_bad > 1])
        1.0
    """
    if not 0 < false_alarms <= 1:
        raise InputError(f"false_alarms must be above 0 and at most 1, not {false_alarms}")
    values, bad = _pixels(maps, masks)
    good = np.sort(values[~bad])
    # For each pixel of a defect: the number of good pixels that are marked with it (ties included), and its weight.
    ranks, weights, regions = [], [], 0
    for image, mask in zip(maps, masks, strict=True):
        numbered, count = label(np.asarray(mask, bool), _EIGHT_NEIGHBOURS)
        inside = numbered > 0
        sizes = np.bincount(numbered[inside], minlength=1)
        marked = np.asarray(image, np.float64)[inside]
        ranks.append(len(good) - np.searchsorted(good, marked, side="left"))
        weights.append(1 / sizes[numbered[inside]])
        regions += count
    share = np.bincount(np.concatenate(ranks), np.concatenate(weights), minlength=len(good) + 1)
    shares = np.cumsum(share) / regions  # mean share of a defect when the k largest good pixels are marked
    rates = np.arange(len(shares)) / len(good)
    within = np.searchsorted(rates, false_alarms, side="right")
    heights = np.append(shares[:within], np.interp(false_alarms, rates, shares))
    return float(np.trapezoid(heights, np.append(rates[:within], false_alarms)) / false_alarms)


def _pixels(
    maps: Sequence[ArrayLike], masks: Sequence[ArrayLike]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The values of all pixels, and whether each is defective."""
    if len(maps) != len(masks) or not len(maps):
        raise InputError(f"{len(maps)} maps and {len(masks)} masks: give one of each for every image")
    values, bad = [], []
    for number, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        image, marked = np.asarray(anomaly_map, np.float64), np.asarray(mask, bool)
        if image.ndim != 2 or image.shape != marked.shape:
            raise InputError(
                f"map {number} is {list(image.shape)} and its mask {list(marked.shape)}; give both as [H, W]"
            )
        if not np.isfinite(image).all():
            raise InputError(f"map {number} has numbers that are NaN or infinite")
        values.append(image.ravel())
        bad.append(marked.ravel())
    flat, kinds = np.concatenate(values), np.concatenate(bad)
    if kinds.all() or not kinds.any():
        raise InputError("masks: all pixels are of one kind; give defective and good ones")
    return flat, kinds
