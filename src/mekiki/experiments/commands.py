"""Commands of experiments: train, compare, evaluate, embed, distance, doctor, demo."""

from __future__ import annotations

import json as json_module
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

from mekiki import console
from mekiki.bulk.commands import Engine, PartLength, is_ray, run_in_bulk
from mekiki.errors import InputError
from mekiki.options import (
    Data,
    Json,
    Root,
    RunFolder,
    command_line,
    read_size,
)
from mekiki.storage.run_folder import REPORT

LOSS_HELP = "softmax, contrastive, triplet, online-contrastive, online-triplet, soft-neighbours, or pml:NAME"

Size = Annotated[str | None, typer.Option(metavar="N|HxW", help="squeeze images to this many pixels")]

Channels = Annotated[
    int | None, typer.Option(min=1, max=3, help="1 for grey, 3 for colour; else as the images are")
]

PerClass = Annotated[
    int | None, typer.Option(min=2, help="images a class at most; for surfaces, how many to make")
]

TestFraction = Annotated[
    float, typer.Option(help="share of the images kept for testing, where they come unsplit")
]

SplitSeed = Annotated[int, typer.Option(help="seed of that split, and of generated surfaces")]

Resplit = Annotated[bool, typer.Option(help="pool train/ and test/, and split anew")]

Recipe = Annotated[
    str,
    typer.Option(
        help="post (the experiment of the post), fast (its quality in the least time) or best (the highest quality): "
        "what the options below are where they are not given; their defaults are the post's"
    ),
]

Encoder = Annotated[
    str | None,
    typer.Option(
        help="mlp (784-256-256-d), conv or vgg (images only; vgg is the best), or hf:NAME_OR_FOLDER, a pretrained "
        "network for photographs, hf:NAME_OR_FOLDER#LAYER for another layer than its middle one  [default: mlp]"
    ),
]

FineTune = Annotated[bool, typer.Option("--fine-tune", help="train an hf: network too, not its head alone")]

Dim = Annotated[int | None, typer.Option(help="length of a vector  [default: 2]")]

Margin = Annotated[float | None, typer.Option(help="how far apart classes are pushed  [default: 1]")]

LossOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE", help="a further setting of the loss, such as selection=hardest; may be repeated"
    ),
]

Epochs = Annotated[int | None, typer.Option(help="passes over the images  [default: 10]")]

BatchSize = Annotated[int | None, typer.Option(help="images, pairs or triplets a step  [default: 128]")]

Rate = Annotated[float | None, typer.Option("--lr", help="highest learning rate of Adam  [default: 0.001]")]

Schedule = Annotated[
    str | None,
    typer.Option(
        help="step (a tenth after 8 epochs), post19 (the post's order) or one-cycle (up, then down to nothing)  "
        "[default: step]"
    ),
]

Augment = Annotated[
    str | None,
    typer.Option(help="change training images at random: digits, surfaces or none  [default: none]"),
]

Normalise = Annotated[bool, typer.Option(help="put the vectors on the unit sphere")]

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]

Out = Annotated[Path | None, typer.Option(metavar="RUN", help="folder to write  [default: one under runs/]")]

HEADLINE = (
    ("knn5_accuracy", "5-NN accuracy", 100.0, "%"),
    ("pair_eer", "equal error rate", 100.0, "%"),
    ("pair_auc", "pair AUC", 100.0, "%"),
    ("pair_accuracy", "pair accuracy", 100.0, "%"),
    ("overlap_max", "largest overlap", 100.0, "%"),
    ("silhouette", "silhouette", 1.0, ""),
    ("train_loss", "training loss", 1.0, ""),
    ("val_loss", "validation loss", 1.0, ""),
    ("seconds_training", "training", 1.0, "s"),
    ("images_per_second", "images a second", 1.0, ""),
)


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(train)
    app.command()(compare)
    app.command()(evaluate)
    app.command()(embed)
    app.command()(distance)
    app.command()(doctor)
    app.command()(demo)


def train(
    data: Data,
    recipe: Recipe = "post",
    loss: Annotated[str | None, typer.Option(help=f"{LOSS_HELP}  [default: contrastive]")] = None,
    encoder: Encoder = None,
    fine_tune: FineTune = False,
    dim: Dim = None,
    margin: Margin = None,
    loss_option: LossOption = None,
    normalise: Normalise = False,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: Rate = None,
    schedule: Schedule = None,
    augment: Augment = None,
    seed: Annotated[
        int, typer.Option(help="of weights, order and pairs: the same seed gives the same result")
    ] = 0,
    out: Out = None,
    resume: Annotated[bool, typer.Option(help="go on from the last whole epoch of RUN")] = False,
    projection: Annotated[
        str, typer.Option(help="how more than two dimensions are drawn: pca or tsne")
    ] = "pca",
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="keep where images lie after each epoch, for the page to show")
    ] = False,
    device: Device = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="processes on this machine, on GPUs one each; they share every batch")
    ] = 1,
    nodes: Annotated[
        int, typer.Option(min=1, help="machines that each run this command with as many processes")
    ] = 1,
    root: Root = None,
    size: Size = None,
    channels: Channels = None,
    per_class: PerClass = None,
    test_fraction: TestFraction = 0.2,
    split_seed: SplitSeed = 0,
    resplit: Resplit = False,
    json: Json = False,
) -> None:
    """Learn an embedding, measure it, and write a report. The defaults are the experiment of the post."""
    from mekiki import recipes
    from mekiki.embedder import Embedder
    from mekiki.experiments.train import take_part, train_run
    from mekiki.report.figures.projection import check_method
    from mekiki.storage.run import Run, free_folder, latest_folder
    from mekiki.training import processes

    request = _request(data, root, size, channels, per_class, test_fraction, split_seed, resplit)
    given = _given(encoder, fine_tune, dim, normalise, epochs, batch_size, lr, schedule, augment, device)
    own = _loss(loss, margin, loss_option)
    embedder = Embedder(**recipes.recipe(recipe, subject=request.subject, **given | own), random_state=seed)
    embedder.check_settings()
    request = request.for_encoder(embedder.encoder)
    check_method(projection)
    fabric = processes.join(device, devices, nodes) if processes.among_several() else None
    if fabric is not None and fabric.global_rank:
        take_part(request.load(), embedder, out or Path("runs"), fabric)
        return
    arguments = sys.argv[1:]
    if out is None:
        kind = embedder.loss if recipe == "post" else f"{recipe}-{Path(embedder.encoder).name}"
        named = f"{_short(data)}-{kind}-{embedder.dim}d-seed{seed}"
        choose = latest_folder if resume else free_folder
        out = choose(Path("runs"), named)
        arguments += ["--out", str(out)]
    if fabric is None and devices * nodes > 1:
        Run(out).check(resume=resume)
        sys.exit(processes.start(arguments, devices, nodes))
    with console.progress_bar() as progress:
        Run(out).check(resume=resume)
        result = train_run(
            request,
            request.load(progress),
            embedder,
            out,
            resume=resume,
            projection=projection,
            command=command_line(),
            on_epoch=_epoch_printer(embedder.epochs, out),
            fabric=fabric,
            snapshots=snapshots,
            progress=progress,
        )
    if json:
        console.print_json(result.metrics | {"run": str(out), "report": str(out / REPORT)})
        return
    metrics_table(
        result.metrics,
        f"{data}, {embedder.loss}, {embedder.encoder}, {embedder.dim} dimensions, seed {seed}",
    )
    findings_lines(result.metrics["findings"])
    _report_path(out)


def compare(
    data: Data,
    losses: Annotated[
        str | None,
        typer.Option(
            help="names with commas between them  [default: softmax,contrastive,triplet; of the recipes fast and best "
            "their nets, unless --encoder or --dim is given]"
        ),
    ] = None,
    recipe: Recipe = "post",
    seeds: Annotated[int, typer.Option(min=1, help="how many: 0, 1, 2, …")] = 3,
    encoder: Encoder = None,
    fine_tune: FineTune = False,
    dim: Dim = None,
    margin: Margin = None,
    normalise: Normalise = False,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: Rate = None,
    schedule: Schedule = None,
    augment: Augment = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder to write  [default: runs/compare-DATA]")
    ] = None,
    device: Device = "auto",
    root: Root = None,
    size: Size = None,
    channels: Channels = None,
    per_class: PerClass = None,
    test_fraction: TestFraction = 0.2,
    split_seed: SplitSeed = 0,
    resplit: Resplit = False,
    json: Json = False,
) -> None:
    """Train several losses on the same images, and set them side by side. Interrupted, it goes on when called again."""
    from mekiki import recipes
    from mekiki.experiments.compare import COLUMNS, compare
    from mekiki.storage.run import folder_name

    request = _request(data, root, size, channels, per_class, test_fraction, split_seed, resplit)
    given = _given(encoder, fine_tune, dim, normalise, epochs, batch_size, lr, schedule, augment, device)
    variants: dict[str, dict[str, Any]] = {}
    if losses is None and encoder is None and dim is None:
        variants = {
            name: given | _loss(None, margin, None) | net for name, net in recipes.nets(recipe).items()
        }
    if not variants:
        names = (losses or "softmax,contrastive,triplet").split(",")
        variants = {name.strip(): given | _loss(name.strip(), margin, None) for name in names if name.strip()}
    out = out or Path("runs") / folder_name(f"compare-{_short(data)}")
    with console.progress_bar() as progress:
        comparison = compare(
            request,
            {name: recipes.recipe(recipe, subject=request.subject, **own) for name, own in variants.items()},
            range(seeds),
            out,
            command=command_line(),
            on_run=lambda name, seed: console.line("training", f"{name}, seed {seed}", "bold"),
            on_epoch=_epoch_printer(None),
            progress=progress,
        )
    if json:
        console.print_json(comparison)
        return
    comparison_table(comparison, COLUMNS, f"{data}, {comparison['in_common']}, {seeds} seed(s)")
    for sentence in comparison["findings"]:
        console.out().print(sentence)
    _report_path(out)


def evaluate(
    run: RunFolder,
    data: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="other images  [default: the run's own]")
    ] = None,
    root: Root = None,
    per_class: PerClass = None,
    test_fraction: TestFraction = 1.0,
    split_seed: SplitSeed = 0,
    resplit: Resplit = False,
    json: Json = False,
) -> None:
    """Measure a run on its test images, or on others."""
    from mekiki.experiments.use import evaluate_run

    request = None
    if data is None and (root or per_class or resplit or test_fraction != 1.0 or split_seed):
        raise InputError(
            "evaluate: --root, --per-class, --test-fraction, --split-seed and --resplit go with DATA"
        )
    if data is not None:
        request = _request(data, root, None, None, per_class, test_fraction, split_seed, resplit)
    with console.progress_bar() as progress:
        metrics = evaluate_run(run, request, progress=progress)
    if json:
        console.print_json(metrics)
        return
    metrics_table(metrics, f"{run} on {metrics['data']}, {metrics['n_test']:,} test images")
    console.out().print(f"numbers: {metrics['file']}")


def embed(
    run: RunFolder,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="images: a file, a folder, a URL, or a data set by name")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="vectors.npz, .parquet or .csv; with --engine ray a folder")
    ],
    engine: Engine = "here",
    part: PartLength = 2000,
    root: Root = None,
    json: Json = False,
) -> None:
    """Write the vectors of images to a file."""
    from mekiki.bulk.engine import embed_in_bulk
    from mekiki.experiments.use import embed_images

    if is_ray(engine):
        run_in_bulk(embed_in_bulk, run, data, output, part, json)
        return
    with console.progress_bar() as progress:
        summary = embed_images(run, data, output, root=root, progress=progress)
    if json:
        console.print_json(summary)
        return
    console.out().print(f"{summary['n']:,} vectors of {summary['dim']} dimensions: {output}")


def distance(
    run: RunFolder,
    a: Annotated[
        str, typer.Argument(metavar="A", help="an image file, or one of a data set such as mnist:test:12")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="the other")],
    root: Root = None,
    json: Json = False,
) -> None:
    """Say how far two images lie apart, and what that means."""
    from mekiki.experiments.use import distance_of
    from mekiki.storage.json_files import finite

    apart = distance_of(run, a, b, root=root)
    if json:
        console.print_json(finite({**vars(apart), "same": apart.same, "a": a, "b": b}))
        return
    console.out().print(str(apart))


def doctor(run: RunFolder, json: Json = False) -> None:
    """Look at a run's training, finished or not, and say in plain words what is wrong and what to try."""
    from mekiki.experiments.use import examine

    seen = examine(run)
    if json:
        console.print_json(seen)
        return
    history_table(seen["history"], f"{run}, {seen['epochs']} epochs")
    findings_lines(seen["findings"])


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder to write")] = Path("runs/demo"),
    json: Json = False,
) -> None:
    """Show it all in three minutes: a classifier beside a Siamese network, then generated surfaces with defects."""
    from mekiki.experiments.compare import COLUMNS
    from mekiki.experiments.demo import demo

    with console.progress_bar() as progress:
        shown = demo(
            out,
            command=command_line(),
            say=lambda text: console.line("demo", text, "bold"),
            on_epoch=_epoch_printer(None),
            progress=progress,
        )
    if json:
        console.print_json(shown)
        return
    comparison = shown["comparison"]
    comparison_table(comparison, COLUMNS, f"{comparison['data']}, 2 dimensions")
    for sentence in comparison["findings"]:
        console.out().print(sentence)
    metrics_table(shown["surfaces"], "\nsurfaces with scratches, pits, stains and cracks, 16 dimensions")
    for report in shown["reports"]:
        console.out().print(f"report: {report}")


def _request(
    spec: str,
    root: Path | None,
    size: str | None,
    channels: int | None,
    per_class: int | None,
    test_fraction: float,
    seed: int,
    resplit: bool,
) -> Any:
    from mekiki.experiments.request import DataRequest

    if not spec.strip():
        raise InputError("DATA is empty; give a data set by name, or a folder")
    return DataRequest(
        spec, str(root) if root else None, read_size(size), channels, per_class, test_fraction, seed, resplit
    )


def _given(
    encoder: str | None,
    fine_tune: bool,
    dim: int | None,
    normalise: bool,
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    schedule: str | None,
    augment: str | None,
    device: str,
) -> dict[str, Any]:
    """Those settings of `Embedder` that the command line names."""
    settings = {
        "encoder": encoder,
        "fine_tune": fine_tune or None,
        "dim": dim,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "schedule": schedule,
        "augment": augment,
    }
    named = {name: value for name, value in settings.items() if value is not None}
    return named | {"normalise": normalise, "device": device}


def _loss(name: str | None, margin: float | None, given: list[str] | None) -> dict[str, Any]:
    """Those settings of a loss that are given; one of pytorch-metric-learning takes its margin as an option."""
    options: dict[str, Any] = {}
    for option in given or []:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise InputError(f"--loss-option {option}: give it as NAME=VALUE, such as selection=hardest")
        try:
            options[key] = json_module.loads(value)
        except ValueError:
            options[key] = value  # a word
    own: dict[str, Any] = {"loss": name, "margin": margin}
    if name is not None and name.startswith("pml:") and margin is not None:
        own["margin"], options["margin"] = None, margin
    return {
        key: value for key, value in (own | {"loss_options": options or None}).items() if value is not None
    }


def _short(data: str) -> str:
    return Path(data).stem or "data"


def _epoch_printer(epochs: int | None, folder: Path | None = None) -> Any:
    """Print where the run is kept, each epoch, and what the doctor sees the first time it sees it."""
    told: set[str] = set()
    kept = [] if folder is None else [folder]

    def show(row: Any, findings: Any) -> None:
        while kept:
            console.line("run", str(kept.pop()), "bold")
        epoch_line(row, epochs)
        if row["epoch"] == 1:
            told.clear()
        for finding in findings:
            if finding.severity == "problem" and finding.code not in told:
                told.add(finding.code)
                console.line("doctor", f"{finding.message} Try: {finding.advice}", "bold red")

    return show


def _report_path(folder: Path) -> None:

    console.out().print(f"report: {folder / 'report.html'}")


def epoch_line(row: Mapping[str, float], epochs: int | None) -> None:
    """One line an epoch on standard error."""
    of = f"/{epochs}" if epochs else ""
    parts = [f"epoch {int(row['epoch'])}{of}", f"train loss {row['train_loss']:.4f}"]
    if math.isfinite(row.get("val_loss", math.nan)):
        parts.append(f"val loss {row['val_loss']:.4f}")
    for name, value in row.items():
        if name.endswith("accuracy"):
            parts.append(f"{name.replace('_', ' ')} {100 * value:.2f} %")
    parts.append(f"{row['seconds']:.1f} s")
    parts.append(f"{row['images_per_second']:,.0f} images/s")
    console.err().print(" · ".join(parts), style="dim")


def findings_lines(findings: Sequence[Mapping[str, Any]], screen: Console | None = None) -> None:
    """What the collapse doctor says."""
    styles = {"problem": "bold red", "notice": "yellow", "ok": "green"}
    screen = screen or console.out()
    for finding in findings:
        word = {"problem": "problem", "notice": "notice", "ok": "well"}[finding["severity"]]
        text = console.styled((f"{word}: ", styles[finding["severity"]]), finding["message"])
        if finding["advice"]:
            text.append(f" Try: {finding['advice']}")
        screen.print(text)


def metrics_table(metrics: Mapping[str, Any], title: str) -> None:
    """The numbers that matter, on standard output."""
    table = console.new_table(
        title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0)
    )
    table.add_column()
    table.add_column(justify="right")
    for name, label, factor, unit in HEADLINE:
        if name in metrics:
            table.add_row(label, console.number(metrics[name], factor, unit))
    console.out().print(table)


def comparison_table(
    comparison: Mapping[str, Any], columns: Sequence[tuple[str, str, float]], title: str
) -> None:
    """Trainings side by side, mean ± standard deviation over the seeds.

    Args:
        comparison: as `mekiki.experiments.compare` returns it.
        columns: (key, heading, factor) of each column.
        title: above the table.
    """
    table = console.new_table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for _, heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, values in comparison["compared"].items():
        cells = []
        for key, _, factor in columns:
            mean, sd = values[key]["mean"], values[key]["sd"]
            cells.append(console.number(mean, factor) + (f" ±{factor * sd:.2g}" if sd is not None else ""))
        table.add_row(name, *cells)
    console.out().print(table)


def history_table(history: Mapping[str, Sequence[float]], title: str) -> None:
    """What the doctor looks at, epoch by epoch."""
    columns = ("train_loss", "val_loss", "spread", "effective_rank", "zero_loss_share")
    table = console.new_table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in (
        "epoch",
        "training loss",
        "validation loss",
        "spread",
        "effective rank",
        "pairs without loss",
    ):
        table.add_column(heading, justify="right")
    for row, epoch in enumerate(history["epoch"]):
        values = [history[name][row] if name in history else None for name in columns]
        cells = [console.number(value) for value in values[:-1]] + [console.number(values[-1], 100, "%")]
        table.add_row(str(int(epoch)), *cells)
    console.out().print(table)
