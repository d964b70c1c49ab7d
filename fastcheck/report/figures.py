"""Numbers as a reader wants them: short, aligned, and with the digits that tell two apart."""

from __future__ import annotations

import math

_MOST_DIGITS = 17  # what a float64 can hold


def scientific(value: float, digits: int = 3) -> str:
    """Return `value` to so many significant digits, as in ``-1.23e-3``; zero is ``0``."""
    if not math.isfinite(value):
        return f"{float(value)}"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def telling_digits(a: float, b: float) -> int:
    """Return how many significant digits show two digits of the difference of `a` and `b`."""
    if not (math.isfinite(a) and math.isfinite(b)) or a == b:
        return 3
    # Halves, so that two opposite values of 1e308 do not overflow.
    apart = abs(a / 2 - b / 2)
    if apart == 0:
        return _MOST_DIGITS
    magnitude = math.log10(max(abs(a), abs(b)) / 2) - math.log10(apart)
    return min(max(math.floor(magnitude) + 2, 3), _MOST_DIGITS)


def ratio(a: float, b: float) -> str | None:
    """Return a/b with its telling digits, or None where it says nothing."""
    if not (math.isfinite(a) and math.isfinite(b)) or b == 0 or a == b:
        return None
    quotient = float(a) / float(b)
    if not 1e-3 <= abs(quotient) < 1e4:
        return scientific(quotient) if math.isfinite(quotient) else None
    # The same digits as the two themselves, zeros at the end included: 2.00 is not 2.
    return f"{quotient:#.{telling_digits(a, b)}g}"


def duration(seconds: float) -> str:
    """Return a time of at most eight characters or so: ``41 ms``, ``0.41 s``, ``2.1 min``."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 0.0005:
        return "<1 ms"
    if seconds < 0.0995:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    if seconds < 3597:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.3g} h"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Return the number with its noun, as in ``1 forward pass`` and ``15,920 forward passes``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
