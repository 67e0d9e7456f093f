"""The collapse check: numbers about the vectors of a training, and findings in words with what to try.

A metric loss can stop learning in ways that its value does not show: all vectors in one point, all on one line, or
nearly no pair that still has a loss.
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
"""Share of the loss of equal vectors above which nothing is learnt."""
STARVED_SHARE = 0.98
"""Share of pairs without loss above which little is left to learn from."""
SEVERITIES = ("problem", "notice", "ok")

Severity = Literal["ok", "notice", "problem"]


@dataclass(frozen=True)
class Finding:
    """One finding of the collapse check.

    Attributes:
        code: for programs: `collapsed`, `flat`, `constant-loss`, `starved`, `overfitting`, `not-learning` or `well`.
        severity: `"problem"` (the vectors are of no use), `"notice"` (look at it) or `"ok"`.
        message: what was found, with its figures.
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
    """The number of dimensions that the vectors `[N, d]` use: exp of the entropy of their singular values' shares.

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
    """The findings for the history of a training.

    Args:
        history: columns of one number an epoch; uses `train_loss`, `val_loss`, `spread`, `magnitude`,
            `effective_rank` and `zero_loss_share`, each where present.
        dim: length of the embedding.
        classes: number of classes.
        scale: the length that a spread is compared with: the margin, or `None` for the mean length of the vectors.
        constant_loss: the loss when all vectors are equal, where it has a fixed value.

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
    loss = (validation or train or [math.nan])[-1]
    constant = constant_loss is not None and loss >= AT_CONSTANT * constant_loss
    against = scale if scale is not None else last.get("magnitude", 0.0)
    collapsed = "spread" in last and not last["spread"] > COLLAPSED_SPREAD * against
    if collapsed:
        share = 100 * last["spread"] / against if against > 0 else 0.0
        message = (
            f"All vectors are practically equal: their spread is {last['spread']:.2g}, {share:.2g} % of "
            f"{'the margin' if scale is not None else 'their mean length'}."
        )
        if constant:
            message += f" The loss sits at {loss:.4g}; it is {constant_loss:.4g} when all vectors are equal."
        advice = (
            "Lower the learning rate tenfold; use pairs that can be solved first (loss contrastive, or online-triplet "
            "with selection semi-hard instead of hardest); check that the labels match the images and that the images "
            "are not all alike."
        )
        findings.append(Finding("collapsed", "problem", message, advice))
    elif constant:
        # Without validation the loss may be that of the hardest pairs only, which proves less.
        severity: Severity = "problem" if validation else "notice"
        message = (
            f"The loss is {loss:.4g}, and {constant_loss:.4g} when all vectors are equal: nothing is learnt."
        )
        advice = (
            "Lower the learning rate, check the labels, or start with loss contrastive and its random pairs."
        )
        findings.append(Finding("constant-loss", severity, message, advice))
    usable = min(dim, max(classes - 1, 1))
    rank = last.get("effective_rank", math.inf)
    if not collapsed and usable > 1 and (rank < 1.2 or rank < 0.15 * usable):
        line = ": they lie on a line." if rank < 1.2 else "."
        message = f"The vectors use {rank:.1f} of {dim} dimensions{line}"
        advice = (
            "Use fewer dimensions, a larger margin, or harder negatives (online-contrastive, online-triplet)."
        )
        findings.append(Finding("flat", "problem" if rank < 1.05 else "notice", message, advice))
    zero = last.get("zero_loss_share", 0.0)
    if zero > STARVED_SHARE:
        message = f"{100 * zero:.1f} % of the pairs have no loss any more, so nothing is learnt from them."
        advice = (
            "If the figures are not yet good enough, select pairs inside the batch (loss online-contrastive or "
            "online-triplet), or use a larger margin."
        )
        findings.append(Finding("starved", "notice", message, advice))
    if len(validation) >= 4 and loss > 1.5 * min(validation) and train[-1] < train[0]:
        message = (
            f"The validation loss is {loss:.4g}, after {min(validation):.4g} in epoch "
            f"{validation.index(min(validation)) + 1}: the network overfits its examples."
        )
        findings.append(
            Finding("overfitting", "notice", message, "Train fewer epochs, or give it more images a class.")
        )
    if len(train) >= 3 and not findings and train[-1] > 0.98 * train[0]:
        message = f"The training loss went from {train[0]:.4g} to {train[-1]:.4g} in {len(train)} epochs."
        advice = (
            "Try a learning rate ten times higher or lower, or more epochs; check that labels match images."
        )
        findings.append(Finding("not-learning", "notice", message, advice))
    if not findings:
        numbers = [f"spread {last['spread']:.3g}"] if "spread" in last else []
        if "effective_rank" in last:
            numbers.append(f"{rank:.1f} of {dim} dimensions in use")
        if "zero_loss_share" in last:
            numbers.append(f"{100 * zero:.0f} % of the pairs without loss")
        message = "No sign of collapse" + (f": {', '.join(numbers)}." if numbers else ".")
        findings.append(Finding("well", "ok", message))
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def is_collapsed(findings: Sequence[Finding]) -> bool:
    """Whether there is a finding of severity `"problem"`, so that the vectors are of no use.

    Example:
        >>> is_collapsed([Finding("starved", "notice", "…")])
        False
    """
    return any(finding.severity == "problem" for finding in findings)
