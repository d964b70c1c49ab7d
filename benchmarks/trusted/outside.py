"""Mistakes that are on no list, and whether a diagnosis asserts a cause that they do not have.

Each is made in the backward pass of a network of the bench, or in its finished gradients. Whether a
cause is true of a gradient is decided from figures where these can tell: one that is all zero,
twice the right one, or what one sample adds, is that whatever the mistake behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from benchmarks.trusted.by_hand import MISTAKES, of_images
from benchmarks.trusted.convolution import Convolution
from benchmarks.trusted.dense import Dense
from benchmarks.trusted.network import Array, Generator, Parameters
from benchmarks.trusted.recurrent import Recurrent
from benchmarks.trusted.spot import Spot
from benchmarks.trusted.stranger import (
    Make,
    Stranger,
    each,
    flow,
    inputs,
    inside,
    one,
    slopes,
    weights,
)
from fastcheck.planted import BUGS, BackwardPass
from fastcheck.report import Finding

_EQUAL = {np.dtype(np.float64): 1e-5, np.dtype(np.float32): 1e-3}
"""What gradients may differ by and be called equal, by the dtype of the parameters."""
_SPREAD = 4.0
"""Times what two right gradients differ by: near a minimum that is no longer little."""


def _noisy(size: float) -> Callable[[Array, Generator], Array]:
    return lambda g, rng: g * (1 + size * rng.standard_normal(g.shape))


def _clipped(g: Array, rng: Generator) -> Array:
    limit = np.abs(g).max(initial=0.0) / 3
    return np.clip(g, -limit, limit)


def _moved_in_memory(spot: Spot, rng: Generator) -> Parameters | None:
    wide = [n for n, g in spot.grads.items() if g.ndim == 2 and min(g.shape) > 1]
    if not wide:
        return None
    g = spot.grads[wide[0]]
    return {**spot.grads, wide[0]: np.roll(g.ravel(), 1).reshape(g.shape)}


def _digits(g: Array, rng: Generator) -> Array:
    size = 10.0 ** (np.floor(np.log10(np.abs(g).max(initial=1e-300) + 1e-300)) - 1)
    rounded: Array = np.round(g / size) * size
    return rounded


def _half_of_samples(inside: BackwardPass, rng: Generator) -> BackwardPass | None:
    samples = inside.dZ.shape[1]
    if samples < 5:  # all but one, or one alone, would be something else
        return None
    dZ = inside.dZ.copy()
    dZ[:, : samples // 2] = 0
    return replace(inside, dZ=dZ)


def _weighted(d: Array, rng: Generator) -> Array:
    return d * np.linspace(0.5, 1.5, d.shape[1])


def _half_detached(W: Array, rng: Generator) -> Array:
    wrong = W.copy()
    wrong[:, : (W.shape[1] + 1) // 2] *= np.linspace(0.2, 0.8, (W.shape[1] + 1) // 2)
    return wrong


def _another_mask(inside: BackwardPass, rng: Generator) -> BackwardPass | None:
    if len(inside.layers) < 2:
        return None
    layer = inside.layers[0]
    kept = rng.uniform(0.5, 1.5, layer.a.shape)
    return inside.with_layer(0, slope=layer.slope * kept)


def _moved_parameters(spot: Spot, rng: Generator) -> Parameters:
    """The gradient at other parameters: the forward pass was run before they were changed."""
    return spot.network.gradients(
        {n: v + 0.01 * rng.standard_normal(v.shape).astype(v.dtype) for n, v in spot.params.items()}
    )


def _rough_differences(spot: Spot, rng: Generator) -> Parameters:
    """A forward difference with a large step, in place of a derivative."""
    found = {}
    start = spot.network.loss(spot.params)
    for name, value in spot.params.items():
        found[name] = np.zeros(value.shape)
        for index in np.ndindex(value.shape):
            moved = value.copy()
            moved[index] += 0.1
            found[name][index] = (spot.network.loss({**spot.params, name: moved}) - start) / 0.1
    return found


def _mixed(first: str, second: str) -> Make:
    def make(spot: Spot, rng: Generator) -> Parameters | None:
        if not BUGS[first].applies(spot.grads, **spot.known):
            return None
        once = BUGS[first](spot.grads, **spot.known)
        # The second is made in the finished gradients of the first.
        known = {**spot.known, "backward": None}
        return BUGS[second](once, **known) if BUGS[second].applies(once, **known) else None

    return make


def _through_time(late_input: bool = False, late_state: bool = False, steps: int = 99) -> Make:
    """Backpropagation through time with a wrong index, or one that stops early."""

    def make(spot: Spot, rng: Generator) -> Parameters | None:
        net, p = spot.network, spot.params
        if not isinstance(net, Recurrent) or net.steps <= min(steps, 2):
            return None
        states = net._states(p)
        dZ = (net._probabilities(states[-1], p) - net.Y) / net.batch_size
        grads = {n: np.zeros(v.shape) for n, v in p.items()}
        grads["V"], grads["c"] = states[-1].T @ dZ, dZ.sum(axis=0)
        dh = dZ @ p["V"].T
        for t in range(net.steps, max(0, net.steps - steps), -1):
            dz = dh * (1 - states[t] ** 2)
            grads["Wx"] += net.X[min(t, net.steps - 1) if late_input else t - 1].T @ dz
            grads["Wh"] += states[t if late_state else t - 1].T @ dz
            grads["b"] += dz.sum(axis=0)
            dh = dz @ p["Wh"].T
        return grads

    return make


def _epsilon(spot: Spot, rng: Generator) -> Parameters | None:
    """The derivative of log(p + 0.01) in place of log p."""
    net = spot.network
    if not isinstance(net, Dense) or net.output != "cross-entropy":
        return None
    Z = net._forward(spot.params)[0]
    e = np.exp(Z - Z.max(axis=1, keepdims=True))
    p = (e / e.sum(axis=1, keepdims=True) * net.Y).sum(axis=1)
    inside = net.backward(spot.params)
    return dict(replace(inside, dZ=inside.dZ * (p / (p + 0.01))).gradients())


def _without_jacobian(spot: Spot, rng: Generator) -> Parameters | None:
    """The diagonal of the softmax's derivative only: −y/p · p(1 − p), without the terms beside."""
    net = spot.network
    if not isinstance(net, Dense) or net.output != "cross-entropy":
        return None
    inside = net.backward(spot.params)
    return dict(replace(inside, dZ=inside.dZ * net.Y.T).gradients())


STRANGERS = (
    Stranger("1% noise in all", each(_noisy(0.01))),
    Stranger("noise in one", one(_noisy(0.5))),
    Stranger("a little noise in one", one(_noisy(1e-3))),
    Stranger("clipped", each(_clipped), frozenset({"clipped"})),
    Stranger("wrong exponent", each(lambda g, rng: np.sign(g) * np.abs(g) ** 1.1)),
    Stranger("two digits", each(_digits)),
    Stranger("signs only", each(lambda g, rng: np.sign(g))),
    Stranger("moved on by one in memory", _moved_in_memory),
    Stranger("random", each(lambda g, rng: rng.standard_normal(g.shape))),
    Stranger("twice, with noise", each(lambda g, rng: 2 * _noisy(1e-3)(g, rng))),
    Stranger(
        "wrong constant in a slope",
        slopes(
            {
                "relu": lambda a: np.where(a > 0, 1.0, 0.01),
                "tanh": lambda a: 1 - 0.9 * a**2,
                "sigmoid": lambda a: a * (1.1 - a),
            }
        ),
    ),
    Stranger(
        "wrong exponent in a slope",
        slopes({"tanh": lambda a: 1 - a**3, "sigmoid": lambda a: a * (1 - a) ** 2}),
    ),
    Stranger("a root of the slope", slopes({"sigmoid": lambda a: np.sqrt(a * (1 - a))})),
    Stranger("a noisy slope", inside(_another_mask)),
    Stranger("the derivative of another loss", flow(lambda d, rng: d * np.abs(d))),
    Stranger("the derivative of absolute errors", flow(lambda d, rng: np.sign(d) / d.shape[1])),
    Stranger("a term too many", flow(lambda d, rng: d - d.mean(axis=0) + 0.01 * np.abs(d))),
    Stranger("half of the samples", inside(_half_of_samples)),
    Stranger("weighted samples", flow(_weighted)),
    Stranger("shuffled samples", flow(lambda d, rng: d[:, rng.permutation(d.shape[1])])),
    Stranger("centred inputs", inputs(lambda A, rng: A - A.mean(axis=1, keepdims=True))),
    Stranger("inputs of other samples", inputs(lambda A, rng: np.roll(A, 1, axis=1))),
    Stranger("squared inputs", inputs(lambda A, rng: A**2)),
    Stranger(
        "weights not transposed",
        weights(lambda W, rng: W.T if W.shape[0] == W.shape[1] > 1 else None),
        frozenset({"weights-not-transposed"}),
    ),
    Stranger("weights after their update", weights(lambda W, rng: W + 0.1 * np.cos(7 * W))),
    Stranger("a part that is detached in part", weights(_half_detached)),
    Stranger("other parameters", _moved_parameters),
    Stranger("rough differences", _rough_differences),
    Stranger("wrong epsilon", _epsilon),
    Stranger("no terms beside the diagonal", _without_jacobian),
    Stranger(
        "scale and transpose", _mixed("scale", "transpose"), frozenset({"scale", "transpose"})
    ),
    Stranger(
        "sign and missing mask",
        _mixed("missing-mask", "sign"),
        frozenset({"sign", "missing-mask", "activation-derivative"}),
    ),
    Stranger(
        "derivative and mean",
        _mixed("activation-derivative", "missing-mean"),
        frozenset({"missing-mean", "missing-mask", "activation-derivative"}),
    ),
    Stranger(
        "sample and row",
        _mixed("sample-dropped", "one-row"),
        frozenset({"sample-dropped", "one-row", "one-element"}),
    ),
    Stranger("late inputs", _through_time(late_input=True)),
    Stranger("late states", _through_time(late_state=True)),
    Stranger("one step back in time", _through_time(steps=1), frozenset({"missing-path"})),
    Stranger("two steps back in time", _through_time(steps=2), frozenset({"missing-path"})),
    *MISTAKES,
)


def untrue(finding: Finding, stranger: Stranger, spot: Spot, wrong: Parameters) -> bool:
    """Whether a finding that is certain says something that is not so, in all that it says."""
    said = (finding.cause, *finding.alternatives)
    if finding.certainty != "exact" or stranger.causes & set(said):
        return False
    equal = {name: _equal(spot, name) for name in finding.tensors}
    pairs = {name: _both(spot, wrong, name) for name in finding.tensors}
    seen = [_SEEN[cause] for cause in said if cause in _SEEN]
    if any(
        # It may be so but for the penalty, whose derivative is right.
        all(any(holds(*pair, equal[name]) for pair in both) for name, both in pairs.items())
        for holds in seen
    ):
        return False
    made = (grads for cause in said for grads in _made(spot, cause))
    return not any(
        all(_close(pairs[name][0][0], grads[name], equal[name]) for name in finding.tensors)
        for grads in made
    )


def _equal(spot: Spot, name: str) -> float:
    """Return what gradients of a tensor may differ by here: no less than right ones do."""
    least, passed = _EQUAL[np.dtype(spot.dtype)], spot.network.backward(spot.params)
    if passed is None:
        return least
    g, n = (np.asarray(x[name], dtype=np.float64) for x in (passed.gradients(), spot.grads))
    size = float(np.linalg.norm(n))
    return max(least, _SPREAD * float(np.linalg.norm(g - n)) / size) if size > 0 else least


def _made(spot: Spot, cause: str) -> Iterator[Parameters]:
    """Yield the gradients that mistakes of this name give at this spot, where these are known."""
    net, passed = spot.network, spot.network.backward(spot.params)
    if isinstance(net, Convolution) and cause in ("missing-bias-sum", "one-sample"):
        for window in range(len(net.first)):
            one = of_images(window=window)(spot, np.random.default_rng(0))
            assert one is not None
            yield one
    if passed is None:
        return
    if cause in ("missing-bias-sum", "one-sample"):
        for sample in range(passed.dZ.shape[1]):
            alone = np.zeros_like(passed.dZ)
            alone[:, sample] = passed.dZ[:, sample]
            yield dict(replace(passed, dZ=alone).gradients())
    elif cause == "missing-mask":
        for place, layer in enumerate(passed.layers):
            if layer.mask is not None:
                ones = np.ones_like(layer.mask)
                yield dict(passed.with_layer(place, mask=ones).gradients())


def _both(spot: Spot, wrong: Parameters, name: str) -> tuple[tuple[Array, Array], ...]:
    """Return the wrong and the right gradient, and both without what the L2 term adds.

    The right one as the network computes it, and as the backward pass does that mistakes are made
    in: near a minimum they are rounded each in its own way.
    """
    passed = spot.network.backward(spot.params)
    g, theta = (np.asarray(x[name], dtype=np.float64) for x in (wrong, spot.params))
    right = [spot.grads] if passed is None else [spot.grads, passed.gradients()]
    own = spot.network.decay * theta if theta.ndim > 1 else 0.0
    pairs = [(g, np.asarray(grads[name], dtype=np.float64)) for grads in right]
    return (*pairs, *((g - own, n - own) for _, n in pairs))


def _close(g: Array, n: Array, equal: float) -> bool:
    return bool(np.linalg.norm(g - n) <= equal * max(np.linalg.norm(g), np.linalg.norm(n)))


def _parallel(g: Array, n: Array, equal: float) -> bool:
    square = float(np.sum(n * n))
    return square > 0 and _close(g, float(np.sum(g * n)) / square * n, equal)


def _moved(g: Array, n: Array, equal: float) -> bool:
    """Whether the rows are the same in another order."""
    in_order = [rows[np.lexsort(rows.reshape(len(rows), -1).T)] for rows in (g, n)]
    return _close(in_order[0], in_order[1], equal)


def _few(g: Array, n: Array, equal: float) -> bool:
    sizes = np.maximum(np.abs(g), np.abs(n))
    apart = np.abs(g - n) > equal * np.maximum(sizes, equal * sizes.max(initial=0.0))
    lines = [
        np.count_nonzero(apart.any(axis=tuple(b for b in range(g.ndim) if b != axis)))
        <= max(1.0, 0.35 * g.shape[axis])
        for axis in range(g.ndim)
    ]
    return bool(np.count_nonzero(apart) <= max(1.0, 0.125 * g.size) or any(lines))


_SEEN: dict[str, Callable[[Array, Array, float], bool]] = {
    "zero": lambda g, n, equal: not g.any(),
    "unused": lambda g, n, equal: not n.any(),
    # Of all that the data add nothing is left.
    "missing-path": lambda g, n, equal: bool(np.linalg.norm(g) <= equal * np.linalg.norm(n)),
    "scale": _parallel,
    "sign": lambda g, n, equal: _close(g, -n, equal),
    "transpose": lambda g, n, equal: g.shape == g.T.shape and _close(g, n.T, equal),
    "permuted-rows": _moved,
    "permuted-columns": lambda g, n, equal: _moved(g.T, n.T, equal),
    "one-element": _few,
    "one-row": _few,
}
"""Causes that can be seen in a gradient beside the right one, whatever was done to make it."""
