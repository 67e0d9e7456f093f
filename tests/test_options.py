"""Options that several commands share."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from mekiki.errors import InputError
from mekiki.options import GroupedCommand, expand_options, read_size


@dataclass(frozen=True)
class Shared:
    """Options of two commands."""

    size: Annotated[int, typer.Option(help="pixels")] = 8
    grey: Annotated[bool, typer.Option("--grey", help="without colours")] = False


def test_the_fields_of_a_dataclass_become_options():
    app, seen = typer.Typer(), []

    @app.command()
    @expand_options
    def show(name: str, shared: Shared, often: int = 1) -> None:
        """Show them."""
        seen.append((name, shared, often))

    assert CliRunner().invoke(app, ["a", "--size", "3", "--grey", "--often", "2"]).exit_code == 0
    assert CliRunner().invoke(app, ["b"]).exit_code == 0
    assert seen == [("a", Shared(3, True), 2), ("b", Shared(), 1)]
    text = CliRunner().invoke(app, ["--help"]).output
    assert "pixels" in text
    assert "Show them." in text


def test_help_lists_options_by_group_and_the_others_last():
    app = typer.Typer(rich_markup_mode=None)

    @app.command(cls=GroupedCommand)
    def show(
        name: str,
        seed: int = 0,
        size: Annotated[int, typer.Option(help="pixels", rich_help_panel="Photographs")] = 8,
        secret: Annotated[int, typer.Option(hidden=True)] = 0,
    ) -> None:
        """Show them."""

    text = CliRunner().invoke(app, ["--help"]).output
    places = [
        text.index(part) for part in ("Arguments:", "Photographs:", "--size", "Other options:", "--seed")
    ]
    assert places == sorted(places)
    assert "--secret" not in text
    assert CliRunner().invoke(app, ["a", "--size", "3"]).exit_code == 0


def test_sizes_are_read_and_others_refused():
    assert read_size("64") == (64, 64)
    assert read_size("48x96") == (48, 96)
    with pytest.raises(InputError, match="--size 0"):
        read_size("0")
