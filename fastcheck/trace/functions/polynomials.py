"""NumPy's functions of the coefficients of polynomials, the highest power first."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.trace.functions.common import lift, tape_of
from fastcheck.trace.functions.convolution import convolve
from fastcheck.trace.registry import traced


@traced(np.polyval)
def polyval(p: Any, x: Any) -> Any:
    tape = tape_of(p, x)
    p, x = lift(p, tape), lift(x, tape)
    value: Any = np.zeros_like(x)
    for coefficient in p:
        value = value * x + coefficient
    return value


@traced(np.vander)
def vander(x: Any, N: Any = None, increasing: bool = False) -> Any:
    powers: list[Any] = [np.ones_like(x)]
    for _ in range(1, len(x) if N is None else N):
        powers.append(powers[-1] * x)
    powers = powers[: len(x) if N is None else N]
    return np.stack(powers if increasing else powers[::-1], axis=1)


@traced(np.polyder)
def polyder(p: Any, m: int = 1) -> Any:
    p = lift(p, tape_of(p))
    for _ in range(m):
        p = p[:-1] * np.arange(len(p) - 1, 0, -1)
    return p


@traced(np.polyint)
def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    tape = tape_of(p, k)
    p = lift(p, tape)
    constants = np.broadcast_to(lift(0.0 if k is None else k, tape), (m,))
    for constant in constants:
        p = np.concatenate([p / np.arange(len(p), 0, -1), constant[None]])
    return p


@traced(np.polyadd)
def polyadd(a1: Any, a2: Any) -> Any:
    a1, a2 = _of_one_length(a1, a2)
    return a1 + a2


@traced(np.polysub)
def polysub(a1: Any, a2: Any) -> Any:
    a1, a2 = _of_one_length(a1, a2)
    return a1 - a2


def _of_one_length(a1: Any, a2: Any) -> list[Any]:
    tape = tape_of(a1, a2)
    both = [np.atleast_1d(lift(a, tape)) for a in (a1, a2)]
    size = max(map(len, both))
    return [np.concatenate([np.zeros(size - len(a)), a]) for a in both]


@traced(np.polymul)
def polymul(a1: Any, a2: Any) -> Any:
    tape = tape_of(a1, a2)
    return convolve(_trimmed(lift(a1, tape)), _trimmed(lift(a2, tape)))


def _trimmed(a: Any) -> Any:
    """Leave leading zeros out, as NumPy's polynomials do; each is a branch."""
    a = np.atleast_1d(a)
    while len(a) > 1 and a[0] == 0:
        a = a[1:]
    return a
