"""Arrays as tensors, and torch modules called on a block of rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 256
"""Parts scored at once, by default; bounds the memory of the comparison with calibration scores."""
PATCH_BLOCK = 16
"""Photographs at once where patches are scored; more do not fit the processor's cache."""


def to_tensor(array: NDArray[Any]) -> Tensor:
    """An array as a tensor that shares its memory where torch can."""
    return torch.from_numpy(np.ascontiguousarray(array) if array.flags.writeable else array.copy())


def run_in_blocks(function: Callable[..., Any], *tensors: Tensor, block: int = BLOCK) -> Any:
    """Call a function on a block of rows at a time, without gradients, and join its tensors or dicts of tensors."""
    with torch.inference_mode():
        starts = range(0, max(1, len(tensors[0])), block)
        results = [function(*(tensor[start : start + block] for tensor in tensors)) for start in starts]
    if isinstance(results[0], dict):
        return {name: torch.cat([result[name] for result in results]) for name in results[0]}
    return torch.cat(results)
