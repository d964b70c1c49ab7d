"""One check of a monitor: by elements or along directions, and what follows from a suspicion."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.engines.loss import LossFunction
from fastcheck.keep import keep
from fastcheck.monitor.along import UNEXPLAINED, Directions, Looked, planted_size, report_of
from fastcheck.monitor.elements import Elements, around, everything
from fastcheck.monitor.late import learning_rate
from fastcheck.monitor.localise import Suspect
from fastcheck.monitor.moment import Moment
from fastcheck.monitor.prices import Choice
from fastcheck.monitor.sampling import Rotation
from fastcheck.monitor.settings import Settings
from fastcheck.params import ParamTree
from fastcheck.report.data import Report, Verdict
from fastcheck.run import ONE_AT_A_TIME, Stopwatch, noting
from fastcheck.verdict.tolerances import Tolerance, tolerance_for
from fastcheck.version import __version__

_NOTE = "`loss` is called as loss(params, batch), or loss(params), with float64 copies of `params`."
_FIRST_LOOK, _GROWTH, _MOST_SECONDS = 64, 16, 30.0
"""Elements of a tensor that are looked at first, by how many times more next, and how long."""
Gradients = Mapping[str, FloatArray]
T = TypeVar("T")


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

    def inspect(self, moment: Moment, choice: Choice, first: bool) -> Found:
        """Check the gradient.

        Parameters
        ----------
        moment : Moment
            The step to be checked.
        choice : Choice
            What is to be compared.
        first : bool
            Whether this is the monitor's first check, so that it has to prove itself.
        """
        if choice.mode == "sample":
            found = self._by_elements(moment, choice.count, first)
        else:
            found = self._by_directions(moment, choice.mode == "joint", first)
        return self._dated(moment, found) if found.report.verdict is Verdict.FAIL else found

    def _dated(self, moment: Moment, found: Found) -> Found:
        """Add a note where the gradient is that of the parameters before their update."""
        tree, gradients = moment.tree, moment.gradients
        t = None
        with suppress(Exception):  # a verdict is not to be lost for want of a note
            t = self._calling(moment, lambda loss: learning_rate(loss, tree, gradients, self._rng))
        if t is None:
            return found
        said = (
            f"The gradient belongs to the parameters + {t:.3g} × the gradient: they seem to have "
            "been updated with it already. Call the monitor before the update."
        )
        report = replace(found.report, notes=(said, *found.report.notes))
        return replace(found, report=report, notes=(said, *found.notes))

    def tolerance(self, tree: ParamTree) -> Tolerance:
        """Return how closely the gradient of these parameters must agree."""
        return tolerance_for([tensor.dtype for tensor in tree], self._settings.tolerance)

    def _by_elements(self, moment: Moment, count: int, first: bool) -> Found:
        whole = count >= moment.tree.size
        selected = everything(moment.tree) if whole else self._next(moment.tree, count)
        on_trust = self._elements.trusting
        report = self._elements.check(moment, selected)
        if on_trust and not self._borne_out(moment, report, selected):
            self._elements.distrust()
            report = self._elements.check(moment, selected)
        escalated = report.verdict is Verdict.FAIL and not whole
        if escalated:
            suspects = [Suspect(name, selected[name]) for name in report.failed]
            report = self._closely(moment, suspects)
        notes: tuple[str, ...] = ()
        if first and report.verdict is not Verdict.FAIL:
            size = planted_size(moment.tolerance)
            report, notes = _proven(report, self._elements.canary(moment), size)
        mode = "full" if whole or escalated else "sample"
        return _found(report, moment.gradients, mode, report.checked, notes, escalated)

    def _borne_out(self, moment: Moment, report: Report, selected: dict[str, IndexArray]) -> bool:
        """Whether the loss itself says the same as a trace that was not cross-checked this time.

        What escapes the tracer in this step only leaves the structure of the trace as it was.
        """
        passed = {
            name: selected[name]
            for name, one in report.tensors.items()
            if one.verdict is Verdict.PASS and one.engine != "loop" and one.checked
        }
        if report.verdict is Verdict.FAIL or not passed:
            return True
        return self._calling(moment, lambda loss: self._directions.agree(loss, moment, passed))

    def _next(self, tree: ParamTree, count: int) -> dict[str, IndexArray]:
        self._rotation.count = count
        return self._rotation.take(tree)

    def _by_directions(self, moment: Moment, together: bool, first: bool) -> Found:
        watch = Stopwatch()
        looked = self._calling(moment, lambda loss: self._directions.look(loss, moment, together))
        if looked.suspects:
            return self._on_suspicion(moment, looked)
        report = report_of(looked, moment.tree, moment.tolerance, watch.total(), canary=first)
        notes: tuple[str, ...] = ()
        if first:
            size = planted_size(moment.tolerance)
            notes = (_canary_note(looked.unseen, moment.tree, size),)
        found = _found(report, moment.gradients, "directions", len(looked.results), notes)
        whole = 2 * math.hypot(*(one.size for _, one in looked.results)) or 1.0
        bars = math.hypot(*(one.bar for _, one in looked.results))
        gaps = math.hypot(*(one.gap for _, one in looked.results))
        return replace(found, relative_difference=gaps / whole, error_bar=bars / whole)

    def _calling(self, moment: Moment, use: Callable[[LossFunction], T]) -> T:
        """Call the loss itself. The batch is lent to it, unless it writes to it."""

        def once(lend: bool) -> T:
            with ONE_AT_A_TIME, keep(moment.loss, moment.params, lend=lend), noting(_NOTE):
                return use(LossFunction(moment.loss, moment.tree))

        # Another thread may be filling the next batch: what it writes to must stay writeable.
        others = [t for t in threading.enumerate() if not t.name.startswith("fastcheck")]
        if self._lend and len(others) == 1:
            with suppress(Exception):  # a write to what is lent; any other error will come again
                return once(lend=True)
            found = once(lend=False)
            self._lend = False
            return found
        return once(lend=False)

    def _closely(self, moment: Moment, suspects: list[Suspect]) -> Report:
        """Return the verdict on what seems wrong: of ever more elements, until that is slow."""
        most = _FIRST_LOOK
        while True:
            report = self._elements.check(moment, around(moment.tree, suspects, most, self._rng))
            if report.checked == moment.tree.size or report.seconds * _GROWTH > _MOST_SECONDS:
                return report
            most *= _GROWTH

    def _on_suspicion(self, moment: Moment, looked: Looked) -> Found:
        """Look into what a direction showed, element by element, with nothing taken on trust."""
        self._elements.distrust()
        report = self._closely(moment, looked.suspects)
        where = _where(looked.suspects, moment.tree)
        if report.verdict is Verdict.FAIL:
            said = f"A direction showed an error in {where}; its elements were looked at."
        else:
            said = (
                f"A direction seemed to show an error in {where}; {report.checked:,} elements "
                "that were looked at do not."
            )
            report = _unexplained(report, looked.suspects)
        whole = report.checked == report.size
        mode = "full" if whole else "sample"
        return _found(report, moment.gradients, mode, report.checked, (said,), True)


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


def _unexplained(report: Report, suspects: list[Suspect]) -> Report:
    """Return the report without a PASS for what is suspected and was looked at in part only."""
    names = {suspect.name for suspect in suspects}
    tensors = {
        name: replace(one, verdict=Verdict.INCONCLUSIVE, reason=UNEXPLAINED)
        if name in names and one.verdict is Verdict.PASS and one.checked < one.size
        else one
        for name, one in report.tensors.items()
    }
    passed = all(one.verdict is Verdict.PASS for one in tensors.values())
    verdict = report.verdict if passed else Verdict.INCONCLUSIVE
    return replace(report, verdict=verdict, tensors=tensors)


def _pooled(report: Report, gradients: Gradients) -> float:
    """Return ‖B‖ over all tensors, relative as the report's relative error is."""
    sizes = {name: float(np.linalg.norm(gradients[name])) for name in report.tensors}
    bars = [
        one.resolution * sizes[name]
        for name, one in report.tensors.items()
        if one.checked and math.isfinite(one.resolution)
    ]
    whole = math.hypot(*sizes.values())
    return math.hypot(*bars) / (2 * whole) if whole > 0 else math.nan


def _found(
    report: Report,
    gradients: Gradients,
    mode: str,
    compared: int,
    notes: tuple[str, ...],
    escalated: bool = False,
) -> Found:
    causes = () if report.diagnosis is None else tuple(map(str, report.diagnosis.findings))
    return Found(
        report=report,
        mode=mode,
        compared=compared,
        relative_difference=report.relative_error,
        error_bar=_pooled(report, gradients),
        notes=(*causes, *notes),
        escalated=escalated,
    )


def _proven(report: Report, unseen: tuple[str, ...], size: float) -> tuple[Report, tuple[str, ...]]:
    """Return the report after the canary: a tensor that did not notice it has not passed."""
    if not unseen:
        return report, (f"A planted error of {size:.0%} was noticed in every tensor.",)
    said = f"A planted error of {size:.0%} in its largest elements was not noticed."
    tensors = {
        name: replace(one, verdict=Verdict.INCONCLUSIVE, reason=said) if name in unseen else one
        for name, one in report.tensors.items()
    }
    note = f"A planted error of {size:.0%} was not noticed in {', '.join(unseen)}."
    return replace(report, verdict=Verdict.INCONCLUSIVE, tensors=tensors), (note,)


def _canary_note(unseen: tuple[str, ...], tree: ParamTree, size: float) -> str:
    if unseen:
        return f"A planted error of {size:.0%} would not have been noticed in {', '.join(unseen)}."
    return f"A planted error of {size:.0%} would have been noticed in each of {len(tree)} tensors."


def _where(suspects: list[Suspect], tree: ParamTree) -> str:
    said = []
    for suspect in suspects:
        if suspect.elements is None:
            said.append(suspect.name)
            continue
        tensor = tree[suspect.name]
        said.append(" and ".join(tensor.name_of(int(flat)) for flat in suspect.elements))
    return ", ".join(said)
