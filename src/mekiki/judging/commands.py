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
from mekiki.options import (
    Json,
    JudgeFolder,
)

EXAMPLES = 4
"""Names that stand for many."""


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(calibrate)
    app.command()(judge)
    app.command()(watch)
    app.command()(teach)
    app.command()(retrain)


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
            settings=CalibrationSettings(false_reject, confidence, costs, views, seed),
            progress=progress,
        )
    if json:
        told = {name: value for name, value in calibration.metadata.items() if name not in ("ok", "ng")}
        console.print_json(
            finite(told | {"guarantee": calibration.guarantee, "notes": calibration.notes, "run": str(run)})
        )
        return
    for note in calibration.notes:
        console.line("note", note, "yellow")
    calibration_lines(calibration.metadata, calibration.guarantee)


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
    from mekiki.bulk.engine import judge_in_bulk
    from mekiki.cases.search import SimilarCases
    from mekiki.judging.results import judge_paths

    if is_ray(engine):
        if output is None or len(paths) != 1 or cases:
            raise InputError("judge: --engine ray takes one folder or URL, -o FOLDER, and no --cases")
        run_in_bulk(judge_in_bulk, run, paths[0], output, part, json)
        return
    recall = None
    if cases:
        recall = SimilarCases(run, cases).find
    past: dict[str, Any] = {}
    show = VerdictPrinter(quiet=output is not None, recall=recall)

    def told(verdict: Any) -> None:
        if not json:
            show(verdict)
        elif recall is not None:
            past[str(verdict.photo.path)] = recall(verdict)

    with console.progress_bar() as progress:
        places = [Path(path) for path in paths]
        judged = judge_paths(run, places, output, on_verdict=told, progress=progress)
    if json:
        console.print_json(judged | ({"cases": past} if cases else {}))
        return
    judged_lines(judged)


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
    from mekiki.judging.watch import watch

    said = VerdictPrinter(quiet=False)
    try:
        watch(
            run,
            folder,
            output,
            poll=poll,
            once=once,
            on_verdict=said,
            on_drift=lambda drift: console.line("drift", str(drift), "bold red"),
        )
    except KeyboardInterrupt:
        console.line("watch", f"stopped; {said.count:,} judged; the same command goes on from here", "yellow")


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
    from mekiki.judging.corrections import read_corrections
    from mekiki.judging.teach import teach as teach_photo
    from mekiki.judging.teach import undo as undo_correction

    if show + undo + (image is not None) != 1 or (image is None) != (label is None) or (lesson and not undo):
        raise InputError("teach: give IMAGE with --as OK, NG or NG:KIND; or --undo [--lesson N]; or --list")
    if show:
        entries = [entry.to_dict() for entry in read_corrections(run)]
        if json:
            console.print_json({"lessons": entries})
            return
        lessons_table(entries)
    elif image is None or label is None:
        entry = undo_correction(run, lesson)
        if json:
            console.print_json({"undone": entry.to_dict()})
            return
        console.out().print(f"lesson {entry.number} is taken back: {entry.file} as {entry.note}")
    else:
        entry, before, after = teach_photo(run, image, label)
        if json:
            console.print_json(
                {"lesson": entry.to_dict(), "before": before.to_dict(), "after": after.to_dict()}
            )
            return
        console.out().print(f"{image}: was {before.verdict}, is {after.verdict} (lesson {entry.number})")
        console.out().print(f"take it back with: mekiki teach {run} --undo --lesson {entry.number}")


def retrain(
    run: JudgeFolder,
    accept: Annotated[
        bool, typer.Option("--accept", help="replace the judge even if the new one is worse")
    ] = False,
    json: Json = False,
) -> None:
    """Fold the lessons in: learn and calibrate anew with them, show before and after, and only then replace."""
    from mekiki.judging.teach import retrain as retrain_judge
    from mekiki.storage.json_files import finite

    with console.progress_bar() as progress:
        compared = retrain_judge(run, accept=accept, progress=progress)
    if json:
        console.print_json(finite(compared))
        return
    retrained_lines(compared)


class VerdictPrinter:
    """Prints a line for each verdict, or with `quiet` only counts them.

    Args:
        quiet: print nothing.
        recall: gives past cases of a verdict, which are printed below it.

    Attributes:
        count: how many it was told.
    """

    def __init__(
        self, *, quiet: bool, recall: Callable[[Verdict], list[dict[str, Any]]] | None = None
    ) -> None:
        self.count = 0
        self._quiet, self._recall, self._console = quiet, recall, console.out()

    def __call__(self, verdict: Verdict) -> None:
        """Take one."""
        self.count += 1
        if self._quiet:
            return
        style = {"OK": "green", "NG": "bold red"}.get(verdict.verdict, "yellow")
        text = console.styled((f"{verdict.verdict:<3}", style), f" {verdict.photo.path}")
        if verdict.photo.problem:
            text.append(f"  {verdict.photo.problem}")
        else:
            text.append(f"  p {console.number(verdict.p)}, score {console.number(verdict.score)}")
            text.append(f", {verdict.defect_type}" if verdict.defect_type else "")
        self._console.print(text)
        for case in self._recall(verdict) if self._recall is not None else ():
            note = f": {' '.join(case['note'].split())}" if case["note"] else ""
            self._console.print(
                f"      like {case['image'] or case['id']}, {case['label'] or 'no label'}, {case['time'][:10]}{note}",
                style="dim",
            )


def calibration_lines(facts: Mapping[str, Any], guarantee: str) -> None:
    """What a calibration came to."""
    screen = console.out()
    screen.print(
        f"{facts['ok_parts']:,} OK parts: {facts['learnt_from']:,} taught what good looks like, "
        f"{facts['calibrated_on']:,} set the threshold; seen through {facts['eye']['name']}"
    )
    screen.print(guarantee, style="green")
    if "realised_between" in facts:
        low, high = (console.number(share, 100, "%") for share in facts["realised_between"])
        screen.print(f"This threshold rejects between {low} and {high} in the long run (95 % interval).")
    if "ng_parts" in facts:
        screen.print(
            f"{facts['ng_parts']:,} NG parts: {console.number(facts['missed'], 100, '%')} missed, "
            f"AUROC {console.number(facts['auroc'], 100, '%')}"
        )
        for kind, missed in facts["missed_by_kind"].items():
            screen.print(f"  {kind}: {console.number(missed, 100, '%')} missed")
    if "cost_per_part" in facts:
        low, high = (console.number(cost) for cost in facts["cost_between"])
        screen.print(
            f"Expected cost of a part: {console.number(facts['cost_per_part'])} (between {low} and {high}), with "
            f"{console.number(facts['ng_share'], 100, '%')} NG on the line"
        )


def judged_lines(judged: Mapping[str, Any]) -> None:
    """What a judgement of many photographs came to."""
    screen = console.out()
    for note in judged["notes"]:
        console.line("note", note, "yellow")
    screen.print(f"{judged['NG']:,} NG, {judged['OK']:,} OK, {judged['unreadable']:,} unreadable")
    screen.print(judged["guarantee"], style="dim")
    if judged["output"]:
        screen.print(f"results: {judged['output']}")


def lessons_table(entries: Sequence[Mapping[str, Any]]) -> None:
    """What was taught, by whom and when."""
    table = console.new_table(box=None, padding=(0, 2, 0, 0))
    for heading in ("lesson", "when", "who", "as", "was", "photograph", ""):
        table.add_column(heading, justify="right" if heading == "lesson" else "left")
    for entry in entries:
        said = f"NG:{entry['kind']}" if entry["ng"] else "OK"
        table.add_row(
            str(entry["number"]),
            entry["when"],
            entry["who"],
            said,
            entry["before"],
            entry["file"],
            "taken back" if entry["undone"] else "",
        )
    console.out().print(table)


def retrained_lines(compared: Mapping[str, Any]) -> None:
    """Before and after."""
    screen = console.out()
    table = console.new_table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, label in (
        ("false_rejects", f"false rejects of {compared['held_out_ok']:,} OK parts held out"),
        ("missed", f"missed of {compared['ng']:,} NG parts"),
    ):
        table.add_row(
            label, *(console.number(compared[when][name], 100, "%") for when in ("before", "after"))
        )
    screen.print(table)
    screen.print(
        "The new judge is in place."
        if compared["replaced"]
        else "The new judge is worse, so the old one stays; --accept replaces it all the same."
    )
