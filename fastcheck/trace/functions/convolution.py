"""Convolutions: sliding windows times the kernel, in any number of dimensions.

SciPy's are Python functions that convert their arguments to arrays. So no protocol reaches them:
while a loss is traced, the user's modules see these in their place.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from fastcheck.trace.functions.common import axis_tuple, lift, refuse, stand_ins, tape_of
from fastcheck.trace.functions.contraction import contract
from fastcheck.trace.functions.join import pad as pad_
from fastcheck.trace.primitives import contract_values
from fastcheck.trace.registry import traced
from fastcheck.trace.traced import Traced

_MODES = ("valid", "same", "full")  # also by their numbers
_MOST_ELEMENTS = 2**25
"""Of all windows together: every window has the size of the kernel."""

Widths = list[tuple[int, int]]


@traced(np.convolve)
def convolve(a: Any, v: Any, mode: Any = "full") -> Any:
    tape = tape_of(a, v)
    a, v = np.atleast_1d(lift(a, tape)), np.atleast_1d(lift(v, tape))
    if len(v) > len(a):
        a, v = v, a
    return correlate(a, v[::-1], mode)


@traced(np.correlate)
def correlate(a: Any, v: Any, mode: Any = "valid") -> Any:
    tape = tape_of(a, v)
    a, v = lift(a, tape), lift(v, tape)
    if len(v) > len(a):
        return _slid_along(v, a, mode)[::-1]
    return _slid_along(a, v, mode)


def _slid_along(a: Traced, v: Traced, mode: Any) -> Any:
    """Slide `v` along `a`, which is at least as long."""
    mode = mode if isinstance(mode, str) else _MODES[mode]
    size = len(v)
    before = {"valid": 0, "same": size // 2, "full": size - 1}[mode]
    length = {"valid": len(a) - size + 1, "same": len(a), "full": len(a) + size - 1}[mode]
    widths = [(before, length - (len(a) - size + 1) - before)]
    return _slid(a, v, widths, np.correlate(a.value, v.value, mode))


def _slid(
    a: Any, v: Any, widths: Widths, value: Any = None, padding: str = "constant", **pad: Any
) -> Any:
    """Slide `v` over `a` padded by `widths`: one product of every window with the kernel."""
    size = math.prod(n + sum(w) for n, w in zip(a.shape, widths, strict=True)) * v.size
    if size > _MOST_ELEMENTS:
        refuse("a convolution with windows of so many elements", "give batched=True", a, v)
    padded = pad_(a, widths, padding, **pad) if any(map(any, widths)) else a
    windows: Any = np.lib.stride_tricks.sliding_window_view(padded, v.shape)
    left = tuple(range(2 * v.ndim))
    right, out = left[v.ndim :], left[: v.ndim]
    if value is None:
        value = contract_values(windows.value, v.value, (left, right, out))
    return contract(value, windows, v, left, right, out)


# -- SciPy: scipy.signal ---------------------------------------------------------------------------


def _convolved(one: Any, other: Any, mode: str, later: bool = False, **pad: Any) -> Any:
    """The convolution of two arrays of as many dimensions, in SciPy's three modes.

    With `later`, the centre of an even kernel is the later of the two in the middle.
    """
    tape = tape_of(one, other)
    both = (lift(one, tape), lift(other, tape))
    a, v = (x if x.dtype.kind == "f" else x.astype(float) for x in both)
    if a.ndim != v.ndim:
        raise ValueError("in1 and in2 should have the same dimensionality")
    if mode not in _MODES:
        raise ValueError("acceptable mode flags are 'valid', 'same', or 'full'")
    if mode == "valid" and any(n < m for n, m in zip(a.shape, v.shape, strict=True)):
        a, v = v, a
    if not a.ndim:
        return np.multiply(a, v)
    widths = [_widths(mode, m, later) for m in v.shape]
    return _slid(a, np.flip(v), widths, **pad)


def _widths(mode: str, size: int, later: bool) -> tuple[int, int]:
    if mode == "valid":
        return (0, 0)
    # "same" is the middle of "full", which is padded by size − 1 on either side.
    cut = 0 if mode == "full" else (size - 1 + later) // 2
    return (size - 1 - cut, size - 1 if mode == "full" else cut)


def _signal_convolve(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    return _convolved(in1, in2, mode)


def _signal_correlate(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    tape = tape_of(in1, in2)
    return _convolved(in1, np.flip(lift(in2, tape)), mode)


def _fftconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> Any:
    if axes is not None and len(axis_tuple(axes, np.ndim(in1))) != np.ndim(in1):
        refuse("scipy.signal.fftconvolve with axes=", "convolve one slice at a time", in1, in2)
    return _convolved(in1, in2, mode)


_BOUNDARIES = {"wrap": "wrap", "circular": "wrap", "symm": "symmetric", "symmetric": "symmetric"}


def _convolve2d(
    in1: Any,
    in2: Any,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: Any = 0,
    later: bool = False,
) -> Any:
    if boundary in ("fill", "pad"):
        return _convolved(in1, in2, mode, later, constant_values=fillvalue)
    return _convolved(in1, in2, mode, later, padding=_BOUNDARIES[boundary])


def _correlate2d(
    in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0
) -> Any:
    flipped = np.flip(lift(in2, tape_of(in1, in2)))
    return _convolve2d(in1, flipped, mode, boundary, fillvalue, later=True)


def signal_functions(signal: ModuleType) -> dict[str, Any]:
    """Return what takes the place of scipy.signal's functions, by name."""
    return stand_ins(
        signal,
        {
            "convolve": _signal_convolve,
            "correlate": _signal_correlate,
            "fftconvolve": _fftconvolve,
            "oaconvolve": _fftconvolve,
            "convolve2d": _convolve2d,
            "correlate2d": _correlate2d,
        },
    )


# -- SciPy: scipy.ndimage --------------------------------------------------------------------------

_EDGES = {
    "reflect": "symmetric",
    "grid-mirror": "symmetric",
    "constant": "constant",
    "grid-constant": "constant",
    "nearest": "edge",
    "mirror": "reflect",
    "wrap": "wrap",
    "grid-wrap": "wrap",
}


def _filtered(
    input: Any, weights: Any, output: Any, mode: str, cval: Any, origin: Any, flip: bool
) -> Any:
    tape = tape_of(input, weights)
    a, v = lift(input, tape), lift(weights, tape)
    if output is not None or origin != 0 or not isinstance(mode, str):
        refuse("scipy.ndimage with output=, origin= or several modes", "leave them out", a, v)
    # The centre of an even kernel is the later of the two in the middle, of the array as it slides.
    before = [(m - 1) // 2 if flip else m // 2 for m in v.shape]
    widths = [(b, m - 1 - b) for b, m in zip(before, v.shape, strict=True)]
    pad = {"constant_values": cval} if _EDGES[mode] == "constant" else {}
    return _slid(a, np.flip(v) if flip else v, widths, padding=_EDGES[mode], **pad)


def _image_convolve(
    input: Any, weights: Any, output: Any = None, mode: str = "reflect", cval: Any = 0.0,
    origin: Any = 0,
) -> Any:  # fmt: skip
    return _filtered(input, weights, output, mode, cval, origin, flip=True)


def _image_correlate(
    input: Any, weights: Any, output: Any = None, mode: str = "reflect", cval: Any = 0.0,
    origin: Any = 0,
) -> Any:  # fmt: skip
    return _filtered(input, weights, output, mode, cval, origin, flip=False)


def image_functions(ndimage: ModuleType) -> dict[str, Any]:
    """Return what takes the place of scipy.ndimage's functions, by name."""
    return stand_ins(ndimage, {"convolve": _image_convolve, "correlate": _image_correlate})
