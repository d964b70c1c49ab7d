"""How closely an analytic gradient must agree, by the user's dtype."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from fastcheck.errors import InputError, InputTypeError


@dataclass(frozen=True)
class Tolerance:
    """The figures of one verdict.

    Attributes
    ----------
    rtol : float
        Relative difference allowed on top of the error bar of the numerical gradient.
    gamma : float
        Difference allowed relative to the largest element of the tensor.
    rho_max : float
        The coarsest resolution ρ with which a check may still pass.
    tau : float
        The relative error of the numerical gradient at which the choice of a step is content.
    unit : float
        Unit roundoff u of the user's dtype: what the analytic gradient was rounded with.
    saturation : float
        How many u·|J| over the scale of a tensor a derivative may be off through rounding. Where an
        activation saturates, the usual ``a * (1 - a)`` and ``1 - a**2`` keep few digits or none.
    """

    rtol: float
    gamma: float
    rho_max: float
    tau: float
    unit: float
    saturation: float


# τ is the same in every row, as the arithmetic is: parameters of any dtype are handed to the loss
# as float64. The rest allows for the rounding of an analytic gradient computed in that dtype
# (2e-5 of its norm in float32 on trained networks, 4e-14 in float64).
_TABLE = {
    8: Tolerance(rtol=1e-6, gamma=1e-12, rho_max=1e-4, tau=1e-7, unit=2.0**-53, saturation=256),
    4: Tolerance(rtol=1e-4, gamma=1e-4, rho_max=5e-2, tau=1e-7, unit=2.0**-24, saturation=16),
    2: Tolerance(rtol=1e-2, gamma=1e-2, rho_max=1e-1, tau=1e-7, unit=2.0**-11, saturation=4),
}

_COARSEST_RESOLUTION = 0.1
_SMALLEST_IN_ROUNDOFFS = 64


def tolerance_for(dtypes: Iterable[Any], override: float | None = None) -> Tolerance:
    """Return the tolerance for parameters of these dtypes.

    Parameters
    ----------
    dtypes : iterable of dtype
        The dtypes of the user's tensors; a complex one counts as that of its parts. The coarsest
        decides, because one coarse tensor spoils the gradients of all that it is multiplied with.
    override : float, optional
        The user's own tolerance: `rtol`, the difference allowed relative to each element, and
        `gamma`, that relative to the largest element of its tensor, so that single tiny elements
        may deviate relatively more. By default `gamma` is far below `rtol` in float64. The
        coarsest resolution that may pass follows `override` in proportion.

    Raises
    ------
    InputTypeError
        If `override` is not a real number.
    InputError
        If it is not between 64 units of roundoff of the coarsest dtype and 1.
    """
    coarsest = min(map(_itemsize, dtypes), default=8)
    standard = _TABLE.get(coarsest, _TABLE[8])
    if override is None:
        return standard
    rtol = _valid(override, _SMALLEST_IN_ROUNDOFFS * standard.unit, coarsest)
    rho_max = min(_COARSEST_RESOLUTION, standard.rho_max * rtol / standard.rtol)
    return replace(standard, rtol=rtol, gamma=rtol, rho_max=rho_max)


def coarsened(tolerance: Tolerance, dtype: Any) -> Tolerance:
    """Return the tolerance for a gradient that is computed in a coarser type than the parameters'.

    One that the user has given stays what it is, but for the unit roundoff. What saturation may do
    is not taken to be more: the type is known from a trace, and a trace shows that for itself.
    """
    standard = _TABLE.get(_itemsize(dtype), _TABLE[8])
    if standard.unit <= tolerance.unit:
        return tolerance
    saturation = tolerance.saturation * tolerance.unit / standard.unit
    own = tolerance not in _TABLE.values()
    return replace(tolerance if own else standard, unit=standard.unit, saturation=saturation)


def _itemsize(dtype: Any) -> int:
    """Return the bytes of a real number, or of one of the parts of a complex one."""
    found: np.dtype[Any] = np.dtype(dtype)
    return found.itemsize // 2 if found.kind == "c" else found.itemsize


def _valid(override: object, smallest: float, itemsize: int) -> float:
    if isinstance(override, (bool, np.bool_)) or not isinstance(override, Real):
        raise InputTypeError(
            f"`tolerance` must be a number or None, but it is a {type(override).__name__}: "
            "give a relative tolerance such as 1e-6, or leave it out."
        )
    value = float(override)
    if not math.isfinite(value) or not 0 < value < 1:
        raise InputError(
            f"`tolerance` must lie between 0 and 1, but it is {value:g}: it is the relative "
            "difference allowed between the two gradients, such as 1e-6."
        )
    if value < smallest:
        raise InputError(
            f"`tolerance` is {value:g}, finer than a gradient in float{8 * itemsize} can be "
            f"computed: give at least {smallest:.1e}, or leave it out."
        )
    return value
