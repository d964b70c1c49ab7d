"""One check of a monitor: by elements or along directions, and what follows from a suspicion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastcheck.bound import Bound
from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.engines.loss import LossFunction
from fastcheck.keep import keep
from fastcheck.monitor.along import Directions, Looked, report_of
from fastcheck.monitor.elements import Elements, around, everything, seconds_of_all
from fastcheck.monitor.localise import Suspect
from fastcheck.monitor.prices import Choice
from fastcheck.monitor.sampling import Rotation
from fastcheck.monitor.settings import Settings
from fastcheck.options import Known
from fastcheck.params import ParamTree
from fastcheck.report.data import Report, Verdict
from fastcheck.run import ONE_AT_A_TIME, Stopwatch, noting
from fastcheck.verdict.tolerances import Tolerance, tolerance_for
from fastcheck.version import __version__

_NOTE = "`loss` is called as loss(params, batch), or loss(params), with float64 copies of `params`."
_MOST_SECONDS = 20.0
Gradients = Mapping[str, FloatArray]


@dataclass(frozen=True)
class Found:
    """What a check found.

    Attributes
    ----------
    report : Report
    mode : {"full", "sample", "directions"}
    compared : int
        Elements, or directions.
    relative_difference, error_bar : float
        See `Record`.
    notes : tuple of str
    escalated : bool
        Whether a suspicion led to more than was asked for, so that its cost tells nothing.
    """

    report: Report
    mode: str
    compared: int
    relative_difference: float
    error_bar: float
    notes: tuple[str, ...] = ()
    escalated: bool = False


class Inspector:
    """Makes checks, and remembers between them what makes the next one cheap.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rng = np.random.default_rng(settings.seed)
        self._elements = Elements(settings)
        self._directions = Directions(self._rng)
        self._lend = True
        self._rotation = Rotation(settings.sample, self._rng)

    def inspect(
        self,
        loss: Bound,
        params: Any,
        tree: ParamTree,
        gradients: Gradients,
        choice: Choice,
        known: Known,
        first: bool,
    ) -> Found:
        """Check the gradient.

        Parameters
        ----------
        loss : Bound
            The user's loss with the batch of this step.
        params : tree
            The user's own, to be kept.
        tree : ParamTree
            The same as a tree of copies.
        gradients : mapping
            The analytic gradients, in the shapes of the tensors.
        choice : Choice
            What is to be compared.
        known : Known
            For the diagnosis.
        first : bool
            Whether this is the monitor's first check, so that it has to prove itself.
        """
        tolerance = tolerance_for([t.dtype for t in tree], self._settings.tolerance)
        if choice.mode == "sample":
            return self._by_elements(
                loss, params, tree, gradients, tolerance, choice.count, known, first
            )
        together = choice.mode == "joint"
        return self._by_directions(loss, params, tree, gradients, tolerance, together, known, first)

    def _by_elements(
        self,
        loss: Bound,
        params: Any,
        tree: ParamTree,
        gradients: Gradients,
        tolerance: Tolerance,
        count: int,
        known: Known,
        first: bool,
    ) -> Found:
        whole = count >= tree.size
        selected = everything(tree) if whole else self._next(tree, count)
        report = self._elements.check(loss, params, gradients, tree, tolerance, selected, known)
        escalated = report.verdict is Verdict.FAIL and not whole
        if escalated:
            suspects = [Suspect(name, selected[name]) for name in report.failed]
            report = self._closely(loss, params, tree, gradients, tolerance, suspects, known)
        notes: tuple[str, ...] = ()
        if first and report.verdict is not Verdict.FAIL:
            unseen = self._elements.canary(loss, params, gradients, tree, tolerance)
            report, notes = _proven(report, unseen)
        mode = "full" if whole or escalated else "sample"
        return _found(report, mode, report.checked, notes, escalated)

    def _next(self, tree: ParamTree, count: int) -> dict[str, IndexArray]:
        self._rotation.count = count
        return self._rotation.take(tree)

    def _by_directions(
        self,
        loss: Bound,
        params: Any,
        tree: ParamTree,
        gradients: Gradients,
        tolerance: Tolerance,
        together: bool,
        known: Known,
        first: bool,
    ) -> Found:
        watch = Stopwatch()
        looked = self._looked(loss, params, tree, gradients, tolerance, together)
        if looked.suspects:
            return self._on_suspicion(loss, params, tree, gradients, tolerance, looked, known)
        report = report_of(looked, tree, tolerance, watch.total(), canary=first)
        notes: tuple[str, ...] = ()
        if first:
            notes = (_canary_note(looked.unseen, tree),)
        found = _found(report, "directions", len(looked.results), notes)
        size = math.hypot(*(one.size for _, one in looked.results)) or 1.0
        bars = math.hypot(*(one.bar for _, one in looked.results))
        gaps = math.hypot(*(one.gap for _, one in looked.results))
        return replace(found, relative_difference=gaps / size, error_bar=bars / size)

    def _looked(
        self,
        loss: Bound,
        params: Any,
        tree: ParamTree,
        gradients: Gradients,
        tolerance: Tolerance,
        together: bool,
    ) -> Looked:
        """Look along directions. The batch is lent to the loss, unless it writes to it."""

        def look(lend: bool) -> Looked:
            with ONE_AT_A_TIME, keep(loss, params, lend=lend), noting(_NOTE):
                wrapped = LossFunction(loss, tree)
                return self._directions.look(wrapped, tree, gradients, tolerance, together)

        if self._lend:
            try:
                return look(lend=True)
            except Exception:
                # Nearly always a write to what is lent; any other error will come again.
                self._lend = False
        return look(lend=False)

    def _closely(
        self,
        loss: Bound,
        params: Any,
        tree: ParamTree,
        gradients: Gradients,
        tolerance: Tolerance,
        suspects: list[Suspect],
        known: Known,
    ) -> Report:
        """Return the verdict on what seems wrong: of all elements where that is not slow."""

        def check(selected: dict[str, IndexArray]) -> Report:
            return self._elements.check(loss, params, gradients, tree, tolerance, selected, known)

        report = check(around(tree, suspects, self._rng))
        if report.checked == tree.size or seconds_of_all(report) > _MOST_SECONDS:
            return report
        return check(everything(tree))

    def _on_suspicion(
        self,
        loss: Bound,
        params: Any,
        tree: ParamTree,
        gradients: Gradients,
        tolerance: Tolerance,
        looked: Looked,
        known: Known,
    ) -> Found:
        """Look into what a direction showed, element by element."""
        report = self._closely(loss, params, tree, gradients, tolerance, looked.suspects, known)
        where = _where(looked.suspects, tree)
        if report.verdict is Verdict.FAIL:
            said = f"A direction showed an error in {where}; its elements were looked at."
        else:
            said = (
                f"A direction seemed to show an error in {where}; {report.checked:,} elements "
                "that were looked at do not."
            )
        whole = report.checked == report.size
        return _found(report, "full" if whole else "sample", report.checked, (said,), True)


def no_answer(reason: str) -> Found:
    """Return that nothing can be said, because something is not finite."""
    report = Report(
        verdict=Verdict.INCONCLUSIVE,
        loss=math.nan,
        tensors={},
        method="central",
        relative_error=math.nan,
        seconds=0.0,
        loss_calls=0,
        notes=(reason,),
        fastcheck_version=__version__,
    )
    return Found(report, "directions", 0, math.nan, math.nan, (reason,), escalated=True)


def doubtful(found: Found) -> Found:
    """Return the same without its FAIL: the loss may not have drawn what the step drew."""
    said = (
        "It differs, but a forward pass from where this step began does not draw what the step "
        "drew, so that a mask may be another: begin the step with `with monitor.step():` right "
        "before the forward pass, or give `hold`."
    )
    tensors = {
        name: replace(one, verdict=Verdict.INCONCLUSIVE, reason=said)
        if one.verdict is Verdict.FAIL
        else one
        for name, one in found.report.tensors.items()
    }
    report = replace(
        found.report, verdict=Verdict.INCONCLUSIVE, tensors=tensors, diagnosis=None, notes=(said,)
    )
    return replace(found, report=report, notes=(said,))


def _found(
    report: Report, mode: str, compared: int, notes: tuple[str, ...], escalated: bool = False
) -> Found:
    rows = [one for one in report.tensors.values() if one.checked]
    bar = max((one.resolution for one in rows if math.isfinite(one.resolution)), default=math.nan)
    causes = () if report.diagnosis is None else tuple(map(str, report.diagnosis.findings))
    return Found(
        report=report,
        mode=mode,
        compared=compared,
        relative_difference=report.relative_error,
        error_bar=bar,
        notes=(*causes, *notes),
        escalated=escalated,
    )


def _proven(report: Report, unseen: tuple[str, ...]) -> tuple[Report, tuple[str, ...]]:
    """Return the report after the canary: a tensor that did not notice it has not passed."""
    if not unseen:
        return report, ("A planted error of 1% was noticed in every tensor.",)
    said = "A planted error of 1% in its largest elements was not noticed."
    tensors = {
        name: replace(one, verdict=Verdict.INCONCLUSIVE, reason=said) if name in unseen else one
        for name, one in report.tensors.items()
    }
    note = f"A planted error of 1% was not noticed in {', '.join(unseen)}."
    return replace(report, verdict=Verdict.INCONCLUSIVE, tensors=tensors), (note,)


def _canary_note(unseen: tuple[str, ...], tree: ParamTree) -> str:
    if unseen:
        return f"A planted error of 1% would not have been noticed in {', '.join(unseen)}."
    return f"A planted error of 1% would have been noticed in each of {len(tree)} tensors."


def _where(suspects: list[Suspect], tree: ParamTree) -> str:
    said = []
    for suspect in suspects:
        if suspect.elements is None:
            said.append(suspect.name)
            continue
        places = [
            ", ".join(str(int(i)) for i in np.unravel_index(int(flat), tree[suspect.name].shape))
            for flat in suspect.elements
        ]
        said.append(" and ".join(f"{suspect.name}[{place}]" for place in places))
    return ", ".join(said)
