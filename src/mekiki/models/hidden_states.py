"""Hidden states of a pretrained network: their layout, and reading them without running what comes after."""

from __future__ import annotations

import copy
import inspect
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mekiki.errors import InputError, first_line

MOST_SPECIAL_TOKENS = 16

_capture = threading.local()


class _AllCaptured(Exception):
    """Stops the forward pass once every wanted hidden state is captured."""


@dataclass(frozen=True)
class HiddenStateLayout:
    """How one hidden state is read.

    Attributes:
        dim: length of its vectors.
        stride: for tokens, height and width in pixels of the square behind one token; `None` for a convolution.
        special: tokens in front that belong to no place (class, registers).
        has_grid: whether its places are known.
    """

    dim: int
    stride: tuple[int, int] | None = None
    special: int = 0
    has_grid: bool = True


class HiddenStates:
    """The hidden states of a model of images, by their numbers in `transformers`.

    Args:
        model: takes `pixel_values`, float32 `[B, 3, h, w]`.
        size: height and width it was trained at.
        name: for messages.

    Attributes:
        layouts: one for each hidden state.
        multiple: height and width in pixels that an input must be a multiple of.

    Raises:
        InputError: the model has no hidden states.
    """

    def __init__(self, model: nn.Module, size: tuple[int, int], name: str, device: torch.device) -> None:
        self._model, self._name = model, name
        known = inspect.signature(model.forward).parameters
        self._options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in known else {}
        self._trained_at = _pair(getattr(model.config, "image_size", None))
        self.layouts, self._captured = self._probe(size, device)
        strides = [layout.stride for layout in self.layouts if layout.stride is not None]
        self.multiple = (max((s[0] for s in strides), default=1), max((s[1] for s in strides), default=1))

    @property
    def convolutional(self) -> bool:
        """Whether no hidden state is one of tokens."""
        return not any(layout.stride for layout in self.layouts)

    def check(self, number: int) -> None:
        """Raise `InputError` for a hidden state whose places are unknown."""
        if not self.layouts[number].has_grid:
            raise InputError(
                f"{self._name}: layer {number} has no grid of places that could be read; choose another layer"
            )

    def grids(self, pixels: Tensor, numbers: Sequence[int]) -> dict[int, Tensor]:
        """Hidden states as grids, `[B, 3, h, w]` → `[B, h', w', d]` each; what comes after the last is not computed."""
        states = self._read_states(pixels, numbers)
        return {number: self._grid(states[number], number, pixels) for number in numbers}

    def traceable_grids(self, pixels: Tensor, numbers: Sequence[int]) -> dict[int, Tensor]:
        """The same by a whole forward pass, which tracing for export can follow."""
        for number in numbers:
            self.check(number)
        states = self._model(pixels, output_hidden_states=True, **self._size_options(pixels)).hidden_states
        return {number: self._grid(states[number], number, pixels) for number in numbers}

    def _size_options(self, pixels: Tensor) -> dict[str, Any]:
        return self._options if tuple(pixels.shape[2:]) != self._trained_at else {}

    def _read_states(self, pixels: Tensor, numbers: Sequence[int]) -> dict[int, Tensor]:
        options = self._size_options(pixels)
        if self.convolutional:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        try:
            if not all(self._captured[number] for number in numbers):
                states = self._model(pixels, output_hidden_states=True, **options).hidden_states
                return {number: states[number] for number in numbers}
            _capture.wanted, _capture.states = set(numbers), {}
            with suppress(_AllCaptured):
                self._model(pixels, **options)
            captured: dict[int, Tensor] = _capture.states
            return captured
        except (RuntimeError, ValueError) as error:
            if "memory" in str(error):
                raise
            raise InputError(
                f"{self._name} cannot take images of {pixels.shape[2]}×{pixels.shape[3]} pixels "
                f"({first_line(error)}); choose another size"
            ) from None
        finally:
            _capture.wanted, _capture.states = set(), {}

    def _grid(self, state: Tensor, number: int, pixels: Tensor) -> Tensor:
        layout = self.layouts[number]
        if layout.stride is None:
            return state.permute(0, 2, 3, 1)
        height, width = pixels.shape[2] // layout.stride[0], pixels.shape[3] // layout.stride[1]
        if state.shape[1] != layout.special + height * width:
            raise InputError(
                f"{self._name}: layer {number} gives {state.shape[1]} tokens for {pixels.shape[2]}×{pixels.shape[3]} "
                f"pixels, not {layout.special} + {height}×{width}; use its own size"
            )
        return state[:, layout.special :].reshape(state.shape[0], height, width, layout.dim)

    def _probe(
        self, size: tuple[int, int], device: torch.device
    ) -> tuple[list[HiddenStateLayout], list[bool]]:
        """Layouts from one forward pass, and whether each hidden state can be captured from the module that makes it.

        A module counts only if its output *is* the hidden state, was not written to later, and it was called once.
        """
        patch = _pair(getattr(self._model.config, "patch_size", None))
        if patch is not None:
            size = (max(1, size[0] // patch[0]) * patch[0], max(1, size[1] // patch[1]) * patch[1])
        outputs: list[tuple[nn.Module, weakref.ref[Tensor], int]] = []
        calls: dict[nn.Module, int] = {}

        def note(module: nn.Module, _: Any, output: Any) -> None:
            calls[module] = calls.get(module, 0) + 1
            tensor = _first_tensor(output)
            if tensor is not None:
                outputs.append((module, weakref.ref(tensor), tensor._version))

        # A copy with the same weights, since the library leaves hooks behind that cannot be pickled.
        weights = [*self._model.parameters(), *self._model.buffers()]
        twin = copy.deepcopy(self._model, {id(tensor): tensor for tensor in weights})
        names = {module: name for name, module in twin.named_modules()}
        for module in twin.modules():
            module.register_forward_hook(note)
        pixels = torch.zeros(1, 3, *size, device=device)
        try:
            with torch.no_grad():
                output = twin(pixels, output_hidden_states=True, **self._size_options(pixels))
            states = output.hidden_states
            if not states:
                raise TypeError("it has no hidden states")
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self._name}: cannot be used as an encoder of images ({first_line(error)}); give another model"
            ) from None
        captured = []
        for number, state in enumerate(states):
            current = state._version
            makers = (
                names[module]
                for module, reference, version in outputs
                if reference() is state and version == current and calls[module] == 1
            )
            maker = next(makers, None)
            captured.append(maker is not None)
            if maker is not None:
                self._model.get_submodule(maker).register_forward_hook(partial(_capture_output, number))
        return [_layout(state, size, patch) for state in states], captured


def _capture_output(number: int, _: nn.Module, __: Any, output: Any) -> None:
    wanted = getattr(_capture, "wanted", None)
    if not wanted or number not in wanted:  # a pass of another thread, or one that captures nothing
        return
    tensor = _first_tensor(output)
    assert tensor is not None
    _capture.states[number] = tensor
    if len(_capture.states) == len(wanted):
        raise _AllCaptured


def _first_tensor(output: Any) -> Tensor | None:
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) else None


def _layout(state: Tensor, size: tuple[int, int], patch: tuple[int, int] | None) -> HiddenStateLayout:
    if state.ndim == 4:
        height, width = state.shape[2:]
        # A grid has the image's proportions; otherwise the tensor is laid out some other way.
        upright = abs(height / width - size[0] / size[1]) <= 0.25 * size[0] / size[1]
        return HiddenStateLayout(state.shape[1], has_grid=upright)
    if state.ndim != 3 or patch is None:
        return HiddenStateLayout(state.shape[-1], has_grid=False)
    stride = patch
    while stride[0] <= size[0] and stride[1] <= size[1]:
        special = state.shape[1] - (size[0] // stride[0]) * (size[1] // stride[1])
        if 0 <= special <= MOST_SPECIAL_TOKENS:
            return HiddenStateLayout(state.shape[2], stride, special)
        stride = (2 * stride[0], 2 * stride[1])  # hierarchical transformers join patches four by four
    return HiddenStateLayout(state.shape[2], has_grid=False)


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(side, int) for side in value):
        return value[0], value[1]
    return None
