"""What the command line shows: results on standard output, everything else on standard error."""

from __future__ import annotations

import io
import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from mekiki.checking import Checked
    from mekiki.inspection import Verdict
    from mekiki.progress import Progress

SHOWN_SHIFT = 1e-6
"""What feedback moved by less than this is rounding, at the rim of a word's reach."""
DRAW_AFTER = 0.5
"""Seconds that work may take before it gets a progress bar."""

EXAMPLES = 4
"""Names that stand for many."""

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


def out() -> Console:
    """Where results go."""
    # Into a file or a pipe nothing needs to be cut to the width of a screen.
    width = None if sys.stdout.isatty() else 160
    # No markup: a folder may be called [bold], and a class :tada:.
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False, width=width)


def err() -> Console:
    """Where progress, warnings and errors go."""
    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def line(word: str, text: str, style: str) -> None:
    """One line on standard error: `word: text`; line breaks inside the text become spaces."""
    err().print(Text.assemble((f"{word}: ", style), " ".join(text.split())))


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object on standard output, in ASCII, so that it passes through a pipe of any encoding."""
    sys.stdout.write(json.dumps(content, allow_nan=False) + "\n")


def write_any_character() -> None:
    """Print a question mark, rather than fail, for a character that the terminal's encoding has not."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def show_warnings(*categories: type[Warning]) -> None:
    """Show warnings of these kinds as one line each, and none of any other library's."""
    warnings.simplefilter("ignore")
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # a Japanese font often has no bold
    for category in categories:
        warnings.simplefilter("always", category)

    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        line("note", str(message), "yellow")

    warnings.showwarning = show


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Give a `Progress` that draws one bar; quick work draws none, and nothing stays on the screen."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn())
    console = err()
    # A few redraws a second, and none where nobody looks: the drawing thread competes with the training for a core.
    with Bar(
        *columns, console=console, transient=True, refresh_per_second=4, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None, visible=False)
        current, since = "", time.monotonic()

        def show(what: str, done: int, total: int) -> None:
            nonlocal current, since
            kind = what.split("  ")[0]
            if kind != current:
                current, since = kind, time.monotonic()
                bar.reset(task, total=total, visible=False)
            visible = done < total and time.monotonic() - since > DRAW_AFTER
            bar.update(task, description=what, completed=done, total=total, visible=visible)

        yield show


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
    err().print(" · ".join(parts), style="dim")


def findings_lines(findings: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """What the collapse doctor says."""
    styles = {"problem": "bold red", "notice": "yellow", "ok": "green"}
    console = console or out()
    for finding in findings:
        word = {"problem": "problem", "notice": "notice", "ok": "well"}[finding["severity"]]
        text = Text.assemble((f"{word}: ", styles[finding["severity"]]), finding["message"])
        if finding["advice"]:
            text.append(f" Try: {finding['advice']}")
        console.print(text)


def metrics_table(metrics: Mapping[str, Any], title: str) -> None:
    """The numbers that matter, on standard output."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    for name, label, factor, unit in HEADLINE:
        if name in metrics:
            table.add_row(label, number(metrics[name], factor, unit))
    out().print(table)


def comparison_table(
    comparison: Mapping[str, Any], columns: Sequence[tuple[str, str, float]], title: str
) -> None:
    """Trainings side by side, mean ± standard deviation over the seeds.

    Args:
        comparison: as `mekiki.experiments.compare` returns it.
        columns: (key, heading, factor) of each column.
        title: above the table.
    """
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for _, heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, values in comparison["compared"].items():
        cells = []
        for key, _, factor in columns:
            mean, sd = values[key]["mean"], values[key]["sd"]
            cells.append(number(mean, factor) + (f" ±{factor * sd:.2g}" if sd is not None else ""))
        table.add_row(name, *cells)
    out().print(table)


def history_table(history: Mapping[str, Sequence[float]], title: str) -> None:
    """What the doctor looks at, epoch by epoch."""
    columns = ("train_loss", "val_loss", "spread", "effective_rank", "zero_loss_share")
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
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
        cells = [number(value) for value in values[:-1]] + [number(values[-1], 100, "%")]
        table.add_row(str(int(epoch)), *cells)
    out().print(table)


def catalogue_table(entries: Sequence[Mapping[str, Any]]) -> None:
    """The data sets known by name."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("name", "what", "images", "where"):
        table.add_column(heading, justify="right" if heading == "images" else "left")
    for entry in entries:
        table.add_row(entry["name"], entry["what"], f"{entry['images']:,}", entry["where"])
    out().print(table)


def checked_table(checked: Sequence[Checked]) -> None:
    """What is known of the files of a run: how many of each state, and all those that are not as they were."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("files", justify="right")
    table.add_column("state")
    table.add_column("which")
    for state in dict.fromkeys(each.state for each in checked):
        names = [
            f"{each.file} ({each.said})" if each.said else each.file
            for each in checked
            if each.state == state
        ]
        shown = names if state in ("damaged", "missing") else names[:EXAMPLES]
        more = ", …" if len(names) > len(shown) else ""
        table.add_row(f"{len(names):,}", state, ", ".join(shown) + more)
    out().print(table)


def number(value: float | None, factor: float = 1.0, unit: str = "") -> str:
    """A number with sensible digits and its unit; a dash for none.

    Example:
        >>> number(0.96712, 100, "%"), number(80123.4), number(None), number(0.01993)
        ('96.71 %', '80,123', '–', '0.0199')
    """
    if value is None or not math.isfinite(value):
        return "–"
    scaled = factor * value
    if abs(scaled) >= 1000:
        text = f"{scaled:,.0f}"
    elif abs(scaled) >= 1 or scaled == 0:
        text = f"{scaled:.2f}"
    else:
        text = f"{scaled:.3g}"
    return f"{text} {unit}".strip()


class Verdicts:
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
        self._quiet, self._recall, self._console = quiet, recall, out()

    def __call__(self, verdict: Verdict) -> None:
        """Take one."""
        self.count += 1
        if self._quiet:
            return
        style = {"OK": "green", "NG": "bold red"}.get(verdict.verdict, "yellow")
        text = Text.assemble((f"{verdict.verdict:<3}", style), f" {verdict.path}")
        if verdict.problem:
            text.append(f"  {verdict.problem}")
        else:
            text.append(f"  p {number(verdict.p)}, score {number(verdict.score)}")
            text.append(f", {verdict.kind}" if verdict.kind else "")
        self._console.print(text)
        for case in self._recall(verdict) if self._recall is not None else ():
            note = f": {' '.join(case['note'].split())}" if case["note"] else ""
            self._console.print(
                f"      like {case['image'] or case['id']}, {case['label'] or 'no label'}, {case['time'][:10]}{note}",
                style="dim",
            )


def calibration_lines(facts: Mapping[str, Any], guarantee: str) -> None:
    """What a calibration came to."""
    console = out()
    console.print(
        f"{facts['ok_parts']:,} OK parts: {facts['learnt_from']:,} taught what good looks like, "
        f"{facts['calibrated_on']:,} set the threshold; seen through {facts['eye']['name']}"
    )
    console.print(guarantee, style="green")
    if "realised_between" in facts:
        low, high = (number(share, 100, "%") for share in facts["realised_between"])
        console.print(f"This threshold rejects between {low} and {high} in the long run (95 % interval).")
    if "ng_parts" in facts:
        console.print(
            f"{facts['ng_parts']:,} NG parts: {number(facts['missed'], 100, '%')} missed, "
            f"AUROC {number(facts['auroc'], 100, '%')}"
        )
        for kind, missed in facts["missed_by_kind"].items():
            console.print(f"  {kind}: {number(missed, 100, '%')} missed")
    if "cost_per_part" in facts:
        low, high = (number(cost) for cost in facts["cost_between"])
        console.print(
            f"Expected cost of a part: {number(facts['cost_per_part'])} (between {low} and {high}), with "
            f"{number(facts['ng_share'], 100, '%')} NG on the line"
        )


def judged_lines(judged: Mapping[str, Any]) -> None:
    """What a judgement of many photographs came to."""
    console = out()
    for note in judged["notes"]:
        line("note", note, "yellow")
    console.print(f"{judged['NG']:,} NG, {judged['OK']:,} OK, {judged['unreadable']:,} unreadable")
    console.print(judged["guarantee"], style="dim")
    if judged["output"]:
        console.print(f"results: {judged['output']}")


def exported_lines(told: Mapping[str, Any]) -> None:
    """What was written, how it compares with the program, and what eight bits cost."""
    console = out()
    height, width = told["size"]
    console.print(
        f"{told['file']}: opset {told['opset']}, photographs of {height}×{width} pixels ({told['mode']}), "
        f"{told['bytes'] / 1e6:.1f} MB; gives {', '.join(told['outputs'])}"
    )
    _parity_table(console, told["parity"], "the graph beside the program")
    times = told["milliseconds"]
    console.print(
        f"one photograph: {times['onnxruntime']:.1f} ms with onnxruntime, {times['program']:.1f} ms with the program "
        f"({told['threads']} thread(s))"
    )
    costs = told["costs"]
    if costs is not None:
        _parity_table(console, costs["parity"], "what eight bits cost: the written graph beside the program")
        size, spent = costs["bytes"], costs["milliseconds"]
        console.print(
            f"{size['float'] / 1e6:.1f} MB become {size['int8'] / 1e6:.1f} MB, {spent['float']:.1f} ms become "
            f"{spent['int8']:.1f} ms; the threshold is that of the run and was not set anew"
        )


def _parity_table(console: Console, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    table = Table(title=title, title_justify="left")
    for name in ("images", "number", "verdicts differ", "score", "vector", "nearest to the threshold"):
        table.add_column(name, justify="left" if name == "images" else "right")
    for row in rows:
        judged = row["nearest"] is not None
        table.add_row(
            row["group"],
            str(row["images"]),
            str(row["verdicts"]),
            f"{row['score']:.1e}" if row["score"] else "–",
            f"{row['vector']:.1e}",
            f"{row['nearest']:.1e}" if judged else "–",
        )
    console.print(table)
    for row in rows:
        for name, what in (
            ("steps", "lie on a step of the score"),
            ("on_threshold", "lie on the threshold"),
            ("taught", "were taught, which only the program knows"),
        ):
            if row[name]:
                console.print(f"{row['group']}: {row[name]} {what}")


def lessons_table(entries: Sequence[Mapping[str, Any]]) -> None:
    """What was taught, by whom and when."""
    table = Table(box=None, padding=(0, 2, 0, 0))
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
    out().print(table)


def retrained_lines(compared: Mapping[str, Any]) -> None:
    """Before and after."""
    console = out()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, label in (
        ("false_rejects", f"false rejects of {compared['held_out_ok']:,} OK parts held out"),
        ("missed", f"missed of {compared['ng']:,} NG parts"),
    ):
        table.add_row(label, *(number(compared[when][name], 100, "%") for when in ("before", "after")))
    console.print(table)
    console.print(
        "The new judge is in place."
        if compared["replaced"]
        else "The new judge is worse, so the old one stays; --accept replaces it all the same."
    )


def remembered_lines(kept: Mapping[str, Any]) -> None:
    """What was remembered."""
    for note in kept["notes"]:
        line("note", note, "yellow")
    said = f"{kept['cases']:,} cases, {kept['new']:,} of them new"
    if kept["embedded_notes"]:
        said += f"; {kept['embedded_notes']:,} notes can be found by their text"
    out().print(f"{said}: {kept['store']}")


def cases_table(found: Sequence[Mapping[str, Any]]) -> None:
    """Past cases, the foremost first; a column that would be empty is left out."""
    columns: dict[str, list[str]] = {
        "": [str(each["rank"]) for each in found],
        "case": [each["id"] for each in found],
        "distance": [number(each["distance"]) for each in found],
        "feedback": [f"{each['shift']:+.3g}" if abs(each["shift"]) >= SHOWN_SHIFT else "" for each in found],
        "label": [each["label"] for each in found],
        "note": [" ".join(each["note"].split()) for each in found],
        "photograph": [each["image"] for each in found],
        "who": [each["who"] for each in found],
        "when": [each["time"][:10] for each in found],
    }
    told = {heading: cells for heading, cells in columns.items() if any(cells)}
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in told:
        table.add_column(heading, justify="right" if heading in ("", "distance", "feedback") else "left")
    for row in zip(*told.values(), strict=True):
        table.add_row(*row)
    out().print(table)


def feedback_table(said: Sequence[Mapping[str, Any]]) -> None:
    """What people said of cases that were found."""
    table = Table(box=None, padding=(0, 2, 0, 0))
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
    out().print(table)


def taught_lines(told: Mapping[str, Any]) -> None:
    """What learning from feedback came to."""
    console = out()
    before, after, frozen = (number(told[name], 100, "%") for name in ("before", "after", "frozen"))
    console.print(
        f"{told['triplets']:,} triplets taught; of {told['held_out']:,} held out, {after} are in the right order "
        f"({before} before, {frozen} as the encoder has them)"
    )
    console.print(
        "The new comparison is in force."
        if told["replaced"]
        else "That is no better, so everything stays as it was."
    )


def tuned_lines(told: Mapping[str, Any]) -> None:
    """What tuning a text model came to."""
    console = out()
    console.print(
        f"held-out triplets in the right order: {number(told['before'], 100, '%')} before, "
        f"{number(told['after'], 100, '%')} tuned ({told['held_out']} triplets; {told['triplets']} taught)"
    )
    for size, share in told["nested"].items():
        console.print(f"  in the first {size} dimensions: {number(share, 100, '%')}")
    if told["replaced"]:
        console.print(f"in force: {told['model']}; {told['notes']:,} notes are embedded anew")
    else:
        console.print("not better, so nothing has changed")


def case_stats_lines(told: Mapping[str, Any]) -> None:
    """What the stores of a run hold."""
    console = out()
    for space in ("images", "notes"):
        if space not in told:
            continue
        own = told[space]
        console.print(
            f"{space}: {own['cases']:,} cases, {own['notes']:,} with a note, in {own['place']}", style="bold"
        )
        console.print(f"  vectors of {own['encoder']['name']}, {own['encoder']['dimension']} dimensions")
        if own["cases"]:
            console.print(f"  from {own['from'][:10]} to {own['to'][:10]}")
        for label, count in own["labels"].items():
            console.print(f"  {label or '(no label)'}: {count:,}")
    console.print(
        f"feedback: {told['feedback']['in_force']:,} judgements in force of {told['feedback']['all']:,}"
    )


def sharpening_epoch(row: Mapping[str, float], epochs: int) -> None:
    """One epoch of a sharpening."""
    right = ", ".join(
        f"{name} {number(value, 100, '%')}" for name, value in row.items() if name not in ("epoch", "loss")
    )
    err().print(f"epoch {row['epoch']:.0f}/{epochs} · loss {row['loss']:.4f} · read rightly: {right}")


def sharpened_lines(told: Mapping[str, Any]) -> None:
    """What a sharpening came to."""
    console = out()
    marked = f", {told['marked']:,} of them with a mask" if told["marked"] else ""
    console.print(f"{told['parts']:,} parts{marked}; of those kept apart it reads rightly")
    for name, share in told["right"].items():
        frequent = number(told["frequent"][name], 100, "%")
        console.print(f"  {name}: {number(share, 100, '%')} (always the most frequent: {frequent})")
    console.print("`mekiki describe-train` and `mekiki describe` look with it from now on.")


def describing_epoch(row: Mapping[str, float], epochs: int) -> None:
    """One line an epoch of learning to describe, on standard error."""
    err().print(
        f"epoch {int(row['epoch'])}/{epochs} · loss {row['loss']:.4f} · held out {row['held_out']:.4f} nats a token",
        style="dim",
    )


def proof_lines(proof: Mapping[str, Any]) -> None:
    """What a describer gets right with vectors that are a part's own, and with others."""
    from mekiki.report.described import ROWS

    columns = list(proof["most"])
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("described from", no_wrap=True)
    for name in ("loss", *columns):
        table.add_column(name, justify="right")
    for vectors, said in ROWS.items():
        own = [number(proof["right"][vectors][name], 100, "%") for name in columns]
        table.add_row(said, f"{proof['loss'][vectors]:.3f}", *own)
    if columns:
        table.add_row("the most frequent", "", *(number(proof["most"][name], 100, "%") for name in columns))
    for source, values in proof["readable"].items():
        own = [number(values.get(name), 100, "%") for name in columns]
        table.add_row(f"linear probe of {source}", "", *own)
    out().print(table)
    out().print(proof["sentence"], style="" if proof["reads"] else "bold red")


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
    console = out()
    console.print(name, style="bold")
    said = ""
    for piece in pieces:
        said += piece
        console.print(piece, end="")
    console.print()
    for case in cases(said):
        note = f": {' '.join(case['note'].split())}" if case["note"] else ""
        console.print(f"  rests on [{case['id']}] {case['label'] or 'no label'}{note}", style="dim")
    if warning:
        line("warning", warning, "bold yellow")
