"""Constant factors between two gradients: estimated, and recognised where they are telling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.verdict.diagnosis.evidence import Evidence, TensorFacts
from fastcheck.verdict.tolerances import Tolerance

_ROUNDINGS = 1024
_FINEST = 1e-9
_LARGEST_COUNT = 10**6
_KNOWN = 1e-3
_PARALLEL = 1e-8
_ROUGH = 0.02
_TELLS_INTEGERS = 0.01
"""An integer is recognised where the factor is known better than this."""
_NAMED = ((1.0, "1"), (-1.0, "-1"), (2.0, "2"), (0.5, "1/2"), (-2.0, "-2"), (-0.5, "-1/2"))


@dataclass(frozen=True)
class Factor:
    """A constant factor.

    Attributes
    ----------
    value : float
        The named constant, or the estimate where there is none.
    label : str
        ``"2"``, ``"-1/2"``, ``"M"``, ``"2/M"``, ``"N"`` or ``"1/N"`` for an integer that nobody
        named; empty for any other number.
    count : int
        M or N; 0 for the others.
    error : float
        How far an estimate may be off.
    """

    value: float
    label: str = ""
    count: int = 0
    error: float = 0.0

    @property
    def known(self) -> bool:
        """Whether it is known to three digits, or named."""
        return self.named or self.error <= _KNOWN * abs(self.value)

    @property
    def named(self) -> bool:
        """Whether it is a constant that tells a cause."""
        return bool(self.label)


@dataclass(frozen=True)
class Estimate:
    """A factor as measured: its value, and how far that may be off."""

    value: float
    error: float


def estimate(facts: TensorFacts) -> Estimate:
    """Return α of g ≈ α·n: ⟨g,g⟩/⟨g,n⟩, which the noise of n does not bias."""
    g, n = facts.both()
    bars = facts.bars if facts.finite else facts.bars[facts.usable]
    found = ratio(g, n, bars)
    return found if is_parallel(g, n, bars) else ratio(g, n, bars + facts.grain)


def is_parallel(g: FloatArray, n: FloatArray, bars: FloatArray) -> bool:
    """Whether g and n point the same or the opposite way, to more digits than chance allows."""
    sizes = [float(np.linalg.norm(values)) for values in (g, n, bars)]
    if not all(0 < size < math.inf for size in sizes[:2]):
        return False
    cosine = float((g / sizes[0]) @ (n / sizes[1]))
    return 1 - abs(cosine) <= _PARALLEL + (sizes[2] / sizes[1]) ** 2


def ratio(g: FloatArray, n: FloatArray, bars: FloatArray) -> Estimate:
    """Return α of g ≈ α·n, where n is off by at most `bars`."""
    top = max(float(np.max(np.abs(g), initial=0.0)), float(np.max(np.abs(n), initial=0.0)))
    if not 0 < top < math.inf:
        return Estimate(math.nan, math.inf)
    g, n, bars = g / top, n / top, bars / top
    gg, gn, nn = float(g @ g), float(g @ n), float(n @ n)
    if nn == 0:
        return Estimate(math.nan, math.inf)
    if gg == 0:
        return Estimate(0.0, float(np.abs(n) @ bars) / nn)
    off = float(np.abs(n) @ bars) / nn
    if abs(gn) > 0.5 * math.sqrt(gg * nn):
        return Estimate(gg / gn, abs(gg / gn) * off)
    return Estimate(gn / nn, off)


def recognise(found: Estimate, evidence: Evidence, tolerance: Tolerance) -> Factor:
    """Return the telling constant that a factor is within its error; else the factor itself."""
    value = found.value
    if not math.isfinite(value):
        return Factor(value, error=math.inf)
    for constant, label, count in _constants(evidence.batch_size):
        if abs(value - constant) <= found.error + tolerance.rtol * abs(constant):
            return Factor(constant, label, count)
    rounding = max(_FINEST, min(_ROUNDINGS * tolerance.unit, tolerance.rtol))
    for one, label in ((value, "N"), (1 / value if value else math.inf, "1/N")):
        if not 2.5 < abs(one) < _LARGEST_COUNT:
            continue
        near = round(abs(one))
        # The error of 1/α relative to itself is that of α.
        room = near * (found.error / abs(value) + rounding)
        if room <= _TELLS_INTEGERS and abs(abs(one) - near) <= room:
            exact = near if label == "N" else 1 / near
            return Factor(math.copysign(exact, value), label, near)
    return Factor(value, error=found.error)


def roughly(factor: Factor, samples: int | None) -> Factor:
    """Return the telling constant within two percent of a factor; else the factor."""
    for constant, label, count in _constants(samples):
        if constant != 1 and abs(factor.value / constant - 1) <= _ROUGH:
            return Factor(constant, label, count)
    return factor


def _constants(samples: int | None) -> list[tuple[float, str, int]]:
    constants = [(value, label, 0) for value, label in _NAMED]
    if samples is None or samples < 3:
        return constants
    m = float(samples)
    for value, label in ((m, "M"), (1 / m, "1/M"), (2 * m, "2M"), (2 / m, "2/M"), (m / 2, "M/2")):
        constants += [(value, label, samples), (-value, f"-{label}", samples)]
    constants += [(1 / (2 * m), "1/2M", samples), (1 / m**2, "1/M²", samples)]
    return [*constants, (m / (m - 1), "M/(M-1)", samples), ((m - 1) / m, "(M-1)/M", samples)]


def pooled(
    estimates: dict[str, Estimate], evidence: Evidence, tolerance: Tolerance
) -> dict[str, Factor]:
    """Return one factor for each tensor, the same one for those that agree within their errors."""
    factors: list[Factor] = []
    chosen: dict[str, Factor] = {}
    for name in sorted(estimates, key=lambda name: estimates[name].error):
        found = estimates[name]
        if not math.isfinite(found.value):
            continue
        for known in factors:
            room = found.error + tolerance.rtol * max(abs(known.value), abs(found.value))
            if abs(found.value - known.value) <= room:
                chosen[name] = known
                break
        else:
            chosen[name] = recognise(found, evidence, tolerance)
            factors.append(chosen[name])
    return chosen
