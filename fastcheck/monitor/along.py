"""A check along directions, as a report: cheap, and sure of a suspicion only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fastcheck.engines.base import IndexArray
from fastcheck.engines.loss import LossFunction
from fastcheck.monitor.directions import FIRST_STEP, Along, Lines, Moves, directions, joint, only
from fastcheck.monitor.localise import Suspect, localise
from fastcheck.monitor.moment import Moment
from fastcheck.params import ParamTree
from fastcheck.report.data import Report, TensorReport, Verdict
from fastcheck.run import OF_A_MONITOR, refuse_randomness
from fastcheck.verdict.noise import estimate_noise
from fastcheck.verdict.tolerances import Tolerance
from fastcheck.version import __version__

# 1 to 60 u·|J| were measured on networks in float64, trained ones the most.
_USUAL_NOISE = 64 * 2.0**-53
_CANARY, _ROUNDINGS = 0.01, 128
UNEXPLAINED = "It differs along the direction, but not in the elements that were looked at."
_REASON = "derivatives along directions, by calling `loss`"


@dataclass(frozen=True)
class Looked:
    """What directions showed.

    Attributes
    ----------
    results : list of (tuple of str, Along)
        The tensors that moved, and what came of it.
    suspects : list of Suspect
        Where something is wrong, as it seems.
    passes : int
        Forward passes that it took.
    unseen : tuple of str
        Tensors in which an error of one percent would not have shown.
    loss : float
        J(θ).
    """

    results: list[tuple[tuple[str, ...], Along]]
    suspects: list[Suspect]
    passes: int
    unseen: tuple[str, ...]
    loss: float


class Directions:
    """Draws directions and remembers what makes the next ones cheap: σ and the steps.

    σ takes nine forward passes to measure. Until something depends on it, it is taken to be what
    a loss in float64 seldom exceeds: a noisier one looks suspicious, and is measured then.

    Parameters
    ----------
    rng : numpy.random.Generator
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._steps: dict[tuple[str, ...], float] = {}
        self._noise: float | None = None
        self._level = 0.0

    def look(self, loss: LossFunction, moment: Moment, together: bool) -> Looked:
        """Compare the gradients along new directions, and localise what seems wrong.

        Parameters
        ----------
        loss : LossFunction
            The user's loss, wrapped.
        moment : Moment
            The step to be checked.
        together : bool
            All tensors move at once, in one direction.

        Raises
        ------
        InputError
            The loss gives two values for the same parameters.
        """
        tolerance = moment.tolerance
        before = loss.calls
        base = loss.base()
        lines = self._lines(loss, moment, base)
        moves = {n: move for n, move in directions(moment.tree, self._rng).items() if move.size}
        several: list[Moves] = [joint(lines, moves)] if together else [{n: moves[n]} for n in moves]
        results, suspects, unseen = [], [], []
        for one in several if moves else []:
            names = tuple(one)
            start = self._steps.get(names, FIRST_STEP)
            found, step = lines.resolved(one, start, tolerance.rho_max)
            if found.suspicious or found.resolution > tolerance.rho_max:
                lines.noise = self._measured(loss, moment.tree, base)
                found, step = lines.resolved(one, step, tolerance.rho_max)
            better = lines.better_step(found, step)
            self._steps[names] = better if found.known else FIRST_STEP
            results.append((names, found))
            unseen += [n for n in names if found.parts.get(n) and not _sees(found, n, tolerance)]
            if found.suspicious:
                suspects += localise(lines, one, step) or [Suspect(name, None) for name in names]
        return Looked(results, suspects, loss.calls - before, tuple(unseen), base)

    def agree(self, loss: LossFunction, moment: Moment, selected: Mapping[str, IndexArray]) -> bool:
        """Whether the loss itself changes as the gradients say where these elements move at once.

        Parameters
        ----------
        loss, moment
            As for `look`.
        selected : mapping
            Flat indices by tensor.
        """
        base, most = loss.base(), moment.tolerance.rho_max
        lines = self._lines(loss, moment, base)
        drawn = directions(moment.tree, self._rng)
        moves = {n: only(drawn[n], places) for n, places in selected.items() if len(places)}
        moves = joint(lines, moves)
        found, step = lines.resolved(moves, FIRST_STEP, most)
        if found.suspicious:
            lines.noise = self._measured(loss, moment.tree, base)
            found, step = lines.resolved(moves, step, most)
        return not found.suspicious

    def _lines(self, loss: LossFunction, moment: Moment, base: float) -> Lines:
        tree, gradients = moment.tree, moment.gradients
        noise = self._noise_at(base)
        return Lines(loss.evaluate, tree, gradients, base, noise, moment.tolerance)

    def _noise_at(self, base: float) -> float:
        """Return σ of a loss of this size."""
        if self._noise is None:
            return _USUAL_NOISE * abs(base)
        return self._noise * max(abs(base) / self._level, 1.0) if self._level else self._noise

    def _measured(self, loss: LossFunction, tree: ParamTree, base: float) -> float:
        """Measure σ, unless that was done for a loss of this size."""
        refuse_randomness(loss, base, OF_A_MONITOR)
        if self._noise is None or not self._level / 2 <= abs(base) <= self._level * 2:
            self._noise = max(estimate_noise(loss, tree, self._rng), 2.0**-53 * abs(base))
            self._level = abs(base)
        return self._noise


def planted_size(tolerance: Tolerance) -> float:
    """Return the planted error: one percent, or what float16 can show."""
    return max(_CANARY, _ROUNDINGS * tolerance.unit)


def _sees(found: Along, name: str, tolerance: Tolerance) -> bool:
    """Whether a planted error in the gradient of one tensor would have shown."""
    return found.would_notice(planted_size(tolerance) * found.parts[name])


def report_of(
    looked: Looked, tree: ParamTree, tolerance: Tolerance, seconds: float, canary: bool
) -> Report:
    """Return what directions showed as a report; nothing in it is a FAIL.

    Parameters
    ----------
    looked : Looked
        What directions showed.
    tree : ParamTree
        The parameters θ.
    tolerance : Tolerance
        Its coarsest resolution that may pass.
    seconds : float
        What it took.
    canary : bool
        A planted error that would not have shown makes a tensor inconclusive.
    """
    tensors = {}
    for names, found in looked.results:
        for name in names:
            blind = canary and name in looked.unseen
            tensors[name] = _tensor(tree, name, names, found, tolerance, blind, seconds)
    for tensor in tree:
        if tensor.name not in tensors:
            tensors[tensor.name] = _empty(tensor.name, tensor.user_shape, tensor.dtype.name)
    ordered = {name: tensors[name] for name in tree.names}
    good = all(one.verdict is Verdict.PASS for one in ordered.values()) and looked.results
    return Report(
        verdict=Verdict.PASS if good else Verdict.INCONCLUSIVE,
        loss=looked.loss,
        tensors=ordered,
        method="central",
        relative_error=_relative([found for _, found in looked.results]),
        seconds=seconds,
        loss_calls=looked.passes,
        notes=(_says(looked),),
        fastcheck_version=__version__,
    )


def _says(looked: Looked) -> str:
    if len(looked.results) == 1 and len(looked.results[0][0]) > 1:
        what = "Compared along one random direction through all tensors"
    else:
        what = "Compared along one random direction in each tensor"
    return f"{what}: an error in a few elements can hide in it; 'sample' and 'full' look at each."


def _tensor(
    tree: ParamTree,
    name: str,
    names: tuple[str, ...],
    found: Along,
    tolerance: Tolerance,
    blind: bool,
    seconds: float,
) -> TensorReport:
    tensor = tree[name]
    reason = ""
    if not found.known:
        reason = "The loss is not finite beside these parameters."
    elif found.suspicious:
        reason = UNEXPLAINED
    elif found.resolution > tolerance.rho_max:
        reason = (
            f"An error below {found.resolution:.1e} would not show along a direction: "
            "use mode='sample' or 'full', which can follow the elements exactly."
        )
    elif blind:
        planted = f"A planted error of {planted_size(tolerance):.0%}"
        reason = f"{planted} would not have shown along this direction."
    return TensorReport(
        name=name,
        shape=tensor.user_shape,
        dtype=tensor.dtype.name,
        verdict=Verdict.INCONCLUSIVE if reason else Verdict.PASS,
        reason=reason,
        checked=tensor.size,
        size=tensor.size,
        relative_error=_relative([found]),
        worst=None,
        resolution=found.resolution,
        kinked=0,
        step=0.0,
        engine="loop",
        engine_reason=_REASON,
        forward_passes=2 if names[0] == name else 0,
        loss_calls=2 if names[0] == name else 0,
        seconds=seconds / max(len(tree), 1),
    )


def _empty(name: str, shape: tuple[int, ...], dtype: str) -> TensorReport:
    return TensorReport(
        name=name,
        shape=shape,
        dtype=dtype,
        verdict=Verdict.PASS,
        reason="It has no elements.",
        checked=0,
        size=0,
        relative_error=0.0,
        worst=None,
        resolution=0.0,
        kinked=0,
        step=0.0,
        engine="loop",
        engine_reason=_REASON,
        forward_passes=0,
        loss_calls=0,
        seconds=0.0,
    )


def _relative(results: list[Along]) -> float:
    """Return |a − n| relative to the typical change along such directions."""
    size = math.hypot(*(one.size for one in results))
    gap = math.hypot(*(one.gap for one in results))
    if not gap:
        return 0.0
    return gap / (2 * size) if size > 0 else 1.0
