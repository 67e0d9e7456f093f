"""Which of the detectors that were asked for have something to compare, and notes on the others."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mekiki.judging.detectors.patch_detectors import DETECTORS, FINE_DETECTORS
from mekiki.judging.judge_model import DISCRIMINANT, FINE, PATCHES


def used_detectors(asked: Sequence[str], groups: Collection[str], with_ng: bool) -> list[str]:
    """Those of these detectors that have something to compare, and those of the fine scale where there is one.

    Args:
        asked: some of `DETECTOR_NAMES`.
        groups: names of the feature groups of the photographs.
        with_ng: whether NG photographs are given.

    Example:
        >>> used_detectors(["mt", "memory", "discriminant"], ["embedding"], with_ng=False)
        ['mt']
        >>> used_detectors(["mt", "memory"], ["layer 16", "patches", "fine"], with_ng=False)
        ['mt', 'memory', 'cells']
    """
    used = [
        name
        for name in asked
        if (PATCHES in groups or name not in DETECTORS) and (with_ng or name != DISCRIMINANT)
    ]
    return used + (list(FINE_DETECTORS) if FINE in groups else [])


def describe_unused(asked: Sequence[str], used: Sequence[str], encoder: str) -> list[str]:
    """Notes on detectors that were asked for by name and are not used.

    Args:
        asked: some of `DETECTOR_NAMES`.
        used: of these, what `used_detectors` returned.
        encoder: what the photographs were read with.

    Example:
        >>> describe_unused(["mt", "memory"], ["mt"], "embedder mlp")
        ['--detector memory: not used, because embedder mlp has no features by place']
    """
    notes = []
    unused = [name for name in asked if name not in used]
    on_patches = [name for name in unused if name in DETECTORS]
    if on_patches:
        notes.append(
            f"--detector {', '.join(on_patches)}: not used, because {encoder} has no features by place"
        )
    if DISCRIMINANT in unused:
        notes.append(f"--detector {DISCRIMINANT}: not used, because no NG photographs are given (--ng)")
    return notes
