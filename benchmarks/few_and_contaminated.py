"""Few OK photographs, and NG photographs hidden among them: what both cost, on tiles and solar cells.

    python -m benchmarks few_and_contaminated

Features of the backbone and of filters, at 5 %, all detectors weighed alike; in a draw the photographs are chosen at
random, and 200 other OK and 200 other NG ones, at most, are judged.

- *Few*: a judge learns from 20 to 200 OK photographs and sets its threshold, by a split or with all doing both (CV+).
  With 20 it is given 5 NG photographs as well, once.
- *Contaminated*: to the same OK photographs NG ones are added until they are 0, 5 or 10 % of all. AUROC is that of
  other NG photographs; in the column "parts apart" of those whose part has no photograph among the hidden ones, since
  the data set of tiles holds each tile under several lights. "First fifth" is the share of the hidden ones in the first
  fifth of the list of suspicious photographs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.corrections import SETS, Groups, extract_groups, take_rows
from benchmarks.inspection import DATA, EYES, number_scenes
from mekiki.judging.feature_judge import Judge
from mekiki.judging.suspicious_parts import score_suspicion
from mekiki.judging.suspicious_photos import LISTED_SHARE

FEW = (20, 60, 100, 150, 200)
KNOWN_NG = 5
OK_PARTS = 350
HIDDEN = (0.0, 0.05, 0.1)
DRAWS = 3
MOST_JUDGED = 200
RATE = 0.05
LEARN_SHARE = 2 / 3


def main() -> dict[str, Any] | None:
    """Measure and print."""
    names = [name for name in SETS if (DATA / name).is_dir()]
    if not names:
        print(f"few_and_contaminated: needs MEKIKI_DATA with {' or '.join(SETS)}")
        return None
    result: dict[str, Any] = {}
    for name in names:
        for features, encoder in EYES.items():
            groups, ok, paths = extract_groups(DATA / name, encoder, SETS[name])
            scenes = number_scenes(paths) if name == "magnetic_tile" else np.arange(len(paths))
            title = f"{name}, {features}"
            result[title] = {"few": measure_few(title, groups, ok)}
            result[title]["contaminated"] = measure_contaminated(title, groups, ok, scenes)
    return result


def measure_few(title: str, groups: Groups, ok: np.ndarray) -> dict[str, dict[str, float]]:
    """AUROC, false rejects and misses by number of OK photographs and way, means over the draws."""
    rows: dict[str, list[dict[str, float]]] = {}
    for draw in range(DRAWS):
        for number in FEW:
            good, others, bad = _draw(ok, number, draw)
            learning = int(LEARN_SHARE * number)
            if number - learning >= 1 / RATE - 1:
                judge = Judge().fit(take_rows(groups, good[:learning]))
                judge.calibrate(take_rows(groups, good[learning:]), RATE)
                rows.setdefault(f"{number}, split", []).append(_figures(judge, groups, others, bad))
            judge = Judge()
            judge.cross_calibrate(take_rows(groups, good), RATE)
            rows.setdefault(f"{number}, CV+", []).append(_figures(judge, groups, others, bad[KNOWN_NG:]))
            if number == FEW[0]:
                judge.learn_ng(take_rows(groups, bad[:KNOWN_NG]))
                key = f"{number}, CV+, {KNOWN_NG} NG known"
                rows.setdefault(key, []).append(_figures(judge, groups, others, bad[KNOWN_NG:]))
    return _print_means(title, rows)


def measure_contaminated(
    title: str, groups: Groups, ok: np.ndarray, scenes: np.ndarray
) -> dict[str, dict[str, float]]:
    """AUROC by share of hidden NG photographs, and how many of them head the list, means over the draws."""
    rows: dict[str, list[dict[str, float]]] = {}
    for draw in range(DRAWS):
        good, others, bad = _draw(ok, OK_PARTS, draw, judged=len(ok))
        most = round(OK_PARTS * max(HIDDEN) / (1 - max(HIDDEN)))
        # The same photographs are judged whatever is hidden.
        judged, order = bad[most:], np.random.default_rng(draw)
        apart = ~np.isin(scenes[judged], scenes[bad[:most]])
        for share in HIDDEN:
            hidden = bad[: round(OK_PARTS * share / (1 - share))]
            given = order.permutation(np.concatenate([good, hidden]))
            learning = int(LEARN_SHARE * len(given))
            judge = Judge().fit(take_rows(groups, given[:learning]))
            judge.calibrate(take_rows(groups, given[learning:]), RATE)
            figures = _figures(judge, groups, others[:MOST_JUDGED], judged, apart)
            if len(hidden):
                own = np.concatenate([judge.learning_scores, judge.calibration_scores])
                vectors = {name: group[given] for name, group in groups.items() if group.ndim == 2}
                worst = np.argsort(-score_suspicion(vectors, own))[: math.ceil(LISTED_SHARE * len(given))]
                figures["first fifth"] = float(np.isin(hidden, given[worst]).mean())
            rows.setdefault(f"{share:.0%} hidden", []).append(figures)
    return _print_means(title, rows)


def _draw(
    ok: np.ndarray, number: int, draw: int, judged: int = MOST_JUDGED
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """OK photographs to learn from, others to judge, and NG photographs, some of which may be learnt from."""
    rng = np.random.default_rng(draw)
    good, bad = rng.permutation(np.flatnonzero(ok)), rng.permutation(np.flatnonzero(~ok))
    return good[:number], good[number : number + judged], bad[: judged + KNOWN_NG]


def _figures(
    judge: Judge, groups: Groups, good: np.ndarray, bad: np.ndarray, apart: np.ndarray | None = None
) -> dict[str, float]:
    found, rejected = judge.judge(take_rows(groups, bad)), judge.judge(take_rows(groups, good))
    figures = {
        "AUROC": _auroc(rejected.score, found.score),
        "false rejects": float(rejected.ng.mean()),
        "missed": float((~found.ng).mean()),
    }
    return figures if apart is None else figures | {"parts apart": _auroc(rejected.score, found.score[apart])}


def _auroc(good: np.ndarray, bad: np.ndarray) -> float:
    return float(roc_auc_score(np.repeat([0, 1], [len(good), len(bad)]), np.concatenate([good, bad])))


def _print_means(title: str, rows: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    result = {}
    for way, draws in rows.items():
        result[way] = {name: float(np.mean([each[name] for each in draws])) for name in draws[0]}
        text = ", ".join(f"{name} {value:.3f}" for name, value in result[way].items())
        print(f"{title}: {way}, {len(draws)} draws: {text}", flush=True)
    return result


if __name__ == "__main__":
    main()
