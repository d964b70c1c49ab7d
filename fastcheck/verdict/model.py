"""The verdict on the whole model, from those on its tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fastcheck.report.data import Verdict
from fastcheck.verdict import reasons
from fastcheck.verdict.comparison import Projection
from fastcheck.verdict.judgement import Judgement

_NO_REACTION = (
    "The loss does not react to any of the checked parameters: it returns the very same number "
    "for every perturbation. It probably computes from arrays of its own (such as `self.W1`) "
    "instead of its argument: store the given parameters first, then run the forward pass."
)


def overall(judgements: Iterable[Judgement]) -> tuple[Verdict, str]:
    """Return the verdict on the model and a sentence on it.

    A loss that no parameter moves is INCONCLUSIVE whatever the tensors say: it most probably
    computes from other arrays than those it is given.
    """
    every = list(judgements)
    if not any(j.checked for j in every):
        return Verdict.INCONCLUSIVE, "Nothing was checked: `select` leaves no parameter."
    if _nothing_reacts(every):
        return Verdict.INCONCLUSIVE, _NO_REACTION
    for verdict, sentence in (
        (Verdict.FAIL, "The gradient is wrong in {}."),
        (Verdict.INCONCLUSIVE, "No error was found, but nothing certain can be said of {}."),
    ):
        names = [j.name for j in every if j.verdict is verdict]
        if names:
            return verdict, sentence.format(", ".join(names))
        if verdict is Verdict.FAIL and _scale_is_off(every):
            total = sum((j.projection for j in every), Projection())
            return verdict, reasons.wrong_scale(total.scale(), total.uncertainty())
    return Verdict.PASS, "The gradient is right in every tensor."


def revise(judgements: Sequence[Judgement]) -> list[Judgement]:
    """Return the judgements as the whole model shows them.

    Where no parameter moves the loss, tensors cannot be told right from wrong.
    """
    if not _nothing_reacts(judgements):
        return list(judgements)
    return [
        replace(j, verdict=Verdict.INCONCLUSIVE, reason=_NO_REACTION) if j.checked else j
        for j in judgements
    ]


def relative_error(judgements: Iterable[Judgement]) -> float:
    """Return ‖g − n‖/(‖g‖ + ‖n‖) over all checked parameters; 0 for 0 = 0."""
    every = list(judgements)
    difference = math.hypot(*(j.difference for j in every))
    total = math.hypot(*(j.sizes[0] for j in every)) + math.hypot(*(j.sizes[1] for j in every))
    return difference / total if total != 0 else 0.0


def _nothing_reacts(judgements: Sequence[Judgement]) -> bool:
    checked = [j for j in judgements if j.checked]
    return bool(checked) and not any(j.reacts or j.hidden for j in checked)


def _scale_is_off(judgements: Sequence[Judgement]) -> bool:
    coarsest = max((j.tolerance for j in judgements), key=lambda t: t.rtol, default=None)
    total = sum((j.projection for j in judgements), Projection())
    return coarsest is not None and total.is_off(coarsest)
