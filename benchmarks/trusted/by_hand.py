"""Mistakes that people make in backward passes written by hand, and that are on no list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.trusted.convolution import Convolution, slope
from benchmarks.trusted.dense import Dense
from benchmarks.trusted.network import Array, Generator, Parameters
from benchmarks.trusted.recurrent import LSTM, Recurrent
from benchmarks.trusted.spot import Spot
from benchmarks.trusted.stranger import Make, Stranger, each, flow, weights
from fastcheck.planted import Layer

_SLOPE = frozenset({"activation-derivative"})
_MASK = frozenset({"missing-mask"})
"""The derivative of a ReLU is its mask."""


def _biases(change: Callable[[Layer, Array], Array]) -> Make:
    """A mistake in the sum for each bias, of what flows back to it."""

    def make(spot: Spot, rng: Generator) -> Parameters | None:
        passed = spot.network.backward(spot.params)
        if passed is None:
            return None
        grads, dZ = dict(spot.grads), passed.dZ
        for place, layer in reversed(list(enumerate(passed.layers))):
            if layer.bias is not None:
                wrong = np.broadcast_to(change(layer, dZ), (len(dZ),))
                grads[layer.bias] = wrong.reshape(spot.grads[layer.bias].shape).copy()
            if place:
                below = passed.layers[place - 1]
                dA = layer.W.T @ dZ
                dZ = (dA if below.mask is None else dA * below.mask) * below.slope
        return grads

    return make


def _total(layer: Layer, dZ: Array) -> Array:
    """np.sum(dZ) without an axis, broadcast into the bias."""
    return np.asarray(dZ.sum())


def _wrong_axis(layer: Layer, dZ: Array) -> Array:
    """The sum over the units; of as many samples as there are units it fits."""
    return np.resize(dZ.sum(axis=0), len(dZ))


def _decayed_biases(spot: Spot, rng: Generator) -> Parameters | None:
    """The L2 term's derivative on all tensors, where the loss has it on weights only."""
    passed = spot.network.backward(spot.params)
    biases = [] if passed is None else [layer.bias for layer in passed.layers]
    found = {
        name: spot.grads[name] + (spot.network.decay or 0.01) * spot.params[name]
        for name in biases
        if name is not None and spot.params[name].any()
    }
    return {**spot.grads, **found} if found else None


def _decay_of_mean(spot: Spot, rng: Generator) -> Parameters | None:
    """The L2 term divided by M with the rest, as the loss does not do it."""
    passed = spot.network.backward(spot.params)
    if passed is None or not passed.decay:
        return None
    return dict(replace(passed, decay=passed.decay / spot.network.batch_size).gradients())


def _wrong_count(spot: Spot, rng: Generator) -> Parameters | None:
    """One tensor's mean over the number of its rows, not of the samples."""
    name = max(spot.grads, key=lambda n: spot.grads[n].size)
    count = spot.grads[name].shape[0]
    if count == spot.network.batch_size:
        return None
    return {**spot.grads, name: spot.grads[name] * (spot.network.batch_size / count)}


def _after_a_step(spot: Spot, rng: Generator) -> Parameters | None:
    """The last weights were updated before what flows back through them was computed."""
    passed = spot.network.backward(spot.params)
    if passed is None or len(passed.layers) < 2:
        return None
    name = passed.layers[-1].weights
    step = spot.grads[name].T if passed.rows else spot.grads[name]
    return weights(lambda W, _: W - 0.05 * step)(spot, rng)


def _unit_detached(W: Array, rng: Generator) -> Array | None:
    if W.shape[1] < 2:
        return None
    wrong = W.copy()
    wrong[:, int(rng.integers(W.shape[1]))] *= 0.5
    return wrong


def _classes(change: Callable[[Array, Array, Generator], Array]) -> Make:
    """Another derivative of a cross-entropy, from p − y and y of each sample, both times 1/M."""

    def make(spot: Spot, rng: Generator) -> Parameters | None:
        net = spot.network
        if not isinstance(net, Dense) or net.output != "cross-entropy":
            return None
        passed = net.backward(spot.params)
        right = np.asarray(net.Y.T / net.batch_size, dtype=np.float64)
        return dict(replace(passed, dZ=change(passed.dZ, right, rng)).gradients())

    return make


def _one_class(dZ: Array, right: Array, rng: Generator) -> Array:
    """p in place of p − y for one class."""
    wrong = dZ.copy()
    wrong[0] += right[0]
    return wrong


def _slope_twice(dZ: Array, right: Array, rng: Generator) -> Array:
    """The softmax's own slope p(1 − p) once more, though p − y has it in it."""
    p = (dZ + right) * right.shape[1]
    return dZ * p * (1 - p)


def _smoothed(dZ: Array, right: Array, rng: Generator) -> Array:
    """The derivative for labels that were smoothed, in a loss whose labels were not."""
    return dZ + 0.1 * (right - right.mean(axis=0))


def _weighted_classes(dZ: Array, right: Array, rng: Generator) -> Array:
    """Weights of the classes in the derivative that the loss does not have."""
    each_class = np.linspace(0.5, 2.0, len(right))
    return dZ * (each_class @ right) * right.shape[1]


def _whole_dropout(spot: Spot, rng: Generator) -> Parameters | None:
    """The mask of one layer without its division by the share that it keeps."""
    passed = spot.network.backward(spot.params)
    if passed is None:
        return None
    for place, layer in enumerate(passed.layers):
        if layer.mask is not None:
            mask = (layer.mask > 0).astype(np.float64)
            return dict(passed.with_layer(place, mask=mask).gradients())
    return None


def _means(spot: Spot, rng: Generator) -> Parameters | None:
    """The product of the samples' means in place of the mean of their products."""
    passed = spot.network.backward(spot.params)
    if passed is None:
        return None
    last = passed.layers[-1]
    dW = np.outer(passed.dZ.sum(axis=1), last.A.mean(axis=1)) + passed.decay * last.W
    return {**spot.grads, last.weights: dW.T.copy() if passed.rows else dW}


def _bias_before_slope(spot: Spot, rng: Generator) -> Parameters | None:
    """The first bias from what flows back to the activation, not to its input."""
    passed = spot.network.backward(spot.params)
    if passed is None or len(passed.layers) < 2 or passed.layers[0].bias is None:
        return None
    name = passed.layers[0].bias
    ones = np.ones_like(passed.layers[0].slope)
    return {**spot.grads, name: passed.with_layer(0, slope=ones).gradients()[name]}


def _read_by_columns(spot: Spot, rng: Generator) -> Parameters | None:
    """A gradient flattened column by column, and read row by row."""
    wide = [n for n, g in spot.grads.items() if g.ndim == 2 and min(g.shape) > 1]
    if not wide:
        return None
    g = spot.grads[wide[-1]]
    return {**spot.grads, wide[-1]: g.ravel(order="F").reshape(g.shape)}


def _averaged(spot: Spot, rng: Generator) -> Parameters | None:
    """A running average with the gradients before, of which this is a tenth."""
    if spot.previous is None:
        return None
    return {n: 0.1 * g + 0.9 * spot.previous[n] for n, g in spot.grads.items()}


def _of_cells(
    forgotten: str = "", *, cell: bool = True, tanh: bool = True, memory: bool = True
) -> Make:
    """Backpropagation through an LSTM without a gate's derivative, or another of its parts."""

    def make(spot: Spot, rng: Generator) -> Parameters | None:
        net, p = spot.network, spot.params
        if not isinstance(net, LSTM):
            return None
        h, kept = net._run(p)
        dZ = (net._probabilities(h, p) - net.Y) / net.batch_size
        grads = {n: np.zeros(v.shape) for n, v in p.items()}
        grads["V"], grads["c"] = h.T @ dZ, dZ.sum(axis=0)
        dh, dc = dZ @ p["V"].T, np.zeros_like(h)
        for x, before, c_before, c, i, f, o, g in reversed(kept):
            dc = dc + dh * o * (1 - np.tanh(c) ** 2 if tanh else 1.0)
            parts = {
                "i": dc * g * (1.0 if forgotten == "i" else i * (1 - i)),
                "f": dc * c_before * (1.0 if forgotten == "f" else f * (1 - f)),
                "o": dh * np.tanh(c) * (1.0 if forgotten == "o" else o * (1 - o)),
                "g": dc * i * (1.0 if forgotten == "g" else 1 - g**2),
            }
            dz = np.concatenate(list(parts.values()), axis=1)
            grads["Wx"] += x.T @ dz
            grads["Wh"] += before.T @ dz
            grads["b"] += dz.sum(axis=0)
            dh = dz @ p["Wh"].T
            dc = (dc * f if memory else dc) if cell else np.zeros_like(dc)
        return grads

    return make


def _one_use(spot: Spot, rng: Generator) -> Parameters | None:
    """Weights that all steps share, with what the first of them adds left out."""
    net, p = spot.network, spot.params
    if not isinstance(net, Recurrent):
        return None
    states = net._states(p)
    dh = (net._probabilities(states[-1], p) - net.Y) / net.batch_size @ p["V"].T
    for t in range(net.steps, 1, -1):
        dh = dh * (1 - states[t] ** 2) @ p["Wh"].T
    first = dh * (1 - states[1] ** 2)
    return {**spot.grads, "Wx": spot.grads["Wx"] - net.X[0].T @ first}


def of_images(
    *,
    shift: int = 0,
    turned: bool = False,
    shared: bool = False,
    overwritten: bool = False,
    window: int | None = None,
) -> Make:
    """The backward pass of two convolutions with a window, a kernel or a maximum mistaken.

    With `window`, the first of them has what that window adds, and nothing else.
    """

    def make(spot: Spot, rng: Generator) -> Parameters | None:
        net, p = spot.network, spot.params
        if not isinstance(net, Convolution):
            return None
        _, A1, columns2, A2, blocks, _, P = net._forward(p)
        dZ = (P - net.Y) / net.batch_size
        dpooled = (dZ @ p["W"].T)[:, :, None]
        dblocks = np.zeros(blocks.shape)
        if shared:
            dblocks += dpooled / blocks.shape[2]
        else:
            np.put_along_axis(dblocks, np.argmax(blocks, axis=2)[:, :, None], dpooled, axis=2)
        dZ2 = net._activations(dblocks) * slope(net.kind, A2)
        K2 = p["K2"][::-1] if turned else p["K2"]
        dimage = np.zeros((net.batch_size, net.filters * (net.side - 2) ** 2))
        if overwritten:  # a plain assignment keeps the last of the windows that overlap
            dimage[:, net.second] = dZ2 @ K2.T
        else:
            np.add.at(dimage, (slice(None), net.second), dZ2 @ K2.T)
        dA1 = dimage.reshape(net.batch_size, net.filters, -1).transpose(0, 2, 1)
        dZ1 = dA1 * slope(net.kind, A1)
        if window is not None:
            dZ1 = dZ1 * (np.arange(dZ1.shape[1]) == window)[:, None]
        moved = np.roll(net.X, shift, axis=1)[:, net.first]
        return {
            **spot.grads,
            "K1": np.einsum("mwc,mwf->cf", moved, dZ1),
            "b1": dZ1.sum(axis=(0, 1)),
            "K2": np.einsum("mwc,mwf->cf", columns2, dZ2),
            "b2": dZ2.sum(axis=(0, 1)),
        }

    return make


MISTAKES = (
    Stranger("bias: sum over everything", _biases(_total)),
    Stranger("bias: sum over the wrong axis", _biases(_wrong_axis)),
    Stranger("bias: maximum for sum", _biases(lambda layer, dZ: dZ.max(axis=1))),
    Stranger("bias: from before the slope", _bias_before_slope, _SLOPE | _MASK),
    Stranger("decay of the biases", _decayed_biases, frozenset({"extra-l2"})),
    Stranger("decay divided by M", _decay_of_mean, frozenset({"missing-l2"})),
    Stranger("mean over another count in one", _wrong_count, frozenset({"missing-mean"})),
    Stranger("weights after a step of descent", _after_a_step),
    Stranger("half of a unit detached", weights(_unit_detached)),
    Stranger("p for p − y in one class", _classes(_one_class)),
    Stranger("the slope of softmax twice", _classes(_slope_twice)),
    Stranger("smoothed labels", _classes(_smoothed)),
    Stranger("weights of classes", _classes(_weighted_classes)),
    Stranger("labels of other samples", flow(lambda d, rng: (d + np.roll(d, 1, axis=1)) / 2)),
    Stranger("mean over the outputs", flow(lambda d, rng: d - d.mean(axis=0, keepdims=True))),
    Stranger("dropout without its division", _whole_dropout),
    Stranger("product of means", _means),
    Stranger("read by columns", _read_by_columns, frozenset({"transpose"})),
    Stranger("running average", _averaged),
    Stranger("half precision", each(lambda g, rng: g.astype(np.float16).astype(np.float64))),
    Stranger("input gate without slope", _of_cells("i"), _SLOPE),
    Stranger("forget gate without slope", _of_cells("f"), _SLOPE),
    Stranger("cell without slope", _of_cells(tanh=False), _SLOPE),
    Stranger("no way through the cell", _of_cells(cell=False), frozenset({"missing-path"})),
    Stranger("cell not forgotten", _of_cells(memory=False)),
    Stranger("shared weights: a use left out", _one_use, frozenset({"missing-path"})),
    Stranger("windows off by one", of_images(shift=1)),
    Stranger("kernel turned round", of_images(turned=True)),
    Stranger("maximum as mean", of_images(shared=True)),
    Stranger(
        "windows overwrite each other",
        of_images(overwritten=True),
        frozenset({"repeated-index"}),
    ),
)
"""The causes beside a name are what the mistake is, in the words that findings have for it."""
