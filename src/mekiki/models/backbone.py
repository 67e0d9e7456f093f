"""`Backbone`: a frozen pretrained network; the features of its layers, whole and place by place."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.console import Progress, silent
from mekiki.errors import InputError, first_line
from mekiki.extras import quiet_transformers, require
from mekiki.models.feature_cache import FeatureCache, content_key
from mekiki.models.hidden_states import HiddenStates
from mekiki.models.preprocessing import FILES, Preparation
from mekiki.models.pretrained_folder import (
    find_model_folder,
    model_fingerprint,
    read_model_config,
    split_name,
)
from mekiki.threads import adaptive_threads

Size = int | tuple[int, int] | Literal["native", "proportions"] | None
"""Size that images are resized to: one side; height and width; their own (`"native"`); the backbone's number of pixels
in the image's proportions (`"proportions"`); the backbone's own size (`None`)."""
Images = NDArray[np.uint8] | Iterable[NDArray[np.uint8]]
Vectors = NDArray[np.float32]

CACHED_AT_ONCE = 64
"""Images whose cached features are read, computed and written together."""
BATCH_ON_CPU = 1
"""Images of a batch; a processor is no faster with more of them at a time."""
BATCH_ELSEWHERE = 32
LARGEST_SIDE = 4096
LEAST_SIDE = 32
"""Pixels, of an image that keeps its proportions: most networks halve their grid five times."""


@dataclass(frozen=True, eq=False)
class LayerFeatures:
    """Features of a few images of one size.

    Attributes:
        start: position of the first of these images among all.
        patches: for each layer, float32 `[n, h, w, d]`: a vector at every place of its grid.
    """

    start: int
    patches: Mapping[int, Vectors]

    def __len__(self) -> int:
        return len(next(iter(self.patches.values())))

    def vectors(self, layer: int) -> Vectors:
        """Mean over the places, float32 `[n, d]`."""
        return np.stack(
            [torch.from_numpy(grid).flatten(0, 1).mean(0).numpy() for grid in self.patches[layer]]
        )


class Backbone:
    """A pretrained network of `transformers.AutoModel`, frozen; made by `Backbone.load`.

    A *layer* is a hidden state by its number in `transformers`: 0 is the first and `layers - 1` the last; negative
    numbers count from the end. Class and register tokens of transformers are left out, and the others stand on their
    grid, so convolutional networks and transformers give the same arrays.

    The default layer is the middle one: late layers of a network trained to name objects have lost the texture of a
    surface. On the magnetic tiles hidden state 12 of MobileNet's 26 separates OK from NG far better than the pooled
    output (AUROC .944 against .881).

    On a processor images go through one by one, which costs no more than many at once and gives an image the same
    features alone and among others.

    Attributes:
        source: name given to `load`, without `hf:`.
        place: the absolute folder, or the name on the hub.
        name: a short name.
        fingerprint: SHA-256 over its configuration and weights.
        layers: number of hidden states.
        dims: length of the vectors of each.
        default_layer: layer taken where none is named.
        input_size: height and width that images are resized to where no size is named.

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
        self.hidden_states = HiddenStates(self.model, prepare.size, name, self.device)
        if self.hidden_states.convolutional:
            # Channels last in memory: MobileNet is then 1.2 to 1.6 times faster on a processor.
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dims = tuple(layout.dim for layout in self.hidden_states.layouts)
        self.layers = len(self.dims)
        self.input_size = self._round_to_patches(prepare.size)
        middle = (self.layers - 1) // 2
        self.default_layer = middle if default_layer is None else self.layer(default_layer)

    @classmethod
    def load(
        cls, source: str | Path, *, device: str | torch.device = "cpu", progress: Progress = silent
    ) -> Backbone:
        """Load a pretrained model. Only safetensors are read, and no code of the model's own is run.

        Args:
            source: a folder that `transformers` wrote, or the name of a model on the Hugging Face hub that is in its
                cache or can be downloaded; with or without `hf:` in front, and `#LAYER` behind for a default layer.
            device: where to compute.
            progress: called before and after loading.

        Raises:
            MissingExtraError: the extra `backbones` is not installed.
            InputError: there is no such model, the hub cannot be reached, or it is no encoder of images.
        """
        transformers = require("transformers", extra="backbones", purpose=f"encoder {source}")
        named, layer = split_name(str(source))
        folder, place = find_model_folder(named)
        progress(f"loading {named}", 0, 1)
        config = read_model_config(folder)
        prepare = Preparation.read(folder, config)
        if not any(folder.glob("*.safetensors")):
            raise InputError(
                f"{folder}: no weights as safetensors are there, and other formats can run code when they are read; "
                "give a model that was saved by save_pretrained"
            )
        # Forked, because layers that are not in the file, such as an unused head, are initialised at random.
        with quiet_transformers(transformers), torch.random.fork_rng(devices=[]):
            try:
                model, report = transformers.AutoModel.from_pretrained(  # nosec B615: a folder, never the hub
                    str(folder),
                    use_safetensors=True,
                    trust_remote_code=False,
                    local_files_only=True,
                    output_loading_info=True,
                    dtype=torch.float32,
                )
            except Exception as error:  # the library lets through whatever its parts raise
                raise InputError(f"{named}: cannot be loaded ({first_line(error)})") from None
        missing = [name for name in report["missing_keys"] if "pooler" not in name]
        if missing:
            raise InputError(
                f"{named}: its weights do not fit its configuration ({len(missing)} are missing, such as "
                f"{sorted(missing)[0]}); get the model again"
            )
        model = getattr(model, "vision_model", model)  # the image half of a model of images and text
        if next(iter(inspect.signature(model.forward).parameters), "") != "pixel_values":
            raise InputError(f"{named}: is no encoder of images ({type(model).__name__}); give another model")
        backbone = cls(
            model,
            prepare,
            source=named,
            place=place,
            name=Path(named).name or named,
            fingerprint=model_fingerprint(folder),
            device=device,
            default_layer=layer,
        )
        progress(f"loading {named}", 1, 1)
        return backbone

    def save(self, folder: Path) -> None:
        """Write the model as it is now, with its preparation, for `Backbone.load`; the folder exists."""
        with quiet_transformers(require("transformers", extra="backbones", purpose="saving a backbone")):
            self.model.save_pretrained(folder)  # type: ignore[operator]
        weights = folder / "model.safetensors"
        if weights.is_file():  # the library makes a file that no other user may read
            content = weights.read_bytes()
            weights.unlink()
            weights.write_bytes(content)
        (folder / FILES[0]).write_text(self.prepare.settings, encoding="utf-8")

    def layer(self, number: int | None) -> int:
        """A layer's number counted from 0; `None` is the default layer.

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

    def extract(
        self,
        images: Images,
        layers: Sequence[int] | None = None,
        *,
        size: Size = None,
        batch_size: int | None = None,
        progress: Progress = silent,
    ) -> Iterator[LayerFeatures]:
        """Features of several layers from one pass per image; a stream, whose memory does not grow with N.

        Args:
            images: uint8 `[N, H, W]` or `[N, H, W, 3]`, or any iterable of `[H, W]` and `[H, W, 3]`, of any sizes.
            layers: numbers of hidden states; `None` is the default layer. Nothing after the last one is computed.
            size: see `Size`. For a transformer it is rounded to whole patches.
            batch_size: images of one size that go through together; `None` is one on a processor and 32 elsewhere.
            progress: called after each batch.

        Yields:
            `LayerFeatures`, in the order of the images.

        Raises:
            InputError: an image, the size or a layer cannot be used.
        """
        numbers = [self.layer(number) for number in ([None] if layers is None else layers)]
        if not numbers:
            raise InputError("layers is empty; give at least one number")
        for number in numbers:
            self.hidden_states.check(number)
        length = self._batch_length(batch_size)
        total = len(images) if isinstance(images, Sized) else 0
        with adaptive_threads() as adapt:
            for start, batch in self._batches(images, size, length):
                adapt()
                yield LayerFeatures(start, self._compute(batch, numbers, length))
                done = start + len(batch)
                progress(f"features of {self.name}", done, max(total, done))

    def vectors(
        self,
        images: Images,
        layer: int | None = None,
        *,
        size: Size = None,
        batch_size: int | None = None,
        cached: bool = False,
        progress: Progress = silent,
    ) -> Vectors:
        """Whole-image vectors of one layer, the mean over its places: float32 `[N, d]`; arguments as in `extract`.

        Args:
            images: as in `extract`.
            layer: a hidden state; `None` is the default layer.
            size: as in `extract`.
            batch_size: as in `extract`.
            cached: store the vectors on disk by content, and read those that are there.
            progress: called after each batch.

        Raises:
            InputError: as `extract`.
        """
        number = self.layer(layer)
        empty = np.empty((0, self.dims[number]), np.float32)
        if not cached:
            stream = self.extract(images, [number], size=size, batch_size=batch_size, progress=progress)
            return np.concatenate([empty, *(features.vectors(number) for features in stream)])
        settings = (1, self.fingerprint, number, "mean", size, self._batch_length(batch_size))
        total = len(images) if isinstance(images, Sized) else 0
        results = [empty]
        done = 0
        with FeatureCache(f"{settings} {self.device.type} torch {torch.__version__}") as cache:
            checked = _check_images(images)
            while group := list(islice(checked, CACHED_AT_ONCE)):
                keys = [content_key(image) for image in group]
                known = cache.read(keys)
                new = {key: image for key, image in zip(keys, group, strict=True) if key not in known}
                if new:
                    stream = self.extract(new.values(), [number], size=size, batch_size=batch_size)
                    rows = np.concatenate([features.vectors(number) for features in stream])
                    computed = dict(zip(new, rows, strict=True))
                    cache.write(computed)
                    known |= computed
                results.append(np.stack([known[key] for key in keys]))
                done += len(group)
                progress(f"features of {self.name}", done, max(total, done))
        return np.concatenate(results)

    def patches(
        self,
        images: Images,
        layer: int | None = None,
        *,
        size: Size = None,
        batch_size: int | None = None,
        progress: Progress = silent,
    ) -> tuple[Vectors, tuple[int, int]]:
        """Vectors of every place of every image: float32 `[N·P, d]` and the grid `(h, w)`, P = h·w.

        Rows go image by image, then row by row of the grid; `reshape(N, h, w, d)` separates the images.

        Raises:
            InputError: as `extract`, or the images give grids of several shapes.
        """
        number = self.layer(layer)
        parts: list[Vectors] = []
        for features in self.extract(images, [number], size=size, batch_size=batch_size, progress=progress):
            part = features.patches[number]
            if parts and part.shape[1:] != parts[0].shape[1:]:
                raise InputError(
                    f"images of several sizes give grids of {parts[0].shape[1]}×{parts[0].shape[2]} and "
                    f"{part.shape[1]}×{part.shape[2]} patches; give one size for all, or use extract"
                )
            parts.append(part)
        if not parts:
            raise InputError("no images: 0 were given")
        grids = np.concatenate(parts)
        return grids.reshape(-1, grids.shape[3]), (grids.shape[1], grids.shape[2])

    def pooled_features(self, prepared: Tensor, layer: int) -> Tensor:
        """Mean over the places of one layer, `[B, 3, h, w]` as prepared → `[B, d]`; a gradient flows through it."""
        self.hidden_states.check(layer)
        return self.hidden_states.grids(prepared, [layer])[layer].mean((1, 2))

    def target(self, size: Size, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image of `height` × `width` pixels is resized to.

        Raises:
            InputError: the size cannot be used.
        """
        if size is None:
            return self.input_size
        if size == "proportions":
            stretch = math.sqrt(math.prod(self.input_size) / (height * width))
            shortest = min(LEAST_SIDE, *self.input_size)
            height, width = (max(shortest, round(side * stretch)) for side in (height, width))
            return self._round_to_patches((height, width))
        if size == "native":
            return self._round_to_patches((height, width))
        if isinstance(size, str):
            raise InputError(
                f"size must be one side, (height, width), 'native', 'proportions' or None, not {size!r}"
            )
        sides = (size, size) if isinstance(size, int | np.integer) else tuple(size)
        if len(sides) != 2 or not all(
            isinstance(side, int | np.integer) and 1 <= side <= LARGEST_SIDE for side in sides
        ):
            raise InputError(
                f"size must be one side or (height, width), 1 … {LARGEST_SIDE} pixels, not {size}"
            )
        return self._round_to_patches((int(sides[0]), int(sides[1])))

    def _round_to_patches(self, size: tuple[int, int]) -> tuple[int, int]:
        height, width = (
            max(1, round(side / multiple)) * multiple
            for side, multiple in zip(size, self.hidden_states.multiple, strict=True)
        )
        return height, width

    def _batch_length(self, batch_size: int | None) -> int:
        if batch_size is None:
            return BATCH_ON_CPU if self.device.type == "cpu" else BATCH_ELSEWHERE
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        return int(batch_size)

    def _batches(self, images: Images, size: Size, length: int) -> Iterator[tuple[int, list[Tensor]]]:
        """Consecutive images of one size, prepared, with the position of the first."""
        start, batch = 0, list[Tensor]()
        for image in _check_images(images):
            prepared = self.prepare(image, self.target(size, *image.shape[:2]))
            if batch and (len(batch) == length or prepared.shape != batch[0].shape):
                yield start, batch
                start, batch = start + len(batch), []
            batch.append(prepared)
        if batch:
            yield start, batch

    def _compute(self, batch: list[Tensor], layers: Sequence[int], length: int) -> dict[int, Vectors]:
        # Padded, so that an image gives the same numbers whatever is beside it.
        pixels = torch.stack(batch + [batch[-1]] * (length - len(batch))).to(self.device)
        with torch.inference_mode():
            grids = self.hidden_states.grids(pixels, layers)
            return {
                number: grid[: len(batch)].float().cpu().contiguous().numpy()
                for number, grid in grids.items()
            }


def _check_images(images: Images) -> Iterator[NDArray[np.uint8]]:
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
                f"image {position}: {image.dtype} {list(image.shape)} cannot be used; a backbone takes uint8 "
                "[H, W] or [H, W, 3], values 0…255"
            )
        yield image
