"""The numerical gradient of one tensor, by the way that fits the engine, method and step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fastcheck.engines.base import Engine, IndexArray
from fastcheck.params import Tensor
from fastcheck.verdict.bars import ROUNDINGS, largest_size
from fastcheck.verdict.black_box import BlackBox
from fastcheck.verdict.choice import Chosen, choose_step
from fastcheck.verdict.exact import Exact
from fastcheck.verdict.given_step import central_at
from fastcheck.verdict.measurement import Measurement, assemble
from fastcheck.verdict.one_sided import forward
from fastcheck.verdict.probing import Probe, Progress
from fastcheck.verdict.reading import Site
from fastcheck.verdict.second_look import look_black_box, look_exact
from fastcheck.verdict.stairs import hides
from fastcheck.verdict.stencil import Z
from fastcheck.verdict.steps import Step, exact_step, scale_of
from fastcheck.verdict.tolerances import Tolerance

__all__ = ["Measurement", "Remeasure", "measure", "second_look"]

_COARSER = 8
_ROUNDOFFS = 1024
_LOOKED_AT = 16
_CANCELLING = 1024.0
"""Units of roundoff of such terms: jittered backward passes mattered up to 420 of them."""
_U = 2.0**-53

Remeasure = Callable[[IndexArray], Measurement]
"""Measures some of the elements again, independently of the first time."""


def measure(
    engine: Engine,
    tensor: Tensor,
    indices: IndexArray,
    *,
    method: str,
    step: Step,
    tolerance: Tolerance,
    rng: np.random.Generator,
    noise: float,
    stairs: float = 0.0,
    progress: Progress | None = None,
) -> Measurement:
    """Return the numerical gradient of some elements of a tensor, with error bars.

    Parameters
    ----------
    engine : Engine
        Computes differences of the loss; `engine.exact` decides how errors are looked for.
    tensor : Tensor
        The tensor at θ.
    indices : (k,) int64
        Flat C-order indices of the elements.
    method : {"central", "forward"}
        Both differences of each element, or J(θ+h) only.
    step : float or "auto"
        With "auto" a step is chosen, and changed where an element needs it. A number is kept for
        every element: the values are the plain difference quotients at that step.
    tolerance : Tolerance
        Of the whole tree.
    rng : numpy.random.Generator
        Draws probes and samples.
    noise : float
        σ of the loss when this tensor is moved (`fastcheck.verdict.noise`); ignored by exact
        engines.
    stairs : float
        The largest σ that any tensor of the model shows: a part of the loss may be rounded that
        coarsely, and stand still when this tensor is moved.
    progress : callable, optional
        Called with the number of elements done since the last call; they add up to k.

    Returns
    -------
    Measurement
    """
    if not len(indices):
        return _empty(engine.exact)
    probe, scale = Probe(engine, tensor.name), scale_of(tensor)
    # What overflows shows in the numbers.
    with np.errstate(all="ignore"):
        if engine.exact and method == "central" and step == "auto":
            site = Site(tensor, indices, scale, tolerance.unit, engine)
            first = exact_step(tensor, scale)
            propagated = Exact(probe, indices, site, step=first, tolerance=tolerance, rng=rng)
            measured = propagated.measure(progress)
        else:
            measured = _measure(
                probe,
                tensor,
                indices,
                method,
                step,
                tolerance,
                rng,
                noise,
                stairs,
                progress,
            )
        hidden = (not engine.exact and _lost_on_stairs(probe, indices, measured, stairs)) or (
            not measured.reacts and hides(probe, tensor, indices, measured.steps, measured.noise)
        )
        delicate = _is_delicate(measured, engine.loss, scale, tolerance)
    return measured.noted(
        floor=tolerance.saturation * tolerance.unit * engine.magnitude / scale,
        hidden=hidden,
        coarse=engine.exact and engine.unit_roundoff > _U,
        delicate=delicate,
        loss_calls=probe.loss_calls,
    )


def _measure(
    probe: Probe,
    tensor: Tensor,
    indices: IndexArray,
    method: str,
    step: Step,
    tolerance: Tolerance,
    rng: np.random.Generator,
    noise: float,
    stairs: float,
    progress: Progress | None,
) -> Measurement:
    """Measure a black box, or at the user's step, or with forward differences."""
    central = method == "central"
    chosen = _step(probe, tensor, indices, step, tolerance, rng, noise, central=central)
    if not central or step != "auto":
        at_one_step = central_at if central else forward
        measured = at_one_step(
            probe,
            tensor,
            indices,
            step=chosen.step,
            tolerance=tolerance,
            noise=chosen.noise,
            rng=rng,
            progress=progress,
        )
        return _noted(measured, chosen, stairs)
    box = BlackBox(
        probe,
        tensor,
        indices,
        step=chosen.step,
        pooled=chosen.truncation,
        tolerance=tolerance,
        noise=chosen.noise,
    )
    return _noted(box.measure(progress), chosen, stairs)


def _is_delicate(measured: Measurement, loss: float, scale: float, tolerance: Tolerance) -> bool:
    """Whether rounding may move an analytic gradient by more than `tolerance` lets pass anyway.

    Where the parameters, moved by their own size, would change the loss far beyond its value, that
    is made of terms that cancel but for this share, and so are the derivatives.
    """
    bend = largest_size(measured.gradient_noise) * scale / (ROUNDINGS * tolerance.unit)
    return abs(loss) * tolerance.gamma < _CANCELLING * tolerance.unit * bend


def _lost_on_stairs(
    probe: Probe, indices: IndexArray, measured: Measurement, stairs: float
) -> bool:
    """Whether the loss moves in stairs, and elements that seem not to move it may be lost there."""
    coarse = stairs > _ROUNDOFFS * _U * abs(probe.engine.loss)
    if not coarse or measured.values.any():
        return False
    if not measured.reacts:
        return True
    # At a stationary point the loss moves by more than its noise, the same way on both sides.
    again = probe.differences(indices[:_LOOKED_AT], measured.steps[:_LOOKED_AT])
    return bool(np.all(np.abs(again.plus) <= Z * measured.noise))


def _noted(measured: Measurement, chosen: Chosen, stairs: float) -> Measurement:
    """Add to the error bars what stairs may hide, and note what was seen of them."""
    if measured.exact:
        return measured
    hidden = Z * stairs / chosen.reach
    return replace(
        measured,
        error_bar=measured.error_bar + hidden,
        truncation=measured.truncation + hidden,
        noise=chosen.noise,
        stairs=chosen.stairs or stairs > _COARSER * chosen.noise,
    )


def second_look(
    engine: Engine,
    tensor: Tensor,
    indices: IndexArray,
    first: Measurement,
    *,
    method: str,
    step: Step,
    tolerance: Tolerance,
    rng: np.random.Generator,
    noise: float,
    stairs: float = 0.0,
) -> Remeasure:
    """Return a function that measures elements again, centrally and with several other steps.

    Parameters
    ----------
    engine, tensor, method, step, tolerance, rng, noise, stairs
        As for `measure`.
    indices : (k,) int64
        The elements of the measurement `first`.
    first : Measurement
        The measurement that is looked at again.

    Returns
    -------
    callable
        From flat indices, all of them among `indices`, to their Measurement.
    """
    chosen: list[Chosen] = []

    def remeasure(again: IndexArray) -> Measurement:
        probe = Probe(engine.careful, tensor.name)
        order = np.argsort(indices, kind="stable")
        places = order[np.searchsorted(indices, again, sorter=order)]
        own_noise = first.gradient_noise[places]
        if engine.exact:
            steps = np.minimum(first.steps[places], exact_step(tensor))
            return look_exact(probe, tensor, again, steps, own_noise)
        if method == "central" and step == "auto":
            steps, sigma = first.steps[places] / 8, first.noise
        else:
            if not chosen:
                # The first step was not one that a careful look would choose.
                chosen.append(
                    _step(probe, tensor, indices, "auto", tolerance, rng, noise, central=True)
                )
            steps, sigma = np.full(len(again), chosen[0].step), chosen[0].noise
        return look_black_box(probe, tensor, again, steps, own_noise, sigma, stairs)

    return remeasure


def _step(
    probe: Probe,
    tensor: Tensor,
    indices: IndexArray,
    step: Step,
    tolerance: Tolerance,
    rng: np.random.Generator,
    noise: float,
    *,
    central: bool,
) -> Chosen:
    """Return the step, and what was seen in choosing it."""
    if not isinstance(step, str):
        return Chosen(float(step), 0.0, noise, float(step))
    if probe.engine.exact:
        return Chosen(exact_step(tensor), 0.0, 0.0, math.inf)
    return choose_step(
        probe, tensor, indices, noise=noise, tau=tolerance.tau, central=central, rng=rng
    )


def _empty(exact: bool) -> Measurement:
    nothing = np.zeros(0)
    return assemble(
        values=nothing,
        roundoff=nothing,
        truncation=nothing,
        gradient_noise=nothing,
        steps=nothing,
        loss_calls=0,
        exact=exact,
        reacts=False,
    )
