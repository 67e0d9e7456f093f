"""Commands of describing: sharpen, describe-train, describe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mekiki import console
from mekiki.errors import InputError
from mekiki.options import (
    Json,
    MemoryFolder,
    command_line,
)

FourBit = Annotated[bool, typer.Option("--four-bit", help="keep a language model in four bits (CUDA)")]

VectorFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="vectors of one's own by name, in place of photographs: .npz, .parquet, .csv"
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(sharpen)
    app.command("describe-train")(describe_train)
    app.command()(describe)


def sharpen(
    run: MemoryFolder,
    texts: Annotated[
        Path,
        typer.Option(
            metavar="CSV",
            help="what people wrote of other parts than those to be described: a .csv file with the columns file, "
            "text, defect, place, severity",
        ),
    ],
    masks: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="masks of the defects, under the names that the texts give"),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="passes over the photographs")] = 12,
    rate: Annotated[float, typer.Option("--lr", help="highest learning rate of AdamW")] = 0.004,
    batch_size: Annotated[int, typer.Option(min=2, help="photographs a step")] = 96,
    seed: Annotated[int, typer.Option(help="of which parts are held out, and of weights and order")] = 0,
    resume: Annotated[bool, typer.Option(help="go on from the last whole epoch")] = False,
    json: Json = False,
) -> None:
    """Let a trained network also learn where a defect lies and how large it is, for describing."""
    from mekiki.describing.fit_describer import Schooling
    from mekiki.describing.localise import sharpen

    with console.progress_bar() as progress:
        told = sharpen(
            run,
            texts,
            masks=masks,
            schooling=Schooling(epochs=epochs, rate=rate, batch=batch_size, decay=0.02, seed=seed),
            resume=resume,
            command=command_line(),
            progress=progress,
            on_epoch=lambda row: sharpening_epoch(row, epochs),
        )
    if json:
        console.print_json(told)
    else:
        sharpened_lines(told)


def describe_train(
    run: MemoryFolder,
    texts: Annotated[
        Path,
        typer.Option(
            metavar="CSV",
            help="what people wrote: a .csv file with the columns file, text and, if known, language, defect, place, "
            "severity, cause, repair",
        ),
    ],
    lm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            help="language model of transformers, with or without eyes of its own; it stays as it is  [default: a "
            "small one, made from the texts]",
        ),
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(metavar="DIR", help="PEFT adapter on it, such as Unsloth writes")
    ] = None,
    lora: Annotated[
        int | None, typer.Option(min=1, metavar="RANK", help="let a low-rank change of it learn too")
    ] = None,
    four_bit: FourBit = False,
    vectors: VectorFile = None,
    epochs: Annotated[int, typer.Option(min=1, help="passes over the texts, at most")] = 30,
    rate: Annotated[float, typer.Option("--lr", help="highest learning rate of AdamW")] = 0.002,
    batch_size: Annotated[int, typer.Option(min=1, help="texts a step")] = 32,
    seed: Annotated[int, typer.Option(help="of which parts are held out, and of weights and order")] = 0,
    resume: Annotated[bool, typer.Option(help="go on from the last whole epoch")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="exit with 1 if it turns out that it guesses")
    ] = False,
    json: Json = False,
) -> None:
    """Learn to describe parts from what people wrote, and prove that the words come from the vector."""
    from mekiki.describing.fit_describer import Schooling
    from mekiki.describing.train_describer import LanguageModelConfig, describe_train

    schooling = Schooling(epochs=epochs, rate=rate, batch=batch_size, seed=seed)
    with console.progress_bar() as progress:
        told = describe_train(
            run,
            texts,
            lm_config=LanguageModelConfig(lm, adapter, lora, four_bit),
            vectors=vectors,
            schooling=schooling,
            resume=resume,
            command=command_line(),
            progress=progress,
            on_epoch=lambda row: describing_epoch(row, epochs),
        )
    if json:
        console.print_json(told)
    else:
        proof_lines(told["proof"])
        console.out().print(f"report: {told['report']}")
    if strict and not told["proof"]["reads"]:
        raise typer.Exit(1)


def describe(
    run: MemoryFolder,
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="[IMAGE…]", help="photographs, or folders of them")
    ] = None,
    ask: Annotated[
        str | None, typer.Option(help="another question than the usual one, for a language model")
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="text, or json: defect, place, severity, cause, repair, cases")
    ] = "text",
    language: Annotated[
        str | None, typer.Option(help="en or ja  [default: that of most texts it learnt from]")
    ] = None,
    cases: Annotated[
        int, typer.Option(min=0, metavar="K", help="how many past cases an answer may rest on")
    ] = 3,
    vectors: VectorFile = None,
    four_bit: FourBit = False,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="let a vLLM server speak, such as http://HOST:8000/v1; its key in MEKIKI_LM_KEY",
        ),
    ] = None,
    served_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="with --endpoint: the server's name for it  [default: that it learnt with]"
        ),
    ] = None,
    requests: Annotated[
        Path | None,
        typer.Option(metavar="JSONL", help="write what such a server would be sent, and send nothing"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="page.html: each photograph beside its description")
    ] = None,
) -> None:
    """Say in words what is wrong with a part, why it may be, and what to do about it."""
    from mekiki.data.photo import list_photos
    from mekiki.describing.describe import Explainer
    from mekiki.describing.remote_describer import Remote
    from mekiki.describing.write_descriptions import write_descriptions, write_server_requests

    if format_ not in ("text", "json"):
        raise InputError(f"--format {format_}: give text or json")
    if bool(images) == (vectors is not None):
        raise InputError("describe: give photographs, or --vectors FILE")
    if served_model is not None and endpoint is None:
        raise InputError("--served-model goes with --endpoint, the server that has it")
    explainer = Explainer(run, language=language, cases=cases, four_bit=four_bit)
    remote = None if endpoint is None else Remote(explainer, endpoint, served_model)
    subjects = explainer.of_vectors(vectors) if vectors else explainer.look_at(list_photos(images or []))
    if requests is not None:
        number = write_server_requests(explainer, subjects, requests, ask)
        console.out().print(f"{number} requests: {requests}")
        return
    speaks = remote or explainer
    if output is not None:
        number = write_descriptions(explainer, speaks, subjects, output, ask)
        console.out().print(f"{number} described: {output}")
        return
    speaks.check(ask)
    for subject in subjects:
        if format_ == "json":
            console.print_json(speaks.report(subject, ask))
        else:
            pieces = speaks.stream(subject, ask)
            spoken(subject.name, pieces, partial(explainer.rests_on, subject), explainer.warning)


def sharpening_epoch(row: Mapping[str, float], epochs: int) -> None:
    """One epoch of a sharpening."""
    right = ", ".join(
        f"{name} {console.number(value, 100, '%')}"
        for name, value in row.items()
        if name not in ("epoch", "loss")
    )
    console.err().print(f"epoch {row['epoch']:.0f}/{epochs} · loss {row['loss']:.4f} · read rightly: {right}")


def sharpened_lines(told: Mapping[str, Any]) -> None:
    """What a sharpening came to."""
    screen = console.out()
    marked = f", {told['marked']:,} of them with a mask" if told["marked"] else ""
    screen.print(f"{told['parts']:,} parts{marked}; of those kept apart it reads rightly")
    for name, share in told["right"].items():
        frequent = console.number(told["frequent"][name], 100, "%")
        screen.print(f"  {name}: {console.number(share, 100, '%')} (always the most frequent: {frequent})")
    screen.print("`mekiki describe-train` and `mekiki describe` look with it from now on.")


def describing_epoch(row: Mapping[str, float], epochs: int) -> None:
    """One line an epoch of learning to describe, on standard error."""
    console.err().print(
        f"epoch {int(row['epoch'])}/{epochs} · loss {row['loss']:.4f} · held out {row['held_out']:.4f} nats a token",
        style="dim",
    )


def proof_lines(proof: Mapping[str, Any]) -> None:
    """What a describer gets right with vectors that are a part's own, and with others."""
    from mekiki.report.description_page import VECTOR_LABELS

    columns = list(proof["most"])
    table = console.new_table(box=None, padding=(0, 2, 0, 0))
    table.add_column("described from", no_wrap=True)
    for name in ("loss", *columns):
        table.add_column(name, justify="right")
    for vectors, said in VECTOR_LABELS.items():
        own = [console.number(proof["right"][vectors][name], 100, "%") for name in columns]
        table.add_row(said, f"{proof['loss'][vectors]:.3f}", *own)
    if columns:
        table.add_row(
            "the most frequent", "", *(console.number(proof["most"][name], 100, "%") for name in columns)
        )
    for source, values in proof["readable"].items():
        own = [console.number(values.get(name), 100, "%") for name in columns]
        table.add_row(f"linear probe of {source}", "", *own)
    console.out().print(table)
    console.out().print(proof["sentence"], style="" if proof["reads"] else "bold red")


def spoken(
    name: str, pieces: Iterable[str], cases: Callable[[str], Sequence[Mapping[str, Any]]], warning: str
) -> None:
    """A description as it comes, then the past cases it rests on.

    Args:
        name: of the photograph.
        pieces: what is said.
        cases: of what was said, the cases it rests on.
        warning: what is to be known of it.
    """
    screen = console.out()
    screen.print(name, style="bold")
    said = ""
    for piece in pieces:
        said += piece
        screen.print(piece, end="")
    screen.print()
    for case in cases(said):
        note = f": {' '.join(case['note'].split())}" if case["note"] else ""
        screen.print(f"  rests on [{case['id']}] {case['label'] or 'no label'}{note}", style="dim")
    if warning:
        console.line("warning", warning, "bold yellow")
