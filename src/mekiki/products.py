"""Matrix products of NumPy in one thread, a row at a time: the same numbers, to the bit, alone and among others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

Number = TypeVar("Number", np.float32, np.float64)


@contextmanager
def one_product_thread() -> Iterator[None]:
    """Let NumPy's matrix products inside have a single thread.

    For small ones between looks through a network: OpenBLAS's other threads spin for tens of milliseconds after a
    product, on the processor that the network is about to need. And how a sum is rounded may depend on their number.

    Example:
        >>> with one_product_thread():
        ...     pass
    """
    with _libraries().limit(limits=1, user_api="blas"):
        yield


def by_row(rows: NDArray[Number], matrix: NDArray[Number]) -> NDArray[Number]:
    """The product of each row by itself, `[N, k]` and `[k, r]` → `[N, r]`.

    Of many rows at once it rounds otherwise; then the part that set a threshold would be beyond it when it comes alone.

    Example:
        >>> by_row(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
        array([[11.]])
    """
    product: NDArray[Number] = np.matmul(rows[:, None], matrix)[:, 0]
    return product


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()
