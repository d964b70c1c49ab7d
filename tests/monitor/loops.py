"""A small training loop to watch: ReLU and softmax, samples in rows, another batch each step."""

import itertools

import numpy as np

SIZES = (6, 5, 3)
SAMPLES = 64


def forward(params, batch):
    h = np.maximum(0, batch[0] @ params["W1"] + params["b1"])
    z = h @ params["W2"] + params["b2"]
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return h, e / e.sum(axis=1, keepdims=True)


def loss(params, batch):
    return -np.sum(batch[1] * np.log(forward(params, batch)[1])) / len(batch[0])


def backward(params, batch):
    h, p = forward(params, batch)
    dz = (p - batch[1]) / len(batch[0])
    dh = (dz @ params["W2"].T) * (h > 0)
    return {"W1": batch[0].T @ dh, "b1": dh.sum(0), "W2": h.T @ dz, "b2": dz.sum(0)}


def initial(seed=0, sizes=SIZES):
    rng = np.random.default_rng(seed)
    inputs, hidden, classes = sizes
    return {
        "W1": rng.standard_normal((inputs, hidden)) / np.sqrt(inputs),
        "b1": rng.standard_normal(hidden) * 0.1,
        "W2": rng.standard_normal((hidden, classes)) / np.sqrt(hidden),
        "b2": rng.standard_normal(classes) * 0.1,
    }


def data(seed=0, sizes=SIZES):
    rng = np.random.default_rng(seed + 1)
    X = rng.standard_normal((SAMPLES, sizes[0]))
    return X, np.eye(sizes[-1])[rng.integers(sizes[-1], size=SAMPLES)]


def problem(seed=0, sizes=SIZES):
    """Return parameters, their right gradient and the batch that it belongs to."""
    params, batch = initial(seed, sizes), data(seed, sizes)
    return params, backward(params, batch), batch


def train(steps, monitor=None, bug=None, seed=0, sizes=SIZES):
    """Train, call the monitor before every update, and return the parameters.

    `bug(step, grads)` returns the gradient that is used and handed over.
    """
    params, (X, Y) = initial(seed, sizes), data(seed, sizes)
    rng = np.random.default_rng(seed + 2)
    for step in range(steps):
        chosen = rng.integers(SAMPLES, size=16)
        batch = X[chosen], Y[chosen]
        grads = backward(params, batch)
        if bug is not None:
            grads = bug(step, grads)
        if monitor is not None:
            monitor(params, grads, batch=batch)
        for name in params:
            params[name] -= 0.1 * grads[name]
    return params


def scaled(name, factor, start=0):
    """Return a bug: from a step on, one gradient is multiplied."""

    def bug(step, grads):
        return {**grads, name: grads[name] * factor} if step >= start else grads

    return bug


class Counted:
    """A loss that counts its calls: in an iterator, since checks put attributes back."""

    def __init__(self, function=loss):
        self.function = function
        self._ticks = itertools.count()

    def __call__(self, params, *batch):
        next(self._ticks)
        return self.function(params, *batch)

    @property
    def calls(self):
        """How often it has been called."""
        return self._ticks.__reduce__()[1][0]
