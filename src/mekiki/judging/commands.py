"""Commands of judging: calibrate, judge, watch, teach, retrain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mekiki.judging.verdict import Verdict

from mekiki import console
from mekiki.bulk.commands import Engine, PartLength, is_ray, run_in_bulk
from mekiki.errors import InputError
from mekiki.options import GroupedCommand, Json, JudgeFolder

SUSPICIOUS_PRINTED = 5
"""OK photographs that look least like the others, of which the terminal shows so many."""

# Groups of options of `calibrate` in its help.
PHOTOGRAPHS, THRESHOLD, FEATURES = "Photographs", "Threshold", "Features and detectors"


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command(cls=GroupedCommand)(calibrate)
    app.command()(judge)
    app.command()(watch)
    app.command()(teach)
    app.command()(retrain)


def calibrate(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="folder that `mekiki train` wrote, or a new one")
    ],
    ok: Annotated[
        list[Path],
        typer.Option(
            metavar="DIR", help="photographs of good parts; may be repeated", rich_help_panel=PHOTOGRAPHS
        ),
    ],
    ng: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="photographs of bad parts, to learn from and to see what is missed; sub-folders are defect types; "
            "may be repeated",
            rich_help_panel=PHOTOGRAPHS,
        ),
    ] = None,
    without: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="a photograph among the good ones to leave out, such as a suspicious one; may be repeated",
            rich_help_panel=PHOTOGRAPHS,
        ),
    ] = None,
    keep_suspicious: Annotated[
        bool,
        typer.Option(
            "--keep-suspicious/--drop-suspicious",
            help="whether to learn also from good photographs that look far from good",
            rich_help_panel=PHOTOGRAPHS,
        ),
    ] = True,
    false_reject: Annotated[
        float, typer.Option(help="share of good parts that may be rejected", rich_help_panel=THRESHOLD)
    ] = 0.01,
    confidence: Annotated[
        float | None,
        typer.Option(
            help="with which the rate holds, such as 0.95; it takes more good parts  [default: on average]",
            rich_help_panel=THRESHOLD,
        ),
    ] = None,
    escape_cost: Annotated[
        float | None,
        typer.Option(
            help="cost of a bad part passed: the rate is chosen so that the line costs least",
            rich_help_panel=THRESHOLD,
        ),
    ] = None,
    overkill_cost: Annotated[
        float,
        typer.Option(help="cost of a good part rejected, in the same unit", rich_help_panel=THRESHOLD),
    ] = 1.0,
    ng_share: Annotated[
        float | None,
        typer.Option(
            help="share of bad parts on the line  [default: as in the photographs]", rich_help_panel=THRESHOLD
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="hf:NAME_OR_FOLDER, a pretrained network for photographs; or filters, which need no weights  "
            "[default: the network of RUN if it was trained, else filters]",
            rich_help_panel=FEATURES,
        ),
    ] = None,
    smallest_defect: Annotated[
        float | None,
        typer.Option(
            metavar="PIXELS",
            help="side of the smallest defect to be found, in pixels of a photograph: large photographs are read at "
            "as many pixels as it needs, up to 6 megapixels  [default: up to 2 megapixels]",
            rich_help_panel=FEATURES,
        ),
    ] = None,
    detector: Annotated[
        str,
        typer.Option(
            help="auto, or some of mt, memory, places, subspace, discriminant, with commas between: mt measures the "
            "whole photograph, discriminant learns from bad parts, the others find small defects",
            rich_help_panel=FEATURES,
        ),
    ] = "auto",
    views: Annotated[
        str,
        typer.Option(
            help="how feature groups are combined: sum (each sees a little of a defect) or max (one sees it alone)",
            rich_help_panel=FEATURES,
        ),
    ] = "sum",
    seed: Annotated[
        int,
        typer.Option(help="of the random split of good parts"),
    ] = 0,
    json: Json = False,
) -> None:
    """Learn what good parts look like, and set the threshold at a stated rate of false rejects."""
    from mekiki.judging.calibrate import CalibrationSettings, MisclassificationCosts, calibrate_run
    from mekiki.storage.json_files import finite

    if escape_cost is None and (ng_share is not None or overkill_cost != 1.0):
        raise InputError("calibrate: --overkill-cost and --ng-share go with --escape-cost")
    costs = None if escape_cost is None else MisclassificationCosts(escape_cost, overkill_cost, ng_share)
    with console.progress_bar() as progress:
        _, calibration = calibrate_run(
            run,
            ok,
            ng or (),
            encoder=encoder,
            settings=CalibrationSettings(
                false_reject,
                confidence,
                costs,
                views,
                _parse_detectors(detector),
                seed,
                keep_suspicious,
                smallest_defect,
            ),
            without=without or (),
            progress=progress,
        )
    if json:
        numbers = {name: value for name, value in calibration.metadata.items() if name not in ("ok", "ng")}
        console.print_json(
            finite(
                numbers | {"guarantee": calibration.guarantee, "notes": calibration.notes, "run": str(run)}
            )
        )
        return
    for note in calibration.notes:
        console.line("note", note, "yellow")
    _print_calibration(calibration.metadata, calibration.guarantee)
    _print_suspicious(calibration.metadata, run)


def _parse_detectors(text: str) -> tuple[str, ...] | None:
    """Names of detectors with commas between; `None` for `auto`, which is all that apply."""
    return None if text == "auto" else tuple(filter(None, map(str.strip, text.split(","))))


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
    """Judge photographs: OK or NG, with p-value, reason and defect type."""
    from mekiki.bulk.engine import judge_in_bulk
    from mekiki.cases.search import SimilarCases
    from mekiki.judging.results import judge_paths

    if is_ray(engine):
        if output is None or len(paths) != 1 or cases:
            raise InputError("judge: --engine ray takes one folder or URL, -o FOLDER, and no --cases")
        run_in_bulk(judge_in_bulk, run, paths[0], output, part, json)
        return
    past = SimilarCases(run, cases).find if cases else None
    past_of_files: dict[str, Any] = {}
    print_verdict = VerdictPrinter(past)

    def on_verdict(verdict: Verdict) -> None:
        if json and past is not None:
            past_of_files[str(verdict.photo.path)] = past(verdict)
        elif not json and output is None:
            print_verdict(verdict)

    with console.progress_bar() as progress:
        places = [Path(path) for path in paths]
        summary = judge_paths(run, places, output, on_verdict=on_verdict, progress=progress)
    if json:
        console.print_json(summary | ({"cases": past_of_files} if cases else {}))
        return
    _print_judgement(summary)


def watch(
    run: JudgeFolder,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="where photographs arrive")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="results as .csv, a line a photograph  [default: RUN/watched.csv]"
        ),
    ] = None,
    poll: Annotated[float, typer.Option(min=0.05, help="seconds between two scans of the folder")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="judge what is there, then end")] = False,
) -> None:
    """Judge photographs as they arrive, each exactly once, until Ctrl-C; the same command then goes on."""
    from mekiki.judging.watch import watch

    printer = VerdictPrinter()
    try:
        watch(
            run,
            folder,
            output,
            poll=poll,
            once=once,
            on_verdict=printer,
            on_drift=lambda drift: console.line("drift", str(drift), "bold red"),
        )
    except KeyboardInterrupt:
        console.line(
            "watch", f"stopped; {printer.count:,} judged; the same command goes on from here", "yellow"
        )


def teach(
    run: JudgeFolder,
    image: Annotated[Path | None, typer.Argument(metavar="[IMAGE]", help="the photograph")] = None,
    label: Annotated[
        str | None, typer.Option("--as", metavar="OK|NG|NG:TYPE", help="what it is, such as NG:scratch")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="undo the last correction, or --correction N")] = False,
    correction: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="which correction to undo")
    ] = None,
    lesson: Annotated[int | None, typer.Option(min=1, hidden=True)] = None,
    show: Annotated[bool, typer.Option("--list", help="list all corrections: who, when, what")] = False,
    json: Json = False,
) -> None:
    """Correct the verdict on a photograph; it holds from the next judgement on and can be undone."""
    from mekiki.judging.corrections import read_corrections
    from mekiki.judging.teach import teach as teach_photo
    from mekiki.judging.teach import undo as undo_correction

    number = correction or lesson
    if show + undo + (image is not None) != 1 or (image is None) != (label is None) or (number and not undo):
        raise InputError(
            "teach: give IMAGE with --as OK, NG or NG:TYPE; or --undo [--correction N]; or --list"
        )
    if show:
        entries = [entry.to_dict() for entry in read_corrections(run)]
        if json:
            console.print_json({"lessons": entries})
        else:
            _print_corrections(entries)
    elif image is None or label is None:
        entry = undo_correction(run, number)
        if json:
            console.print_json({"undone": entry.to_dict()})
        else:
            console.out().print(f"correction {entry.number} is undone: {entry.file} as {entry.note}")
    else:
        entry, before, after, effect = teach_photo(run, image, label)
        if json:
            verdicts = {"before": before.to_dict(), "after": after.to_dict()}
            console.print_json({"lesson": entry.to_dict()} | verdicts | {"effect": effect.to_dict()})
            return
        console.out().print(
            f"{image}: was {before.verdict}, is {after.verdict} (correction {entry.number})\n"
            f"{effect.text}\n"
            f"undo it with: mekiki teach {run} --undo --correction {entry.number}"
        )


def retrain(
    run: JudgeFolder,
    accept: Annotated[
        bool, typer.Option("--accept", help="replace the judge even if the new one is worse")
    ] = False,
    json: Json = False,
) -> None:
    """Fit and calibrate the judge again with the corrections; compare before and after, and only then replace it."""
    from mekiki.judging.teach import retrain as retrain_judge
    from mekiki.storage.json_files import finite

    with console.progress_bar() as progress:
        result = retrain_judge(run, accept=accept, progress=progress)
    if json:
        console.print_json(finite(result))
        return
    _print_retraining(result)


class VerdictPrinter:
    """Prints a line for each verdict.

    Args:
        similar_cases: finds past cases of a verdict, which are printed below it; `None` prints none.

    Attributes:
        count: the verdicts printed.
    """

    def __init__(self, similar_cases: Callable[[Verdict], list[dict[str, Any]]] | None = None) -> None:
        self.count = 0
        self._similar_cases, self._console = similar_cases, console.out()

    def __call__(self, verdict: Verdict) -> None:
        """Print one verdict."""
        self.count += 1
        style = {"OK": "green", "NG": "bold red"}.get(verdict.verdict, "yellow")
        text = console.styled_text((f"{verdict.verdict:<3}", style), f" {verdict.photo.path}")
        if verdict.photo.problem:
            text.append(f"  {verdict.photo.problem}")
        else:
            text.append(f"  p {console.number(verdict.p)}, score {console.number(verdict.score)}")
            text.append(f", {verdict.defect_type}" if verdict.defect_type else "")
        self._console.print(text)
        for case in self._similar_cases(verdict) if self._similar_cases is not None else ():
            note = f": {' '.join(case['note'].split())}" if case["note"] else ""
            self._console.print(
                f"      like {case['image'] or case['id']}, {case['label'] or 'no label'}, {case['time'][:10]}{note}",
                style="dim",
            )


def _print_calibration(metadata: Mapping[str, Any], guarantee: str) -> None:
    screen = console.out()
    taught = metadata["learnt_from"] - len(metadata["left_out"])
    screen.print(
        f"{metadata['ok_parts']:,} OK parts: {taught:,} taught what good looks like, "
        f"{metadata['calibrated_on']:,} set the threshold; features of {metadata['eye']['name']}"
    )
    screen.print(guarantee, style="green")
    if metadata.get("weights"):
        weights = sorted(metadata["weights"].items(), key=lambda pair: -pair[1])
        texts = ", ".join(f"{name} {console.number(weight)}" for name, weight in weights)
        screen.print(f"Weights, by what each caught of defects painted on good parts: {texts}.", style="dim")
    if "realised_between" in metadata:
        low, high = (console.number(share, 100, "%") for share in metadata["realised_between"])
        screen.print(f"This threshold rejects between {low} and {high} in the long run (95 % interval).")
    if "ng_parts" in metadata:
        screen.print(
            f"{metadata['ng_parts']:,} NG parts: {console.number(metadata['missed'], 100, '%')} missed, "
            f"AUROC {console.number(metadata['auroc'], 100, '%')}"
        )
        for defect_type, missed in metadata["missed_by_kind"].items():
            screen.print(f"  {defect_type}: {console.number(missed, 100, '%')} missed")
    if "cost_per_part" in metadata:
        low, high = (console.number(cost) for cost in metadata["cost_between"])
        screen.print(
            f"Expected cost of a part: {console.number(metadata['cost_per_part'])} (between {low} and {high}), with "
            f"{console.number(metadata['ng_share'], 100, '%')} NG on the line"
        )


def _print_suspicious(metadata: Mapping[str, Any], run: Path) -> None:
    """The first of the OK photographs that look least like the others."""
    from mekiki.storage.run_folder import JUDGE, JUDGE_SUSPICIOUS

    screen, listed = console.out(), metadata["suspicious"]
    page = run / JUDGE / JUDGE_SUSPICIOUS
    screen.print(f"OK photographs that look least like the others, {len(listed):,} in {page}:")
    for each in listed[:SUSPICIOUS_PRINTED]:
        score, p = console.number(each["score"]), console.number(each["p"])
        screen.print(f"  {each['file']}: score {score}, p {p}, {each['use']}", markup=False, style="dim")
    screen.print("Look at them; if one is NG, calibrate again with --without FILE.")


def _print_judgement(summary: Mapping[str, Any]) -> None:
    screen = console.out()
    for note in summary["notes"]:
        console.line("note", note, "yellow")
    screen.print(f"{summary['NG']:,} NG, {summary['OK']:,} OK, {summary['unreadable']:,} unreadable")
    screen.print(summary["guarantee"], style="dim")
    if summary["output"]:
        screen.print(f"results: {summary['output']}")


def _print_corrections(entries: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            str(entry["number"]),
            entry["when"],
            entry["who"],
            f"NG:{entry['kind']}" if entry["ng"] else "OK",
            entry["before"],
            entry["file"],
            "undone" if entry["undone"] else "",
        )
        for entry in entries
    ]
    headings = ("correction", "when", "who", "as", "was", "photograph", "")
    console.print_table(headings, rows, right=("correction",))


def _print_retraining(result: Mapping[str, Any]) -> None:
    screen = console.out()
    times = ("before", "after")
    labels = {
        "false_rejects": f"false rejects of {result['held_out_ok']:,} OK parts held out",
        "missed": f"missed of {result['ng']:,} NG parts",
    }
    rows = [
        (label, *(console.number(result[time][name], 100, "%") for time in times))
        for name, label in labels.items()
    ]
    console.print_table(("", *times), rows, right=times)
    screen.print(
        "The new judge is in place."
        if result["replaced"]
        else "The new judge is worse, so the old one stays; --accept replaces it all the same."
    )
