"""The collapse doctor: watches a training, and says in plain words what it sees and what to try.

A metric loss can fall silent: every vector at one point, all on one line, or nearly no pair that still teaches. The
loss alone does not show it (it sits at a respectable number), so the doctor looks at the vectors too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

COLLAPSED_SPREAD = 0.01
"""Spread, as a share of the margin, below which vectors count as equal."""
AT_CONSTANT = 0.95
"""Share of the loss of equal vectors above which a loss says that nothing is learnt."""
STARVED_SHARE = 0.98
"""Share of pairs without loss above which training has little left to learn from."""

Severity = Literal["ok", "notice", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing the doctor sees.

    Attributes:
        code: a word for programs: `collapsed`, `flat`, `constant-loss`, `starved`, `overfitting`, `not-learning` or
            `well`.
        severity: `"problem"` (the vectors are of no use), `"notice"` (look at it) or `"ok"`.
        message: what is seen, with its figures.
        advice: what to try; empty where there is nothing to do.
    """

    code: str
    severity: Severity
    message: str
    advice: str = ""


def spread(vectors: Tensor) -> float:
    """Root mean square distance of the vectors `[N, d]` from their mean, in units of the embedding.

    Example:
        >>> spread(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
        1.0
    """
    return (vectors - vectors.mean(0)).square().sum(1).mean().sqrt().item()


def effective_rank(vectors: Tensor) -> float:
    """How many dimensions the vectors `[N, d]` really use: exp of the entropy of their singular values' shares.

    Roy and Vetterli, *The effective rank* (2007). 0 where all vectors are equal, NaN where one is not finite.

    Example:
        >>> line = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
        >>> round(effective_rank(line), 3)
        1.0
    """
    if not torch.isfinite(vectors).all():
        return math.nan
    singular = torch.linalg.svdvals((vectors - vectors.mean(0)).double())
    total = singular.sum()
    if total <= 0:
        return 0.0
    shares = singular / total
    return math.exp(-torch.special.xlogy(shares, shares).sum().item())


def diagnose(
    history: Mapping[str, Sequence[float]],
    *,
    dim: int,
    classes: int,
    scale: float | None,
    constant_loss: float | None,
) -> list[Finding]:
    """What the history of a training shows.

    Args:
        history: columns of one number an epoch; uses `train_loss`, `val_loss`, `spread`, `magnitude`,
            `effective_rank` and `zero_loss_share`, each where present.
        dim: length of the embedding.
        classes: number of classes.
        scale: the length that a spread is held against: the margin, or `None` for the mean length of the vectors.
        constant_loss: the loss when all vectors are equal, where the loss has such a value.

    Returns:
        Findings, problems first; one finding `well` where there is nothing to report.

    Example:
        >>> history = {"train_loss": [0.26, 0.25], "spread": [0.2, 0.0001]}
        >>> diagnose(history, dim=2, classes=10, scale=1.0, constant_loss=0.25)[0].code
        'collapsed'
    """
    findings: list[Finding] = []
    last = {name: float(column[-1]) for name, column in history.items() if len(column)}
    train = [float(loss) for loss in history.get("train_loss", [])]
    validation = [float(loss) for loss in history.get("val_loss", []) if math.isfinite(loss)]
    losses = validation or train

    collapsed = False
    if "spread" in last:
        against = scale if scale is not None else last.get("magnitude", 0.0)
        collapsed = not last["spread"] > COLLAPSED_SPREAD * against
        unit = "the margin" if scale is not None else "their mean length"
        share = last["spread"] / against if against > 0 else 0.0
        if collapsed:
            findings.append(
                Finding(
                    "collapsed",
                    "problem",
                    f"All vectors are practically equal: their spread is {last['spread']:.2g}, "
                    f"{100 * share:.2g} % of {unit}." + _sits_at(losses, constant_loss),
                    "Lower the learning rate tenfold; use pairs that can be solved first (loss contrastive, or "
                    "online-triplet with selection semi-hard instead of hardest); check that the labels match the "
                    "images and that the images are not all alike.",
                )
            )
    if not collapsed and losses and constant_loss is not None and losses[-1] >= AT_CONSTANT * constant_loss:
        # Without validation the loss may be that of the hardest pairs only, which says less.
        findings.append(
            Finding(
                "constant-loss",
                "problem" if validation else "notice",
                f"The loss is {losses[-1]:.4g}, and {constant_loss:.4g} when all vectors are equal: nothing is learnt.",
                "Lower the learning rate, check the labels, or start with loss contrastive and its random pairs.",
            )
        )
    usable = min(dim, max(classes - 1, 1))
    if not collapsed and usable > 1 and "effective_rank" in last:
        rank = last["effective_rank"]
        if rank < 1.2 or rank < 0.15 * usable:
            findings.append(
                Finding(
                    "flat",
                    "problem" if rank < 1.05 else "notice",
                    f"The vectors use {rank:.1f} of {dim} dimensions"
                    + (": they lie on a line." if rank < 1.2 else "."),
                    "Use fewer dimensions, a larger margin, or harder negatives (online-contrastive, online-triplet).",
                )
            )
    if last.get("zero_loss_share", 0.0) > STARVED_SHARE:
        findings.append(
            Finding(
                "starved",
                "notice",
                f"{100 * last['zero_loss_share']:.1f} % of the pairs have no loss any more, so they teach nothing.",
                "If the figures are not yet good enough, choose pairs inside the batch (loss online-contrastive or "
                "online-triplet), or use a larger margin.",
            )
        )
    if len(validation) >= 4 and validation[-1] > 1.5 * min(validation) and train[-1] < train[0]:
        findings.append(
            Finding(
                "overfitting",
                "notice",
                f"The validation loss is {validation[-1]:.4g}, after {min(validation):.4g} "
                f"in epoch {validation.index(min(validation)) + 1}: the net learns its examples by heart.",
                "Train fewer epochs, or give it more images a class.",
            )
        )
    if len(train) >= 3 and not findings and train[-1] > 0.98 * train[0]:
        findings.append(
            Finding(
                "not-learning",
                "notice",
                f"The training loss went from {train[0]:.4g} to {train[-1]:.4g} in {len(train)} epochs.",
                "Try a learning rate ten times higher or lower, or more epochs; check that labels match images.",
            )
        )
    if not findings:
        seen = []
        if "spread" in last:
            seen.append(f"spread {last['spread']:.3g}")
        if "effective_rank" in last:
            seen.append(f"{last['effective_rank']:.1f} of {dim} dimensions in use")
        if "zero_loss_share" in last:
            seen.append(f"{100 * last['zero_loss_share']:.0f} % of the pairs without loss")
        findings.append(
            Finding("well", "ok", "No sign of collapse" + (f": {', '.join(seen)}." if seen else "."))
        )
    return sorted(findings, key=lambda finding: ("problem", "notice", "ok").index(finding.severity))


def is_collapsed(findings: Sequence[Finding]) -> bool:
    """Whether the vectors are of no use: a finding of severity `"problem"`.

    Example:
        >>> is_collapsed([Finding("starved", "notice", "…")])
        False
    """
    return any(finding.severity == "problem" for finding in findings)


def _sits_at(losses: Sequence[float], constant: float | None) -> str:
    if losses and constant is not None and losses[-1] >= AT_CONSTANT * constant:
        return f" The loss sits at {losses[-1]:.4g}; it is {constant:.4g} when all vectors are equal."
    return ""
