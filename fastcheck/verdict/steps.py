"""Which step h to take: large enough for the noise, small enough for the curvature."""

from __future__ import annotations

import math
from numbers import Real
from typing import TypeAlias

import numpy as np

from fastcheck.engines.base import Engine, FloatArray, IndexArray
from fastcheck.errors import InputError, InputTypeError
from fastcheck.params import ParamTree, Tensor
from fastcheck.verdict.stencil import Z, five_point, mean_step, three_point

Step: TypeAlias = float | str
"""``"auto"``, or the step in units of the parameters."""

_U = 2.0**-53
_EXACT = 2.0**-30
_LEAST_SHARE = 2.0**-20
_LEAST_SCALE = 2.0**-990
_SAMPLED = 8192
_PROBES = 6
_MOST_PROBES = 96
_ROUNDS = 12
# No step is more than 1/64 of the parameters, or 2⁻¹² where they are tiny.
_LARGEST = 2.0**-6
_LARGEST_TINY = 2.0**-12
_LEAPS = 2
_LEAP = 2.0**12
_LEAPING = 24
_SMALLEST_FACTOR = 2.0**-12


def scale_of(tensor: Tensor) -> float:
    """Return the root mean square of a tensor, rounded to a power of two; 1 if it is all zero."""
    if tensor.peak == 0:
        return 1.0
    # Steps are down to 2⁻⁵⁰ of it, and must not underflow to nothing.
    return power_of_two(max(tensor.rms, _LEAST_SCALE))


def power_of_two(x: float) -> float:
    """Return the power of two nearest to x > 0 on a logarithmic scale: θ ± h is then exact."""
    return 2.0 ** round(math.log2(x))


def smallest_step(tensor: Tensor) -> float:
    """Return 16u·max|θ|, below which θ + h no longer resolves h."""
    return 16 * _U * tensor.peak


def exact_step(tensor: Tensor, scale: float | None = None) -> float:
    """Return h = 2⁻³⁰·scale: without cancellation a tiny step costs nothing and meets no kinks.

    The scale is that of the small parameters (the tenth percentile of those that are not zero): a
    flat vector may hold layers of very different sizes, and a step too small does no harm.

    Parameters
    ----------
    tensor : Tensor
        Whose step it is.
    scale : float, optional
        Its scale, where that is known already.
    """
    whole = scale_of(tensor) if scale is None else scale
    values = tensor.value.ravel(order="K")
    # A few thousand, spread over all of it, tell as much.
    sizes = np.abs(values[:: max(1, values.size // _SAMPLED)])
    if np.count_nonzero(sizes) < sizes.size:
        sizes = sizes[sizes != 0]
    if not sizes.size:
        return _EXACT * (whole if tensor.peak else 1.0)
    small = _tenth_percentile(sizes)
    return _EXACT * power_of_two(min(max(small, _LEAST_SHARE * whole), whole))


def _tenth_percentile(sizes: FloatArray) -> float:
    """Return what `np.quantile(sizes, 0.1)` does, without what makes that slow on a few numbers."""
    place = 0.1 * (len(sizes) - 1)
    below = math.floor(place)
    sizes.partition(below)  # in one place only: NumPy has vector instructions for that
    value = sizes[below]
    if place > below:
        value = value + (sizes[below + 1 :].min() - value) * (place - below)
    return float(value)


def validate_step(step: object, tree: ParamTree) -> Step:
    """Return the user's `step`: ``"auto"`` or a positive float that moves every parameter.

    Raises
    ------
    InputTypeError
        If it is neither a real number nor ``"auto"``.
    InputError
        If it is not positive and finite, or below the spacing of floats at θ.
    """
    if isinstance(step, str) and step == "auto":
        return step
    if isinstance(step, (bool, np.bool_, str)) or not isinstance(step, Real):
        shown = repr(step) if isinstance(step, str) else f"a {type(step).__name__}"
        raise InputTypeError(
            f'`step` must be "auto" or a positive number, but it is {shown}: leave it at "auto", '
            "or give h in units of the parameters, such as 1e-6."
        )
    value = float(step)
    if not (math.isfinite(value) and value > 0):
        raise InputError(
            f"`step` must be positive and finite, but it is {value:g}: leave it at "
            '"auto", or give h in units of the parameters, such as 1e-6.'
        )
    for tensor in tree:
        _moves(value, tensor)
    return value


def _moves(step: float, tensor: Tensor) -> None:
    spacing = float(np.spacing(tensor.peak))
    if step < spacing:
        raise InputError(
            f"`step` is {step:g}, below the spacing of floats at `{tensor.name}`, whose largest "
            f"value is {tensor.peak:g}: θ + h would be θ again. The smallest "
            f'usable step there is {spacing:.2g}; leave it at "auto" to have it chosen.'
        )


def auto_step(
    engine: Engine,
    tensor: Tensor,
    indices: IndexArray,
    *,
    noise: float,
    tau: float,
    central: bool,
    rng: np.random.Generator,
) -> tuple[float, float, int]:
    """Choose the step of one tensor for a black-box loss.

    Returns
    -------
    h : float
        A power of two.
    truncation : float
        The systematic error that the probes show at h, beyond what noise explains.
    loss_calls : int
    """
    order = 3 if central else 2
    lowest, highest = _floor(tensor), max(_LARGEST * scale_of(tensor), _LARGEST_TINY)
    h = max(power_of_two((2 * _U) ** (1 / order) * scale_of(tensor)), lowest)
    probes = rng.choice(indices, min(_PROBES, len(indices)), replace=False)
    best, least, truncation, calls, leaps = h, math.inf, 0.0, 0, 0
    tried: set[float] = set()
    for _ in range(_ROUNDS):
        tried.add(h)
        size, error, used = _probe(engine, tensor, probes, h, central)
        calls += used
        if size == 0 and len(probes) < min(_MOST_PROBES, len(indices)):
            # Dead inputs: only live elements tell anything.
            probes = rng.choice(indices, min(4 * len(probes), len(indices)), replace=False)
            continue
        if size == 0:
            # Either the loss ignores this tensor, or its parameters are tiny beside what matters.
            leaps += 1
            if leaps > _LEAPS:
                break
            probes, h = probes[:_LEAPING], min(h * _LEAP, highest) if leaps == 1 else highest
            continue
        rounding = Z * 0.95 * noise / h
        if rounding + 2 * error < least:
            best, least, truncation = h, rounding + 2 * error, max(0.0, error - rounding)
        h = power_of_two(h * _factor(size, error, rounding, tau, order))
        h = max(min(h, highest), lowest)
        if h in tried:
            break
    return best, truncation, calls


def _floor(tensor: Tensor) -> float:
    floor = smallest_step(tensor)
    return math.ldexp(1.0, math.ceil(math.log2(floor))) if floor > 0 else 0.0


def _factor(size: float, error: float, rounding: float, tau: float, order: int) -> float:
    """Return by what h should be multiplied: towards truncation and rounding in balance."""
    if not math.isfinite(size + error):
        return 1 / 16
    if error > 4 * rounding and error > tau * size:
        balance = rounding / ((order - 1) * error)
        return float(max(balance ** (1 / order), _SMALLEST_FACTOR))
    if rounding < tau * size / 4:
        return max(rounding / (tau * size), _SMALLEST_FACTOR)
    # Noise alone shows as an error of a third of the rounding. How far off truncation is can be
    # seen only when it comes in sight, so a step grows little by little.
    if rounding > 4 * tau * size and error < rounding / 2:
        return 64.0 if rounding > size else 4.0
    return 1.0


def _probe(
    engine: Engine, tensor: Tensor, probes: IndexArray, h: float, central: bool
) -> tuple[float, float, int]:
    """Return median |n| and median error over the live probes, and calls; NaN if not finite."""
    near = engine.differences(tensor.name, probes, np.full(len(probes), h))
    n, error = three_point(near)
    calls = near.loss_calls
    live = (near.plus != 0) | (near.minus != 0)
    if not live.any():
        return 0.0, 0.0, calls
    if central:
        far = engine.differences(tensor.name, probes, 2 * mean_step(near))
        n, truncation, kink = five_point(near, far)
        error = truncation + kink
        calls += far.loss_calls
    return float(np.median(np.abs(n[live]))), float(np.median(error[live])), calls
