"""Commands of cases: remember, search, feedback, and cases stats, export, import, forget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mekiki import console
from mekiki.errors import InputError
from mekiki.options import (
    Json,
    MemoryFolder,
)

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
        help="which cases are meant, such as \"label = 'crack' and not note like '%oil%'\"; fields: id, label, note, "
        "image, who, run, time",
    ),
]

Space = Annotated[
    str, typer.Option(help="images, or notes, which are embedded by their text", show_default=True)
]

Ids = Annotated[
    list[str] | None, typer.Option(metavar="ID", help="a case, or how its id begins; may be repeated")
]

SHOWN_SHIFT = 1e-6
"""What feedback moved by less than this is rounding, at the rim of a word's reach."""


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(remember)
    app.command()(search)
    app.command()(feedback)
    group = typer.Typer(help="What a run remembers.", no_args_is_help=True, rich_markup_mode=None)
    group.command("stats")(cases_stats)
    group.command("export")(cases_export)
    group.command("import")(cases_import)
    group.command("forget")(cases_forget)
    app.add_typer(group, name="cases")


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
        int | None, typer.Option(min=2, help="keep so many of its dimensions (Matryoshka models)")
    ] = None,
    store: StorePlace = None,
    json: Json = False,
) -> None:
    """Keep photographs and notes as cases, to be found again."""
    from mekiki.cases.remember import remember
    from mekiki.cases.run_memory import Settings

    with console.progress_bar() as progress:
        kept = remember(
            run,
            data,
            notes,
            settings=Settings(store, text_model, text_dim),
            progress=progress,
        )
    if json:
        console.print_json(kept)
        return
    remembered_lines(kept)


def search(
    run: MemoryFolder,
    image: Annotated[Path | None, typer.Argument(metavar="[IMAGE]", help="a photograph")] = None,
    text: Annotated[str | None, typer.Option(help="or what notes should say")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="how many cases")] = 10,
    where: Where = None,
    like: Ids = None,
    unlike: Ids = None,
    store: StorePlace = None,
    json: Json = False,
) -> None:
    """Find the past cases that are most like a photograph or a text, as people judged what was found before."""
    from mekiki.cases.run_memory import Settings
    from mekiki.cases.search import search

    found = search(
        run,
        image,
        text,
        k=k,
        where=where,
        like=like or (),
        unlike=unlike or (),
        settings=Settings(store),
    )
    if json:
        console.print_json(found)
        return
    cases_table(found["found"])


def feedback(
    run: MemoryFolder,
    query: Annotated[
        Path | None, typer.Argument(metavar="[QUERY]", help="the photograph that was searched for")
    ] = None,
    text: Annotated[str | None, typer.Option(help="or the text")] = None,
    good: Ids = None,
    bad: Ids = None,
    undo: Annotated[bool, typer.Option("--undo", help="take back what was said last, or --go N")] = False,
    go: Annotated[int | None, typer.Option(min=1, metavar="N", help="which to take back")] = None,
    show: Annotated[bool, typer.Option("--list", help="show all that was said: who, when, what")] = False,
    train: Annotated[
        bool,
        typer.Option(
            "--train", help="learn from all that was said how to compare; kept only if it is better"
        ),
    ] = False,
    untrain: Annotated[bool, typer.Option("--untrain", help="take back what was learnt last")] = False,
    triplets: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="learn from anchor, positive, negative: .csv of case ids or texts, .npz or .parquet of vectors",
        ),
    ] = None,
    adapter: Annotated[str, typer.Option(help="what learns: linear or mlp")] = "linear",
    tune_text: Annotated[
        bool,
        typer.Option("--tune-text", help="with --train: the text model learns, and notes are embedded anew"),
    ] = False,
    nested: Annotated[
        str | None,
        typer.Option(
            metavar="D,D,…",
            help="with --tune-text: dimensions that should do by themselves, such as 384,128,64",
        ),
    ] = None,
    text_dim: Annotated[
        int | None, typer.Option(min=2, help="with --tune-text: keep so many dimensions")
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="images or notes  [default: the one that was judged]")
    ] = None,
    store: StorePlace = None,
    json: Json = False,
) -> None:
    """Say which cases a search should have found and which not; it holds from the next search on."""
    from mekiki.cases.run_memory import Settings
    from mekiki.cases.search import feedback_of, give_feedback, undo_feedback

    asked = query is not None or text is not None
    alone = show + undo + train + untrain + asked == 1
    if not alone or (go and not undo) or (asked != bool(good or bad)) or (triplets and not train):
        raise InputError(
            "feedback: give QUERY or --text, with --good ID or --bad ID; or --undo [--go N]; or --list; or --train "
            "[--triplets FILE]; or --untrain"
        )
    if ((nested or text_dim) and not tune_text) or (tune_text and not (train or untrain)):
        raise InputError(
            "feedback: --nested and --text-dim go with --tune-text, and that with --train or --untrain"
        )
    if tune_text:
        _tune_text(run, train, triplets, nested, text_dim, store, json)
        return
    if train or untrain:
        _train_memory(run, train, triplets, adapter, space, store, json)
        return
    if show:
        said = [each.to_dict() for each in feedback_of(run)]
        if json:
            console.print_json({"feedback": said})
            return
        feedback_table(said)
        return
    if undo:
        taken = [each.to_dict() for each in undo_feedback(run, go)]
        if json:
            console.print_json({"undone": taken})
            return
        console.out().print(f"feedback {taken[0]['go']} is taken back: {len(taken)} judgement(s)")
        return
    added = give_feedback(run, query, text, good=good or (), bad=bad or (), settings=Settings(store))
    if json:
        console.print_json({"feedback": [each.to_dict() for each in added]})
        return
    console.out().print(f"feedback {added[0].go}: {len(added)} judgement(s), in force from now on")
    console.out().print(f"take it back with: mekiki feedback {run} --undo --go {added[0].go}")


def cases_stats(run: MemoryFolder, store: StorePlace = None, json: Json = False) -> None:
    """How many cases there are, of what, by whom, and since when."""
    from mekiki.cases.run_memory import Settings
    from mekiki.cases.search import case_stats

    told = case_stats(run, Settings(store))
    if json:
        console.print_json(told)
        return
    case_stats_lines(told)


def cases_export(
    run: MemoryFolder,
    output: Annotated[Path, typer.Option("-o", "--output", help="cases.parquet")],
    space: Space = "images",
    where: Where = None,
    store: StorePlace = None,
    json: Json = False,
) -> None:
    """Write cases to a Parquet file, with nothing lost."""
    from mekiki.cases.run_memory import Settings
    from mekiki.cases.search import export_run

    told = export_run(run, output, space=space, where=where, settings=Settings(store))
    if json:
        console.print_json(told)
        return
    console.out().print(f"{told['cases']:,} cases: {output}")


def cases_import(
    run: MemoryFolder,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="what `mekiki cases export` wrote")],
    space: Space = "images",
    store: StorePlace = None,
    json: Json = False,
) -> None:
    """Add the cases of a Parquet file."""
    from mekiki.cases.run_memory import Settings
    from mekiki.cases.search import import_run

    told = import_run(run, path, space=space, settings=Settings(store))
    if json:
        console.print_json(told)
        return
    console.out().print(f"{told['cases']:,} cases, {told['new']:,} of them new: {told['store']}")


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
    from mekiki.cases.run_memory import Settings
    from mekiki.cases.search import forget

    told = forget(run, ids or (), space=space, where=where, settings=Settings(store))
    if json:
        console.print_json(told)
        return
    console.out().print(f"{told['forgotten']:,} cases are forgotten")


def _train_memory(
    run: Path,
    train: bool,
    triplets: Path | None,
    adapter: str,
    space: str | None,
    store: str | None,
    json: bool,
) -> None:
    """Learn from feedback, or take back what was learnt."""
    from mekiki.cases.adapter import Schooling
    from mekiki.cases.run_memory import Settings
    from mekiki.cases.train_adapter import spaces_judged, untrain
    from mekiki.cases.train_adapter import train as train_from_feedback

    settings = Settings(store)
    where = space or next(iter(spaces_judged(run)), "images")
    if train:
        with console.progress_bar() as progress:
            told = train_from_feedback(
                run,
                space=where,
                triplets=triplets,
                schooling=Schooling(adapter),
                settings=settings,
                progress=progress,
            )
    else:
        told = untrain(run, space=where, settings=settings)
    if json:
        console.print_json(told)
    elif train:
        taught_lines(told)
    else:
        console.out().print(f"no longer in force: {told['taken_back']}")


def _tune_text(
    run: Path,
    train: bool,
    triplets: Path | None,
    nested: str | None,
    text_dim: int | None,
    store: str | None,
    json: bool,
) -> None:
    """Tune the text model by feedback, or take back what was tuned."""
    from mekiki.cases.run_memory import Settings
    from mekiki.cases.text_model import Tuning, tune, untune

    settings = Settings(store)
    if not train:
        told = untune(run, settings)
    else:
        sizes = (nested or "").replace(" ", "").split(",") if nested else []
        if not all(each.isdecimal() for each in sizes):
            raise InputError(
                f"--nested {nested}: give dimensions with commas between them, such as 384,128,64"
            )
        tuning = Tuning(nested=tuple(int(each) for each in sizes), dimensions=text_dim)
        with console.progress_bar() as progress:
            told = tune(run, triplets=triplets, tuning=tuning, settings=settings, progress=progress)
    if json:
        console.print_json(told)
    elif train:
        tuned_lines(told)
    else:
        console.out().print(f"no longer in force: {told['taken_back']}")


def remembered_lines(kept: Mapping[str, Any]) -> None:
    """What was remembered."""
    for note in kept["notes"]:
        console.line("note", note, "yellow")
    said = f"{kept['cases']:,} cases, {kept['new']:,} of them new"
    if kept["embedded_notes"]:
        said += f"; {kept['embedded_notes']:,} notes can be found by their text"
    console.out().print(f"{said}: {kept['store']}")


def cases_table(found: Sequence[Mapping[str, Any]]) -> None:
    """Past cases, the foremost first; a column that would be empty is left out."""
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
    told = {heading: cells for heading, cells in columns.items() if any(cells)}
    table = console.new_table(box=None, padding=(0, 2, 0, 0))
    for heading in told:
        table.add_column(heading, justify="right" if heading in ("", "distance", "feedback") else "left")
    for row in zip(*told.values(), strict=True):
        table.add_row(*row)
    console.out().print(table)


def feedback_table(said: Sequence[Mapping[str, Any]]) -> None:
    """What people said of cases that were found."""
    table = console.new_table(box=None, padding=(0, 2, 0, 0))
    for heading in ("feedback", "when", "who", "query", "case", "is", ""):
        table.add_column(heading, justify="right" if heading == "feedback" else "left")
    for each in said:
        table.add_row(
            str(each["go"]),
            each["when"],
            each["who"],
            each["asked"],
            each["case"],
            "good" if each["good"] else "bad",
            "taken back" if each["undone"] else "",
        )
    console.out().print(table)


def taught_lines(told: Mapping[str, Any]) -> None:
    """What learning from feedback came to."""
    screen = console.out()
    before, after, frozen = (console.number(told[name], 100, "%") for name in ("before", "after", "frozen"))
    screen.print(
        f"{told['triplets']:,} triplets taught; of {told['held_out']:,} held out, {after} are in the right order "
        f"({before} before, {frozen} as the encoder has them)"
    )
    screen.print(
        "The new comparison is in force."
        if told["replaced"]
        else "That is no better, so everything stays as it was."
    )


def tuned_lines(told: Mapping[str, Any]) -> None:
    """What tuning a text model came to."""
    screen = console.out()
    screen.print(
        f"held-out triplets in the right order: {console.number(told['before'], 100, '%')} before, "
        f"{console.number(told['after'], 100, '%')} tuned ({told['held_out']} triplets; {told['triplets']} taught)"
    )
    for size, share in told["nested"].items():
        screen.print(f"  in the first {size} dimensions: {console.number(share, 100, '%')}")
    if told["replaced"]:
        screen.print(f"in force: {told['model']}; {told['notes']:,} notes are embedded anew")
    else:
        screen.print("not better, so nothing has changed")


def case_stats_lines(told: Mapping[str, Any]) -> None:
    """What the stores of a run hold."""
    screen = console.out()
    for space in ("images", "notes"):
        if space not in told:
            continue
        own = told[space]
        screen.print(
            f"{space}: {own['cases']:,} cases, {own['notes']:,} with a note, in {own['place']}", style="bold"
        )
        screen.print(f"  vectors of {own['encoder']['name']}, {own['encoder']['dimension']} dimensions")
        if own["cases"]:
            screen.print(f"  from {own['from'][:10]} to {own['to'][:10]}")
        for label, count in own["labels"].items():
            screen.print(f"  {label or '(no label)'}: {count:,}")
    screen.print(
        f"feedback: {told['feedback']['in_force']:,} judgements in force of {told['feedback']['all']:,}"
    )
