"""`Backbone`: a pretrained encoder of photographs, frozen; what its layers see of images, whole and place by place."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import math
import re
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.console import Progress, silent
from mekiki.errors import InputError, first_line, not_known
from mekiki.extras import quiet_transformers, require
from mekiki.models.feature_cache import FeatureStore, content_key
from mekiki.models.preprocessing import FILES, Preparation
from mekiki.threads import adaptive_threads

PREFIX = "hf:"
"""Begins the name of every encoder that is a backbone."""

POOLINGS = ("mean", "max", "mean+std")
"""From the vectors at every place of an image to one of the whole: `[h, w, d]` → `[d]`, or `[2d]` for `"mean+std"`."""

Size = int | tuple[int, int] | Literal["native", "proportions"] | None
"""What images are squeezed to: one side, height and width, nothing at all (`"native"`), the backbone's own number of
pixels with the image's own proportions (`"proportions"`), or the backbone's own size (`None`)."""
Images = NDArray[np.uint8] | Iterable[NDArray[np.uint8]]
Vectors = NDArray[np.float32]

KEPT_AT_ONCE = 64
"""Images whose features are looked up, made and kept together."""
BLOCK = {"cpu": 1}
"""Images that go through the network together; a processor is no faster with more of them at a time."""
BLOCK_ELSEWHERE = 32
LARGEST_SIDE = 4096
LEAST_SIDE = 32
"""Pixels, of an image that keeps its proportions: most networks halve their grid five times."""
MOST_SPECIAL_TOKENS = 16
_FETCHED = ("config.json", *FILES, "model.safetensors", "model.safetensors.index.json", "model-*.safetensors")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_LAYER = re.compile(r"(.+)#(-?\d+)")

_looking = threading.local()


class _SeenEnough(Exception):
    """Every layer asked for has spoken; the rest of the network need not be computed."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What layers see of a few images of one size.

    Attributes:
        start: position of the first of these images among all.
        patches: for each layer, float32 `[n, h, w, d]`: a vector at every place of its grid.
    """

    start: int
    patches: Mapping[int, Vectors]

    def __len__(self) -> int:
        return len(next(iter(self.patches.values())))

    def vectors(self, layer: int, pooling: str = "mean") -> Vectors:
        """Whole-image vectors of a layer, float32 `[n, d]` (`[n, 2d]` for `"mean+std"`)."""
        return np.stack([_pooled(torch.from_numpy(image), pooling).numpy() for image in self.patches[layer]])


@dataclass(frozen=True)
class _Layer:
    """How one hidden state is read.

    Attributes:
        dim: length of its vectors.
        stride: for tokens, height and width of the square of pixels that one stands for; `None` for a convolution.
        special: tokens in front that stand for no place (class, registers).
        grid: whether it can be read at all.
    """

    dim: int
    stride: tuple[int, int] | None = None
    special: int = 0
    grid: bool = True


class Backbone:
    """A pretrained encoder of photographs through `transformers.AutoModel`: frozen, and never trusted with code.

    A *layer* is a hidden state by its number in `transformers`: 0 comes first and `layers - 1` last; negative numbers
    count from the end. Convolutional networks and transformers look alike from here: class and register tokens are
    left out, and what is left stands on its grid.

    The default layer is the middle one. Late layers of a network that was trained to name things have forgotten what
    a surface is like; on the magnetic tiles hidden state 12 of MobileNet's 26 tells OK from NG far better than the
    pooled output (AUROC .944 against .881).

    The same image gives the same numbers, to the bit, alone and among others, on a processor with a given number of
    threads: images go through it one by one, which there costs no more than many at once.

    Made by `Backbone.load`.

    Attributes:
        source: what was asked for, without `hf:`.
        place: the folder, absolute; or the name on the hub.
        name: a short name.
        fingerprint: SHA-256 over its configuration and weights: equal fingerprints, equal features.
        layers: how many hidden states there are.
        dims: the length of their vectors.
        default_layer: the one taken where none is named.
        input_size: height and width that images are squeezed to where no size is named.

    Example:
        >>> from transformers import MobileNetV1Config, MobileNetV1Model
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> MobileNetV1Model(MobileNetV1Config(depth_multiplier=0.25)).save_pretrained(folder)
        >>> _ = (folder / "preprocessor_config.json").write_text('{"size": 64, "image_mean": 0.5, "image_std": 0.5}')
        >>> backbone = Backbone.load(f"hf:{folder}")
        >>> backbone.layers, backbone.default_layer, backbone.input_size
        (26, 12, (64, 64))
        >>> photographs = np.zeros((3, 80, 60), np.uint8)
        >>> backbone.vectors(photographs).shape
        (3, 128)
        >>> patches, grid = backbone.patches(photographs, layer=6)
        >>> patches.shape, grid
        ((192, 32), (8, 8))
    """

    def __init__(
        self,
        model: nn.Module,
        prepare: Preparation,
        *,
        source: str,
        place: str,
        name: str,
        fingerprint: str,
        device: str | torch.device = "cpu",
        default_layer: int | None = None,
    ) -> None:
        self.source, self.place, self.name, self.fingerprint = source, place, name, fingerprint
        self.prepare, self.device = prepare, torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        known = inspect.signature(model.forward).parameters
        self._options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in known else {}
        self._trained_at = _pair(getattr(model.config, "image_size", None))
        self._read, self._multiple, self._caught = self._explore()
        if not any(layer.stride for layer in self._read):
            # Channels last in memory: MobileNet is then 1.2 to 1.6 times faster on a processor.
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.layers = len(self._read)
        self.dims = tuple(layer.dim for layer in self._read)
        self.input_size = self._fitted(prepare.size)
        middle = (self.layers - 1) // 2
        self.default_layer = middle if default_layer is None else self.layer(default_layer)

    @classmethod
    def load(
        cls, source: str | Path, *, device: str | torch.device = "cpu", progress: Progress = silent
    ) -> Backbone:
        """Load a pretrained model.

        Args:
            source: a folder that `transformers` wrote, or the name of a model on the Hugging Face hub that is in its
                cache or can be downloaded; `hf:` may stand in front, and `#LAYER` behind for another default layer.
                Only safetensors are read, and no code of the model's own is run.
            device: where to compute.
            progress: told of loading.

        Raises:
            MissingExtraError: the extra `backbones` is not installed.
            InputError: there is no such model, the hub cannot be reached, or it is no encoder of images.
        """
        transformers = require("transformers", extra="backbones", purpose=f"encoder {source}")
        named, layer = split_name(str(source))
        folder, place = _found(named)
        progress(f"loading {named}", 0, 1)
        config = _config(folder)
        prepare = Preparation.read(folder, config)
        if not any(folder.glob("*.safetensors")):
            raise InputError(
                f"{folder}: no weights as safetensors are there, and other formats can run code when they are read; "
                "give a model that was saved by save_pretrained"
            )
        # Forked, because layers that the file has not, such as a head that is not used, are drawn at random.
        with quiet_transformers(transformers), torch.random.fork_rng(devices=[]):
            try:
                model, said = transformers.AutoModel.from_pretrained(  # nosec B615: a folder, never the hub
                    str(folder),
                    use_safetensors=True,
                    trust_remote_code=False,
                    local_files_only=True,
                    output_loading_info=True,
                    dtype=torch.float32,
                )
            except Exception as error:  # the library lets through whatever its parts raise
                raise InputError(f"{named}: cannot be loaded ({first_line(error)})") from None
        missing = [name for name in said["missing_keys"] if "pooler" not in name]
        if missing:
            raise InputError(
                f"{named}: its weights do not fit its configuration ({len(missing)} are missing, such as "
                f"{sorted(missing)[0]}); get the model again"
            )
        # Of a model of images and text, the half that sees.
        model = getattr(model, "vision_model", model)
        if next(iter(inspect.signature(model.forward).parameters), "") != "pixel_values":
            raise InputError(f"{named}: is no encoder of images ({type(model).__name__}); give another model")
        backbone = cls(
            model,
            prepare,
            source=named,
            place=place,
            name=Path(named).name or named,
            fingerprint=fingerprint_of(folder),
            device=device,
            default_layer=layer,
        )
        progress(f"loading {named}", 1, 1)
        return backbone

    def save(self, folder: Path) -> None:
        """Write the model as it is now, with its preparation, for `Backbone.load` to read; the folder is there."""
        with quiet_transformers(require("transformers", extra="backbones", purpose="saving a backbone")):
            self.model.save_pretrained(folder)  # type: ignore[operator]
        weights = folder / "model.safetensors"
        if weights.is_file():  # its writer makes files that no one else may read
            content = weights.read_bytes()
            weights.unlink()
            weights.write_bytes(content)
        (folder / FILES[0]).write_text(self.prepare.settings, encoding="utf-8")

    def layer(self, number: int | None) -> int:
        """A layer by its number, negative ones counted from the end; `None` is the default.

        Raises:
            InputError: there is no such layer.
        """
        if number is None:
            return self.default_layer
        if not -self.layers <= number < self.layers:
            raise InputError(
                f"{self.name} has layers 0 … {self.layers - 1} (its hidden states), and {number} was asked for"
            )
        return number % self.layers

    def look(
        self,
        images: Images,
        layers: Sequence[int] | None = None,
        *,
        size: Size = None,
        batch_size: int | None = None,
        progress: Progress = silent,
    ) -> Iterator[Seen]:
        """What several layers see of images, from one pass each; a stream, whose memory does not grow with N.

        Args:
            images: uint8 `[N, H, W]` or `[N, H, W, 3]`, or any iterable of `[H, W]` and `[H, W, 3]`, of any sizes.
            layers: numbers of hidden states; `None` is the default layer alone. What lies behind the last of them is
                not computed.
            size: one side, `(height, width)`, `"native"` to take each image as it is, `"proportions"` for as many
                pixels as `input_size` has in the image's own proportions, or `None` for `input_size`. A transformer
                needs whole patches, so its images are stretched to the nearest whole number of them.
            batch_size: images of one size that go through together; `None` is one on a processor and 32 elsewhere.
            progress: told after each block.

        Yields:
            `Seen`, in the order of the images: together each image once.

        Raises:
            InputError: an image is none, a size cannot be used, or there is no such layer.
        """
        wanted = [self.layer(number) for number in ([None] if layers is None else layers)]
        if not wanted:
            raise InputError("layers is empty; give at least one number")
        for number in wanted:
            self._check_grid(number)
        length = self._block(batch_size)
        total = len(images) if isinstance(images, Sized) else 0
        with adaptive_threads() as consider:
            for start, block in self._blocks(images, size, length):
                consider()
                yield Seen(start, self._seen(block, wanted, length))
                progress(f"looking with {self.name}", start + len(block), max(total, start + len(block)))

    def vectors(
        self,
        images: Images,
        layer: int | None = None,
        *,
        size: Size = None,
        pooling: str = "mean",
        batch_size: int | None = None,
        cached: bool = False,
        progress: Progress = silent,
    ) -> Vectors:
        """Whole-image vectors of one layer, float32 `[N, d]`; the arguments are those of `look`.

        Args:
            images: as in `look`.
            layer: a hidden state; `None` is the default layer.
            size: as in `look`.
            pooling: `"mean"` or `"max"` over the places, or `"mean+std"`, `[N, 2d]`.
            batch_size: as in `look`.
            cached: keep the vectors on disk by content, and take those that are there: the same bits as without.
            progress: told after each block.

        Raises:
            InputError: as `look`, or there is no such pooling.
        """
        if pooling not in POOLINGS:
            raise not_known("pooling", pooling, POOLINGS)
        number = self.layer(layer)
        if not cached:
            seen = self.look(images, [number], size=size, batch_size=batch_size, progress=progress)
            parts = [block.vectors(number, pooling) for block in seen]
            return np.concatenate(parts) if parts else self._none(number, pooling)
        facts = (1, self.fingerprint, number, pooling, size, self._block(batch_size))
        total = len(images) if isinstance(images, Sized) else 0
        made: list[Vectors] = []
        done = 0
        with FeatureStore(f"{facts} {self.device.type} torch {torch.__version__}") as store:
            for group in _groups(_checked(images), KEPT_AT_ONCE):
                keys = [content_key(image) for image in group]
                known = store.read(keys)
                new = {key: image for key, image in zip(keys, group, strict=True) if key not in known}
                if new:
                    seen = self.look(new.values(), [number], size=size, batch_size=batch_size)
                    rows = np.concatenate([block.vectors(number, pooling) for block in seen])
                    fresh = dict(zip(new, rows, strict=True))
                    store.write(fresh)
                    known |= fresh
                made.append(np.stack([known[key] for key in keys]))
                done += len(group)
                progress(f"features of {self.name}", done, max(total, done))
        return np.concatenate(made) if made else self._none(number, pooling)

    def patches(
        self,
        images: Images,
        layer: int | None = None,
        *,
        size: Size = None,
        batch_size: int | None = None,
        progress: Progress = silent,
    ) -> tuple[Vectors, tuple[int, int]]:
        """The vectors of every place of every image: float32 `[N·P, d]` and the grid `(h, w)`, P = h·w.

        Rows go image by image, then row by row of the grid; `reshape(N, h, w, d)` gives the images back.

        Raises:
            InputError: as `look`, or the images give grids of several shapes (then use `look`).
        """
        number = self.layer(layer)
        parts: list[Vectors] = []
        grid: tuple[int, int] | None = None
        for seen in self.look(images, [number], size=size, batch_size=batch_size, progress=progress):
            part = seen.patches[number]
            if grid is not None and part.shape[1:3] != grid:
                raise InputError(
                    f"images of several sizes give grids of {grid[0]}×{grid[1]} and {part.shape[1]}×{part.shape[2]} "
                    "patches; give one size for all, or use look"
                )
            grid = (part.shape[1], part.shape[2])
            parts.append(part.reshape(-1, part.shape[3]))
        if grid is None:
            raise InputError("no images: 0 were given")
        return np.concatenate(parts), grid

    def features(self, prepared: Tensor, layer: int) -> Tensor:
        """Mean over the places of one layer, `[B, 3, h, w]` as prepared → `[B, d]`; a gradient flows through it."""
        self._check_grid(layer)
        return self._grid(self._hidden(prepared, [layer])[layer], layer, prepared).mean((1, 2))

    def grids(self, prepared: Tensor, layers: Sequence[int]) -> dict[int, Tensor]:
        """What layers see place by place, `[B, 3, h, w]` as prepared → `[B, h', w', d]` each.

        The network is passed to its end, so that whoever writes down what it does can follow; see `mekiki.export`.
        """
        options: dict[str, Any] = self._options if tuple(prepared.shape[2:]) != self._trained_at else {}
        states = self.model(prepared, output_hidden_states=True, **options).hidden_states
        for layer in layers:
            self._check_grid(layer)
        return {layer: self._grid(states[layer], layer, prepared) for layer in layers}

    def target(self, size: Size, height: int, width: int) -> tuple[int, int]:
        """What an image of this height and width is brought to.

        Raises:
            InputError: the size cannot be used.
        """
        if size is None:
            return self.input_size
        if isinstance(size, str):
            if size == "proportions":
                stretch = math.sqrt(math.prod(self.input_size) / (height * width))
                shortest = min(LEAST_SIDE, *self.input_size)
                height, width = (max(shortest, round(side * stretch)) for side in (height, width))
            elif size != "native":
                raise InputError(
                    f"size must be one side, (height, width), 'native', 'proportions' or None, not {size!r}"
                )
            return self._fitted((height, width))
        sides = (size, size) if isinstance(size, int | np.integer) else tuple(size)
        if len(sides) != 2 or not all(
            isinstance(side, int | np.integer) and 1 <= side <= LARGEST_SIDE for side in sides
        ):
            raise InputError(
                f"size must be one side or (height, width), 1 … {LARGEST_SIDE} pixels, not {size}"
            )
        return self._fitted((int(sides[0]), int(sides[1])))

    def _fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        """The nearest size of whole patches."""
        height, width = (
            max(1, round(side / multiple)) * multiple
            for side, multiple in zip(size, self._multiple, strict=True)
        )
        return height, width

    def _block(self, batch_size: int | None) -> int:
        if batch_size is None:
            return BLOCK.get(self.device.type, BLOCK_ELSEWHERE)
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        return int(batch_size)

    def _blocks(self, images: Images, size: Size, length: int) -> Iterator[tuple[int, list[Tensor]]]:
        """Images that stand together and have one size, prepared, with the position of the first."""
        start, block = 0, list[Tensor]()
        for image in _checked(images):
            prepared = self.prepare(image, self.target(size, *image.shape[:2]))
            if block and (len(block) == length or prepared.shape != block[0].shape):
                yield start, block
                start, block = start + len(block), []
            block.append(prepared)
        if block:
            yield start, block

    def _seen(self, block: list[Tensor], layers: Sequence[int], length: int) -> dict[int, Vectors]:
        # Padded: products of one shape give an image the same numbers whatever stands beside it.
        batch = torch.stack(block + [block[-1]] * (length - len(block))).to(self.device)
        with torch.inference_mode():
            hidden = self._hidden(batch, layers)
            grids = {number: self._grid(hidden[number], number, batch) for number in layers}
            return {
                number: grid[: len(block)].float().cpu().contiguous().numpy()
                for number, grid in grids.items()
            }

    def _hidden(self, batch: Tensor, layers: Sequence[int]) -> dict[int, Tensor]:
        """Hidden states as the network has them, by number."""
        options: dict[str, Any] = self._options if tuple(batch.shape[2:]) != self._trained_at else {}
        if not any(layer.stride for layer in self._read):
            batch = batch.contiguous(memory_format=torch.channels_last)
        try:
            if not all(self._caught[number] for number in layers):
                states = self.model(batch, output_hidden_states=True, **options).hidden_states
                return {number: states[number] for number in layers}
            _looking.wanted, _looking.found = set(layers), {}
            with suppress(_SeenEnough):
                self.model(batch, **options)
            found: dict[int, Tensor] = _looking.found
            return found
        except (RuntimeError, ValueError) as error:
            if "memory" in str(error):
                raise
            raise InputError(
                f"{self.name} cannot look at images of {batch.shape[2]}×{batch.shape[3]} pixels "
                f"({first_line(error)}); choose another size"
            ) from None
        finally:
            _looking.wanted, _looking.found = set(), {}

    def _grid(self, state: Tensor, number: int, batch: Tensor) -> Tensor:
        """A hidden state as `[B, h, w, d]`."""
        layer = self._read[number]
        if layer.stride is None:
            return state.permute(0, 2, 3, 1)
        height, width = batch.shape[2] // layer.stride[0], batch.shape[3] // layer.stride[1]
        if state.shape[1] != layer.special + height * width:
            raise InputError(
                f"{self.name}: layer {number} gives {state.shape[1]} tokens for {batch.shape[2]}×{batch.shape[3]} "
                f"pixels, not {layer.special} + {height}×{width}; use its own size {self.input_size}"
            )
        return state[:, layer.special :].reshape(state.shape[0], height, width, layer.dim)

    def _check_grid(self, number: int) -> None:
        if not self._read[number].grid:
            raise InputError(
                f"{self.name}: layer {number} has no grid of places that could be told; choose another layer"
            )

    def _none(self, number: int, pooling: str) -> Vectors:
        return np.empty((0, self.dims[number] * (2 if pooling == "mean+std" else 1)), np.float32)

    def _explore(self) -> tuple[list[_Layer], tuple[int, int], list[bool]]:
        """One pass that tells how hidden states are laid out, and which module makes each.

        Where one does, its output can be caught as it leaves, and the pass broken off behind the last one wanted. A
        module counts only if what it returned *is* the hidden state, was not written to later, and it was called once.
        """
        size = self.prepare.size
        patch = _pair(getattr(self.model.config, "patch_size", None))
        if patch is not None:
            size = (max(1, size[0] // patch[0]) * patch[0], max(1, size[1] // patch[1]) * patch[1])
        made: list[tuple[nn.Module, weakref.ref[Tensor], int]] = []
        calls: dict[nn.Module, int] = {}

        def note(module: nn.Module, _: Any, output: Any) -> None:
            calls[module] = calls.get(module, 0) + 1
            tensor = _tensor(output)
            if tensor is not None:
                made.append((module, weakref.ref(tensor), tensor._version))

        # A twin with the same weights, since the library leaves hooks behind that cannot be pickled.
        weights = [*self.model.parameters(), *self.model.buffers()]
        twin = copy.deepcopy(self.model, {id(tensor): tensor for tensor in weights})
        names = {module: name for name, module in twin.named_modules()}
        for module in twin.modules():
            module.register_forward_hook(note)
        options: dict[str, Any] = self._options if size != self._trained_at else {}
        try:
            with torch.no_grad():
                output = twin(
                    torch.zeros(1, 3, *size, device=self.device), output_hidden_states=True, **options
                )
            states = output.hidden_states
            if not states:
                raise TypeError("it has no hidden states")
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.source}: cannot be used as an encoder of images ({first_line(error)}); give another model"
            ) from None
        layouts = [_layout(state, size, patch) for state in states]
        caught = []
        for number, state in enumerate(states):
            version = state._version
            made_it = (
                names[module]
                for module, held, then in made
                if held() is state and then == version and calls[module] == 1
            )
            name = next(made_it, None)
            caught.append(name is not None)
            if name is not None:
                self.model.get_submodule(name).register_forward_hook(partial(_catch, number))
        strides = [layout.stride for layout in layouts if layout.stride is not None]
        multiple = (max((s[0] for s in strides), default=1), max((s[1] for s in strides), default=1))
        return layouts, multiple, caught


def split_name(encoder: str) -> tuple[str, int | None]:
    """The model and the layer that the name of an encoder says.

    Raises:
        InputError: it names no model.

    Example:
        >>> split_name("hf:facebook/dinov2-small#6"), split_name("hf:weights/mobilenet")
        (('facebook/dinov2-small', 6), ('weights/mobilenet', None))
    """
    name, layer = encoder.removeprefix(PREFIX), None
    match = _LAYER.fullmatch(name)
    if match is not None and not Path(name).expanduser().is_dir():
        name, layer = match[1], int(match[2])
    if not name.strip():
        raise InputError(
            f"encoder {encoder!r} names no model; give hf:FOLDER, or hf:NAME of a model on the hub"
        )
    return name, layer


def backbone_input_size(encoder: str) -> tuple[int, int]:
    """Height and width that a backbone was trained at, read from its settings without its weights.

    Raises:
        InputError: as `Backbone.load`.
    """
    require("transformers", extra="backbones", purpose=f"encoder {encoder}")
    folder, _ = _found(split_name(encoder)[0])
    return Preparation.read(folder, _config(folder)).size


def _catch(number: int, _: nn.Module, __: Any, output: Any) -> None:
    wanted = getattr(_looking, "wanted", None)
    if not wanted or number not in wanted:  # another thread's look, or nobody's
        return
    tensor = _tensor(output)
    assert tensor is not None
    _looking.found[number] = tensor
    if len(_looking.found) == len(wanted):
        raise _SeenEnough


def _tensor(output: Any) -> Tensor | None:
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) else None


def _layout(state: Tensor, size: tuple[int, int], patch: tuple[int, int] | None) -> _Layer:
    if state.ndim == 4:
        height, width = state.shape[2:]
        # A grid has the image's proportions; one that has not is laid out some other way.
        upright = abs(height / width - size[0] / size[1]) <= 0.25 * size[0] / size[1]
        return _Layer(state.shape[1], grid=upright)
    if state.ndim != 3 or patch is None:
        return _Layer(state.shape[-1], grid=False)
    stride = patch
    while stride[0] <= size[0] and stride[1] <= size[1]:
        special = state.shape[1] - (size[0] // stride[0]) * (size[1] // stride[1])
        if 0 <= special <= MOST_SPECIAL_TOKENS:
            return _Layer(state.shape[2], stride, special)
        stride = (2 * stride[0], 2 * stride[1])  # hierarchical transformers join patches four by four
    return _Layer(state.shape[2], grid=False)


def _pooled(grid: Tensor, pooling: str) -> Tensor:
    """`[h, w, d]` → `[d]` or `[2d]`."""
    places = grid.flatten(0, 1)
    if pooling == "mean":
        return places.mean(0)
    if pooling == "max":
        return places.amax(0)
    if pooling == "mean+std":
        return torch.cat((places.mean(0), places.std(0, correction=0)))
    raise not_known("pooling", pooling, POOLINGS)


def _checked(images: Images) -> Iterator[NDArray[np.uint8]]:
    """Images one by one, each uint8 `[H, W]` or `[H, W, 3]`."""
    if isinstance(images, np.ndarray) and images.dtype != object and images.ndim not in (3, 4):
        raise InputError(
            f"images must be uint8 [N, H, W] or [N, H, W, 3], or a list of images, not {list(images.shape)}"
        )
    for position, given in enumerate(images):
        image = np.asarray(given)
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[..., 0]
        shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
        if image.dtype != np.uint8 or not shaped or 0 in image.shape:
            raise InputError(
                f"image {position}: {image.dtype} {list(image.shape)} cannot be looked at; a backbone takes uint8 "
                "[H, W] or [H, W, 3], values 0…255"
            )
        yield image


def _groups(images: Iterator[NDArray[np.uint8]], length: int) -> Iterator[list[NDArray[np.uint8]]]:
    group: list[NDArray[np.uint8]] = []
    for image in images:
        group.append(image)
        if len(group) == length:
            yield group
            group = []
    if group:
        yield group


def _found(name: str) -> tuple[Path, str]:
    """The folder of a model, and how to find it again: an absolute folder, or the name on the hub."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder, str(folder.absolute())
    if folder.exists():
        raise InputError(f"{name}: is a file; give the folder of a model, with its config.json")
    if not _HUB_NAME.fullmatch(name):
        raise InputError(
            f"{name}: no such folder; give the folder of a model, or its name on the hub as OWNER/NAME"
        )
    hub = require("huggingface_hub", extra="backbones", purpose=f"encoder {PREFIX}{name}")
    with suppress(
        Exception
    ):  # its errors have no base in common, and that the model is not here yet is no error
        here = Path(hub.snapshot_download(name, local_files_only=True, allow_patterns=list(_FETCHED)))
        if (here / "config.json").is_file() and any(here.glob("*.safetensors")):
            return here, name
    try:
        return Path(hub.snapshot_download(name, allow_patterns=list(_FETCHED))), name
    except Exception as error:
        raise InputError(
            f"{name}: no such folder here, and it could not be had from the model hub ({first_line(error)}); connect "
            "to the internet and check the name, or give a folder that holds the model"
        ) from None


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{folder}: no model here (config.json is missing); give a folder that transformers wrote"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise InputError(f"{folder}: its config.json is not that of a model of transformers (no model_type)")
    return config


def fingerprint_of(folder: Path) -> str:
    """SHA-256 over all files that features depend on, by name."""
    whole = hashlib.sha256()
    files = [folder / name for name in ("config.json", *FILES) if (folder / name).is_file()]
    for path in [*files, *sorted(folder.glob("*.safetensors"))]:
        with path.open("rb") as file:
            whole.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(side, int) for side in value):
        return value[0], value[1]
    return None
