"""The commands: parse, call, print."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mekiki.cases import commands as cases
from mekiki.data import commands as data
from mekiki.describing import commands as describing
from mekiki.errors import DataWarning, MekikiError
from mekiki.experiments import commands as experiments
from mekiki.export import commands as export
from mekiki.judging import commands as judging
from mekiki.options import INTERRUPTED
from mekiki.storage import commands as storage
from mekiki.storage.atomic import disk_error
from mekiki.web import commands as web

app = typer.Typer(
    name="mekiki",
    help="Teach an eye from labelled examples, and see what it learnt.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"mekiki {version('mekiki')}")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="say which version this is")
    ] = False,
) -> None:
    """Teach an eye from labelled examples, and see what it learnt."""


for _package in (experiments, judging, cases, describing, export, web, storage, data):
    _package.register(app)


def main() -> None:
    """Run a command; every error a user can cause is one line on standard error and exit code 2."""
    code = _run()
    if "LOCAL_RANK" in os.environ:
        from mekiki.training.processes import leave

        leave(code)
    sys.exit(code)


def _run() -> int:
    """Run a command, say what went wrong, and give the exit code."""
    from mekiki import console

    console.write_any_character()
    console.show_warnings(DataWarning)  # the doctor's findings are printed as such
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # some versions of typer answer Ctrl-C so, others raise
            raise KeyboardInterrupt
    except MekikiError as error:
        return _failed(str(error))
    except (KeyboardInterrupt, typer.Abort):
        console.line(
            "interrupted",
            "epochs that were finished are kept: train with --resume, or the same compare, goes on",
            "yellow",
        )
        return INTERRUPTED
    except BrokenPipeError:
        return 0  # the reader, such as `head`, had enough
    except OSError as error:
        return _failed(disk_error(error))
    except Exception as error:
        if "LOCAL_RANK" in os.environ:
            from mekiki.training.processes import LEFT_ALONE, left_alone

            if left_alone(error):
                console.line("error", "another process of this training has ended", "bold red")
                return LEFT_ALONE
        # torch tells it in words, in an error of no kind of its own.
        if (
            isinstance(error, MemoryError)
            or "not enough memory" in str(error)
            or "out of memory" in str(error)
        ):
            return _failed("not enough memory; use smaller images (--size), a smaller --batch-size or --dim")
        # What the command-line parser raises; its classes are private to typer and move between versions.
        said = getattr(error, "format_message", None)
        if said is None:
            raise
        return _failed(f"{said()} (mekiki --help lists the commands)")
    return code if isinstance(code, int) else 0


def _failed(message: str) -> int:
    from mekiki import console

    console.line("error", message, "bold red")
    return 2
