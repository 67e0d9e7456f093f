"""The commands: parse, call, print."""

from __future__ import annotations

import json as json_module
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mekiki.errors import DataWarning, InputError, MekikiError, not_known
from mekiki.files import disk_error

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


data_app = typer.Typer(help="Data sets known by name.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
cases_app = typer.Typer(help="What a run remembers.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(cases_app, name="cases")

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

DATA_HELP = (
    "mnist, fashion-mnist, kmnist, digits, surfaces, a folder with a sub-folder a class, or an .npz file"
)
LOSS_HELP = "softmax, contrastive, triplet, online-contrastive, online-triplet, soft-neighbours, or pml:NAME"

Data = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="folder that `mekiki train` wrote")]
JudgeFolder = Annotated[Path, typer.Argument(metavar="RUN", help="folder that `mekiki calibrate` wrote")]
MemoryFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="folder that `mekiki train` or `mekiki calibrate` wrote")
]
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
FourBit = Annotated[bool, typer.Option("--four-bit", help="keep a language model in four bits (CUDA)")]
VectorFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="vectors of one's own by name, in place of photographs: .npz, .parquet, .csv"
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="print one JSON object, and nothing else, on standard output")
]
Root = Annotated[Path | None, typer.Option(help="folder that holds the idx files of mnist and its like")]
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
Engine = Annotated[
    str, typer.Option(help="here, or ray: by many processes or machines, to a folder of Parquet files")
]
PartLength = Annotated[int, typer.Option("--part", min=1, help="images a file, with --engine ray")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
Out = Annotated[Path | None, typer.Option(metavar="RUN", help="folder to write  [default: one under runs/]")]


@app.command()
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
    from mekiki import experiments, recipes, runs, terminal
    from mekiki.embedder import Embedder
    from mekiki.experiments import processes
    from mekiki.pictures import check_method

    request = _request(data, root, size, channels, per_class, test_fraction, split_seed, resplit)
    given = _given(encoder, fine_tune, dim, normalise, epochs, batch_size, lr, schedule, augment, device)
    own = _loss(loss, margin, loss_option)
    embedder = Embedder(**recipes.recipe(recipe, subject=request.subject, **given | own), random_state=seed)
    embedder.check_settings()
    request = request.for_encoder(embedder.encoder)
    check_method(projection)
    fabric = processes.join(device, devices, nodes) if processes.among_several() else None
    if fabric is not None and fabric.global_rank:
        experiments.take_part(request.load(), embedder, out or Path("runs"), fabric)
        return
    arguments = sys.argv[1:]
    if out is None:
        kind = embedder.loss if recipe == "post" else f"{recipe}-{Path(embedder.encoder).name}"
        named = f"{_short(data)}-{kind}-{embedder.dim}d-seed{seed}"
        choose = runs.latest_folder if resume else runs.free_folder
        out = choose(Path("runs"), named)
        arguments += ["--out", str(out)]
    if fabric is None and devices * nodes > 1:
        runs.Run(out).check(resume=resume)
        sys.exit(processes.start(arguments, devices, nodes))
    with terminal.progress_bar() as progress:
        runs.Run(out).check(resume=resume)
        result = experiments.train_run(
            request,
            request.load(progress),
            embedder,
            out,
            resume=resume,
            projection=projection,
            command=_command_line(),
            on_epoch=_epoch_printer(embedder.epochs, out),
            fabric=fabric,
            snapshots=snapshots,
            progress=progress,
        )
    if json:
        terminal.print_json(result.metrics | {"run": str(out), "report": str(out / "report.html")})
        return
    terminal.metrics_table(
        result.metrics,
        f"{data}, {embedder.loss}, {embedder.encoder}, {embedder.dim} dimensions, seed {seed}",
    )
    terminal.findings_lines(result.metrics["findings"])
    _report_path(out)


@app.command()
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
    from mekiki import experiments, recipes, runs, terminal

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
    out = out or Path("runs") / runs.folder_name(f"compare-{_short(data)}")
    with terminal.progress_bar() as progress:
        comparison = experiments.compare(
            request,
            {name: recipes.recipe(recipe, subject=request.subject, **own) for name, own in variants.items()},
            range(seeds),
            out,
            command=_command_line(),
            on_run=lambda name, seed: terminal.line("training", f"{name}, seed {seed}", "bold"),
            on_epoch=_epoch_printer(None),
            progress=progress,
        )
    if json:
        terminal.print_json(comparison)
        return
    terminal.comparison_table(
        comparison, experiments.COLUMNS, f"{data}, {comparison['in_common']}, {seeds} seed(s)"
    )
    for sentence in comparison["findings"]:
        terminal.out().print(sentence)
    _report_path(out)


@app.command()
def calibrate(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="folder that `mekiki train` wrote, or one to be made")
    ],
    ok: Annotated[
        list[Path],
        typer.Option(metavar="DIR", help="photographs of good parts; may be repeated"),
    ],
    ng: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="photographs of bad parts, to see what is missed; sub-folders are kinds of defects; may be repeated",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="hf:NAME_OR_FOLDER, a pretrained network for photographs; or filters, which need no weights  "
            "[default: the network of RUN if it was trained, else filters]"
        ),
    ] = None,
    false_reject: Annotated[float, typer.Option(help="share of good parts that may be rejected")] = 0.01,
    confidence: Annotated[
        float | None,
        typer.Option(help="how surely, such as 0.95; it takes more good parts  [default: on average]"),
    ] = None,
    escape_cost: Annotated[
        float | None,
        typer.Option(help="cost of a bad part passed: the rate is chosen so that the line costs least"),
    ] = None,
    overkill_cost: Annotated[
        float, typer.Option(help="cost of a good part rejected, in the same unit")
    ] = 1.0,
    ng_share: Annotated[
        float | None, typer.Option(help="share of bad parts on the line  [default: as in the photographs]")
    ] = None,
    views: Annotated[
        str,
        typer.Option(
            help="how layers are joined: sum (each sees a little of a defect) or max (one sees it alone)"
        ),
    ] = "sum",
    seed: Annotated[int, typer.Option(help="of which good parts teach and which set the threshold")] = 0,
    json: Json = False,
) -> None:
    """Learn what good parts look like, and set the threshold at a stated rate of false rejects."""
    from mekiki import inspection, terminal
    from mekiki.runs import finite

    if escape_cost is None and (ng_share is not None or overkill_cost != 1.0):
        raise InputError("calibrate: --overkill-cost and --ng-share go with --escape-cost")
    costs = None if escape_cost is None else inspection.Costs(escape_cost, overkill_cost, ng_share)
    with terminal.progress_bar() as progress:
        _, calibration = inspection.calibrate_run(
            run,
            ok,
            ng or (),
            encoder=encoder,
            terms=inspection.Terms(false_reject, confidence, costs, views, seed),
            progress=progress,
        )
    if json:
        told = {name: value for name, value in calibration.facts.items() if name not in ("ok", "ng")}
        terminal.print_json(
            finite(told | {"guarantee": calibration.guarantee, "notes": calibration.notes, "run": str(run)})
        )
        return
    for note in calibration.notes:
        terminal.line("note", note, "yellow")
    terminal.calibration_lines(calibration.facts, calibration.guarantee)


@app.command()
def judge(
    run: JudgeFolder,
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="photographs, or folders of them")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="results.csv, .parquet, or .html: a page of photographs, the worst first"
        ),
    ] = None,
    cases: Annotated[
        int, typer.Option(min=0, metavar="K", help="show the K nearest past cases of each, with their notes")
    ] = 0,
    engine: Engine = "here",
    part: PartLength = 2000,
    json: Json = False,
) -> None:
    """Judge photographs: OK or NG, how sure, why, and where."""
    from mekiki import inspection, terminal

    if _by_ray(engine):
        from mekiki import bulk

        if output is None or len(paths) != 1 or cases:
            raise InputError("judge: --engine ray takes one folder or URL, -o FOLDER, and no --cases")
        _in_bulk(bulk.judge_in_bulk, run, paths[0], output, part, json)
        return
    recall = None
    if cases:
        from mekiki import remembering

        recall = remembering.Recollection(run, cases).of
    past: dict[str, Any] = {}
    show = terminal.Verdicts(quiet=output is not None, recall=recall)

    def told(verdict: Any) -> None:
        if not json:
            show(verdict)
        elif recall is not None:
            past[str(verdict.path)] = recall(verdict)

    with terminal.progress_bar() as progress:
        places = [Path(path) for path in paths]
        judged = inspection.judge_paths(run, places, output, on_verdict=told, progress=progress)
    if json:
        terminal.print_json(judged | ({"cases": past} if cases else {}))
        return
    terminal.judged_lines(judged)


@app.command()
def watch(
    run: JudgeFolder,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="where photographs arrive")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="results as .csv, a line a photograph  [default: RUN/watched.csv]"
        ),
    ] = None,
    poll: Annotated[float, typer.Option(min=0.05, help="seconds between two looks")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="judge what is there, and end")] = False,
) -> None:
    """Judge photographs as they arrive, each exactly once, until Ctrl-C; called again, it goes on."""
    from mekiki import inspection, terminal

    said = terminal.Verdicts(quiet=False)
    try:
        inspection.watch(
            run,
            folder,
            output,
            poll=poll,
            once=once,
            on_verdict=said,
            on_drift=lambda drift: terminal.line("drift", str(drift), "bold red"),
        )
    except KeyboardInterrupt:
        terminal.line(
            "watch", f"stopped; {said.count:,} judged; the same command goes on from here", "yellow"
        )


@app.command()
def teach(
    run: JudgeFolder,
    image: Annotated[Path | None, typer.Argument(metavar="[IMAGE]", help="the photograph")] = None,
    label: Annotated[
        str | None, typer.Option("--as", metavar="OK|NG|NG:KIND", help="what it is, such as NG:scratch")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="take the last lesson back, or --lesson N")] = False,
    lesson: Annotated[int | None, typer.Option(min=1, metavar="N", help="which lesson to take back")] = None,
    show: Annotated[bool, typer.Option("--list", help="show all lessons: who, when, what")] = False,
    json: Json = False,
) -> None:
    """Tell the judge what a photograph is; it holds at the next judgement, and can be taken back."""
    from mekiki import inspection, terminal

    if show + undo + (image is not None) != 1 or (image is None) != (label is None) or (lesson and not undo):
        raise InputError("teach: give IMAGE with --as OK, NG or NG:KIND; or --undo [--lesson N]; or --list")
    if show:
        entries = [vars(entry) for entry in inspection.lessons_of(run)]
        if json:
            terminal.print_json({"lessons": entries})
            return
        terminal.lessons_table(entries)
    elif image is None or label is None:
        entry = inspection.undo(run, lesson)
        if json:
            terminal.print_json({"undone": vars(entry)})
            return
        terminal.out().print(f"lesson {entry.number} is taken back: {entry.file} as {entry.note}")
    else:
        entry, before, after = inspection.teach(run, image, label)
        if json:
            terminal.print_json(
                {"lesson": vars(entry), "before": before.finite_row(), "after": after.finite_row()}
            )
            return
        terminal.out().print(f"{image}: was {before.verdict}, is {after.verdict} (lesson {entry.number})")
        terminal.out().print(f"take it back with: mekiki teach {run} --undo --lesson {entry.number}")


@app.command()
def retrain(
    run: JudgeFolder,
    accept: Annotated[
        bool, typer.Option("--accept", help="replace the judge even if the new one is worse")
    ] = False,
    json: Json = False,
) -> None:
    """Fold the lessons in: learn and calibrate anew with them, show before and after, and only then replace."""
    from mekiki import inspection, terminal
    from mekiki.runs import finite

    with terminal.progress_bar() as progress:
        compared = inspection.retrain(run, accept=accept, progress=progress)
    if json:
        terminal.print_json(finite(compared))
        return
    terminal.retrained_lines(compared)


@app.command()
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
    from mekiki import experiments, terminal

    request = None
    if data is None and (root or per_class or resplit or test_fraction != 1.0 or split_seed):
        raise InputError(
            "evaluate: --root, --per-class, --test-fraction, --split-seed and --resplit go with DATA"
        )
    if data is not None:
        request = _request(data, root, None, None, per_class, test_fraction, split_seed, resplit)
    with terminal.progress_bar() as progress:
        metrics = experiments.evaluate_run(run, request, progress=progress)
    if json:
        terminal.print_json(metrics)
        return
    terminal.metrics_table(metrics, f"{run} on {metrics['data']}, {metrics['n_test']:,} test images")
    terminal.out().print(f"numbers: {metrics['file']}")


@app.command()
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
    from mekiki import experiments, terminal

    if _by_ray(engine):
        from mekiki import bulk

        _in_bulk(bulk.embed_in_bulk, run, data, output, part, json)
        return
    with terminal.progress_bar() as progress:
        summary = experiments.embed_images(run, data, output, root=root, progress=progress)
    if json:
        terminal.print_json(summary)
        return
    terminal.out().print(f"{summary['n']:,} vectors of {summary['dim']} dimensions: {output}")


@app.command()
def export(
    run: MemoryFolder,
    to: Annotated[str, typer.Option(help="what to write: onnx")] = "onnx",
    with_judge: Annotated[
        bool,
        typer.Option(
            "--with-judge", help="the calibrated judge too: distance, score, p-value, verdict, kind"
        ),
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="the network in eight bits; what that costs is measured and told")
    ] = False,
    flips: Annotated[
        float,
        typer.Option(help="share of the run's photographs that may be judged otherwise in eight bits"),
    ] = 0.0,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|HxW",
            help="pixels of the photographs  [default: those calibrated on, or learnt from]",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="[default: RUN/export.onnx]")
    ] = None,
    json: Json = False,
) -> None:
    """Write a run as one graph for onnxruntime, once it is seen to say what the program says."""
    from mekiki import exporting, terminal

    if to != "onnx":
        raise InputError(f"--to {to}: only onnx can be written")
    with terminal.progress_bar() as progress:
        told = exporting.export_run(
            run,
            output,
            with_judge=with_judge,
            int8=int8,
            flips=flips,
            size=_pixels(size),
            progress=progress,
        )
    if json:
        terminal.print_json(told)
        return
    terminal.exported_lines(told)


@app.command()
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
    from mekiki import experiments, terminal
    from mekiki.runs import finite

    apart = experiments.distance_of(run, a, b, root=root)
    if json:
        terminal.print_json(finite({**vars(apart), "same": apart.same, "a": a, "b": b}))
        return
    terminal.out().print(str(apart))


@app.command()
def doctor(run: RunFolder, json: Json = False) -> None:
    """Look at a run's training, finished or not, and say in plain words what is wrong and what to try."""
    from mekiki import experiments, terminal

    seen = experiments.examine(run)
    if json:
        terminal.print_json(seen)
        return
    terminal.history_table(seen["history"], f"{run}, {seen['epochs']} epochs")
    terminal.findings_lines(seen["findings"])


@app.command()
def check(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="any folder that mekiki wrote")],
    upgrade: Annotated[
        bool,
        typer.Option("--upgrade", help="bring a folder of an older mekiki up to date: it gets checksums"),
    ] = False,
    json: Json = False,
) -> None:
    """Compare every file of a run with its checksum; a file that is damaged or gone is named, with exit code 2."""
    from mekiki import checking, terminal

    upgraded = checking.upgrade(run) if upgrade else 0
    checked = checking.check_run(run)
    bad = [each for each in checked if each.state in (checking.DAMAGED, checking.MISSING)]
    if json:
        rows = [vars(each) for each in checked]
        terminal.print_json({"run": str(run), "upgraded": upgraded, "files": rows, "damaged": len(bad)})
    else:
        terminal.checked_table(checked)
    if bad:
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise InputError(
            f"{run / bad[0].file}: is {bad[0].state}{more}; restore it from a copy, or make it anew"
        )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder to write")] = Path("runs/demo"),
    json: Json = False,
) -> None:
    """Show it all in three minutes: a classifier beside a Siamese network, then generated surfaces with defects."""
    from mekiki import experiments, terminal

    with terminal.progress_bar() as progress:
        shown = experiments.demo(
            out,
            command=_command_line(),
            say=lambda text: terminal.line("demo", text, "bold"),
            on_epoch=_epoch_printer(None),
            progress=progress,
        )
    if json:
        terminal.print_json(shown)
        return
    comparison = shown["comparison"]
    terminal.comparison_table(comparison, experiments.COLUMNS, f"{comparison['data']}, 2 dimensions")
    for sentence in comparison["findings"]:
        terminal.out().print(sentence)
    terminal.metrics_table(
        shown["surfaces"], "\nsurfaces with scratches, pits, stains and cracks, 16 dimensions"
    )
    for report in shown["reports"]:
        terminal.out().print(f"report: {report}")


@app.command()
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
    from mekiki import remembering, terminal

    with terminal.progress_bar() as progress:
        kept = remembering.remember(
            run,
            data,
            notes,
            settings=remembering.Settings(store, text_model, text_dim),
            progress=progress,
        )
    if json:
        terminal.print_json(kept)
        return
    terminal.remembered_lines(kept)


@app.command()
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
    from mekiki import remembering, terminal

    found = remembering.search(
        run,
        image,
        text,
        k=k,
        where=where,
        like=like or (),
        unlike=unlike or (),
        settings=remembering.Settings(store),
    )
    if json:
        terminal.print_json(found)
        return
    terminal.cases_table(found["found"])


@app.command()
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
    from mekiki import remembering, terminal

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
        said = [each.told() for each in remembering.feedback_of(run)]
        if json:
            terminal.print_json({"feedback": said})
            return
        terminal.feedback_table(said)
        return
    if undo:
        taken = [each.told() for each in remembering.undo_feedback(run, go)]
        if json:
            terminal.print_json({"undone": taken})
            return
        terminal.out().print(f"feedback {taken[0]['go']} is taken back: {len(taken)} judgement(s)")
        return
    added = remembering.give_feedback(
        run, query, text, good=good or (), bad=bad or (), settings=remembering.Settings(store)
    )
    if json:
        terminal.print_json({"feedback": [each.told() for each in added]})
        return
    terminal.out().print(f"feedback {added[0].go}: {len(added)} judgement(s), in force from now on")
    terminal.out().print(f"take it back with: mekiki feedback {run} --undo --go {added[0].go}")


@app.command()
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
    from mekiki import explaining, terminal

    with terminal.progress_bar() as progress:
        told = explaining.sharpen(
            run,
            texts,
            masks=masks,
            schooling=explaining.Schooling(epochs=epochs, rate=rate, batch=batch_size, decay=0.02, seed=seed),
            resume=resume,
            command=_command_line(),
            progress=progress,
            on_epoch=lambda row: terminal.sharpening_epoch(row, epochs),
        )
    if json:
        terminal.print_json(told)
    else:
        terminal.sharpened_lines(told)


@app.command("describe-train")
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
    from mekiki import explaining, terminal

    schooling = explaining.Schooling(epochs=epochs, rate=rate, batch=batch_size, seed=seed)
    with terminal.progress_bar() as progress:
        told = explaining.describe_train(
            run,
            texts,
            speaker=explaining.Speaker(lm, adapter, lora, four_bit),
            vectors=vectors,
            schooling=schooling,
            resume=resume,
            command=_command_line(),
            progress=progress,
            on_epoch=lambda row: terminal.describing_epoch(row, epochs),
        )
    if json:
        terminal.print_json(told)
    else:
        terminal.proof_lines(told["proof"])
        terminal.out().print(f"report: {told['report']}")
    if strict and not told["proof"]["reads"]:
        raise typer.Exit(1)


@app.command()
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
    from mekiki import explaining, terminal
    from mekiki.inspection.files import gather

    if format_ not in ("text", "json"):
        raise InputError(f"--format {format_}: give text or json")
    if bool(images) == (vectors is not None):
        raise InputError("describe: give photographs, or --vectors FILE")
    if served_model is not None and endpoint is None:
        raise InputError("--served-model goes with --endpoint, the server that has it")
    explainer = explaining.Explainer(run, language=language, cases=cases, four_bit=four_bit)
    remote = None if endpoint is None else explaining.Remote(explainer, endpoint, served_model)
    subjects = explainer.of_vectors(vectors) if vectors else explainer.look_at(gather(images or []))
    if requests is not None:
        number = explaining.write_server_requests(explainer, subjects, requests, ask)
        terminal.out().print(f"{number} requests: {requests}")
        return
    speaks = remote or explainer
    if output is not None:
        number = explaining.write_descriptions(explainer, speaks, subjects, output, ask)
        terminal.out().print(f"{number} described: {output}")
        return
    speaks.check(ask)
    for subject in subjects:
        if format_ == "json":
            terminal.print_json(speaks.report(subject, ask))
        else:
            pieces = speaks.stream(subject, ask)
            terminal.spoken(subject.name, pieces, partial(explainer.rests_on, subject), explainer.warning)


@app.command()
def serve(
    run: MemoryFolder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free")] = 8765,
    host: Annotated[
        str, typer.Option(help="an address of this machine; any other than loopback demands a token")
    ] = "127.0.0.1",
    allow: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="a folder whose images the page may train on; may be repeated"),
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="vectors.npz, .parquet or .csv to show as a map too")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="open the page in the browser")] = False,
) -> None:
    """Serve a page to look, train, judge and teach, on this machine, until Ctrl-C."""
    from mekiki import app as page
    from mekiki import terminal

    def ready(address: str) -> None:
        terminal.out().print(address)
        if open_page:
            import webbrowser

            webbrowser.open(address)

    page.serve(run, host=host, port=port, allow=allow or (), vectors=vectors, say=ready)


@cases_app.command("stats")
def cases_stats(run: MemoryFolder, store: StorePlace = None, json: Json = False) -> None:
    """How many cases there are, of what, by whom, and since when."""
    from mekiki import remembering, terminal

    told = remembering.case_stats(run, remembering.Settings(store))
    if json:
        terminal.print_json(told)
        return
    terminal.case_stats_lines(told)


@cases_app.command("export")
def cases_export(
    run: MemoryFolder,
    output: Annotated[Path, typer.Option("-o", "--output", help="cases.parquet")],
    space: Space = "images",
    where: Where = None,
    store: StorePlace = None,
    json: Json = False,
) -> None:
    """Write cases to a Parquet file, with nothing lost."""
    from mekiki import remembering, terminal

    told = remembering.export_run(run, output, space=space, where=where, settings=remembering.Settings(store))
    if json:
        terminal.print_json(told)
        return
    terminal.out().print(f"{told['cases']:,} cases: {output}")


@cases_app.command("import")
def cases_import(
    run: MemoryFolder,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="what `mekiki cases export` wrote")],
    space: Space = "images",
    store: StorePlace = None,
    json: Json = False,
) -> None:
    """Add the cases of a Parquet file."""
    from mekiki import remembering, terminal

    told = remembering.import_run(run, path, space=space, settings=remembering.Settings(store))
    if json:
        terminal.print_json(told)
        return
    terminal.out().print(f"{told['cases']:,} cases, {told['new']:,} of them new: {told['store']}")


@cases_app.command("forget")
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
    from mekiki import remembering, terminal

    told = remembering.forget(run, ids or (), space=space, where=where, settings=remembering.Settings(store))
    if json:
        terminal.print_json(told)
        return
    terminal.out().print(f"{told['forgotten']:,} cases are forgotten")


@data_app.command("list")
def data_list(root: Root = None, json: Json = False) -> None:
    """The data sets known by name, and where they are."""
    from mekiki import terminal
    from mekiki.datasets import catalogue

    entries = [vars(entry) for entry in catalogue(root)]
    if json:
        terminal.print_json({"datasets": entries})
        return
    terminal.catalogue_table(entries)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="mnist, fashion-mnist or kmnist")],
    root: Root = None,
    json: Json = False,
) -> None:
    """Download a data set, or go on with a download that was cut off."""
    from mekiki import terminal
    from mekiki.datasets import fetch

    with terminal.progress_bar() as progress:
        folder = fetch(name, root, progress=progress)
    if json:
        terminal.print_json({"name": name, "folder": str(folder)})
        return
    terminal.out().print(f"{name}: {folder}")


@data_app.command("reports")
def data_reports(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="folder to be made")],
    count: Annotated[int, typer.Option(min=1, help="surfaces in all, the classes taking turns")] = 1500,
    language: Annotated[str, typer.Option(help="en, ja or both")] = "both",
    seed: Annotated[int, typer.Option(min=0, help="of the surfaces and of the wording")] = 0,
    size: Annotated[str, typer.Option(metavar="N|HxW", help="pixels of a surface")] = "64",
    masks: Annotated[
        Path | None, typer.Option(metavar="DIR", help="another folder to be made, for masks of the defects")
    ] = None,
    json: Json = False,
) -> None:
    """Write generated surfaces and inspection reports of them, to try describing without data of one's own."""
    from mekiki import terminal
    from mekiki.datasets.reports import write_reports

    languages = ("en", "ja") if language == "both" else (language,)
    with terminal.progress_bar() as progress:
        told = write_reports(
            output,
            count=count,
            languages=languages,
            seed=seed,
            size=_pixels(size),
            masks=masks,
            progress=progress,
        )
    if json:
        terminal.print_json({"folder": str(output), **told})
        return
    terminal.out().print(f"{told['images']:,} surfaces, {told['reports']:,} reports: {output}")


def main() -> None:
    """Run a command; every error a user can cause is one line on standard error and exit code 2."""
    code = _run()
    if "LOCAL_RANK" in os.environ:
        from mekiki.experiments.processes import leave

        leave(code)
    sys.exit(code)


def _run() -> int:
    """Run a command, say what went wrong, and give the exit code."""
    from mekiki import terminal

    terminal.write_any_character()
    terminal.show_warnings(DataWarning)  # the doctor's findings are printed as such
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # some versions of typer answer Ctrl-C so, others raise
            raise KeyboardInterrupt
    except MekikiError as error:
        return _failed(str(error))
    except (KeyboardInterrupt, typer.Abort):
        terminal.line(
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
            from mekiki.experiments.processes import LEFT_ALONE, left_alone

            if left_alone(error):
                terminal.line("error", "another process of this training has ended", "bold red")
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
    from mekiki import remembering, terminal
    from mekiki.cases.adapter import Schooling

    settings = remembering.Settings(store)
    where = space or next(iter(remembering.spaces_judged(run)), "images")
    if train:
        with terminal.progress_bar() as progress:
            told = remembering.train(
                run,
                space=where,
                triplets=triplets,
                schooling=Schooling(adapter),
                settings=settings,
                progress=progress,
            )
    else:
        told = remembering.untrain(run, space=where, settings=settings)
    if json:
        terminal.print_json(told)
    elif train:
        terminal.taught_lines(told)
    else:
        terminal.out().print(f"no longer in force: {told['taken_back']}")


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
    from mekiki import remembering, terminal

    settings = remembering.Settings(store)
    if not train:
        told = remembering.untune(run, settings)
    else:
        sizes = (nested or "").replace(" ", "").split(",") if nested else []
        if not all(each.isdecimal() for each in sizes):
            raise InputError(
                f"--nested {nested}: give dimensions with commas between them, such as 384,128,64"
            )
        tuning = remembering.Tuning(nested=tuple(int(each) for each in sizes), dimensions=text_dim)
        with terminal.progress_bar() as progress:
            told = remembering.tune(
                run, triplets=triplets, tuning=tuning, settings=settings, progress=progress
            )
    if json:
        terminal.print_json(told)
    elif train:
        terminal.tuned_lines(told)
    else:
        terminal.out().print(f"no longer in force: {told['taken_back']}")


def _by_ray(engine: str) -> bool:
    if engine not in ("here", "ray"):
        raise not_known("engine", engine, ("here", "ray"))
    return engine == "ray"


def _in_bulk(work: Any, run: Path, data: str, output: Path, part: int, json: bool) -> None:
    """Have it done by Ray, and say what came of it."""
    from mekiki import terminal

    try:
        with terminal.progress_bar() as progress:
            summary = work(run, data, output, part=part, progress=progress)
    except KeyboardInterrupt:
        terminal.line("interrupted", "finished parts are kept: the same command goes on", "yellow")
        sys.exit(INTERRUPTED)
    if json:
        terminal.print_json(summary)
        return
    for note in summary["notes"]:
        terminal.line("note", note, "yellow")
    said = f", {summary['problems']:,} of them cannot be read" if summary["problems"] else ""
    terminal.out().print(f"{summary['n']:,} rows{said}: {output}")


def _failed(message: str) -> int:
    from mekiki import terminal

    terminal.line("error", message, "bold red")
    return 2


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
    from mekiki.experiments import DataRequest

    if not spec.strip():
        raise InputError("DATA is empty; give a data set by name, or a folder")
    return DataRequest(
        spec, str(root) if root else None, _pixels(size), channels, per_class, test_fraction, seed, resplit
    )


def _pixels(size: str | None) -> tuple[int, int] | None:
    if size is None:
        return None
    parts = size.lower().replace("×", "x").split("x")
    if len(parts) not in (1, 2) or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--size {size}: give pixels as 64, or as height x width: 48x96")
    return int(parts[0]), int(parts[-1])


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


def _command_line() -> str:
    return shlex.join(["mekiki", *sys.argv[1:]])


def _epoch_printer(epochs: int | None, folder: Path | None = None) -> Any:
    """Print where the run is kept, each epoch, and what the doctor sees the first time it sees it."""
    from mekiki import terminal

    told: set[str] = set()
    kept = [] if folder is None else [folder]

    def show(row: Any, findings: Any) -> None:
        while kept:
            terminal.line("run", str(kept.pop()), "bold")
        terminal.epoch_line(row, epochs)
        if row["epoch"] == 1:
            told.clear()
        for finding in findings:
            if finding.severity == "problem" and finding.code not in told:
                told.add(finding.code)
                terminal.line("doctor", f"{finding.message} Try: {finding.advice}", "bold red")

    return show


def _report_path(folder: Path) -> None:
    from mekiki import terminal

    terminal.out().print(f"report: {folder / 'report.html'}")
