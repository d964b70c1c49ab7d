"""Normalisation, dropout and residual blocks."""

from __future__ import annotations

import numpy as np

from .case import Case, network


def cross_entropy(z, y):
    z = z - z.max(axis=1, keepdims=True)
    return np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y])


def d_cross_entropy(z, y):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    d = e / e.sum(axis=1, keepdims=True)
    d[np.arange(len(y)), y] -= 1
    return d / len(y)


def data(seed, n, D=4, C=3):
    rng = np.random.default_rng(seed)
    return rng, rng.normal(size=(n, D)), rng.integers(C, size=n)


@network("batch norm, training, in nine small steps")
def batchnorm_steps(N, H, D=4, C=3, eps=1e-5):
    rng, X, y = data(21, N)
    params = {
        "W1": rng.normal(size=(D, H)),
        "gamma": rng.uniform(0.5, 1.5, H),
        "beta": rng.normal(size=H),
        "W2": rng.normal(size=(H, C)) / np.sqrt(H),
        "b2": np.zeros(C),
    }

    def forward(p):
        x = np.dot(X, p["W1"])
        mu = 1.0 / N * np.sum(x, axis=0)
        xmu = x - mu
        sq = xmu**2
        var = 1.0 / N * np.sum(sq, axis=0)
        sqrtvar = np.sqrt(var + eps)
        ivar = 1.0 / sqrtvar
        xhat = xmu * ivar
        out = p["gamma"] * xhat + p["beta"]
        a = np.maximum(0, out)
        return (xhat, xmu, ivar, sqrtvar, var, out, a), np.dot(a, p["W2"]) + p["b2"]

    def loss(p):
        return cross_entropy(forward(p)[1], y)

    def grads(p, bug=None):
        (xhat, xmu, ivar, sqrtvar, var, out, a), z = forward(p)
        d = d_cross_entropy(z, y)
        g = {"W2": a.T.dot(d), "b2": d.sum(axis=0)}
        dout = d.dot(p["W2"].T) * (out > 0)
        g["beta"] = np.sum(dout, axis=0)
        g["gamma"] = np.sum(dout * xhat, axis=0)
        dxhat = dout * p["gamma"]
        dxmu1 = dxhat * ivar
        dsqrtvar = -1.0 / (sqrtvar**2) * np.sum(dxhat * xmu, axis=0)
        dvar = 0.5 / np.sqrt(var + eps) * dsqrtvar
        dsq = 1.0 / N * np.ones((N, H)) * dvar
        dxmu2 = 2 * xmu * dsq
        if bug == "variance taken for a constant":
            dxmu2 = 0
        dx1 = dxmu1 + dxmu2
        dmu = -1 * np.sum(dx1, axis=0)
        dx = dx1 + 1.0 / N * np.ones((N, H)) * dmu
        g["W1"] = X.T.dot(dx)
        if bug == "gamma without xhat":
            g["gamma"] = np.sum(dout, axis=0)
        return g

    bugs = {"variance taken for a constant": "W1", "gamma without xhat": "gamma"}
    return Case(loss, params, grads, bugs)


class BatchNorm:
    """A layer that keeps running statistics, and writes to them in its forward pass."""

    def __init__(self, width, momentum=0.9):
        self.momentum = momentum
        self.running_mean, self.running_var = np.zeros(width), np.ones(width)

    def forward(self, x, gamma, beta, mode):
        if mode == "train":
            mean, var = x.mean(axis=0), x.var(axis=0)
            self.running_mean = self.momentum * self.running_mean + (1 - self.momentum) * mean
            self.running_var = self.momentum * self.running_var + (1 - self.momentum) * var
        else:
            mean, var = self.running_mean, self.running_var
        self.std = np.sqrt(var + 1e-5)
        self.gamma, self.x_norm = gamma, (x - mean) / self.std
        return gamma * self.x_norm + beta

    def backward(self, dout, bug=None):
        n = len(dout)
        dgamma, dbeta = (dout * self.x_norm).sum(axis=0), dout.sum(axis=0)
        if bug == "one term of three":
            return dout * self.gamma / self.std, dgamma, dbeta
        dx = self.gamma / (n * self.std) * (n * dout - dbeta - self.x_norm * dgamma)
        return dx, dgamma, dbeta


@network("batch norm, training, a layer with running statistics")
def batchnorm_layer(n, H, D=4, C=3):
    rng, X, y = data(22, n)
    layer = BatchNorm(H)
    params = {
        "W1": rng.normal(size=(D, H)),
        "gamma": np.ones(H),
        "beta": np.zeros(H),
        "W2": rng.normal(size=(H, C)) / np.sqrt(H),
    }

    def forward(p):
        return np.tanh(layer.forward(X @ p["W1"], p["gamma"], p["beta"], "train"))

    def loss(p):
        return cross_entropy(forward(p) @ p["W2"], y)

    def grads(p, bug=None):
        a = forward(p)
        d = d_cross_entropy(a @ p["W2"], y)
        dx, dgamma, dbeta = layer.backward(d @ p["W2"].T * (1 - a * a), bug)
        return {"W1": X.T @ dx, "gamma": dgamma, "beta": dbeta, "W2": a.T @ d}

    return Case(loss, params, grads, {"one term of three": "W1"})


@network("batch norm, inference, with the running statistics")
def batchnorm_inference(n, H, D=4, C=3):
    rng, X, y = data(23, n)
    layer = BatchNorm(H)
    layer.running_mean, layer.running_var = rng.normal(size=H), rng.uniform(0.5, 2, H)
    params = {
        "W1": rng.normal(size=(D, H)),
        "gamma": rng.uniform(0.5, 1.5, H),
        "beta": np.zeros(H),
        "W2": rng.normal(size=(H, C)) / np.sqrt(H),
    }

    def forward(p):
        return np.tanh(layer.forward(X @ p["W1"], p["gamma"], p["beta"], mode="test"))

    def loss(p):
        return cross_entropy(forward(p) @ p["W2"], y)

    def grads(p, bug=None):
        a = forward(p)
        d = d_cross_entropy(a @ p["W2"], y)
        dout = d @ p["W2"].T * (1 - a * a)
        dx = p["gamma"] * dout / layer.std
        if bug == "the training formula":
            dx, _, _ = layer.backward(dout)
        return {
            "W1": X.T @ dx,
            "gamma": np.sum(dout * layer.x_norm, axis=0),
            "beta": np.sum(dout, axis=0),
            "W2": a.T @ d,
        }

    return Case(loss, params, grads, {"the training formula": "W1"})


@network("spatial batch norm, axes (0, 2, 3), keepdims", large=(64, 64))
def batchnorm_spatial(n, Ch, side=3):
    rng = np.random.default_rng(24)
    X = rng.normal(size=(n, 2, side, side))
    T = rng.normal(size=(n, Ch, side, side))
    params = {
        "K": rng.normal(size=(Ch, 2)),
        "gamma": rng.uniform(0.5, 1.5, (1, Ch, 1, 1)),
        "beta": rng.normal(size=(1, Ch, 1, 1)),
    }

    def forward(p):
        x = np.einsum("nchw,fc->nfhw", X, p["K"])
        mean = np.mean(x, axis=(0, 2, 3), keepdims=True)
        std = np.std(x, axis=(0, 2, 3), keepdims=True)
        return (x - mean) / (std + 1e-5), std

    def loss(p):
        xhat, _ = forward(p)
        return np.mean((p["gamma"] * xhat + p["beta"] - T) ** 2)

    def grads(p, bug=None):
        xhat, std = forward(p)
        axes, count = (0, 2, 3), n * side * side
        if bug == "samples counted, not positions":
            count = n
        dout = 2 * (p["gamma"] * xhat + p["beta"] - T) / T.size
        dgamma = np.sum(dout * xhat, axis=axes, keepdims=True)
        dxhat = dout * p["gamma"]
        s = std + 1e-5
        unit = xhat * s / std
        dx = dxhat - np.mean(dxhat, axis=axes, keepdims=True)
        dx -= unit * np.sum(dxhat * xhat, axis=axes, keepdims=True) / count
        return {
            "K": np.einsum("nfhw,nchw->fc", dx / s, X),
            "gamma": dgamma,
            "beta": np.sum(dout, axis=axes, keepdims=True),
        }

    return Case(loss, params, grads, {"samples counted, not positions": "K"})


@network("layer norm and a residual block", large=(64, 40))
def layernorm_residual(n, H, C=3):
    rng, X, y = data(25, n, D=5)
    params = {
        "W0": rng.normal(size=(5, H)) / 2,
        "g": rng.uniform(0.5, 1.5, H),
        "b": 0.1 * rng.normal(size=H),
        "W1": rng.normal(size=(H, H)) / np.sqrt(H),
        "W2": rng.normal(size=(H, C)) / np.sqrt(H),
    }

    def layer_norm(x, g, b, eps=1e-6):
        mean = x.mean(-1, keepdims=True)
        var = ((x - mean) ** 2).mean(-1, keepdims=True)
        normed = (x - mean) / np.sqrt(var + eps)
        return g * normed + b, (normed, var, eps)

    def forward(p):
        x = X @ p["W0"]
        out, cache = layer_norm(x, p["g"], p["b"])
        h = out @ p["W1"]
        r = x + np.maximum(h, 0)
        return x, out, cache, h, r

    def loss(p):
        return cross_entropy(forward(p)[-1] @ p["W2"], y)

    def grads(p, bug=None):
        _, out, (normed, var, eps), h, r = forward(p)
        d = d_cross_entropy(r @ p["W2"], y)
        dr = d @ p["W2"].T
        dh = dr * (h > 0)
        dout = dh @ p["W1"].T
        dn = dout * p["g"]
        dx = dn - dn.mean(-1, keepdims=True)
        if bug != "variance taken for a constant":
            dx -= normed * (dn * normed).mean(-1, keepdims=True)
        dx /= np.sqrt(var + eps)
        if bug != "residual path left out":
            dx += dr
        return {
            "W0": X.T @ dx,
            "g": (dout * normed).sum(0),
            "b": dout.sum(0),
            "W1": out.T @ dh,
            "W2": r.T @ d,
        }

    bugs = {"variance taken for a constant": "W0", "residual path left out": "W0"}
    return Case(loss, params, grads, bugs)


@network("RMS norm, weight norm", large=(64, 256))
def rms_weight_norm(n, H, D=4):
    rng = np.random.default_rng(26)
    X, T = rng.normal(size=(n, D)), rng.normal(size=n)
    params = {"V": rng.normal(size=(D, H)), "g": rng.uniform(0.5, 2, H), "w": rng.normal(size=H)}

    def forward(p):
        length = np.linalg.norm(p["V"], axis=0)
        W = p["g"] * p["V"] / length
        z = X @ W
        rms = np.sqrt(np.mean(z**2, axis=1, keepdims=True) + 1e-8)
        return length, z, rms, (z / rms) @ p["w"]

    def loss(p):
        return np.sum((forward(p)[-1] - T) ** 2) / (2 * n)

    def grads(p, bug=None):
        length, z, rms, out = forward(p)
        err = (out - T) / n
        du = np.outer(err, p["w"])
        u = z / rms
        dz = (du - u * np.mean(du * u, axis=1, keepdims=True)) / rms
        dW = X.T @ dz
        unit = p["V"] / length
        dg = np.sum(dW * unit, axis=0)
        dV = p["g"] / length * (dW - unit * dg)
        if bug == "norm taken for a constant":
            dV = p["g"] / length * dW
        return {"V": dV, "g": dg, "w": u.T @ err}

    return Case(loss, params, grads, {"norm taken for a constant": "V"})


@network("group norm by reshape", large=(64, 256))
def group_norm(n, H, G=2, D=4):
    rng = np.random.default_rng(27)
    X, T = rng.normal(size=(n, D)), rng.normal(size=(n, H))
    params = {"W": rng.normal(size=(D, H)), "gamma": np.ones(H) * 1.3}

    def forward(p):
        x = (X @ p["W"]).reshape(n, G, H // G)
        mean, var = x.mean(axis=2)[:, :, None], x.var(axis=2)[:, :, None]
        return (x - mean) / np.sqrt(var + 1e-5), var

    def loss(p):
        xhat, _ = forward(p)
        return ((xhat.reshape(n, H) * p["gamma"] - T) ** 2).sum(axis=1).mean()

    def grads(p, bug=None):
        xhat, var = forward(p)
        flat = xhat.reshape(n, H)
        d = 2 * (flat * p["gamma"] - T) / n
        dn = (d * p["gamma"]).reshape(xhat.shape)
        axis = 2 if bug != "mean over all groups" else (1, 2)
        dx = dn - dn.mean(axis, keepdims=True) - xhat * (dn * xhat).mean(axis, keepdims=True)
        dx = (dx / np.sqrt(var + 1e-5)).reshape(n, H)
        return {"W": X.T @ dx, "gamma": (d * flat).sum(axis=0)}

    return Case(loss, params, grads, {"mean over all groups": "W"})


@network("inverted dropout with masks that are held", large=(64, 48))
def dropout(n, H, C=3, keep=0.8):
    rng, X, y = data(28, n)
    masks = [(rng.random((n, H)) < keep) / keep for _ in range(2)]
    params = {
        "W1": rng.normal(size=(4, H)),
        "b1": np.zeros(H),
        "W2": rng.normal(size=(H, H)) / np.sqrt(H),
        "b2": np.zeros(H),
        "W3": rng.normal(size=(H, C)) / np.sqrt(H),
    }

    def forward(p):
        H1 = np.maximum(0, X.dot(p["W1"]) + p["b1"])
        H1 *= masks[0]
        H2 = np.maximum(0, H1.dot(p["W2"]) + p["b2"])
        H2 *= masks[1]
        return H1, H2, H2.dot(p["W3"])

    def loss(p):
        return cross_entropy(forward(p)[-1], y)

    def grads(p, bug=None):
        H1, H2, z = forward(p)
        d = d_cross_entropy(z, y)
        g = {"W3": H2.T.dot(d)}
        d = d.dot(p["W3"].T) * (H2 > 0)
        if bug != "second mask left out":
            d = d * masks[1]
        g["W2"], g["b2"] = H1.T.dot(d), d.sum(axis=0)
        d = d.dot(p["W2"].T) * (H1 > 0)
        d = d * (masks[0] > 0) if bug == "not scaled by keep" else d * masks[0]
        g["W1"], g["b1"] = X.T.dot(d), d.sum(axis=0)
        return g

    bugs = {"second mask left out": "W1 b1 W2 b2", "not scaled by keep": "W1 b1"}
    return Case(loss, params, grads, bugs)


@network("dropout that seeds NumPy in every forward pass")
def dropout_seeded(m, H, keep_prob=0.7):
    rng = np.random.default_rng(29)
    X = rng.normal(size=(3, m))
    Y = (rng.random((1, m)) < 0.5).astype(int)
    params = {
        "W1": rng.normal(size=(H, 3)),
        "b1": np.zeros((H, 1)),
        "W2": rng.normal(size=(1, H)) / np.sqrt(H),
        "b2": np.zeros((1, 1)),
    }

    def forward(p):
        np.random.seed(1)
        A1 = np.maximum(0, np.dot(p["W1"], X) + p["b1"])
        D1 = np.random.rand(A1.shape[0], A1.shape[1])
        D1 = (keep_prob > D1).astype(int)
        A1 = A1 * D1
        A1 = A1 / keep_prob
        A2 = 1 / (1 + np.exp(-(np.dot(p["W2"], A1) + p["b2"])))
        return D1, A1, A2

    def loss(p):
        A2 = forward(p)[-1]
        logprobs = np.multiply(-np.log(A2), Y) + np.multiply(-np.log(1 - A2), 1 - Y)
        return 1.0 / m * np.nansum(logprobs)

    def grads(p, bug=None):
        D1, A1, A2 = forward(p)
        dZ2 = A2 - Y
        dA1 = np.dot(p["W2"].T, dZ2)
        if bug != "dropout only forwards":
            dA1 = dA1 * D1 / keep_prob
        dZ1 = np.multiply(dA1, np.int64(A1 > 0))
        if bug == "dropout only forwards":
            dZ1 = dA1 * (np.dot(p["W1"], X) + p["b1"] > 0)
        return {
            "dW2": 1.0 / m * np.dot(dZ2, A1.T),
            "db2": 1.0 / m * np.sum(dZ2, axis=1, keepdims=True),
            "dW1": 1.0 / m * np.dot(dZ1, X.T),
            "db1": 1.0 / m * np.sum(dZ1, axis=1, keepdims=True),
        }

    return Case(loss, params, grads, {"dropout only forwards": "W1 b1"})


@network("residual blocks in a loop over a list of dicts", large=(64, 48))
def residual_blocks(n, H, depth=3, C=3):
    rng, X, y = data(30, n)
    params = {
        "in": rng.normal(size=(4, H)) / 2,
        "blocks": [
            {
                "W1": rng.normal(size=(H, H)) / np.sqrt(H),
                "b1": np.zeros(H),
                "W2": rng.normal(size=(H, H)) / np.sqrt(H) / 2,
            }
            for _ in range(depth)
        ],
        "out": rng.normal(size=(H, C)),
    }

    def forward(p):
        x = X @ p["in"]
        trail = []
        for block in p["blocks"]:
            h = x @ block["W1"] + block["b1"]
            a = np.maximum(h, 0.0)
            trail.append((x, h, a))
            x = x + a @ block["W2"]
        return x, trail

    def loss(p):
        x, _ = forward(p)
        return cross_entropy(x @ p["out"], y)

    def grads(p, bug=None):
        x, trail = forward(p)
        d = d_cross_entropy(x @ p["out"], y)
        dx = d @ p["out"].T
        blocks = []
        for block, (before, h, a) in zip(reversed(p["blocks"]), reversed(trail), strict=True):
            dh = dx @ block["W2"].T * (h > 0)
            blocks.insert(0, {"W1": before.T @ dh, "b1": dh.sum(0), "W2": a.T @ dx})
            dx = dh @ block["W1"].T + (0 if bug == "shortcut left out" else dx)
        return {"in": X.T @ dx, "blocks": blocks, "out": x.T @ d}

    first = " ".join(f"blocks[{k}].{name}" for k in (0, 1) for name in ("W1", "b1", "W2"))
    return Case(loss, params, grads, {"shortcut left out": f"in {first}"})


@network("densely connected block: everything before is concatenated", large=(64, 48))
def dense_block(n, H, C=3):
    rng, X, y = data(31, n, D=3)
    params = {
        "W1": rng.normal(size=(3, H)),
        "W2": rng.normal(size=(3 + H, H)) / np.sqrt(H),
        "W3": rng.normal(size=(3 + 2 * H, C)),
    }

    def forward(p):
        features = X
        for name in ("W1", "W2"):
            new = np.tanh(features @ p[name])
            features = np.hstack((features, new))
        return features

    def loss(p):
        return cross_entropy(forward(p) @ p["W3"], y)

    def grads(p, bug=None):
        f = forward(p)
        d = d_cross_entropy(f @ p["W3"], y)
        df = d @ p["W3"].T
        d2 = df[:, 3 + H :] * (1 - f[:, 3 + H :] ** 2)
        df1 = df[:, : 3 + H] + d2 @ p["W2"].T
        if bug == "only the path through the second layer":
            df1 = d2 @ p["W2"].T
        d1 = df1[:, 3:] * (1 - f[:, 3 : 3 + H] ** 2)
        return {"W1": X.T @ d1, "W2": f[:, : 3 + H].T @ d2, "W3": f.T @ d}

    return Case(loss, params, grads, {"only the path through the second layer": "W1"})


@network("highway layers with gates", large=(64, 64))
def highway(n, H, C=3):
    rng, X, y = data(32, n)
    params = {
        "E": rng.normal(size=(4, H)),
        "WH": rng.normal(size=(H, H)) / np.sqrt(H),
        "WT": rng.normal(size=(H, H)) / np.sqrt(H),
        "bT": -np.ones(H),
        "O": rng.normal(size=(H, C)),
    }

    def forward(p):
        x = X.dot(p["E"])
        h = np.maximum(x.dot(p["WH"]), 0)
        t = 1 / (1 + np.exp(-x.dot(p["WT"]) - p["bT"]))
        return x, h, t, h * t + x * (1.0 - t)

    def loss(p):
        return cross_entropy(forward(p)[-1].dot(p["O"]), y)

    def grads(p, bug=None):
        x, h, t, out = forward(p)
        d = d_cross_entropy(out.dot(p["O"]), y)
        dout = d.dot(p["O"].T)
        dh = dout * t * (h > 0)
        dt = dout * (h if bug == "carry gate forgotten" else h - x) * t * (1 - t)
        dx = dh.dot(p["WH"].T) + dt.dot(p["WT"].T) + dout * (1 - t)
        return {
            "E": X.T.dot(dx),
            "WH": x.T.dot(dh),
            "WT": x.T.dot(dt),
            "bT": dt.sum(axis=0),
            "O": out.T.dot(d),
        }

    return Case(loss, params, grads, {"carry gate forgotten": "E WT bT"})
