"""What a mistake outside the list is, and ways to make one in a network of the bench."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.trusted.network import Array, Generator, Parameters
from benchmarks.trusted.spot import Spot
from fastcheck.planted import BackwardPass

Make = Callable[[Spot, Generator], Parameters | None]


@dataclass(frozen=True)
class Stranger:
    """A mistake that is not in `fastcheck.planted`.

    Attributes
    ----------
    name
        What is wrong.
    make
        From a spot to wrong gradients; None where it cannot be made there.
    causes
        What may be said of it, beside what can be seen in the gradient.
    """

    name: str
    make: Make
    causes: frozenset[str] = frozenset()


def each(change: Callable[[Array, Generator], Array]) -> Make:
    """A mistake in every finished gradient."""
    return lambda spot, rng: {
        n: change(np.asarray(g, dtype=np.float64), rng) for n, g in spot.grads.items()
    }


def one(change: Callable[[Array, Generator], Array]) -> Make:
    """A mistake in one finished gradient, the largest of them."""

    def make(spot: Spot, rng: Generator) -> Parameters:
        name = max(spot.grads, key=lambda n: spot.grads[n].size)
        wrong = change(np.asarray(spot.grads[name], dtype=np.float64), rng)
        return {**spot.grads, name: wrong}

    return make


def inside(change: Callable[[BackwardPass, Generator], BackwardPass | None]) -> Make:
    """A mistake in the parts of a backward pass of dense layers."""

    def make(spot: Spot, rng: Generator) -> Parameters | None:
        inside = spot.network.backward(spot.params)
        changed = None if inside is None else change(inside, rng)
        return None if changed is None else dict(changed.gradients())

    return make


def slopes(wrong: dict[str, Callable[[Array], Array]]) -> Make:
    """Another derivative of the first hidden layer's activation, by the activation's values."""

    def change(inside: BackwardPass, rng: Generator) -> BackwardPass | None:
        layer = inside.layers[0]
        if len(inside.layers) < 2 or layer.activation not in wrong:
            return None
        return inside.with_layer(0, slope=wrong[layer.activation](layer.a))

    return inside(change)


def flow(wrong: Callable[[Array, Generator], Array]) -> Make:
    """Another derivative of the loss."""
    return inside(lambda inside, rng: replace(inside, dZ=wrong(inside.dZ, rng)))


def inputs(wrong: Callable[[Array, Generator], Array]) -> Make:
    """Another array in the place of the last layer's input, in the product for its weights."""

    def change(inside: BackwardPass, rng: Generator) -> BackwardPass:
        last = len(inside.layers) - 1
        return inside.with_layer(last, A=wrong(inside.layers[last].A, rng))

    return inside(change)


def weights(wrong: Callable[[Array, Generator], Array | None]) -> Make:
    """Other weights in the way back through the last layer; the penalty keeps the right ones."""

    def make(spot: Spot, rng: Generator) -> Parameters | None:
        inside = spot.network.backward(spot.params)
        if inside is None or len(inside.layers) < 2:
            return None
        last = len(inside.layers) - 1
        other = wrong(inside.layers[last].W, rng)
        if other is None:
            return None
        name = inside.layers[last].weights
        changed = inside.with_layer(last, W=other).gradients()
        return {**changed, name: inside.gradients()[name]}

    return make
