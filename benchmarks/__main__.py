"""`make bench`: run every benchmark in turn, write its JSON under `benchmarks/results/`, and print the table of all.

python -m benchmarks                  all of them
python -m benchmarks embedding        one or several
python -m benchmarks --table          the table alone, from what was measured before
python -m benchmarks judging_peers FOLDER… [--few N …]   that one on any photographs; see `benchmarks/judging_peers.py`
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from benchmarks import (
    ablation,
    against_pml,
    bulk,
    cases,
    corrections,
    describing,
    embedding,
    evaluation,
    exporting,
    few_and_contaminated,
    few_labels,
    growth,
    inspection,
    judge_choices,
    judging_peers,
    mt_distance,
    post_protocol,
    precision,
    quality,
    scaling,
    serve,
    streaming,
    to_quality,
    two_trainings,
)
from benchmarks.measuring import RESULTS, median, read_result, write_result

BENCHMARKS: dict[str, Callable[[], dict[str, Any] | None]] = {
    "post_protocol": post_protocol.main,
    "to_quality": to_quality.main,
    "against_pml": against_pml.main,
    "side_by_side": two_trainings.main,
    "embedding": embedding.main,
    "evaluation": evaluation.main,
    "growth": growth.main,
    "mt_distance": mt_distance.main,
    "inspection": inspection.main,
    "judging_peers": judging_peers.main,
    "judge_choices": judge_choices.main,
    "corrections": corrections.main,
    "few_and_contaminated": few_and_contaminated.main,
    "few_labels": few_labels.main,
    "streaming": streaming.main,
    "precision": precision.main,
    "ablation": ablation.main,
    "quality": quality.main,
    "cases": cases.main,
    "describing": describing.main,
    "scaling": scaling.main,
    "bulk": bulk.main,
    "exporting": exporting.main,
    "serve": serve.main,
}

SAME_QUALITY = 0.002
"""5-NN accuracies that differ by less are equal: that is how much seeds differ."""
LINEAR = 1.1
"""Exponent up to which time counts as linear."""
FLAT_SERVER = 0.05
"""Share of what the server holds by which it may grow and still counts as flat."""
FLAT = 0.01
"""Share of the streamed images up to which memory that grows with them counts as flat."""


class Cells(NamedTuple):
    """What was measured: the rival's figure, ours, and whether the target is reached (None: there is none)."""

    rival: str
    ours: str
    reached: bool | None


class Row(NamedTuple):
    """One line of the table: what it shows, its target, the benchmark it comes from, and how it is read from it."""

    figure: str
    target: str
    source: str
    read: Callable[[dict[str, Any]], Cells]


def _whole_run(r: dict[str, Any]) -> Cells:
    theirs, ours = (_middle(r, side, "seconds_per_epoch") for side in ("theirs", "ours"))
    return Cells(
        f"{theirs:.2f} s an epoch", f"{ours:.2f} s: {r['times_faster']:.1f}×", r["times_faster"] >= 8
    )


def _share_of_limit(r: dict[str, Any]) -> Cells:
    ours = f"{r['share_of_limit']:.0%} ({r['share_of_limit_with_traffic']:.0%} with memory traffic)"
    return Cells(f"{r['gflops']:.0f} GFLOP/s", ours, r["share_of_limit"] >= 0.7)


def _to_quality(r: dict[str, Any]) -> Cells:
    theirs, ours = (
        f"{sum(accuracy >= r['accuracy_wanted'] for accuracy in r[side])} of {len(r[side])} seeds arrive"
        for side in ("accuracies_theirs", "accuracies_ours")
    )
    return Cells(
        f"{r['seconds_theirs']:.1f} s; {theirs}",
        f"{r['seconds_ours']:.2f} s: {r['times_faster']:.0f}×; {ours}",
        r["times_faster"] >= 50 and r["all_arrived"],
    )


def _neighbours(net: str, least: float, most_error: float | None = None) -> Callable[[dict[str, Any]], Cells]:
    def read(r: dict[str, Any]) -> Cells:
        knn, error = r["nets"][net]["knn"], r["nets"][net]["eer"]
        reached = r["seeds"] >= quality.SEEDS and knn >= least
        ours = f"{knn:.4f}"
        if most_error is not None:
            ours, reached = f"{ours}, EER {error:.2%}", reached and error <= most_error
        return Cells("", f"{ours} (mean of {r['seeds']})", reached)

    return read


def _against_pml(r: dict[str, Any]) -> Cells:
    theirs = _middle(r, "theirs", str(r["workers"]), "seconds_per_epoch")
    same = r["accuracy_ours"] >= r["accuracy_theirs"] - SAME_QUALITY
    return Cells(
        f"{theirs:.2f} s an epoch, 5-NN {r['accuracy_theirs']:.4f}",
        f"{_middle(r, 'ours', 'seconds_per_epoch'):.2f} s, {r['accuracy_ours']:.4f}: {r['times_faster']:.1f}×",
        r["times_faster"] >= 4 and same,
    )


def _side_by_side(r: dict[str, Any]) -> Cells:
    theirs = r["original"]
    return Cells(
        f"{'> ' if theirs['stopped'] else ''}{theirs['times_slower']:.1f}× (the post's code)",
        f"{r['times_slower']:.2f}×",
        r["times_slower"] <= 2.3,
    )


def _embedding(r: dict[str, Any]) -> Cells:
    few, many = r["memory"][0], r["memory"][-1]
    grown = (many["more_mb"] - many["vectors_mb"]) - (few["more_mb"] - few["vectors_mb"])
    return Cells(
        f"{r['limit_images_per_second']:,.0f} images/s",
        f"{r['images_per_second']:,.0f}: {r['share_of_limit']:.0%}; {round(grown):+} MB from {few['images']:,} to "
        f"{many['images']:,} images",
        r["share_of_limit"] >= 0.7 and grown <= FLAT * many["pixels_mb"],
    )


def _evaluation(r: dict[str, Any]) -> Cells:
    most = max(row["vectors"] for row in r["rows"])
    growth = max(row["queries_growth"] for row in r["rows"] if row["vectors"] == most)
    return Cells(
        "", f"{r['more_gb_at_most']:.2f} GB, time ~ N^{growth:.2f}", r["within_promise"] and growth <= LINEAR
    )


def _mt_distance(r: dict[str, Any]) -> Cells:
    row = min(r["rows"], key=lambda row: row["dim"])
    ours, rivals = row["sides"]["ours"], [side for side in row["sides"] if side != "ours"]
    slowest = min(row["times_faster"].values())
    return Cells(
        ", ".join(f"{side} {row['sides'][side]['seconds']:.2f} s" for side in rivals),
        f"{ours['seconds']:.2f} s: {slowest:.1f}×, {ours['more_gb']:.2f} GB more, error {ours['largest_error']:.0e}",
        slowest >= 5 and ours["largest_error"] <= 1e-5,
    )


def _streaming(r: dict[str, Any]) -> Cells:
    nets = [(net, r[net]) for net in streaming.ENCODERS]
    return Cells(
        "; ".join(f"{net} {f['times_faster_than_dataloader_0']:.1f}× a DataLoader" for net, f in nets),
        "; ".join(f"{net} {f['share_of_time_waiting']:.0%}" for net, f in nets),
        None,
    )


def _precision(r: dict[str, Any]) -> Cells:
    told = ", ".join(f"{name} {times:.1f}×" for name, times in r["times_slower"].items())
    return Cells("float32", f"{told} as long", None)


def _told_apart(r: dict[str, Any]) -> Cells:
    figures = r["backbone"]["told_apart"]
    kinds = {name: mean for name, (mean, _) in figures.items() if name.startswith("image AUROC, ")}
    kinds.pop("image AUROC, scenes apart")
    weakest = min(kinds, key=lambda name: kinds[name])
    mean, deviation = figures["image AUROC"]
    return Cells(
        f"filters {r['filters']['told_apart']['image AUROC'][0]:.4f}",
        f"{mean:.4f} ± {deviation:.4f}; weakest {weakest.rpartition(' ')[2]} {kinds[weakest]:.4f}",
        mean >= 0.985 and kinds[weakest] >= 0.96,
    )


def _maps(r: dict[str, Any]) -> Cells:
    figures = r["backbone"]["told_apart"]
    every, most = figures["pixel AUROC"][0], figures["pixel AUROC without uneven"][0]
    return Cells(
        "", f"{every:.3f} ({most:.3f} without uneven), PRO {figures['PRO to 30 %'][0]:.3f}", every >= 0.93
    )


def _coverage(r: dict[str, Any]) -> Cells:
    rows = r["backbone"]["coverage"]
    kept = all(row["mean"] <= row["promised"] + 2 * row["standard_error"] for row in rows.values())
    return Cells("", ", ".join(f"{row['mean']:.2%} of {float(rate):.0%}" for rate, row in rows.items()), kept)


def _latency(r: dict[str, Any]) -> Cells:
    told = r["latency_ms"]
    return Cells(
        "",
        ", ".join(f"{name} {milliseconds:.1f} ms" for name, milliseconds in told.items()),
        told["backbone"] <= 25 and told["conv"] <= 3,
    )


def _corrected(r: dict[str, Any]) -> Cells:
    rows = {name: found for name, found in r.items() if ", " in name}  # others say on what it was measured
    change = {
        name: found["NG, 10"]["missed"] / found["NG, 10"]["missed before"] for name, found in rows.items()
    }
    few = [found[f"NG, {count}"] for found in rows.values() for count in (1, 3)]
    rises = max(each["missed"] - each["missed before"] for each in few)
    falls = max(each["worst fall of AUROC"] for found in rows.values() for each in found.values())
    ours = "; ".join(f"{name} {ratio:.2f}×" for name, ratio in change.items())
    reached = max(change.values()) <= 0.75 and rises <= 0 and falls <= 0.002
    return Cells("", f"{ours}; 1 and 3 {rises:+.3f} at most; AUROC falls by ≤ {falls:.4f}", reached)


def _against_peers(r: dict[str, Any]) -> Cells:
    rivals, ours, ahead = [], [], []
    for each in r["comparisons"]:
        found, best = each["detectors"], each["best_peer"]
        mine = found["ours, backbone"]
        name = f"{Path(each['folder'].partition(':')[0]).name}, {each['learnt_from']} OK"
        rivals.append(f"{name}: {best} {mean(found[best]['auroc']):.4f}")
        if "refused" in mine:
            ours.append(f"{name}: refused")
        else:
            ahead.append(mean(mine["ahead"]))
            ours.append(f"{name}: {mean(mine['auroc']):.4f} ({ahead[-1]:+.4f})")
    complete = len(ahead) == len(rivals)
    return Cells("; ".join(rivals), "; ".join(ours), complete and min(ahead) >= 0)


def _few_labels(number: int, points: float) -> Callable[[dict[str, Any]], Cells]:
    def read(r: dict[str, Any]) -> Cells:
        rows = [row for row in r["rows"] if row["examples"] == number and row["ok_parts"]]
        rivals = [row for row in rows if row["side"].startswith("logistic") and "wherever" not in row["side"]]
        best = max(rivals, key=lambda row: row["mean"])
        (ours,) = (row for row in rows if row["side"] == "ours, mean anchor")
        more = 100 * (ours["mean"] - best["mean"])
        return Cells(
            f"{100 * best['mean']:.1f} %", f"{100 * ours['mean']:.1f} %: {more:+.1f}", more >= points
        )

    return read


def _unwanted(data: str) -> Callable[[dict[str, Any]], Cells]:
    def read(r: dict[str, Any]) -> Cells:
        if data not in r:
            return Cells("", "not measured", None)
        sides, fewer = r[data]["sides"], r[data]["fewer_unwanted"]
        frozen, rocchio, ours = (sides[side] for side in ("frozen", "rocchio", "adapter, linear"))
        told = [
            f"{side['unwanted']['mean']:.1%} (nDCG {side['ndcg']['mean']:.3f})"
            for side in (frozen, rocchio, ours)
        ]
        reached = (
            fewer["adapter, linear"] >= 0.6
            and ours["unwanted"]["mean"] < rocchio["unwanted"]["mean"]
            and ours["ndcg"]["mean"] > frozen["ndcg"]["mean"]
        )
        return Cells(
            f"frozen {told[0]}, Rocchio {told[1]}", f"{told[2]}: −{fewer['adapter, linear']:.0%}", reached
        )

    return read


def _recall_speed(r: dict[str, Any]) -> Cells:
    times = r["speed"]["query_ms"]
    plain, product = times["numpy, differences"], times["numpy, one product with lengths kept"]
    return Cells(
        f"NumPy {plain:.1f} ms, as one product {product:.1f} ms",
        f"{times['ours']:.1f} ms",
        r["speed"]["exact"] and times["ours"] < plain,
    )


def _inserting(r: dict[str, Any]) -> Cells:
    seconds = r["speed"]["insert_seconds"]
    return Cells(
        f"LanceDB {seconds['lancedb']:.2f} s",
        f"{seconds['ours']:.2f} s: {r['speed']['insert_times_raw']:.1f}×",
        r["speed"]["insert_times_raw"] <= 2,
    )


def _index(r: dict[str, Any]) -> Cells:
    found = r["index"]
    return Cells(
        f"NumPy {found['numpy_ms']:.1f} ms",
        f"{found['ours_ms']:.1f} ms: {found['times_faster']:.1f}×, recall {found['recall']:.3f}",
        found["times_faster"] >= 10 and found["recall"] >= 0.98,
    )


def _kills(r: dict[str, Any]) -> Cells:
    found = r["kill"]
    return Cells(
        "",
        f"{found['lost']} lost, {found['halves']} halves after {found['kills']} kills",
        found["lost"] == found["halves"] == 0,
    )


def _described(what: str, **targets: float) -> Callable[[dict[str, Any]], Cells]:
    def read(r: dict[str, Any]) -> Cells:
        if what not in r:
            return Cells("", "not measured", None)
        found = r[what]
        right, guess = found["right"]["true"], found["right"]["shuffled"]
        return Cells(
            ", ".join(f"{name} {guess[name]:.1%}" for name in targets),
            ", ".join(f"{name} {right[name]:.1%}" for name in targets),
            bool(found["reads"]) and all(right[name] >= least for name, least in targets.items()),
        )

    return read


def _first_token(r: dict[str, Any]) -> Cells:
    milliseconds = max(r[what]["first_token_ms"] for what in ("surfaces", "tiles") if what in r)
    return Cells("", f"{milliseconds:.0f} ms", milliseconds <= 150)


def _scaling(r: dict[str, Any]) -> Cells:
    nets = r["nets"]
    return Cells(
        "one process",
        ", ".join(f"{net} {found['times_faster']:.2f}×" for net, found in nets.items())
        + f"; validation losses {max(found['apart'] for found in nets.values()):.1%} apart at most",
        nets["conv"]["times_faster"] >= 1.5,
    )


def _bulk(r: dict[str, Any]) -> Cells:
    told = (
        f"{kind} {row['cpu_ms']:.1f} ms, {row['bytes_a_row']:.0f} bytes" for kind, row in r["rows"].items()
    )
    return Cells("", "; ".join(told), None)


def _exported(r: dict[str, Any]) -> Cells:
    times = {name: r[name]["milliseconds"] for name in ("backbone", "filters", "conv")}
    return Cells(
        ", ".join(f"{name} {each['program']:.1f} ms" for name, each in times.items()),
        ", ".join(f"{name} {each['onnxruntime']:.1f} ms" for name, each in times.items()),
        all(each["onnxruntime"] <= each["program"] for each in times.values()),
    )


def _parity(r: dict[str, Any]) -> Cells:
    extractors = [r[name] for name in ("backbone", "filters", "conv")]
    flips, apart = (
        sum(extractor["verdicts_differ"] for extractor in extractors),
        max(extractor["score_differs"] for extractor in extractors),
    )
    images = sum(extractor["images"] for extractor in extractors)
    return Cells("", f"{flips} of {images:,} verdicts, scores by {apart:.0e}", flips == 0 and apart <= 1e-4)


def _served(r: dict[str, Any]) -> Cells:
    if "judging" not in r:
        return Cells("", "not measured", None)
    found = r["judging"]["at_rate"]
    times = f"median {found['median_ms']:.0f} ms, p99 {found['p99_ms']:.0f} ms"
    return Cells(
        "",
        f"{times}, {found['errors']} errors of {found['calls']:,}",
        found["median_ms"] <= 40 and found["p99_ms"] <= 150 and not found["errors"],
    )


def _served_memory(r: dict[str, Any]) -> Cells:
    if "judging" not in r:
        return Cells("", "not measured", None)
    first, last = r["judging"]["memory_mb"][0], r["judging"]["memory_mb"][-1]
    grown = r["judging"]["grown_mb"]
    ours = f"{grown:+.0f} MB from call {first[0]:,} to {last[0]:,}"
    return Cells(f"{first[1]:.0f} MB", ours, grown <= FLAT_SERVER * first[1])


def _first_paint(r: dict[str, Any]) -> Cells:
    found = r["maps"]["20000"]
    ours = f"{found['first_paint_seconds']:.1f} s, again {found['again_seconds']:.1f} s"
    return Cells("", ours, found["first_paint_seconds"] <= 2)


def _panning(count: int, least: float) -> Callable[[dict[str, Any]], Cells]:
    def read(r: dict[str, Any]) -> Cells:
        found = r["maps"][str(count)]
        ours = found["frames_per_second"]
        return Cells(
            f"plotly {found['plotly_frames_per_second']:.0f} frames/s", f"{ours:.0f} frames/s", ours >= least
        )

    return read


ROWS = (
    Row("1 the post's protocol, whole run", "≥ 8×", "post_protocol", _whole_run),
    Row("2 its training, share of the matrix products' speed", "≥ 70 %", "post_protocol", _share_of_limit),
    Row("3 seconds to 5-NN .967, MLP, 2-D", "≥ 50×, all seeds", "to_quality", _to_quality),
    Row("4 5-NN, MLP, 2-D", "≥ .985", "quality", _neighbours("mlp, 2-D", 0.985)),
    Row(
        "5 5-NN and EER, convolutions, 2-D",
        "≥ .995, ≤ .5 %",
        "quality",
        _neighbours("vgg, 2-D", 0.995, 0.005),
    ),
    Row("6 5-NN, convolutions, 32-D", "≥ .997", "quality", _neighbours("vgg, 32-D", 0.997)),
    Row("7 against pytorch-metric-learning", "≥ 4×, same quality", "against_pml", _against_pml),
    Row("8 two trainings at once, each against alone", "≤ 2.3×", "side_by_side", _side_by_side),
    Row("9 embedding, share of the matrix products' speed", "≥ 70 %, memory flat", "embedding", _embedding),
    Row("10 evaluating 1,000,000 vectors", "≤ 2 GB, linear", "evaluation", _evaluation),
    Row("11 streaming a folder, time the network waits", "", "streaming", _streaming),
    Row("12 bfloat16 against float32", "", "precision", _precision),
    Row("13 MT distance of 1,000,000 × 64", "≥ 5×, error ≤ 1e-5", "mt_distance", _mt_distance),
    Row("14 tiles judged from OK alone, image AUROC", "≥ .985, each kind ≥ .96", "inspection", _told_apart),
    Row("15 where, pixel AUROC", "≥ .93", "inspection", _maps),
    Row("16 false rejects realised of those stated", "within the promise", "inspection", _coverage),
    Row("17 one photograph judged", "≤ 25 ms; conv ≤ 3 ms", "inspection", _latency),
    Row(
        "17b beside four simple detectors, image AUROC", "no worse anywhere", "judging_peers", _against_peers
    ),
    Row("17c misses after 10 corrections", "≤ .75×; 1 and 3 ≤ 0; AUROC −.002", "corrections", _corrected),
    Row("18 six classes, 20 a class and OK parts", "≥ +3 points", "few_labels", _few_labels(20, 3)),
    Row("19 six classes, 5 a class and OK parts", "≥ +5 points", "few_labels", _few_labels(5, 5)),
    Row("20 unwanted in the first ten, notes", "−60 %, below Rocchio, nDCG up", "cases", _unwanted("notes")),
    Row("21 unwanted in the first ten, tiles", "−60 %, below Rocchio, nDCG up", "cases", _unwanted("tiles")),
    Row("22 query among 100,000 × 64 cases, exact", "faster than NumPy", "cases", _recall_speed),
    Row("23 query among 1,000,000 × 64, indexed", "≥ 10×, recall ≥ .98", "cases", _index),
    Row("24 keeping 100,000 cases", "≤ 2×", "cases", _inserting),
    Row("25 killed at random moments", "nothing lost, no halves", "cases", _kills),
    Row(
        "26 surfaces described from vectors, shuffled ones beside",
        "defect ≥ 95 %, place ≥ 85 %, severity ≥ 80 %",
        "describing",
        _described("surfaces", defect=0.95, place=0.85, severity=0.8),
    ),
    Row("27 tiles described", "defect ≥ 85 %", "describing", _described("tiles", defect=0.85)),
    Row("27b the same, parts apart", "", "describing", _described("tiles, parts apart", defect=0.85)),
    Row("28 first token of a description", "≤ 150 ms", "describing", _first_token),
    Row("29 two processes on two cores", "≥ 1.5×, conv", "scaling", _scaling),
    Row("30 a photograph in bulk, processor time", "", "bulk", _bulk),
    Row("31 one photograph judged by onnxruntime, the program beside", "no slower", "exporting", _exported),
    Row("32 the graph beside the program", "0 verdicts, scores by ≤ 1e-4", "exporting", _parity),
    Row("33 judged by a call, 20 a second for a minute", "median ≤ 40 ms, p99 ≤ 150 ms", "serve", _served),
    Row("34 memory of the server over 5,000 calls", "flat", "serve", _served_memory),
    Row("35 first paint of a map, 20,000 points", "≤ 2 s", "serve", _first_paint),
    Row("36 panning 20,000 points, drawn in software", "≥ 30 frames/s", "serve", _panning(20_000, 30)),
    Row("37 panning 100,000 points", "no freeze", "serve", _panning(100_000, 5)),
)


def table() -> str:
    """All rows, in Markdown that can be read as it is."""
    lines = [("figure", "rival or limit", "ours", "target", "reached")]
    for row in ROWS:
        result = read_result(row.source)
        rival, ours, reached = Cells("", "not measured", None) if result is None else row.read(result)
        lines.append((row.figure, rival, ours, row.target, {True: "yes", False: "no", None: ""}[reached]))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def _middle(result: dict[str, Any], *path: str) -> float:
    """Median over the rounds of the number at this path."""
    values = []
    for found in result["rounds"]:
        for key in path:
            found = found[key]
        values.append(found)
    return median(values)


def main() -> None:
    """What the command line asks for, then the table."""
    if sys.argv[1:2] == ["judging_peers"]:  # all that follows is its own
        _measure({"judging_peers": lambda: judging_peers.main(sys.argv[2:])})
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--table", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    _measure({} if asked.table else {name: BENCHMARKS[name] for name in asked.names or BENCHMARKS})


def _measure(benchmarks: dict[str, Callable[[], dict[str, Any] | None]]) -> None:
    """Run these, write what each found, and print and write the table of all."""
    for name, benchmark in benchmarks.items():
        result = benchmark()
        if result is not None:
            write_result(name, result)
    text = table()
    print("\n" + text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "table.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
