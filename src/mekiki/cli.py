"""The command `mekiki`: registers each package's commands and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mekiki import console
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

HELP = "Train image embeddings with Siamese and triplet losses, and inspect, search and describe images with them."

app = typer.Typer(
    name="mekiki",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"mekiki {version('mekiki')}")
        raise typer.Exit


@app.callback(help=HELP)
def _main_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Options of `mekiki` itself."""


for package in (experiments, judging, cases, describing, export, web, storage, data):
    package.register(app)


def main() -> None:
    """Run a command; every error a user can cause is one line on standard error and exit code 2."""
    code = _run()
    if "LOCAL_RANK" in os.environ:
        from mekiki.training.processes import leave

        leave(code)
    sys.exit(code)


def _run() -> int:
    """Run a command, print what went wrong, and return the exit code."""
    console.write_any_character()
    console.show_warnings(DataWarning)  # the findings of the collapse check are printed by the command itself
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # so some versions of typer answer Ctrl-C, others raise
            raise KeyboardInterrupt
    except MekikiError as error:
        return _print_error(str(error))
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
        return _print_error(disk_error(error))
    except Exception as error:
        return _exit_code_of(error)
    return code if isinstance(code, int) else 0


def _exit_code_of(error: Exception) -> int:
    """Print an error of a library in our words, and return the exit code; raise one that is not known."""
    if "LOCAL_RANK" in os.environ:
        from mekiki.training.processes import PEER_FAILED, is_peer_failure

        if is_peer_failure(error):
            console.line("error", "another process of this training has ended", "bold red")
            return PEER_FAILED
    # torch has no error class for a lack of memory.
    text = str(error)
    if isinstance(error, MemoryError) or "not enough memory" in text or "out of memory" in text:
        return _print_error("not enough memory; use smaller images (--size), a smaller --batch-size or --dim")
    # The error classes of the command-line parser are private to typer and move between versions.
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        raise error
    return _print_error(f"{format_message()} (mekiki --help lists the commands)")


def _print_error(message: str) -> int:
    console.line("error", message, "bold red")
    return 2
