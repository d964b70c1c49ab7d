"""Networks with hand-written backward passes, mistakes to plant in them, and what is no mistake.

Every entry of `MISTAKES` has a cause that a diagnosis must name; of `STRANGE`, gradients wrong in
ways that no hypothesis describes, none may be given a cause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

ACTIVATIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "relu": (lambda z: np.maximum(0, z), lambda z: 1.0 * (z > 0)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (
        lambda z: 1 / (1 + np.exp(-z)),
        lambda z: 1 / (1 + np.exp(-z)) * (1 - 1 / (1 + np.exp(-z))),
    ),
    "leaky": (lambda z: np.where(z > 0, z, 0.1 * z), lambda z: np.where(z > 0, 1.0, 0.1)),
    "masked": (lambda z: z * (z > 0), lambda z: 1.0 * (z > 0)),
}


@dataclass(frozen=True, eq=False)
class Net:
    """Layers W·A + b with an activation, softmax cross-entropy, and an L2 term on the weights."""

    sizes: tuple[int, ...]
    samples: int
    activation: str = "relu"
    decay: float = 0.0
    steps: int = 0
    seed: int = 0

    @property
    def last(self) -> int:
        return len(self.sizes) - 1

    @cached_property
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        X = rng.standard_normal((self.sizes[0], self.samples))
        return X, np.eye(self.sizes[-1])[rng.integers(0, self.sizes[-1], self.samples)].T

    @cached_property
    def params(self) -> Arrays:
        rng = np.random.default_rng(self.seed + 1)
        params: Arrays = {}
        for i in range(1, self.last + 1):
            fan = self.sizes[i - 1]
            params[f"W{i}"] = rng.standard_normal((self.sizes[i], fan)) * np.sqrt(2 / fan)
            params[f"b{i}"] = 0.1 * rng.standard_normal((self.sizes[i], 1))
        self.before.update(params)
        for _ in range(self.steps):
            self.before.update(params)
            grads = self.backward(params)
            params = {name: value - 0.2 * grads[name] for name, value in params.items()}
        return params

    @cached_property
    def before(self) -> Arrays:
        """The parameters one step earlier."""
        return {}

    @property
    def previous(self) -> Arrays:
        params = self.params
        if self.steps:
            return self.backward(self.before)
        return self.backward(
            {k: v + 0.1 * np.cos(np.arange(v.size)).reshape(v.shape) for k, v in params.items()}
        )

    def forward(self, params: Arrays) -> Arrays:
        act = ACTIVATIONS[self.activation][0]
        cache = {"A0": self.data[0]}
        for i in range(1, self.last + 1):
            cache[f"Z{i}"] = params[f"W{i}"] @ cache[f"A{i - 1}"] + params[f"b{i}"]
            if i < self.last:
                cache[f"A{i}"] = act(cache[f"Z{i}"])
        shifted = cache[f"Z{self.last}"] - np.max(cache[f"Z{self.last}"], axis=0, keepdims=True)
        exps = np.exp(shifted)
        cache[f"A{self.last}"] = exps / np.sum(exps, axis=0, keepdims=True)
        return cache

    def loss(self, params: Arrays) -> Any:
        fit = -np.sum(self.data[1] * np.log(self.forward(params)[f"A{self.last}"])) / self.samples
        if not self.decay:
            return fit
        weights = [params[f"W{i}"] for i in range(1, self.last + 1)]
        return fit + self.decay / 2 * sum(np.sum(w * w) for w in weights)

    def backward(
        self,
        params: Arrays,
        *,
        slope: Callable[[int, np.ndarray, np.ndarray], np.ndarray] | None = None,
        inputs: Callable[[int, Arrays], np.ndarray] | None = None,
        decay: float | None = None,
        dZ: Callable[[np.ndarray], np.ndarray] = lambda dZ: dZ,
        back: Callable[[int, Arrays], np.ndarray] = lambda i, p: p[f"W{i}"].T,
        bias: Callable[[int, np.ndarray], np.ndarray] = lambda i, d: d.sum(axis=1, keepdims=True),
    ) -> Arrays:
        """The backward pass; each keyword puts something else in the place of one of its parts."""
        right = ACTIVATIONS[self.activation][1]
        decay = self.decay if decay is None else decay
        cache, grads = self.forward(params), {}
        d = dZ((cache[f"A{self.last}"] - self.data[1]) / self.samples)
        for i in range(self.last, 0, -1):
            A = cache[f"A{i - 1}"] if inputs is None else inputs(i, cache)
            grads[f"W{i}"] = d @ A.T + decay * params[f"W{i}"]
            grads[f"b{i}"] = bias(i, d)
            if i > 1:
                z, a = cache[f"Z{i - 1}"], cache[f"A{i - 1}"]
                d = (back(i, params) @ d) * (right(z) if slope is None else slope(i - 1, z, a))
        return {name: grads[name] for name in params}

    @cached_property
    def grads(self) -> Arrays:
        return self.backward(self.params)

    def each_sample(self) -> Arrays:
        """Every sample's own gradient, not divided by M."""
        one = [
            self.backward(self.params, decay=0.0, dZ=lambda d, s=s: self.samples * _only(d, s))
            for s in range(self.samples)
        ]
        return {name: np.stack([g[name] for g in one]) for name in self.params}


def _only(d: np.ndarray, sample: int) -> np.ndarray:
    kept = np.zeros_like(d)
    kept[:, sample] = d[:, sample]
    return kept


@dataclass(frozen=True)
class Mistake:
    """One mistake: the causes that name it, how it is made, and what is handed to `check`."""

    name: str
    causes: set[str]
    make: Callable[[Net], Arrays | None]
    known: Callable[[Net], dict[str, Any]] = lambda net: {}


def _with(net: Net, **changes: np.ndarray) -> Arrays:
    return {**net.grads, **changes}


def _slope_of(
    net: Net, layer: int, wrong: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Arrays:
    right = ACTIVATIONS[net.activation][1]
    return net.backward(net.params, slope=lambda i, z, a: wrong(z, a) if i == layer else right(z))


def _square(net: Net) -> str | None:
    square = [f"W{i}" for i in range(1, net.last + 1) if net.sizes[i] == net.sizes[i - 1] > 1]
    return square[-1] if square else None


def _alike(net: Net) -> tuple[str, str] | None:
    names = list(net.params)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if net.grads[one].shape == net.grads[other].shape and net.grads[one].size > 2:
                return one, other
    return None


def _swapped(net: Net) -> Arrays | None:
    pair = _alike(net)
    return (
        _with(net, **{pair[0]: net.grads[pair[1]], pair[1]: net.grads[pair[0]]}) if pair else None
    )


def _aliased(net: Net) -> Arrays | None:
    pair = _alike(net)
    return _with(net, **{pair[1]: net.grads[pair[0]]}) if pair else None


def _transposed(net: Net) -> Arrays | None:
    name = _square(net)
    return _with(net, **{name: net.grads[name].T.copy()}) if name else None


def _reshaped(net: Net) -> Arrays | None:
    g = net.grads["W1"]
    return (
        _with(net, W1=g.T.reshape(g.shape))
        if g.shape[0] != g.shape[1] and min(g.shape) > 1
        else None
    )


def _element(net: Net, factor: float) -> Arrays:
    g = net.grads["W1"].copy()
    g[np.unravel_index(np.argmax(np.abs(g)), g.shape)] *= factor
    return _with(net, W1=g)


def _elements(net: Net) -> Arrays:
    g = net.grads["W1"].copy()
    places = np.argsort(-np.abs(g.ravel()))[:5]
    g.ravel()[places] += np.linspace(1, 2, 5) * np.abs(g).max()
    return _with(net, W1=g)


def _row(net: Net, axis: int) -> Arrays:
    g = net.grads["W1"].copy()
    line = int(np.argmax(np.linalg.norm(g, axis=1 - axis)))
    if axis:
        g[:, line] = 0
    else:
        g[line] = 0
    return _with(net, W1=g)


def _permuted(net: Net, axis: int) -> Arrays:
    g = net.grads["W1"]
    order = np.random.default_rng(net.seed).permutation(g.shape[axis])
    return _with(net, W1=np.take(g, order, axis=axis))


def _each(net: Net, factor: Callable[[str], float]) -> Arrays:
    return {name: factor(name) * g for name, g in net.grads.items()}


def _hidden(net: Net) -> int:
    return 1 + net.seed % (net.last - 1)


def _of_bias(name: str) -> bool:
    return name.startswith("b")


def _overwritten(net: Net) -> Arrays:
    layer = _hidden(net) + 1
    slope = ACTIVATIONS[net.activation][1]
    return net.backward(
        net.params,
        inputs=lambda i, c: slope(c[f"Z{i - 1}"]) if i == layer else c[f"A{i - 1}"],
    )


def _preactivated(net: Net) -> Arrays:
    layer = _hidden(net) + 1
    return net.backward(
        net.params, inputs=lambda i, c: c[f"Z{i - 1}"] if i == layer else c[f"A{i - 1}"]
    )


def _without_sample(net: Net, times: float) -> Arrays:
    sample = net.seed % net.samples

    def dZ(d: np.ndarray) -> np.ndarray:
        d = d.copy()
        d[:, sample] *= times
        return d

    return net.backward(net.params, dZ=dZ)


_MASKED = {"missing-mask", "activation-derivative"}

MISTAKES = [
    Mistake("sign of one", {"sign"}, lambda n: _with(n, W2=-n.grads["W2"])),
    Mistake("sign of all", {"sign"}, lambda n: _each(n, lambda _: -1)),
    Mistake("twice one", {"scale"}, lambda n: _with(n, W1=2 * n.grads["W1"])),
    Mistake("half of all", {"scale"}, lambda n: _each(n, lambda _: 0.5)),
    Mistake("1.0001 times one", {"scale"}, lambda n: _with(n, W1=1.0001 * n.grads["W1"])),
    Mistake("learning rate", {"scale"}, lambda n: _each(n, lambda _: 0.013)),
    Mistake("missing mean", {"missing-mean"}, lambda n: _each(n, lambda _: n.samples)),
    Mistake(
        "missing mean, M given",
        {"missing-mean"},
        lambda n: _each(n, lambda _: n.samples),
        lambda n: {"batch_size": n.samples},
    ),
    Mistake("mean twice", {"scale"}, lambda n: _each(n, lambda _: 1 / n.samples)),
    Mistake(
        "mean of biases",
        {"missing-bias-sum"},
        lambda n: _each(n, lambda name: 1 / n.samples if _of_bias(name) else 1),
    ),
    Mistake(
        "two factors",
        {"scale", "sign"},
        lambda n: _with(n, W1=2 * n.grads["W1"], W2=-n.grads["W2"]),
    ),
    Mistake("zero", {"zero"}, lambda n: _with(n, W1=0 * n.grads["W1"])),
    Mistake("all zero", {"zero"}, lambda n: _each(n, lambda _: 0)),
    Mistake("transpose", {"transpose"}, _transposed),
    Mistake("reshaped transpose", {"transpose"}, _reshaped),
    Mistake("rolled rows", {"permuted-rows"}, lambda n: _with(n, W1=np.roll(n.grads["W1"], 1, 0))),
    Mistake("rows", {"permuted-rows"}, lambda n: _permuted(n, 0)),
    Mistake("columns", {"permuted-columns"}, lambda n: _permuted(n, 1)),
    Mistake("rows, twice", {"permuted-rows"}, lambda n: _with(n, W1=2 * n.grads["W1"][::-1])),
    Mistake("swapped", {"swapped"}, _swapped),
    Mistake("aliased", {"aliased-buffer"}, _aliased),
    Mistake("one element", {"one-element"}, lambda n: _element(n, 1.01)),
    Mistake("one element zero", {"one-element"}, lambda n: _element(n, 0.0)),
    Mistake("five elements", {"one-element"}, _elements),
    Mistake("one row", {"one-row"}, lambda n: _row(n, 0)),
    Mistake("one column", {"one-row"}, lambda n: _row(n, 1)),
    Mistake(
        "missing L2",
        {"missing-l2"},
        lambda n: n.backward(n.params, decay=0.0) if n.decay else None,
    ),
    Mistake("L2 twice", {"extra-l2"}, lambda n: n.backward(n.params, decay=2 * n.decay + 0.01)),
    Mistake(
        "missing L2 and mean",
        {"missing-l2", "missing-mean"},
        lambda n: (
            {k: n.samples * v for k, v in n.backward(n.params, decay=0.0).items()}
            if n.decay
            else None
        ),
        lambda n: {"batch_size": n.samples},
    ),
    Mistake("stale", {"stale"}, lambda n: n.previous, lambda n: {"previous_grads": n.previous}),
    Mistake(
        "accumulated",
        {"accumulated"},
        lambda n: {k: n.grads[k] + v for k, v in n.previous.items()},
        lambda n: {"previous_grads": n.previous},
    ),
    Mistake("sample dropped", {"sample-dropped"}, lambda n: _without_sample(n, 0)),
    Mistake("sample twice", {"sample-repeated"}, lambda n: _without_sample(n, 2)),
    Mistake(
        "sample dropped, samples given",
        {"sample-dropped"},
        lambda n: _without_sample(n, 0),
        lambda n: {"sample_grads": n.each_sample()},
    ),
    Mistake(
        "bias of one sample",
        {"missing-bias-sum"},
        lambda n: n.backward(
            n.params,
            bias=lambda i, d: d[:, :1] if i == n.last else d.sum(axis=1, keepdims=True),
        ),
    ),
    Mistake(
        "no derivative", _MASKED, lambda n: _slope_of(n, _hidden(n), lambda z, a: np.ones_like(z))
    ),
    Mistake(
        "derivative at the output",
        _MASKED,
        lambda n: (
            _slope_of(n, _hidden(n), lambda z, a: ACTIVATIONS[n.activation][1](a))
            if n.activation in ("tanh", "sigmoid")
            else None
        ),
    ),
    Mistake(
        "derivative of another",
        _MASKED,
        lambda n: (
            _slope_of(
                n, _hidden(n), lambda z, a: 1 - a**2 if n.activation == "sigmoid" else a * (1 - a)
            )
            if n.activation in ("tanh", "sigmoid")
            else None
        ),
    ),
    Mistake("overwritten", {"overwritten-buffer"}, _overwritten),
    Mistake("pre-activation", {"wrong-input"}, _preactivated),
    Mistake("parameters", {"parameters"}, lambda n: dict(n.params)),
]


def _noise(net: Net, size: float, names: list[str], seed: int = 0) -> Arrays:
    rng = np.random.default_rng(net.seed + seed)
    return {
        name: g + size * np.abs(g).max() * rng.standard_normal(g.shape) if name in names else g
        for name, g in net.grads.items()
    }


def _two_samples(d: np.ndarray) -> np.ndarray:
    d = d.copy()
    d[:, :2] = 0
    return d


def _half_rows(g: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    g = g.copy()
    half = (len(g) + 1) // 2
    g[:half] *= rng.uniform(0.5, 1.5, g[:half].shape)
    return g


STRANGE: dict[str, Callable[[Net], Arrays | None]] = {
    "noise in one": lambda n: _noise(n, 1.0, ["W1"]),
    "a little noise in one": lambda n: _noise(n, 1e-3, ["W2"]),
    "noise in all": lambda n: _noise(n, 0.3, list(n.params)),
    "noise in a bias": lambda n: _noise(n, 0.5, [f"b{n.last}"]),
    "random": lambda n: {
        k: np.random.default_rng(n.seed).standard_normal(g.shape) for k, g in n.grads.items()
    },
    "twice, with noise": lambda n: {k: 2 * g for k, g in _noise(n, 1e-3, list(n.params)).items()},
    "negative, with noise": lambda n: {k: -g for k, g in _noise(n, 1e-2, list(n.params)).items()},
    "transposed, with noise": lambda n: (
        lambda w: None if w is None else {**n.grads, w: _noise(n, 1e-2, [w])[w].T}
    )(_square(n)),
    "squares": lambda n: {k: g * np.abs(g) for k, g in n.grads.items()},
    "signs": lambda n: {k: np.sign(g) for k, g in n.grads.items()},
    "clipped": lambda n: {
        k: np.clip(g, -np.abs(g).max() / 9, np.abs(g).max() / 9) for k, g in n.grads.items()
    },
    "another derivative": lambda n: _slope_of(n, _hidden(n), lambda z, a: np.cos(z)),
    "half a derivative": lambda n: _slope_of(
        n, _hidden(n), lambda z, a: np.sqrt(np.abs(ACTIVATIONS[n.activation][1](z)) + 0.3)
    ),
    "two samples dropped": lambda n: n.backward(n.params, dZ=_two_samples),
    "weights after the update": lambda n: n.backward(
        n.params, back=lambda i, p: (p[f"W{i}"] - 0.3 * n.grads[f"W{i}"]).T
    ),
    "half of the rows": lambda n: {
        k: _half_rows(g, np.random.default_rng(n.seed)) for k, g in n.grads.items()
    },
    "the loss of another task": lambda n: n.backward(n.params, dZ=lambda d: d**3 * n.samples**2),
    "all derivatives, with noise": lambda n: n.backward(
        n.params, slope=lambda i, z, a: 1 + 0.1 * np.sin(7 * z)
    ),
}


def networks(count: int) -> Iterator[Net]:
    """Networks of many kinds: sizes, activations, batches, decay, training."""
    rng = np.random.default_rng(7)
    for seed in range(count):
        hidden = [int(n) for n in rng.integers(5, 10, 1 + seed % 3)]
        if seed % 2:  # a square weight matrix, and two biases alike
            hidden = [hidden[0], hidden[0], *hidden[2:]]
        yield Net(
            (int(rng.integers(6, 14)), *hidden, int(rng.integers(3, 5))),
            int(rng.integers(9, 30)),
            list(ACTIVATIONS)[seed % len(ACTIVATIONS)],
            0.03 if seed % 4 > 1 else 0.0,
            0 if seed % 5 < 2 else 20,
            seed,
        )
