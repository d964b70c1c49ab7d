"""Networks as objects: layers with state, flat vectors of weights, lists of pairs."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from .case import Case, network


def blobs(seed, n, D=4, C=3):
    rng = np.random.default_rng(seed)
    y = rng.integers(C, size=n)
    return rng, rng.normal(size=(n, D)) + y[:, None], y


# -- a class for each layer ------------------------------------------------------------------------


class Linear:
    def __init__(self, n_in, n_out, rng):
        self.W = rng.normal(size=(n_in, n_out)) * np.sqrt(2.0 / n_in)
        self.b = np.zeros((1, n_out))

    def forward(self, x):
        self.x = x
        self.out = np.dot(x, self.W) + self.b
        return self.out

    def backward(self, dout):
        self.dW = np.dot(self.x.T, dout)
        self.db = np.sum(dout, axis=0, keepdims=True)
        return np.dot(dout, self.W.T)


class ReLU:
    def forward(self, x):
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout):
        dout[self.mask] = 0
        return dout


class Sigmoid:
    def forward(self, x):
        self.out = 1 / (1 + np.exp(-x))
        return self.out

    def backward(self, dout):
        return dout * (1.0 - self.out) * self.out


class SoftmaxWithLoss:
    def forward(self, x, t):
        self.t = t
        x = x - np.max(x, axis=-1, keepdims=True)
        self.y = np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True)
        batch_size = self.y.shape[0]
        return -np.sum(np.log(self.y[np.arange(batch_size), t] + 1e-7)) / batch_size

    def backward(self, dout=1):
        batch_size = self.t.shape[0]
        right = self.y[np.arange(batch_size), self.t]
        dx = self.y.copy()
        dx[np.arange(batch_size), self.t] -= 1
        dx *= (right / (right + 1e-7)).reshape(-1, 1)
        return dout * dx / batch_size


class Sequential:
    def __init__(self, *layers):
        self.layers = list(layers)
        self.last = SoftmaxWithLoss()

    @property
    def linear(self):
        return [layer for layer in self.layers if isinstance(layer, Linear)]

    def loss(self, x, t):
        for layer in self.layers:
            x = layer.forward(x)
        return self.last.forward(x, t)

    def gradient(self, x, t, bug=None):
        self.loss(x, t)
        dout = self.last.backward()
        for layer in reversed(self.layers):
            if bug == "an activation skipped" and isinstance(layer, Sigmoid):
                continue
            dout = layer.backward(dout)


@network("a class for each layer with self.x, self.out, self.mask", large=(64, 48))
def layers(n, H):
    rng, X, y = blobs(61, n)
    net = Sequential(Linear(4, H, rng), ReLU(), Linear(H, H, rng), Sigmoid(), Linear(H, 3, rng))
    params = {}
    for i, layer in enumerate(net.linear, start=1):
        params[f"W{i}"], params[f"b{i}"] = layer.W, layer.b

    def loss(p):
        for i, layer in enumerate(net.linear, start=1):
            layer.W, layer.b = p[f"W{i}"], p[f"b{i}"]
        return net.loss(X, y)

    def grads(p, bug=None):
        loss(p)
        net.gradient(X, y, bug)
        g = {}
        for i, layer in enumerate(net.linear, start=1):
            g[f"dW{i}"], g[f"db{i}"] = layer.dW, layer.db
        if bug == "mean over the batch twice":
            g["dW3"] = g["dW3"] / n
        return g

    bugs = {"an activation skipped": "W1 b1 W2 b2", "mean over the batch twice": "W3"}
    return Case(loss, params, grads, bugs)


@network("a class for each layer, parameters in a dict that all share")
def shared_dict(n, H):
    rng, X, y = blobs(62, n)

    class Affine:
        def __init__(self, params, i):
            self.params, self.i = params, i
            self.grads = {}

        def __call__(self, x):
            self.x = x
            return x @ self.params[f"W{self.i}"] + self.params[f"b{self.i}"]

        def back(self, d):
            self.grads["W"], self.grads["b"] = self.x.T @ d, d.sum(axis=0)
            return d @ self.params[f"W{self.i}"].T

    class Tanh:
        def __call__(self, x):
            self.y = np.tanh(x)
            return self.y

        def back(self, d):
            return d * (1 - self.y**2)

    params = {
        "W1": rng.normal(size=(4, H)),
        "b1": np.zeros(H),
        "W2": rng.normal(size=(H, 3)),
        "b2": np.zeros(3),
    }
    weights = dict(params)
    net = [Affine(weights, 1), Tanh(), Affine(weights, 2)]
    head = SoftmaxWithLoss()

    def loss(p):
        weights.update(p)
        x = X
        for layer in net:
            x = layer(x)
        return head.forward(x, y)

    def grads(p, bug=None):
        loss(p)
        d = head.backward()
        for layer in net[::-1]:
            d = layer.back(d)
        first, _, second = net
        g = {"W1": first.grads["W"], "b1": first.grads["b"]}
        g |= {"W2": second.grads["W"], "b2": second.grads["b"]}
        if bug == "bias not summed":
            g["b2"] = head.backward()[0]
        return g

    return Case(loss, params, grads, {"bias not summed": "b2"})


# -- flat vectors of weights -----------------------------------------------------------------------


class FlatNetwork:
    """The weights come and go as one vector."""

    def __init__(self, sizes, rng):
        self.sizes = sizes
        self.W = [rng.normal(size=(i, o)) / np.sqrt(i) for i, o in pairwise(sizes)]
        self.b = [np.zeros(o) for o in sizes[1:]]

    def pairs(self):
        return list(zip(self.W, self.b, strict=True))

    def get_weights(self):
        return np.concatenate([a.ravel() for pair in self.pairs() for a in pair])

    def set_weights(self, flat):
        start = 0
        for k in range(len(self.W)):
            i, o = self.W[k].shape
            self.W[k] = flat[start : start + i * o].reshape(i, o)
            start += i * o
            self.b[k] = flat[start : start + o]
            start += o

    def forward(self, X):
        self.a = [X]
        for W, b in self.pairs()[:-1]:
            self.a.append(np.tanh(self.a[-1] @ W + b))
        return self.a[-1] @ self.W[-1] + self.b[-1]

    def loss(self, X, Y):
        return 0.5 * np.mean(np.sum((self.forward(X) - Y) ** 2, axis=1))

    def gradient(self, X, Y, bug=None):
        d = (self.forward(X) - Y) / len(X)
        parts = []
        for k in reversed(range(len(self.W))):
            dW = (self.a[k].T @ d).ravel(order="F" if bug == "wrong order" else "C")
            parts = [dW, d.sum(axis=0), *parts]
            d = d @ self.W[k].T * (1 - self.a[k] ** 2)
        return np.concatenate(parts)


@network("a network object with set_weights(flat)", large=(64, 48))
def set_weights(n, H):
    rng = np.random.default_rng(63)
    X, Y = rng.normal(size=(n, 4)), rng.normal(size=(n, 2))
    net = FlatNetwork([4, H, H, 2], rng)
    theta = net.get_weights()

    def loss(flat):
        net.set_weights(flat)
        return net.loss(X, Y)

    def grads(flat, bug=None):
        net.set_weights(flat)
        return net.gradient(X, Y, bug)

    return Case(loss, theta, grads, {"wrong order": "params"})


class InPlaceNetwork(FlatNetwork):
    """The same, with weights that stay where they are in memory."""

    def set_weights(self, flat):
        start = 0
        for array in [x for pair in self.pairs() for x in pair]:
            array[...] = flat[start : start + array.size].reshape(array.shape)
            start += array.size


@network(
    "a network object whose set_weights writes W[...] in place",
    large=(64, 256),
)
def set_weights_in_place(n, H):
    rng = np.random.default_rng(64)
    X, Y = rng.normal(size=(n, 4)), rng.normal(size=(n, 2))
    net = InPlaceNetwork([4, H, 2], rng)
    theta = net.get_weights()

    def loss(flat):
        net.set_weights(flat)
        return net.loss(X, Y)

    def grads(flat, bug=None):
        net.set_weights(flat)
        return net.gradient(X, Y, bug)

    return Case(loss, theta, grads, {"wrong order": "params"})


@network("unrolled thetas with a column of ones, a penalty without the biases")
def unrolled(m, H, D=4, K=3, lam=0.7):
    rng = np.random.default_rng(65)
    X, y = rng.normal(size=(m, D)), rng.integers(K, size=m)
    Y = np.eye(K)[y]
    nn_params = rng.uniform(-0.8, 0.8, H * (D + 1) + K * (H + 1))

    def sigmoid(z):
        return 1.0 / (1.0 + np.exp(-z))

    def forward(nn_params):
        Theta1 = np.reshape(nn_params[: H * (D + 1)], (H, D + 1), order="F")
        Theta2 = np.reshape(nn_params[H * (D + 1) :], (K, H + 1), order="F")
        a1 = np.hstack((np.ones((m, 1)), X))
        a2 = np.insert(sigmoid(a1.dot(Theta1.T)), 0, 1, axis=1)
        a3 = sigmoid(a2.dot(Theta2.T))
        return Theta1, Theta2, a1, a2, a3

    def loss(nn_params):
        Theta1, Theta2, _, _, a3 = forward(nn_params)
        J = 0
        for k in range(K):
            J += np.sum(-Y[:, k] * np.log(a3[:, k]) - (1 - Y[:, k]) * np.log(1 - a3[:, k]))
        J /= m
        reg = np.sum(np.square(Theta1[:, 1:])) + np.sum(np.square(Theta2[:, 1:]))
        return J + lam / (2 * m) * reg

    def grads(nn_params, bug=None):
        Theta1, Theta2, a1, a2, a3 = forward(nn_params)
        d3 = a3 - Y
        d2 = (d3.dot(Theta2) * a2 * (1 - a2))[:, 1:]
        g1, g2 = d2.T.dot(a1) / m, d3.T.dot(a2) / m
        skip = 0 if bug == "biases penalised" else 1
        g1[:, skip:] += lam / m * Theta1[:, skip:]
        g2[:, skip:] += lam / m * Theta2[:, skip:]
        return np.concatenate((g1.ravel(order="F"), g2.ravel(order="F")))

    return Case(loss, nn_params, grads, {"biases penalised": "params"})


# -- lists and pairs -------------------------------------------------------------------------------


@network("weights as a list of (W, b) pairs", large=(64, 48))
def pairs(n, H):
    rng, X, y = blobs(66, n)
    sizes = [4, H, H, 3]
    params = [(rng.normal(size=(i, o)) / np.sqrt(i), np.zeros(o)) for i, o in pairwise(sizes)]

    def predict(params):
        activations = [X]
        for W, b in params[:-1]:
            activations.append(np.maximum(0, activations[-1] @ W + b))
        W, b = params[-1]
        logits = activations[-1] @ W + b
        return activations, logits - np.log(np.exp(logits).sum(1, keepdims=True))

    def loss(params):
        _, logp = predict(params)
        return -logp[np.arange(n), y].mean()

    def grads(params, bug=None):
        activations, logp = predict(params)
        d = (np.exp(logp) - np.eye(3)[y]) / n
        found = []
        for (W, _), a in zip(params[::-1], activations[::-1], strict=True):
            found.append((a.T @ d, d.sum(axis=0)))
            d = d @ W.T
            if bug != "no ReLU":
                d = d * (a > 0)
        return found[::-1]

    return Case(loss, params, grads, {"no ReLU": "[0][0] [0][1] [1][0] [1][1]"})


@network("lists of weights and biases, columns, one sample at a time", large=(64, 128))
def one_at_a_time(n, H, D=3, C=2):
    rng = np.random.default_rng(67)
    sizes = [D, H, C]
    training = [(rng.normal(size=(D, 1)), np.eye(C)[:, [rng.integers(C)]]) for _ in range(n)]
    params = {
        "weights": [rng.normal(size=(o, i)) for i, o in pairwise(sizes)],
        "biases": [rng.normal(size=(o, 1)) for o in sizes[1:]],
    }

    def sigmoid(z):
        return 1.0 / (1.0 + np.exp(-z))

    def feedforward(p, a):
        for b, w in zip(p["biases"], p["weights"], strict=True):
            a = sigmoid(np.dot(w, a) + b)
        return a

    def loss(p):
        cost = 0.0
        for x, y in training:
            cost += 0.5 * np.linalg.norm(feedforward(p, x) - y) ** 2
        return cost / len(training)

    def backprop(p, x, y, bug):
        activations, zs = [x], []
        for b, w in zip(p["biases"], p["weights"], strict=True):
            zs.append(np.dot(w, activations[-1]) + b)
            activations.append(sigmoid(zs[-1]))
        delta = (activations[-1] - y) * sigmoid(zs[-1]) * (1 - sigmoid(zs[-1]))
        nabla_b, nabla_w = [delta], [np.dot(delta, activations[-2].T)]
        prime = (
            sigmoid(zs[-2])
            if bug == "half of sigmoid's derivative"
            else sigmoid(zs[-2]) * (1 - sigmoid(zs[-2]))
        )
        delta = np.dot(p["weights"][-1].T, delta) * prime
        return [delta, *nabla_b], [np.dot(delta, activations[-3].T), *nabla_w]

    def grads(p, bug=None):
        db = [np.zeros(b.shape) for b in p["biases"]]
        dw = [np.zeros(w.shape) for w in p["weights"]]
        for x, y in training[: 1 if bug == "first sample only" else None]:
            nb, nw = backprop(p, x, y, bug)
            db = [b + d for b, d in zip(db, nb, strict=True)]
            dw = [w + d for w, d in zip(dw, nw, strict=True)]
        return {"weights": [w / n for w in dw], "biases": [b / n for b in db]}

    bugs = {
        "half of sigmoid's derivative": "weights[0] biases[0]",
        "first sample only": "weights[0] weights[1] biases[0] biases[1]",
    }
    return Case(loss, params, grads, bugs)


@network("L layers, samples in columns, names made of numbers", large=(64, 128))
def l_layers(m, H, D=4):
    rng = np.random.default_rng(168)
    X, Y = rng.normal(size=(D, m)), (rng.random((1, m)) < 0.4).astype(float)
    dims = [D, H, H // 2 + 1, 1]
    params = {}
    for layer in range(1, len(dims)):
        params["W" + str(layer)] = rng.normal(size=(dims[layer], dims[layer - 1]))
        params["W" + str(layer)] /= np.sqrt(dims[layer - 1])
        params["b" + str(layer)] = np.zeros((dims[layer], 1))

    def linear_activation(A_prev, W, b, activation):
        Z = W.dot(A_prev) + b
        assert Z.shape == (W.shape[0], A_prev.shape[1])
        A = 1 / (1 + np.exp(-Z)) if activation == "sigmoid" else np.maximum(0, Z)
        return A, ((A_prev, W, b), Z)

    def forward(parameters):
        caches, A = [], X
        L = len(parameters) // 2
        for layer in range(1, L):
            W, b = parameters["W" + str(layer)], parameters["b" + str(layer)]
            A, cache = linear_activation(A, W, b, "relu")
            caches.append(cache)
        W, b = parameters["W" + str(L)], parameters["b" + str(L)]
        AL, cache = linear_activation(A, W, b, "sigmoid")
        return AL, [*caches, cache]

    def loss(parameters):
        AL, _ = forward(parameters)
        cost = (1.0 / m) * (-np.dot(Y, np.log(AL).T) - np.dot(1 - Y, np.log(1 - AL).T))
        cost = np.squeeze(cost)
        assert cost.shape == ()
        return cost

    def grads(parameters, bug=None):
        AL, caches = forward(parameters)
        g = {}
        dA = -(np.divide(Y, AL) - np.divide(1 - Y, 1 - AL))
        for layer in reversed(range(len(caches))):
            (A_prev, W, b), Z = caches[layer]
            if layer == len(caches) - 1:
                s = 1 / (1 + np.exp(-Z))
                dZ = dA * s * (1 - s)
            else:
                dZ = np.array(dA, copy=True)
                dZ[Z <= 0] = 0
            g["dW" + str(layer + 1)] = 1.0 / m * np.dot(dZ, A_prev.T)
            if bug == "bias summed over the wrong axis" and dZ.shape[0] > 1:
                g["db" + str(layer + 1)] = 1.0 / m * np.resize(dZ.sum(axis=0), b.shape)
            else:
                g["db" + str(layer + 1)] = 1.0 / m * np.sum(dZ, axis=1, keepdims=True)
            dA = np.dot(W.T, dZ)
        return g

    return Case(loss, params, grads, {"bias summed over the wrong axis": "b1 b2"})


@network("logistic regression, w a column, b a Python float", large=(64, 2048))
def logistic(m, n_x):
    rng = np.random.default_rng(69)
    X, Y = rng.normal(size=(n_x, m)), (rng.random((1, m)) < 0.5).astype(int)
    params = {"w": rng.normal(size=(n_x, 1)) / np.sqrt(n_x), "b": 0.3}

    def loss(p):
        A = 1 / (1 + np.exp(-(np.dot(p["w"].T, X) + p["b"])))
        cost = -1 / m * np.sum(Y * np.log(A) + (1 - Y) * np.log(1 - A))
        return float(np.squeeze(cost))

    def grads(p, bug=None):
        A = 1 / (1 + np.exp(-(np.dot(p["w"].T, X) + p["b"])))
        dw = 1 / m * np.dot(X, (A - Y).T)
        return {"dw": -dw if bug == "sign" else dw, "db": 1 / m * np.sum(A - Y)}

    return Case(loss, params, grads, {"sign": "w"})


@network("per-sample losses in a Python list, then np.mean")
def list_of_losses(n, H):
    rng, X, y = blobs(70, n)
    params = {"W1": rng.normal(size=(4, H)), "W2": rng.normal(size=(H, 3)) / np.sqrt(H)}

    def forward(p, x):
        h = np.maximum(x @ p["W1"], 0)
        z = h @ p["W2"]
        e = np.exp(z - max(z))
        return h, e / sum(e)

    def loss(p):
        losses = []
        for x, label in zip(X, y, strict=True):
            _, probs = forward(p, x)
            losses.append(-np.log(probs[label]))
        return np.mean(losses)

    def grads(p, bug=None):
        g = {k: np.zeros_like(v) for k, v in p.items()}
        for x, label in zip(X, y, strict=True):
            h, probs = forward(p, x)
            d = probs.copy()
            d[label] -= 1
            g["W2"] += np.outer(h, d)
            g["W1"] += np.outer(x, (p["W2"] @ d) * (h > 0))
        return g if bug == "sum for mean" else {k: v / n for k, v in g.items()}

    return Case(loss, params, grads, {"sum for mean": "W1 W2"})


@network("an autoencoder with tied weights", large=(64, 512))
def autoencoder(n, H, D=6):
    rng = np.random.default_rng(71)
    X = rng.random((n, D))
    params = {"W": rng.normal(size=(D, H)) / 2, "b": np.zeros(H), "c": np.zeros(D)}

    def forward(p):
        h = 1 / (1 + np.exp(-(X @ p["W"] + p["b"])))
        return h, 1 / (1 + np.exp(-(h @ p["W"].T + p["c"])))

    def loss(p):
        _, r = forward(p)
        return -np.sum(X * np.log(r + 1e-10) + (1 - X) * np.log(1 - r + 1e-10)) / n

    def grads(p, bug=None):
        h, r = forward(p)
        dr = -(X / (r + 1e-10) - (1 - X) / (1 - r + 1e-10)) / n
        dz = dr * r * (1 - r)
        dh = dz @ p["W"] * h * (1 - h)
        dW = X.T @ dh + dz.T @ h
        if bug == "decoder's share left out":
            dW = X.T @ dh
        return {"W": dW, "b": dh.sum(0), "c": dz.sum(0)}

    return Case(loss, params, grads, {"decoder's share left out": "W"})


@network("a variational autoencoder with held noise")
def variational(n, H, D=5, Z=2):
    rng = np.random.default_rng(72)
    X = rng.random((n, D))
    eps = rng.standard_normal((n, Z))
    params = {
        "W": rng.normal(size=(D, H)) / 2,
        "Wm": rng.normal(size=(H, Z)) / 2,
        "Ws": rng.normal(size=(H, Z)) / 2,
        "V": rng.normal(size=(Z, D)),
    }

    def forward(p):
        h = np.tanh(X @ p["W"])
        mu, logvar = h @ p["Wm"], h @ p["Ws"]
        z = mu + np.exp(0.5 * logvar) * eps
        return h, mu, logvar, z, z @ p["V"]

    def loss(p):
        _, mu, logvar, _, x = forward(p)
        kl = -0.5 * np.sum(1 + logvar - mu**2 - np.exp(logvar))
        return (0.5 * np.sum((x - X) ** 2) + kl) / n

    def grads(p, bug=None):
        h, mu, logvar, z, x = forward(p)
        d = (x - X) / n
        dz = d @ p["V"].T
        dmu = dz + mu / n
        dlogvar = dz * eps * 0.5 * np.exp(0.5 * logvar) + 0.5 * (np.exp(logvar) - 1) / n
        if bug == "noise left out":
            dlogvar = 0.5 * (np.exp(logvar) - 1) / n
        dh = (dmu @ p["Wm"].T + dlogvar @ p["Ws"].T) * (1 - h**2)
        return {"W": X.T @ dh, "Wm": h.T @ dmu, "Ws": h.T @ dlogvar, "V": z.T @ d}

    return Case(loss, params, grads, {"noise left out": "W Ws"})


class Scratch:
    """Buffers are made once and filled in every forward pass, to save allocations."""

    def __init__(self, n, D, H, C, rng):
        self.hidden = np.zeros((n, H))
        self.scores = np.zeros((n, C))

    def forward(self, X, W1, W2):
        self.hidden[:] = np.maximum(X.dot(W1), 0)
        self.scores[:] = self.hidden.dot(W2)
        return self.scores


@network(
    "buffers of the object, filled in place in every pass",
)
def scratch(n, H):
    rng, X, y = blobs(73, n)
    net = Scratch(n, 4, H, 3, rng)
    head = SoftmaxWithLoss()
    params = {"W1": rng.normal(size=(4, H)), "W2": rng.normal(size=(H, 3)) / np.sqrt(H)}

    def loss(p):
        return head.forward(net.forward(X, p["W1"], p["W2"]), y)

    def grads(p, bug=None):
        loss(p)
        d = head.backward()
        dh = d.dot(p["W2"].T)
        if bug != "no ReLU":
            dh[net.hidden <= 0] = 0
        return {"W1": X.T.dot(dh), "W2": net.hidden.T.dot(d)}

    return Case(loss, params, grads, {"no ReLU": "W1"})


class Model:
    """Keeps the data as well as the weights."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def forward(self, W1, b1, W2):
        self.h = np.tanh(self.X.dot(W1) + b1)
        z = self.h.dot(W2)
        z -= z.max(axis=1, keepdims=True)
        self.probs = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        return self.probs

    def loss(self, p):
        return -np.log(self.forward(**p)[np.arange(len(self.y)), self.y]).mean()

    def backward(self, p, bug=None):
        self.forward(**p)
        d = self.probs.copy()
        d[np.arange(len(d)), self.y] -= 1
        d /= len(d)
        dh = d.dot(p["W2"].T) * (1 - (self.h if bug == "h for h squared" else self.h**2))
        return {"W1": self.X.T.dot(dh), "b1": dh.sum(axis=0), "W2": self.h.T.dot(d)}


@network("data kept on the object: self.X.dot(W)")
def data_on_self(n, H):
    rng, X, y = blobs(75, n)
    model = Model(X, y)
    params = {"W1": rng.normal(size=(4, H)), "b1": np.zeros(H), "W2": rng.normal(size=(H, 3))}
    return Case(model.loss, params, model.backward, {"h for h squared": "W1 b1"})


@network("a list of (x, y) pairs: x.dot(W)")
def list_of_samples(n, H):
    rng, X, y = blobs(76, n)
    samples = list(zip(X, np.eye(3)[y], strict=True))
    params = {"W1": rng.normal(size=(4, H)), "W2": rng.normal(size=(H, 3)) / np.sqrt(H)}

    def loss(p):
        total = 0
        for x, t in samples:
            out = np.tanh(x.dot(p["W1"])).dot(p["W2"])
            total += 0.5 * np.sum((out - t) ** 2)
        return total / n

    def grads(p, bug=None):
        g = {k: np.zeros_like(v) for k, v in p.items()}
        for x, t in samples:
            h = np.tanh(x.dot(p["W1"]))
            d = (h.dot(p["W2"]) - t) / n
            g["W2"] += np.outer(h, d)
            dz = p["W2"].dot(d) * (1 - h**2)
            g["W1"] = np.outer(x, dz) + (0 if bug == "last sample only" else g["W1"])
        return g

    return Case(loss, params, grads, {"last sample only": "W1"})


@network("a running loss of floats", large=(64, 128))
def float_losses(n, H):
    rng, X, _ = blobs(77, n)
    T = rng.normal(size=(n, 2))
    params = {"W1": rng.normal(size=(4, H)), "W2": rng.normal(size=(H, 2)) / np.sqrt(H)}

    def loss(p):
        total = 0.0
        for x, t in zip(X, T, strict=True):
            out = np.maximum(0, x @ p["W1"]) @ p["W2"]
            total += float(np.sum((out - t) ** 2))
        return total / n

    def grads(p, bug=None):
        h = np.maximum(0, X @ p["W1"])
        d = (h @ p["W2"] - T) * (1 if bug == "factor two" else 2) / n
        return {"W1": X.T @ (d @ p["W2"].T * (h > 0)), "W2": h.T @ d}

    return Case(loss, params, grads, {"factor two": "W1 W2"})


@network(
    "math.log of a probability, one sample after the other",
    large=(64, 512),
)
def math_log(n, H):
    rng, X, y = blobs(74, n)
    params = {"W1": rng.normal(size=(4, H)), "W2": rng.normal(size=(H, 3)) / np.sqrt(H)}

    def forward(p):
        h = np.tanh(X @ p["W1"])
        e = np.exp(h @ p["W2"])
        return h, e / e.sum(axis=1)[:, None]

    def loss(p):
        _, probs = forward(p)
        total = 0.0
        for row, label in zip(probs, y, strict=True):
            total -= math.log(row[label])
        return total / n

    def grads(p, bug=None):
        h, probs = forward(p)
        d = (probs - np.eye(3)[y]) / n
        dh = d @ p["W2"].T
        if bug != "no derivative of tanh":
            dh = dh * (1 - h**2)
        return {"W1": X.T @ dh, "W2": h.T @ d}

    return Case(loss, params, grads, {"no derivative of tanh": "W1"})
