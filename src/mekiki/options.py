"""Command-line options that several commands share."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from mekiki.errors import InputError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""
DATA_HELP = (
    "mnist, fashion-mnist, kmnist, digits, surfaces, a folder with a sub-folder a class, or an .npz file"
)
Data = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="folder that `mekiki train` wrote")]
JudgeFolder = Annotated[Path, typer.Argument(metavar="RUN", help="folder that `mekiki calibrate` wrote")]
MemoryFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="folder that `mekiki train` or `mekiki calibrate` wrote")
]
Json = Annotated[
    bool, typer.Option("--json", help="print one JSON object and nothing else on standard output")
]
Root = Annotated[
    Path | None, typer.Option(help="folder with the idx files of mnist, fashion-mnist or kmnist")
]


class GroupedCommand(TyperCommand):
    """A command whose `--help` lists options under the `rich_help_panel` they were given, in the order of its function.

    Typer itself does so only where rich draws the help, with frames that a pipe or a file has no use for.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section of the help for the arguments, and one for each group of options; the others come last."""
        arguments, others = "Arguments", "Other options"
        sections: dict[str, list[tuple[str, str]]] = {arguments: []}
        rest: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:  # hidden
                continue
            title = getattr(parameter, "rich_help_panel", None)
            if parameter.param_type_name == "argument":
                sections[arguments].append(record)
            elif title is None:
                rest.append(record)
            else:
                sections.setdefault(title, []).append(record)
        for title, records in (*sections.items(), (others, rest)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def read_size(size: str | None) -> tuple[int, int] | None:
    """Height and width of `--size`, given as `64` or `48x96`."""
    if size is None:
        return None
    parts = size.lower().replace("×", "x").split("x")
    if len(parts) not in (1, 2) or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--size {size}: give pixels as 64, or as height x width: 48x96")
    return int(parts[0]), int(parts[-1])


def command_line() -> str:
    """The command as it was typed, for the record in the run."""
    return shlex.join(["mekiki", *sys.argv[1:]])


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of a command that is a dataclass by options, one for each of its fields.

    So commands share options: the fields are annotated as parameters are, and the command gets the dataclass.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        group = groups.get(parameter.name)
        if group is None:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
            continue
        types = get_type_hints(group, include_extras=True)
        parameters += [
            parameter.replace(name=field.name, default=field.default, annotation=types[field.name])
            for field in fields(group)
        ]

    @wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
