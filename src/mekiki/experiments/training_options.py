"""Options of the commands that train: which images, and the settings of the embedder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mekiki.errors import InputError
from mekiki.options import Root, read_size

if TYPE_CHECKING:
    from mekiki.experiments.request import DataRequest

LOSS_HELP = "softmax, contrastive, triplet, online-contrastive, online-triplet, soft-neighbours, or pml:NAME"

PerClass = Annotated[
    int | None, typer.Option(min=2, help="images a class at most; for surfaces, how many to make")
]
TestFraction = Annotated[
    float, typer.Option(help="share of the images kept for testing, where they come unsplit")
]
SplitSeed = Annotated[int, typer.Option(help="seed of that split, and of generated surfaces")]
Resplit = Annotated[bool, typer.Option(help="pool train/ and test/, and split them again")]


@dataclass(frozen=True)
class DataOptions:
    """Which images are used, and how they are split and decoded."""

    root: Root = None
    size: Annotated[str | None, typer.Option(metavar="N|HxW", help="squeeze images to this many pixels")] = (
        None
    )
    channels: Annotated[
        int | None, typer.Option(min=1, max=3, help="1 for grey, 3 for colour; else as the images are")
    ] = None
    per_class: PerClass = None
    test_fraction: TestFraction = 0.2
    split_seed: SplitSeed = 0
    resplit: Resplit = False

    def request(self, data: str) -> DataRequest:
        """The request for the images of `data`."""
        from mekiki.experiments.request import DataRequest

        if not data.strip():
            raise InputError("DATA is empty; give a data set by name, or a folder")
        return DataRequest(
            data,
            str(self.root) if self.root else None,
            read_size(self.size),
            self.channels,
            self.per_class,
            self.test_fraction,
            self.split_seed,
            self.resplit,
        )


@dataclass(frozen=True)
class EmbedderOptions:
    """Settings of the embedder; what is not given is that of the recipe."""

    recipe: Annotated[
        str,
        typer.Option(
            help="reference (the experiment of the post), fast (its quality in the least time) or best (the highest "
            "quality): the options below where they are not given; their defaults are those of reference"
        ),
    ] = "reference"
    encoder: Annotated[
        str | None,
        typer.Option(
            help="mlp (784-256-256-d), conv or vgg (images only; vgg is the best), or hf:NAME_OR_FOLDER, a pretrained "
            "network for photographs, hf:NAME_OR_FOLDER#LAYER for another layer than its middle one  [default: mlp]"
        ),
    ] = None
    fine_tune: Annotated[
        bool, typer.Option("--fine-tune", help="train an hf: network too, not its head alone")
    ] = False
    dim: Annotated[int | None, typer.Option(help="length of a vector  [default: 2]")] = None
    margin: Annotated[float | None, typer.Option(help="how far apart classes are pushed  [default: 1]")] = (
        None
    )
    normalise: Annotated[bool, typer.Option(help="put the vectors on the unit sphere")] = False
    epochs: Annotated[int | None, typer.Option(help="passes over the images  [default: 10]")] = None
    batch_size: Annotated[
        int | None, typer.Option(help="images, pairs or triplets a step  [default: 128]")
    ] = None
    lr: Annotated[float | None, typer.Option(help="highest learning rate of Adam  [default: 0.001]")] = None
    schedule: Annotated[
        str | None,
        typer.Option(
            help="step (a tenth after 8 epochs), post19 (the post's order) or one-cycle (up, then down to nothing)  "
            "[default: step]"
        ),
    ] = None
    augment: Annotated[
        str | None,
        typer.Option(help="change training images at random: digits, surfaces or none  [default: none]"),
    ] = None
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "auto"

    def settings(
        self, domain: str, loss: str | None = None, loss_option: list[str] | None = None, **net: Any
    ) -> dict[str, Any]:
        """Settings of `Embedder`.

        Args:
            domain: what the images show, for the recipe.
            loss: name of the loss.
            loss_option: its further settings, each `NAME=VALUE`.
            net: settings that are part of the recipe's network.
        """
        from mekiki.recipes import recipe

        names = ("encoder", "dim", "margin", "epochs", "batch_size", "lr", "schedule", "augment")
        given: dict[str, Any] = {name: getattr(self, name) for name in names}
        given |= {"fine_tune": self.fine_tune or None, "loss": loss}
        given["loss_options"] = read_loss_options(loss_option)
        if loss is not None and loss.startswith("pml:") and self.margin is not None:
            given["margin"], given["loss_options"]["margin"] = (
                None,
                self.margin,
            )  # that library has it as an option
        given["loss_options"] = given["loss_options"] or None
        given = {name: value for name, value in given.items() if value is not None}
        return recipe(self.recipe, domain=domain, normalise=self.normalise, device=self.device, **given | net)


def read_loss_options(given: list[str] | None) -> dict[str, Any]:
    """Settings of a loss from `NAME=VALUE`; a value is JSON, or else a word."""
    options: dict[str, Any] = {}
    for option in given or []:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise InputError(f"--loss-option {option}: give it as NAME=VALUE, such as selection=hardest")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options
