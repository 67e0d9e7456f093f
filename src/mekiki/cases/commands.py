"""Commands of cases: remember, search, feedback …, cases …."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mekiki import console
from mekiki.errors import InputError
from mekiki.options import Json, MemoryFolder

StorePlace = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="DIR|URL",
        help="where cases are: a folder, or qdrant+http://HOST:PORT/NAME with the API key in MEKIKI_QDRANT_KEY  "
        "[default: RUN/cases, or as remembered]",
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        metavar="CONDITION",
        help="only cases that meet it, such as \"label = 'crack' and not note like '%oil%'\"; fields: id, label, "
        "note, image, who, run, time",
    ),
]
Space = Annotated[str, typer.Option(help="images, or notes, which are embedded by their text")]
JudgedSpace = Annotated[
    str | None, typer.Option("--space", help="images or notes  [default: the one that was judged]")
]
Image = Annotated[Path | None, typer.Argument(metavar="[IMAGE]", help="a photograph")]
QueryText = Annotated[str | None, typer.Option(help="or what notes should say")]
Ids = Annotated[
    list[str] | None, typer.Option(metavar="ID", help="a case, or how its id begins; may be repeated")
]
TuneText = Annotated[
    bool, typer.Option("--tune-text", help="the text model instead of an adapter; notes are embedded again")
]

SHOWN_SHIFT = 1e-6
"""Smaller shifts are rounding, at the rim of a judgement's reach."""


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(remember)
    app.command()(search)
    feedback = typer.Typer(
        cls=FeedbackGroup,
        help="Judge what a search found, so that the next search ranks it better; learn from what was judged.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    feedback.command("add")(feedback_add)
    feedback.command("undo")(feedback_undo)
    feedback.command("list")(feedback_list)
    feedback.command("train")(feedback_train)
    feedback.command("untrain")(feedback_untrain)
    app.add_typer(feedback, name="feedback")
    cases = typer.Typer(
        help="Statistics, export, import and removal of cases.", no_args_is_help=True, rich_markup_mode=None
    )
    cases.command("stats")(cases_stats)
    cases.command("export")(cases_export)
    cases.command("import")(cases_import)
    cases.command("forget")(cases_forget)
    app.add_typer(cases, name="cases")


class FeedbackGroup(TyperGroup):
    """The sub-commands of `feedback`; arguments of the form before version 2.1 are translated."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `click.Group.parse_args`."""
        args = [re.sub(r"^--go(?==|$)", "--entry", arg) for arg in args]
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = translate_old_form(args)
        return super().parse_args(ctx, args)


def translate_old_form(args: Sequence[str]) -> list[str]:
    """Arguments of `mekiki feedback RUN …` as those of a sub-command.

    Raises:
        InputError: flags of several sub-commands, or `--entry` without `--undo`.

    Example:
        >>> translate_old_form(["line1", "--undo", "--entry", "3"])
        ['undo', 'line1', '--entry', '3']
        >>> translate_old_form(["line1", "0815.png", "--good", "3fa9c1d2"])
        ['add', 'line1', '0815.png', '--good', '3fa9c1d2']
    """
    flags = [arg for arg in args if arg in ("--undo", "--list", "--train", "--untrain")]
    if len(flags) > 1 or ("--entry" in args and flags != ["--undo"]):
        raise InputError(
            "feedback: give QUERY or --text, with --good ID or --bad ID; or --undo [--entry N]; or --list; or --train "
            "[--triplets FILE]; or --untrain"
        )
    if {"--nested", "--text-dim"} & set(args) and flags != ["--train"]:
        raise InputError("feedback: --nested and --text-dim go with --tune-text, and that with --train")
    command = flags[0].removeprefix("--") if flags else "add"
    return [command, *(arg for arg in args if arg not in flags)]


def remember(
    run: MemoryFolder,
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATA…", help="photographs, folders of them, or a .csv file of notes alone"),
    ],
    notes: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="what people wrote: a .csv file with the columns file, label, note"),
    ] = None,
    text_model: Annotated[
        str | None,
        typer.Option(metavar="NAME|DIR", help="sentence-transformers model by which notes are found"),
    ] = None,
    text_dim: Annotated[
        int | None, typer.Option(min=2, help="how many of its dimensions to keep (Matryoshka models)")
    ] = None,
    store: StorePlace = None,
    json: Json = False,
) -> None:
    """Keep photographs and notes as cases, to be found again."""
    from mekiki.cases.remember import remember
    from mekiki.cases.run_memory import MemoryConfig, RunMemory

    run_memory = RunMemory(run, MemoryConfig(store, text_model, text_dim))
    with console.progress_bar() as progress:
        result = remember(run_memory, data, notes, progress=progress)
    text = f"{result['cases']:,} cases, {result['new']:,} of them new"
    if result["embedded_notes"]:
        text += f"; {result['embedded_notes']:,} notes can be found by their text"
    if not json:
        for note in result["notes"]:
            console.line("note", note, "yellow")
    _answer(json, result, f"{text}: {result['store']}")


def search(
    run: MemoryFolder,
    image: Image = None,
    text: QueryText = None,
    k: Annotated[int, typer.Option("-k", min=1, help="how many cases")] = 10,
    where: Where = None,
    like: Ids = None,
    unlike: Ids = None,
    store: StorePlace = None,
    json: Json = False,
) -> None:
    """Find the past cases most similar to a photograph or a text, re-ranked by feedback."""
    from mekiki.cases.search import search

    result = search(_open(run, store), image, text, k=k, where=where, like=like or (), unlike=unlike or ())
    _answer(json, result, _print_cases)


def feedback_add(
    run: MemoryFolder,
    query: Annotated[
        Path | None, typer.Argument(metavar="[QUERY]", help="the photograph that was searched for")
    ] = None,
    text: Annotated[str | None, typer.Option(help="or the text")] = None,
    good: Ids = None,
    bad: Ids = None,
    store: StorePlace = None,
    json: Json = False,
) -> None:
    """Judge cases that a search found as good or bad.

    The next search, and searches similar to it, rank them accordingly.
    """
    from mekiki.cases.search import give_feedback

    if (query is None and text is None) or not (good or bad):
        raise InputError("feedback: give QUERY or --text, with --good ID or --bad ID")
    added = give_feedback(_open(run, store), query, text, good=good or (), bad=bad or ())
    entry = added[0].entry
    _answer(
        json,
        {"feedback": [each.to_dict() for each in added]},
        f"feedback {entry}: {len(added)} judgement(s), active from now on\n"
        f"undo it with: mekiki feedback undo {run} --entry {entry}",
    )


def feedback_undo(
    run: MemoryFolder,
    entry: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="which to undo  [default: the last]"),
    ] = None,
    json: Json = False,
) -> None:
    """Undo feedback, so that searches find exactly what they found before it."""
    from mekiki.cases.search import undo_feedback

    undone = undo_feedback(run, entry)
    result = {"undone": [each.to_dict() for each in undone]}
    _answer(json, result, f"feedback {undone[0].entry} is undone: {len(undone)} judgement(s)")


def feedback_list(run: MemoryFolder, json: Json = False) -> None:
    """Show all feedback: who, when, what."""
    from mekiki.cases.search import read_feedback

    _answer(json, {"feedback": [each.to_dict() for each in read_feedback(run)]}, _print_feedback)


def feedback_train(
    run: MemoryFolder,
    triplets: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="learn from anchor, positive, negative: .csv of case ids or texts, .npz or .parquet of vectors  "
            "[default: from feedback]",
        ),
    ] = None,
    adapter: Annotated[str, typer.Option(help="what is trained: linear or mlp")] = "linear",
    tune_text: TuneText = False,
    nested: Annotated[
        str | None,
        typer.Option(
            metavar="D,D,…",
            help="with --tune-text: dimensions that should do by themselves, such as 384,128,64",
        ),
    ] = None,
    text_dim: Annotated[
        int | None, typer.Option(min=2, help="with --tune-text: how many dimensions to keep")
    ] = None,
    space: JudgedSpace = None,
    store: StorePlace = None,
    json: Json = False,
) -> None:
    """Train an adapter from feedback.

    It compares cases as they were judged, and is used only if it is better on queries kept from training.
    """
    if (nested or text_dim) and not tune_text:
        raise InputError("feedback: --nested and --text-dim go with --tune-text")
    from mekiki.cases.adapter import AdapterConfig
    from mekiki.cases.feedback_training import judged_space, train_from_feedback
    from mekiki.cases.text_model import TextModelConfig, tune_text_model

    run_memory = _open(run, store)
    with console.progress_bar() as progress:
        if tune_text:
            text_config = TextModelConfig(nested=_read_sizes(nested), dimensions=text_dim)
            result = tune_text_model(run_memory, triplets=triplets, config=text_config, progress=progress)
        else:
            result = train_from_feedback(
                run_memory,
                space=space or judged_space(run_memory),
                triplets=triplets,
                config=AdapterConfig(adapter),
                progress=progress,
            )
    _answer(json, result, _print_tuning if tune_text else _print_training)


def feedback_untrain(
    run: MemoryFolder,
    tune_text: TuneText = False,
    space: JudgedSpace = None,
    store: StorePlace = None,
    json: Json = False,
) -> None:
    """Take the last trained adapter or text model out of use."""
    from mekiki.cases.feedback_training import judged_space, untrain
    from mekiki.cases.text_model import untune_text_model

    run_memory = _open(run, store)
    if tune_text:
        result = untune_text_model(run_memory)
    else:
        result = untrain(run_memory, space=space or judged_space(run_memory))
    _answer(json, result, f"no longer in use: {result['taken_back']}")


def cases_stats(run: MemoryFolder, store: StorePlace = None, json: Json = False) -> None:
    """How many cases there are, of what, by whom, and since when."""
    from mekiki.cases.maintenance import case_stats

    result = case_stats(_open(run, store))
    _answer(json, result, _print_stats)


def cases_export(
    run: MemoryFolder,
    output: Annotated[Path, typer.Option("-o", "--output", help="cases.parquet")],
    space: Space = "images",
    where: Where = None,
    store: StorePlace = None,
    json: Json = False,
) -> None:
    """Write cases to a Parquet file, with nothing lost."""
    from mekiki.cases.maintenance import export_memory

    result = export_memory(_open(run, store), output, space=space, where=where)
    _answer(json, result, f"{result['cases']:,} cases: {output}")


def cases_import(
    run: MemoryFolder,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="what `mekiki cases export` wrote")],
    space: Space = "images",
    store: StorePlace = None,
    json: Json = False,
) -> None:
    """Add the cases of a Parquet file."""
    from mekiki.cases.maintenance import import_memory

    result = import_memory(_open(run, store), path, space=space)
    _answer(json, result, f"{result['cases']:,} cases, {result['new']:,} of them new: {result['store']}")


def cases_forget(
    run: MemoryFolder,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID…]", help="cases, or how their ids begin")
    ] = None,
    where: Where = None,
    space: Space = "images",
    store: StorePlace = None,
    json: Json = False,
) -> None:
    """Remove cases, by id or by a condition."""
    from mekiki.cases.maintenance import forget

    result = forget(_open(run, store), ids or (), space=space, where=where)
    _answer(json, result, f"{result['forgotten']:,} cases are forgotten")


def _open(run: Path, store: str | None) -> Any:
    """The memory of a run."""
    from mekiki.cases.run_memory import MemoryConfig, RunMemory

    return RunMemory(run, MemoryConfig(store))


def _read_sizes(nested: str | None) -> tuple[int, ...]:
    """The dimensions of `--nested`."""
    sizes = nested.replace(" ", "").split(",") if nested else []
    if not all(size.isdecimal() for size in sizes):
        raise InputError(f"--nested {nested}: give dimensions with commas between them, such as 384,128,64")
    return tuple(map(int, sizes))


def _answer(json: bool, result: Mapping[str, Any], text: str | Callable[[Mapping[str, Any]], None]) -> None:
    """Print a result as JSON, or else a text or what a function prints."""
    if json:
        console.print_json(result)
    elif callable(text):
        text(result)
    else:
        console.out().print(text)


def _print_columns(columns: Mapping[str, Sequence[str]], right: Sequence[str]) -> None:
    """A table; columns of the headings `right` are aligned on the right."""
    console.print_table(list(columns), zip(*columns.values(), strict=True), right=right)


def _print_cases(result: Mapping[str, Any]) -> None:
    """Past cases, the best first; empty columns are left out."""
    found = result["found"]
    columns: dict[str, list[str]] = {
        "": [str(each["rank"]) for each in found],
        "case": [each["id"] for each in found],
        "distance": [console.number(each["distance"]) for each in found],
        "feedback": [f"{each['shift']:+.3g}" if abs(each["shift"]) >= SHOWN_SHIFT else "" for each in found],
        "label": [each["label"] for each in found],
        "note": [" ".join(each["note"].split()) for each in found],
        "photograph": [each["image"] for each in found],
        "who": [each["who"] for each in found],
        "when": [each["time"][:10] for each in found],
    }
    filled = {heading: cells for heading, cells in columns.items() if any(cells)}
    _print_columns(filled, right=("", "distance", "feedback"))


def _print_feedback(result: Mapping[str, Any]) -> None:
    """All judgements, in order."""
    judgements = result["feedback"]
    columns = {
        "feedback": [str(each["go"]) for each in judgements],
        "when": [each["when"] for each in judgements],
        "who": [each["who"] for each in judgements],
        "query": [each["asked"] for each in judgements],
        "case": [each["case"] for each in judgements],
        "is": ["good" if each["good"] else "bad" for each in judgements],
        "": ["undone" if each["undone"] else "" for each in judgements],
    }
    _print_columns(columns, right=("feedback",))


def _print_training(result: Mapping[str, Any]) -> None:
    """The figures of a trained adapter."""
    before, after, frozen = (console.number(result[name], 100, "%") for name in ("before", "after", "frozen"))
    console.out().print(
        f"{result['triplets']:,} triplets for training; of {result['held_out']:,} held out, {after} are in the right "
        f"order ({before} before, {frozen} without an adapter)"
    )
    console.out().print(
        "The new adapter is used from now on."
        if result["replaced"]
        else "That is no better, so everything stays as it was."
    )


def _print_tuning(result: Mapping[str, Any]) -> None:
    """The figures of a fine-tuned text model."""
    screen = console.out()
    before, after = (console.number(result[name], 100, "%") for name in ("before", "after"))
    screen.print(
        f"held-out triplets in the right order: {before} before, {after} tuned ({result['held_out']} triplets; "
        f"{result['triplets']} for training)"
    )
    for size, share in result["nested"].items():
        screen.print(f"  in the first {size} dimensions: {console.number(share, 100, '%')}")
    if result["replaced"]:
        screen.print(f"used from now on: {result['model']}; {result['notes']:,} notes were embedded again")
    else:
        screen.print("not better, so nothing has changed")


def _print_stats(result: Mapping[str, Any]) -> None:
    """What the stores of a run hold."""
    screen = console.out()
    for space in ("images", "notes"):
        if space not in result:
            continue
        stats = result[space]
        screen.print(
            f"{space}: {stats['cases']:,} cases, {stats['notes']:,} with a note, in {stats['place']}",
            style="bold",
        )
        screen.print(f"  vectors of {stats['encoder']['name']}, {stats['encoder']['dimension']} dimensions")
        if stats["cases"]:
            screen.print(f"  from {stats['from'][:10]} to {stats['to'][:10]}")
        for label, count in stats["labels"].items():
            screen.print(f"  {label or '(no label)'}: {count:,}")
    active, total = result["feedback"]["in_force"], result["feedback"]["all"]
    screen.print(f"feedback: {active:,} of {total:,} judgements are active")
