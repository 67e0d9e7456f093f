"""Commands of describing: localise (alias: sharpen), describe-train, describe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mekiki import console
from mekiki.errors import InputError
from mekiki.options import Json, MemoryFolder, command_line

if TYPE_CHECKING:
    from mekiki.describing.describe import PartInput, RunDescriber

TextFile = Annotated[
    Path,
    typer.Option(
        metavar="CSV",
        help="table of texts with the columns file, text and, if known, language, defect, place, severity, cause, "
        "repair; `localise` needs defect, place and severity",
    ),
]
FourBit = Annotated[bool, typer.Option("--four-bit", help="keep a language model in four bits (CUDA)")]
VectorFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="table of vectors by name, in place of photographs: .npz, .parquet, .csv"
    ),
]
LearningRate = Annotated[float, typer.Option("--lr", help="highest learning rate of AdamW")]
Seed = Annotated[int, typer.Option(help="seed of the split of parts, of weights and order")]
Resume = Annotated[bool, typer.Option(help="continue from the last whole epoch")]


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(localise)
    app.command("sharpen", hidden=True)(localise)
    app.command("describe-train")(describe_train)
    app.command()(describe)


def localise(
    run: MemoryFolder,
    texts: TextFile,
    masks: Annotated[
        Path | None, typer.Option(metavar="DIR", help="masks of the defects, under the names in the texts")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="passes over the photographs")] = 12,
    rate: LearningRate = 0.004,
    batch_size: Annotated[int, typer.Option(min=2, help="photographs in one step")] = 96,
    seed: Seed = 0,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Train a run's network further to predict where a defect is and how large it is, for describing other parts."""
    from mekiki.describing.part_training import TrainConfig
    from mekiki.describing.train_localiser import train_localiser

    with console.progress_bar() as progress:
        result = train_localiser(
            run,
            texts,
            masks=masks,
            config=TrainConfig(epochs=epochs, rate=rate, batch=batch_size, decay=0.02, seed=seed),
            resume=resume,
            command=command_line(),
            progress=progress,
            on_epoch=lambda row: _print_localiser_epoch(row, epochs),
        )
    if json:
        console.print_json(result)
    else:
        _print_localiser(result)


def describe_train(
    run: MemoryFolder,
    texts: TextFile,
    lm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            help="causal or vision-language model of transformers, frozen  [default: a small one from scratch]",
        ),
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(metavar="DIR", help="PEFT adapter for it, such as Unsloth writes")
    ] = None,
    lora: Annotated[
        int | None, typer.Option(min=1, metavar="RANK", help="also train low-rank changes of it (LoRA)")
    ] = None,
    four_bit: FourBit = False,
    vectors: VectorFile = None,
    epochs: Annotated[int, typer.Option(min=1, help="maximum number of epochs")] = 30,
    rate: LearningRate = 0.002,
    batch_size: Annotated[int, typer.Option(min=1, help="texts in one step")] = 32,
    seed: Seed = 0,
    resume: Resume = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="exit with 1 if the describer is at chance in the grounding test")
    ] = False,
    json: Json = False,
) -> None:
    """Train a describer on texts, and test on held-out parts that its descriptions depend on the vector."""
    from mekiki.describing.part_training import TrainConfig
    from mekiki.describing.train_describer import LanguageModelConfig, train_describer

    with console.progress_bar() as progress:
        result = train_describer(
            run,
            texts,
            lm_config=LanguageModelConfig(lm, adapter, lora, four_bit),
            vectors=vectors,
            config=TrainConfig(epochs=epochs, rate=rate, batch=batch_size, seed=seed),
            resume=resume,
            command=command_line(),
            progress=progress,
            on_epoch=lambda row: _print_describer_epoch(row, epochs),
        )
    if json:
        console.print_json(result)
    else:
        _print_grounding(result["proof"])
        console.out().print(f"report: {result['report']}")
    if strict and not result["proof"]["reads"]:
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
        str | None, typer.Option(help="en or ja  [default: language of most training texts]")
    ] = None,
    cases: Annotated[
        int, typer.Option(min=0, metavar="K", help="number of past cases that an answer may rest on")
    ] = 3,
    vectors: VectorFile = None,
    four_bit: FourBit = False,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="vLLM server that answers, as http://HOST:8000/v1; key in MEKIKI_LM_KEY"
        ),
    ] = None,
    served_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="with --endpoint: its name for the model  [default: that of the training]"
        ),
    ] = None,
    requests: Annotated[
        Path | None, typer.Option(metavar="JSONL", help="write what a server would be sent, and send nothing")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="page.html: each photograph beside its description")
    ] = None,
) -> None:
    """Describe in words what is wrong with a part, its likely cause, and the repair."""
    from mekiki.data.photo import list_photos
    from mekiki.describing.describe import RunDescriber

    if format_ not in ("text", "json"):
        raise InputError(f"--format {format_}: give text or json")
    if bool(images) == (vectors is not None):
        raise InputError("describe: give photographs, or --vectors FILE")
    if served_model is not None and endpoint is None:
        raise InputError("--served-model goes with --endpoint, the server that has it")
    describer = RunDescriber(
        run, language=language, cases=cases, four_bit=four_bit, endpoint=endpoint, served_model=served_model
    )
    parts = describer.read_vectors(vectors) if vectors else describer.read_photos(list_photos(images or []))
    if requests is not None:
        number = describer.write_requests(parts, requests, ask)
        console.out().print(f"{number} requests: {requests}")
        return
    if output is not None:
        number = describer.write_page(parts, output, ask)
        console.out().print(f"{number} described: {output}")
        return
    describer.check_question(ask)
    for part in parts:
        if format_ == "json":
            console.print_json(describer.report(part, ask))
        else:
            _print_description(describer, part, ask)


def _print_localiser_epoch(row: Mapping[str, float], epochs: int) -> None:
    """One line an epoch on standard error."""
    accuracy = ", ".join(
        f"{name} {console.number(value, 100, '%')}"
        for name, value in row.items()
        if name not in ("epoch", "loss")
    )
    console.err().print(
        f"epoch {row['epoch']:.0f}/{epochs} · loss {row['loss']:.4f} · validation accuracy: {accuracy}"
    )


def _print_localiser(result: Mapping[str, Any]) -> None:
    screen = console.out()
    marked = f", {result['marked']:,} of them with a mask" if result["marked"] else ""
    screen.print(f"{result['parts']:,} parts{marked}; accuracy on held-out parts:")
    for name, share in result["right"].items():
        frequent = console.number(result["frequent"][name], 100, "%")
        screen.print(f"  {name}: {console.number(share, 100, '%')} (the most frequent value: {frequent})")
    screen.print("`mekiki describe-train` and `mekiki describe` use it from now on.")


def _print_describer_epoch(row: Mapping[str, float], epochs: int) -> None:
    """One line an epoch on standard error."""
    console.err().print(
        f"epoch {int(row['epoch'])}/{epochs} · loss {row['loss']:.4f} · held out {row['held_out']:.4f} nats a token",
        style="dim",
    )


def _print_grounding(grounding: Mapping[str, Any]) -> None:
    """The grounding test as a table: what is right with a part's own vector, and with other vectors."""
    from mekiki.report.description_page import VECTOR_LABELS

    columns = list(grounding["most"])
    rows: list[list[str]] = []

    def add(name: str, loss: str, shares: Mapping[str, float]) -> None:
        rows.append([name, loss, *(console.number(shares.get(each), 100, "%") for each in columns)])

    for vectors, name in VECTOR_LABELS.items():
        add(name, f"{grounding['loss'][vectors]:.3f}", grounding["right"].get(vectors, {}))
    if columns:
        add("the most frequent", "", grounding["most"])
    for source, shares in grounding["readable"].items():
        add(f"linear probe of {source}", "", shares)
    console.print_table(("described from", "loss", *columns), rows, right=("loss", *columns))
    console.out().print(grounding["sentence"], style="" if grounding["reads"] else "bold red")


def _print_description(describer: RunDescriber, part: PartInput, ask: str | None) -> None:
    """A description as it is generated, then the past cases it rests on."""
    screen = console.out()
    screen.print(part.name, style="bold")
    text = ""
    for piece in describer.stream(part, ask):
        text += piece
        screen.print(piece, end="")
    screen.print()
    for case in describer.cited_cases(part, text):
        note = f": {' '.join(case['note'].split())}" if case["note"] else ""
        screen.print(f"  rests on [{case['id']}] {case['label'] or 'no label'}{note}", style="dim")
    if describer.warning:
        console.line("warning", describer.warning, "bold yellow")
