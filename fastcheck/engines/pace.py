"""How large the chunks of a replay are to be on a kind of device, and what its work costs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """What suits a kind of device.

    Attributes
    ----------
    stack : int
        Bytes that the largest stack of a chunk is meant to have.
    copies : int
        Parameters that a chunk has at most.
    rule, element, product : float
        Seconds, about: of a rule, of an element of a stack, of a product in a sum of products.
    """

    stack: int
    copies: int
    rule: float
    element: float
    product: float


# A few stacks stay in the cache.
CPU = Pace(4 * 1024**2, 4096, rule=15e-6, element=0.6e-9, product=0.1e-9)
# Guesses: launches of 10 µs, a few a rule; temporaries at about 1 TB/s; products in float64.
GPU = Pace(256 * 1024**2, 2**18, rule=30e-6, element=3e-11, product=5e-13)
