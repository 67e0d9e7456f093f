"""Commands: train, compare, evaluate, embed, distance, doctor, demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mekiki import console
from mekiki.bulk.commands import Engine, PartLength, is_ray, run_in_bulk
from mekiki.errors import InputError
from mekiki.experiments import terminal
from mekiki.experiments.training_options import (
    LOSS_HELP,
    DataOptions,
    EmbedderOptions,
    PerClass,
    Resplit,
    SplitSeed,
    TestFraction,
)
from mekiki.options import Data, Json, Root, RunFolder, command_line, expand_options

DEFAULT_LOSSES = "softmax,contrastive,triplet"


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    for command in (train, compare, evaluate, embed, distance, doctor, demo):
        app.command()(command)


@expand_options
def train(
    data: Data,
    settings: EmbedderOptions,
    images: DataOptions,
    loss: Annotated[str | None, typer.Option(help=f"{LOSS_HELP}  [default: contrastive]")] = None,
    loss_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="a further setting of the loss, such as selection=hardest; may be repeated",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="of weights, order and pairs: the same seed gives the same result")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="folder to write  [default: one under runs/]")
    ] = None,
    resume: Annotated[bool, typer.Option(help="continue from the last whole epoch of RUN")] = False,
    projection: Annotated[
        str, typer.Option(help="how more than two dimensions are drawn: pca or tsne")
    ] = "pca",
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="keep the positions of images after each epoch, for the page")
    ] = False,
    devices: Annotated[
        int, typer.Option(min=1, help="processes on this machine, on GPUs one each; they share every batch")
    ] = 1,
    nodes: Annotated[
        int, typer.Option(min=1, help="machines that each run this command with as many processes")
    ] = 1,
    json: Json = False,
) -> None:
    """Train an embedding, measure it, and write a report. The defaults are the experiment of the post."""
    from mekiki.embedder import Embedder
    from mekiki.experiments.train import take_part, train_run
    from mekiki.report.figures.projection import check_method
    from mekiki.storage import training_run as runs
    from mekiki.storage.run_folder import REPORT
    from mekiki.training import processes

    request = images.request(data)
    embedder = Embedder(**settings.settings(request.domain, loss, loss_option), random_state=seed)
    embedder.check_settings()
    request = request.for_encoder(embedder.encoder)
    check_method(projection)
    fabric = processes.join(settings.device, devices, nodes) if processes.among_several() else None
    if fabric is not None and fabric.global_rank:
        take_part(request.load(), embedder, out or Path("runs"), fabric)
        return
    arguments = sys.argv[1:]
    if out is None:
        reference = settings.recipe in ("reference", "post")
        kind = embedder.loss if reference else f"{settings.recipe}-{Path(embedder.encoder).name}"
        name = f"{Path(data).stem or 'data'}-{kind}-{embedder.dim}d-seed{seed}"
        out = (runs.latest_folder if resume else runs.free_folder)(Path("runs"), name)
        arguments += ["--out", str(out)]
    runs.Run(out).check(resume=resume)
    if fabric is None and devices * nodes > 1:
        sys.exit(processes.start(arguments, devices, nodes))
    with console.progress_bar() as progress:
        result = train_run(
            request,
            request.load(progress),
            embedder,
            out,
            resume=resume,
            projection=projection,
            command=command_line(),
            on_epoch=terminal.epoch_printer(embedder.epochs, out),
            fabric=fabric,
            snapshots=snapshots,
            progress=progress,
        )
    if json:
        console.print_json(result.metrics | {"run": str(out), "report": str(out / REPORT)})
        return
    terminal.print_metrics(
        result.metrics,
        f"{data}, {embedder.loss}, {embedder.encoder}, {embedder.dim} dimensions, seed {seed}",
    )
    terminal.print_findings(result.metrics["findings"])
    terminal.print_report_path(out)


@expand_options
def compare(
    data: Data,
    settings: EmbedderOptions,
    images: DataOptions,
    losses: Annotated[
        str | None,
        typer.Option(
            help=f"names with commas between them  [default: {DEFAULT_LOSSES}; of the recipes fast and best "
            "their networks, unless --encoder or --dim is given]"
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="how many: 0, 1, 2, …")] = 3,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder to write  [default: runs/compare-DATA]")
    ] = None,
    json: Json = False,
) -> None:
    """Train several losses on the same images, and compare them. Interrupted, the same command continues it."""
    from mekiki import recipes
    from mekiki.experiments.compare import compare
    from mekiki.storage.training_run import folder_name

    request = images.request(data)
    domain = request.domain
    variants = {}
    if losses is None and settings.encoder is None and settings.dim is None:
        nets = recipes.nets(settings.recipe)
        variants = {name: settings.settings(domain, **net) for name, net in nets.items()}
    if not variants:
        names = [name.strip() for name in (losses or DEFAULT_LOSSES).split(",")]
        variants = {name: settings.settings(domain, name) for name in names if name}
    out = out or Path("runs") / folder_name(f"compare-{Path(data).stem or 'data'}")
    with console.progress_bar() as progress:
        comparison = compare(
            request,
            variants,
            range(seeds),
            out,
            command=command_line(),
            on_run=lambda name, seed: console.line("training", f"{name}, seed {seed}", "bold"),
            on_epoch=terminal.epoch_printer(None),
            progress=progress,
        )
    if json:
        console.print_json(comparison)
        return
    terminal.print_comparison(comparison, f"{data}, {comparison['in_common']}, {seeds} seed(s)")
    terminal.print_report_path(out)


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
    from mekiki.experiments.evaluate import evaluate_run

    request = None
    if data is not None:
        images = DataOptions(root, None, None, per_class, test_fraction, split_seed, resplit)
        request = images.request(data)
    elif root or per_class or resplit or test_fraction != 1.0 or split_seed:
        raise InputError(
            "evaluate: --root, --per-class, --test-fraction, --split-seed and --resplit go with DATA"
        )
    with console.progress_bar() as progress:
        metrics = evaluate_run(run, request, progress=progress)
    if json:
        console.print_json(metrics)
        return
    terminal.print_metrics(metrics, f"{run} on {metrics['data']}, {metrics['n_test']:,} test images")
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
    from mekiki.experiments.embed import embed_images

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
    """Measure the distance of two images, and print what it means."""
    from mekiki.experiments.embed import measure_distance
    from mekiki.storage.json_files import finite

    result = measure_distance(run, a, b, root=root)
    if json:
        console.print_json(finite({**vars(result), "same": result.same, "a": a, "b": b}))
        return
    console.out().print(str(result))


def doctor(run: RunFolder, json: Json = False) -> None:
    """Check a run's training for collapse, finished or not: what is wrong, and what to try."""
    from mekiki.experiments.evaluate import examine

    result = examine(run)
    if json:
        console.print_json(result)
        return
    terminal.print_history(result["history"], f"{run}, {result['epochs']} epochs")
    terminal.print_findings(result["findings"])


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder to write")] = Path("runs/demo"),
    json: Json = False,
) -> None:
    """Run a demo of three minutes: a classifier and a Siamese network, then generated surfaces with defects."""
    from mekiki.experiments.demo import demo

    with console.progress_bar() as progress:
        result = demo(
            out,
            command=command_line(),
            say=lambda text: console.line("demo", text, "bold"),
            on_epoch=terminal.epoch_printer(None),
            progress=progress,
        )
    if json:
        console.print_json(result)
        return
    comparison = result["comparison"]
    terminal.print_comparison(comparison, f"{comparison['data']}, 2 dimensions")
    terminal.print_metrics(
        result["surfaces"], "\nsurfaces with scratches, pits, stains and cracks, 16 dimensions"
    )
    for report in result["reports"]:
        console.out().print(f"report: {report}")
