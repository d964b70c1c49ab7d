"""Convolutions and pooling: im2col, windows, einsum, shifted slices and plain loops."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from scipy import signal

from .case import Case, network


def softmax_loss(scores, y):
    """The loss and its derivative, as courses hand them out."""
    shifted = scores - np.max(scores, axis=1, keepdims=True)
    Z = np.sum(np.exp(shifted), axis=1, keepdims=True)
    log_probs = shifted - np.log(Z)
    N = scores.shape[0]
    loss = -np.sum(log_probs[np.arange(N), y]) / N
    dx = np.exp(log_probs)
    dx[np.arange(N), y] -= 1
    return loss, dx / N


# -- im2col ----------------------------------------------------------------------------------------


def im2col_indices(shape, hh, ww, padding, stride):
    _, C, H, W = shape
    out_h = (H + 2 * padding - hh) // stride + 1
    out_w = (W + 2 * padding - ww) // stride + 1
    i0 = np.tile(np.repeat(np.arange(hh), ww), C)
    i1 = stride * np.repeat(np.arange(out_h), out_w)
    j0 = np.tile(np.arange(ww), hh * C)
    j1 = stride * np.tile(np.arange(out_w), out_h)
    i = i0.reshape(-1, 1) + i1.reshape(1, -1)
    j = j0.reshape(-1, 1) + j1.reshape(1, -1)
    k = np.repeat(np.arange(C), hh * ww).reshape(-1, 1)
    return k, i, j


def im2col(x, hh, ww, padding, stride):
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), mode="constant")
    k, i, j = im2col_indices(x.shape, hh, ww, padding, stride)
    return padded[:, k, i, j].transpose(1, 2, 0).reshape(hh * ww * x.shape[1], -1)


def col2im(cols, shape, hh, ww, padding, stride, add=True):
    N, C, H, W = shape
    padded = np.zeros((N, C, H + 2 * padding, W + 2 * padding))
    k, i, j = im2col_indices(shape, hh, ww, padding, stride)
    cols = cols.reshape(C * hh * ww, -1, N).transpose(2, 0, 1)
    if add:
        np.add.at(padded, (slice(None), k, i, j), cols)
    else:
        padded[:, k, i, j] = cols
    return padded[:, :, padding:-padding, padding:-padding] if padding else padded


class LeNet:
    """conv – ReLU – 2×2 max pool – conv – ReLU – dense, by im2col."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def conv_forward(self, x, w, b, padding):
        N, _, H, W = x.shape
        F, _, hh, ww = w.shape
        cols = im2col(x, hh, ww, padding, 1)
        out = w.reshape(F, -1).dot(cols) + b.reshape(-1, 1)
        out = out.reshape(F, H + 2 * padding - hh + 1, W + 2 * padding - ww + 1, N)
        return out.transpose(3, 0, 1, 2), (x.shape, w, cols, padding)

    def conv_backward(self, dout, cache, add=True):
        shape, w, cols, padding = cache
        F, _, hh, ww = w.shape
        db = np.sum(dout, axis=(0, 2, 3))
        rows = dout.transpose(1, 2, 3, 0).reshape(F, -1)
        dw = rows.dot(cols.T).reshape(w.shape)
        dcols = w.reshape(F, -1).T.dot(rows)
        return col2im(dcols, shape, hh, ww, padding, 1, add), dw, db

    def forward(self, p):
        a1, self.cache1 = self.conv_forward(self.X, p["W1"], p["b1"], 1)
        self.r1 = np.maximum(0, a1)
        N, C, H, W = self.r1.shape
        self.blocks = self.r1.reshape(N, C, H // 2, 2, W // 2, 2)
        self.pool = self.blocks.max(axis=3).max(axis=4)
        a2, self.cache2 = self.conv_forward(self.pool, p["W2"], p["b2"], 0)
        self.r2 = np.maximum(0, a2)
        self.flat = self.r2.reshape(N, -1)
        return self.flat.dot(p["W3"]) + p["b3"]

    def loss(self, p):
        return softmax_loss(self.forward(p), self.y)[0]

    def grads(self, p, bug=None):
        _, d = softmax_loss(self.forward(p), self.y)
        g = {"W3": self.flat.T.dot(d), "b3": d.sum(axis=0)}
        d = d.dot(p["W3"].T).reshape(self.r2.shape)
        if bug != "no ReLU":
            d = d * (self.r2 > 0)
        add = bug != "overlapping windows overwritten"
        d, g["W2"], g["b2"] = self.conv_backward(d, self.cache2, add)
        mask = self.blocks == self.pool[:, :, :, np.newaxis, :, np.newaxis]
        d = (mask * d[:, :, :, np.newaxis, :, np.newaxis]).reshape(self.r1.shape)
        _, g["W1"], g["b1"] = self.conv_backward(d * (self.r1 > 0), self.cache1)
        return g


@network("LeNet by im2col with fancy indexing", large=(64, 12))
def lenet_im2col(N, F, side=6, C=3):
    rng = np.random.default_rng(11)
    net = LeNet(rng.normal(size=(N, 1, side, side)), rng.integers(C, size=N))
    params = {
        "W1": rng.normal(size=(F, 1, 3, 3)) / 3,
        "b1": 0.1 * rng.normal(size=F),
        "W2": rng.normal(size=(F, F, 2, 2)) / 3,
        "b2": 0.1 * rng.normal(size=F),
        "W3": rng.normal(size=(F * (side // 2 - 1) ** 2, C)) / 3,
        "b3": np.zeros(C),
    }
    bugs = {"no ReLU": "W1 b1 W2 b2", "overlapping windows overwritten": "W1 b1"}
    return Case(net.loss, params, net.grads, bugs)


# -- other ways to convolve ------------------------------------------------------------------------


@network(
    "LeNet by sliding_window_view and tensordot, average pooling",
    large=(64, 12),
)
def lenet_windows(n, F, side=8, C=3):
    rng = np.random.default_rng(12)
    X = rng.normal(size=(n, side, side, 2))
    Y = np.eye(C)[rng.integers(C, size=n)]
    inner = (side - 2) // 2 - 1
    params = {
        "K1": rng.normal(size=(3, 3, 2, F)) / 4,
        "c1": np.zeros(F),
        "K2": rng.normal(size=(2, 2, F, F)) / 4,
        "c2": np.zeros(F),
        "W": rng.normal(size=(inner * inner * F, C)),
        "b": np.zeros(C),
    }

    def conv(x, k):
        windows = sliding_window_view(x, k.shape[:2], axis=(1, 2))  # n, y, x, channel, i, j
        return np.tensordot(windows, k, axes=((3, 4, 5), (2, 0, 1))), windows

    def forward(p):
        z1, w1 = conv(X, p["K1"])
        a1 = np.tanh(z1 + p["c1"])
        s = a1.shape
        pooled = a1.reshape(n, s[1] // 2, 2, s[2] // 2, 2, F).mean(axis=(2, 4))
        z2, w2 = conv(pooled, p["K2"])
        a2 = np.tanh(z2 + p["c2"])
        logits = a2.reshape(n, -1) @ p["W"] + p["b"]
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        return w1, a1, w2, a2, e / e.sum(axis=1, keepdims=True)

    def loss(p):
        return -np.sum(Y * np.log(forward(p)[-1] + 1e-12)) / n

    def grads(p, bug=None):
        w1, a1, w2, a2, probs = forward(p)
        right = np.sum(probs * Y, axis=1, keepdims=True)
        d = (probs - Y) * right / (right + 1e-12) / n
        g = {"W": a2.reshape(n, -1).T @ d, "b": d.sum(0)}
        d2 = (d @ p["W"].T).reshape(a2.shape) * (1 - a2**2)
        g["K2"] = np.einsum("nyxcij,nyxf->ijcf", w2, d2)
        g["c2"] = d2.sum(axis=(0, 1, 2))
        padded = np.pad(d2, ((0, 0), (1, 1), (1, 1), (0, 0)))
        turned = p["K2"] if bug == "kernel not turned" else p["K2"][::-1, ::-1]
        dpool, _ = conv(padded, turned.transpose(0, 1, 3, 2))
        share = 1.0 if bug == "average pooling not divided" else 0.25
        da1 = share * dpool.repeat(2, axis=1).repeat(2, axis=2)
        d1 = da1 * (1 - a1**2)
        g["K1"] = np.einsum("nyxcij,nyxf->ijcf", w1, d1)
        g["c1"] = d1.sum(axis=(0, 1, 2))
        return g

    bugs = {"kernel not turned": "K1 c1", "average pooling not divided": "K1 c1"}
    return Case(loss, params, grads, bugs)


@network("CNN by einsum over windows, max pooling by argmax", no_kernel="K b", large=(64, 32))
def cnn_einsum(n, F, side=6, C=2):
    rng = np.random.default_rng(13)
    X = rng.normal(size=(n, side, side))
    y = rng.integers(C, size=n)
    half = (side - 2) // 2
    params = {
        "K": rng.normal(size=(F, 3, 3)) / 3,
        "b": rng.normal(size=F) * 0.1,
        "W": rng.normal(size=(F, half, half, C)),
    }
    windows = sliding_window_view(X, (3, 3), axis=(1, 2))

    def forward(p):
        z = np.einsum("nyxij,fij->nfyx", windows, p["K"]) + p["b"][None, :, None, None]
        a = np.where(z > 0, z, 0.01 * z)
        blocks = a.reshape(n, F, half, 2, half, 2).transpose(0, 1, 2, 4, 3, 5)
        blocks = blocks.reshape(n, F, half, half, 4)
        best = np.argmax(blocks, axis=-1)
        pooled = np.take_along_axis(blocks, best[..., None], axis=-1)[..., 0]
        return z, best, pooled, np.einsum("nfyx,fyxc->nc", pooled, p["W"])

    def loss(p):
        return softmax_loss(forward(p)[-1], y)[0]

    def grads(p, bug=None):
        z, best, pooled, scores = forward(p)
        d = softmax_loss(scores, y)[1]
        dpooled = np.einsum("nc,fyxc->nfyx", d, p["W"])
        dblocks = np.zeros((n, F, half, half, 4))
        where = np.zeros_like(best) if bug == "first place for the largest" else best
        np.put_along_axis(dblocks, where[..., None], dpooled[..., None], axis=-1)
        da = dblocks.reshape(n, F, half, half, 2, 2).transpose(0, 1, 2, 4, 3, 5)
        dz = da.reshape(z.shape) * np.where(z > 0, 1, 0 if bug == "ReLU for leaky ReLU" else 0.01)
        return {
            "K": np.einsum("nyxij,nfyx->fij", windows, dz),
            "b": dz.sum((0, 2, 3)),
            "W": np.einsum("nfyx,nc->fyxc", pooled, d),
        }

    bugs = {"first place for the largest": "K b", "ReLU for leaky ReLU": "K b"}
    return Case(loss, params, grads, bugs)


@network(
    "CNN by four nested loops, max pooling by np.max of slices",
    no_kernel="W",
    large=(64, 8, 6, 10, 3, 3),
)
def cnn_loops(m, F, side=5, C=2, depth=1, k=2):
    rng = np.random.default_rng(14)
    X = rng.normal(size=(m, side, side, depth))
    Y = np.eye(C)[rng.integers(C, size=m)]
    n_h = side - k + 1
    params = {
        "W": rng.normal(size=(k, k, depth, F)) / k,
        "b": rng.normal(size=(1, 1, 1, F)) * 0.1,
        "V": rng.normal(size=((n_h // 2) ** 2 * F, C)),
    }

    def conv_single_step(a_slice, W, b):
        return np.sum(np.multiply(a_slice, W)) + b[0, 0, 0]

    def forward(p):
        Z = np.zeros((m, n_h, n_h, F))
        for i in range(m):
            for h in range(n_h):
                for w in range(n_h):
                    for c in range(F):
                        a_slice = X[i, h : h + k, w : w + k, :]
                        Z[i, h, w, c] = conv_single_step(a_slice, p["W"][..., c], p["b"][..., c])
        A = np.maximum(Z, 0)
        P = np.zeros((m, n_h // 2, n_h // 2, F))
        for i in range(m):
            for h in range(n_h // 2):
                for w in range(n_h // 2):
                    for c in range(F):
                        P[i, h, w, c] = np.max(A[i, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2, c])
        e = np.exp(np.dot(P.reshape(m, -1), p["V"]))
        return Z, A, P, e / np.sum(e, axis=1, keepdims=True)

    def loss(p):
        return -1.0 / m * np.sum(Y * np.log(forward(p)[-1]))

    def grads(p, bug=None):
        Z, A, P, probs = forward(p)
        d = (probs - Y) / m
        dP = np.dot(d, p["V"].T).reshape(P.shape)
        dA = np.zeros(A.shape)
        for i in range(m):
            for h in range(n_h // 2):
                for w in range(n_h // 2):
                    for c in range(F):
                        a_slice = A[i, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2, c]
                        mask = a_slice == np.max(a_slice)
                        if bug == "everything in the window":
                            mask = np.ones((2, 2))
                        dA[i, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2, c] += mask * dP[i, h, w, c]
        dZ = dA * (Z > 0)
        dW, db = np.zeros_like(p["W"]), np.zeros_like(p["b"])
        for i in range(m):
            for h in range(n_h):
                for w in range(n_h):
                    for c in range(F):
                        dW[:, :, :, c] += X[i, h : h + k, w : w + k, :] * dZ[i, h, w, c]
                        if bug == "bias assigned, not added":
                            db[:, :, :, c] = dZ[i, h, w, c]
                        else:
                            db[:, :, :, c] += dZ[i, h, w, c]
        return {"dW": dW, "db": db, "dV": np.dot(P.reshape(m, -1).T, d)}

    bugs = {"everything in the window": "W b", "bias assigned, not added": "b"}
    return Case(loss, params, grads, bugs)


@network("CNN by slices over the output's positions, with stride and padding", large=(64, 48))
def cnn_positions(n, F, side=5, C=3, stride=2, pad=1):
    rng = np.random.default_rng(15)
    X = np.pad(rng.normal(size=(n, 2, side, side)), [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    y = rng.integers(C, size=n)
    out = (side + 2 * pad - 3) // stride + 1
    params = {
        "W": rng.normal(size=(F, 2, 3, 3)) / 4,
        "b": np.zeros(F),
        "V": rng.normal(size=(F, C)),
        "c": np.zeros(C),
    }

    def forward(p):
        z = np.empty((n, F, out, out))
        for i in range(out):
            for j in range(out):
                r, c = i * stride, j * stride
                region = X[:, :, r : r + 3, c : c + 3].reshape(n, -1)
                z[:, :, i, j] = region @ p["W"].reshape(F, -1).T + p["b"]
        a = z.copy()
        a[a < 0] = 0
        pooled = a.mean(axis=(2, 3))  # global average pooling
        return z, pooled, pooled @ p["V"] + p["c"]

    def loss(p):
        return softmax_loss(forward(p)[-1], y)[0]

    def grads(p, bug=None):
        z, pooled, scores = forward(p)
        d = softmax_loss(scores, y)[1]
        g = {"V": pooled.T @ d, "c": d.sum(axis=0), "W": np.zeros_like(p["W"])}
        dz = np.repeat((d @ p["V"].T)[:, :, None], out * out, axis=2).reshape(z.shape)
        dz = dz * (z > 0) / (1 if bug == "mean taken for a sum" else out * out)
        step = 1 if bug == "stride left out" else stride
        for i in range(out):
            for j in range(out):
                region = X[:, :, i * step : i * step + 3, j * step : j * step + 3]
                g["W"] += np.tensordot(dz[:, :, i, j], region, axes=(0, 0))
        g["b"] = dz.sum(axis=(0, 2, 3))
        return g

    return Case(loss, params, grads, {"mean taken for a sum": "W b", "stride left out": "W"})


@network("CNN by slices over the kernel's positions, added up", large=(64, 32))
def cnn_kernel_positions(n, F, side=6):
    rng = np.random.default_rng(16)
    X = rng.normal(size=(n, 1, side, side))
    T = rng.normal(size=(n, 1, side, side))
    params = {"K1": rng.normal(size=(F, 1, 3, 3)) / 3, "K2": rng.normal(size=(1, F, 3, 3)) / 3}

    def conv_same(x, k):
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        out = np.zeros((n, k.shape[0], side, side))
        for i in range(3):
            for j in range(3):
                patch = padded[:, :, i : i + side, j : j + side]
                out += np.einsum("nchw,fc->nfhw", patch, k[:, :, i, j])
        return out

    def conv_same_backward(d, x, k):
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        dpadded, dk = np.zeros_like(padded), np.zeros_like(k)
        for i in range(3):
            for j in range(3):
                patch = padded[:, :, i : i + side, j : j + side]
                dk[:, :, i, j] = np.einsum("nfhw,nchw->fc", d, patch)
                dpadded[:, :, i : i + side, j : j + side] += np.einsum(
                    "nfhw,fc->nchw", d, k[:, :, i, j]
                )
        return dpadded[:, :, 1:-1, 1:-1], dk

    def loss(p):
        hidden = conv_same(X, p["K1"])
        hidden *= hidden > 0
        return np.sum((X + conv_same(hidden, p["K2"]) - T) ** 2) / (2 * n)

    def grads(p, bug=None):
        z = conv_same(X, p["K1"])
        hidden = z * (z > 0)
        d = (X + conv_same(hidden, p["K2"]) - T) / n
        if bug == "residual forgotten in the derivative":
            d = (conv_same(hidden, p["K2"]) - T) / n
        dhidden, dK2 = conv_same_backward(d, hidden, p["K2"])
        _, dK1 = conv_same_backward(dhidden * (z > 0), X, p["K1"])
        return {"K1": dK1, "K2": dK2}

    return Case(loss, params, grads, {"residual forgotten in the derivative": "K1 K2"})


@network("1-D convolution over time, max over time", large=(64, 128))
def text_cnn(n, F, T=7, D=3, width=3):
    rng = np.random.default_rng(17)
    X = rng.normal(size=(n, T, D))
    y = (rng.random(n) < 0.5).astype(float)
    params = {
        "W": rng.normal(size=(width * D, F)) / 3,
        "b": np.zeros(F),
        "v": rng.normal(size=F),
    }
    windows = np.array([X[:, t : t + width].reshape(n, -1) for t in range(T - width + 1)])

    def forward(p):
        conv = np.maximum(windows @ p["W"] + p["b"], 0)
        over_time = conv.max(axis=0)
        return conv, over_time, 1 / (1 + np.exp(-(over_time @ p["v"])))

    def loss(p):
        a = forward(p)[-1]
        return -(y * np.log(a) + (1 - y) * np.log(1 - a)).mean()

    def grads(p, bug=None):
        conv, over_time, a = forward(p)
        dz = (a - y) / (1 if bug == "not averaged" else n)
        dover = np.outer(dz, p["v"]) * (over_time > 0)
        best = conv.argmax(axis=0)
        dW = np.zeros_like(p["W"])
        for s in range(n):
            for f in range(F):
                dW[:, f] += dover[s, f] * windows[best[s, f], s]
        return {"W": dW, "b": dover.sum(axis=0), "v": over_time.T @ dz}

    return Case(loss, params, grads, {"not averaged": "W b v"})


@network("max pooling by nested loops and np.unravel_index", no_kernel="all", large=(64, 16))
def pooling_unravel(n, F, side=4):
    n = min(n, 8)
    rng = np.random.default_rng(18)
    X, T = rng.normal(size=(n, 3)), rng.normal(size=(n, F))
    params = {"W": rng.normal(size=(3, F * side * side))}

    def forward(p):
        maps = np.tanh(X.dot(p["W"])).reshape(n, F, side, side)
        out = np.zeros((n, F))
        where = np.zeros((n, F, 2), dtype=int)
        for i in range(n):
            for f in range(F):
                spot = np.unravel_index(np.argmax(maps[i, f]), (side, side))
                where[i, f] = spot
                out[i, f] = maps[i, f][spot]
        return maps, out, where

    def loss(p):
        return np.mean(np.abs(forward(p)[1] - T))

    def grads(p, bug=None):
        maps, out, where = forward(p)
        d = np.zeros_like(maps)
        for i in range(n):
            for f in range(F):
                r, c = where[i, f] if bug != "row and column swapped" else where[i, f][::-1]
                d[i, f, r, c] = np.sign(out[i, f] - T[i, f]) / out.size
        return {"W": X.T.dot((d * (1 - maps**2)).reshape(n, -1))}

    return Case(loss, params, grads, {"row and column swapped": "W"})


@network("transposed convolution that adds blocks up", large=(64, 256))
def deconvolution(n, F, side=3):
    rng = np.random.default_rng(19)
    Z = rng.normal(size=(n, F))
    T = rng.random(size=(n, 2 * side + 1, 2 * side + 1))
    params = {
        "W": rng.normal(size=(F, side * side)) / np.sqrt(F),
        "K": rng.normal(size=(3, 3)) / 2,
    }

    def forward(p):
        seed = np.maximum(0.1 * (Z @ p["W"]), Z @ p["W"]).reshape(n, side, side)
        image = np.zeros((n, 2 * side + 1, 2 * side + 1))
        for r in range(side):
            for c in range(side):
                block = seed[:, r, c, None, None] * p["K"]
                image[:, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3] += block
        return seed, 1 / (1 + np.exp(-image))

    def loss(p):
        a = np.clip(forward(p)[1], 1e-7, 1 - 1e-7)
        return -np.mean(np.sum(T * np.log(a) + (1 - T) * np.log(1 - a), axis=(1, 2)))

    def grads(p, bug=None):
        seed, a = forward(p)
        d = (a - T) / n
        dseed, dK = np.zeros_like(seed), np.zeros((3, 3))
        for r in range(side):
            for c in range(side):
                block = d[:, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3]
                dseed[:, r, c] = np.sum(block * p["K"], axis=(1, 2))
                dK += np.einsum("n,nij->ij", seed[:, r, c], block)
        if bug != "no leak":
            dseed = np.where(seed > 0, dseed, 0.1 * dseed)
        else:
            dseed = np.where(seed > 0, dseed, 0)
        return {"W": Z.T @ dseed.reshape(n, -1), "K": dK.T if bug == "kernel transposed" else dK}

    return Case(loss, params, grads, {"no leak": "W", "kernel transposed": "K"})


@network(
    "convolutions by scipy.signal.correlate2d, channel by channel",
    no_kernel="K",
    large=(16, 32),
)
def scipy_correlate(n, F, side=5, C=2):
    rng = np.random.default_rng(111)
    X, y = rng.normal(size=(n, 2, side, side)), rng.integers(C, size=n)
    inner = side - 2
    params = {
        "K": rng.normal(size=(F, 2, 3, 3)) / 4,
        "b": rng.normal(size=(F, inner, inner)) * 0.1,
        "W": rng.normal(size=(F * inner * inner, C)),
    }

    def forward(p):
        out = np.zeros((n, F, inner, inner))
        for s in range(n):
            for f in range(F):
                out[s, f] = p["b"][f]
                for c in range(2):
                    out[s, f] += signal.correlate2d(X[s, c], p["K"][f, c], "valid")
        a = 1 / (1 + np.exp(-out))
        return a, a.reshape(n, -1) @ p["W"]

    def loss(p):
        return softmax_loss(forward(p)[1], y)[0]

    def grads(p, bug=None):
        a, z = forward(p)
        d = softmax_loss(z, y)[1]
        dz = (d @ p["W"].T).reshape(a.shape) * a * (1 - a)
        dK = np.zeros_like(p["K"])
        for s in range(n):
            for f in range(F):
                for c in range(2):
                    if bug == "convolved, not correlated":
                        dK[f, c] += signal.convolve2d(X[s, c], dz[s, f], "valid")
                    else:
                        dK[f, c] += signal.correlate2d(X[s, c], dz[s, f], "valid")
        return {"K": dK, "b": dz.sum(axis=0), "W": a.reshape(n, -1).T @ d}

    return Case(loss, params, grads, {"convolved, not correlated": "K"})


@network(
    "im2col by as_strided, of an inner layer too",
    large=(64, 48),
)
def strided(n, F, side=6):
    rng = np.random.default_rng(112)
    X, T = rng.normal(size=(n, side, side, 1)), rng.normal(size=(n, side - 3))
    params = {"K1": rng.normal(size=(3, 3, 1, F)) / 3, "K2": rng.normal(size=(2, 2, F, side - 3))}

    def windows(x, k):
        m, h, w, c = x.shape
        s0, s1, s2, s3 = x.strides
        shape = (m, h - k + 1, w - k + 1, k, k, c)
        return as_strided(x, shape=shape, strides=(s0, s1, s2, s1, s2, s3))

    def forward(p):
        cols1 = windows(X, 3)
        a = np.maximum(np.tensordot(cols1, p["K1"], axes=3), 0)
        cols2 = windows(a, 2)
        return cols1, a, cols2, np.tensordot(cols2, p["K2"], axes=3).mean(axis=(1, 2))

    def loss(p):
        return np.mean((forward(p)[-1] - T) ** 2)

    def grads(p, bug=None):
        cols1, a, cols2, out = forward(p)
        dz = np.zeros(cols2.shape[:3] + T.shape[1:])
        dz += (2 * (out - T) / T.size)[:, None, None]
        if bug != "mean over positions not divided":
            dz /= dz.shape[1] * dz.shape[2]
        da = np.zeros_like(a)
        for i in range(2):
            for j in range(2):
                h, w = dz.shape[1:3]
                da[:, i : i + h, j : j + w] += dz @ p["K2"][i, j].T
        da *= a > 0
        return {
            "K1": np.tensordot(cols1, da, axes=((0, 1, 2), (0, 1, 2))),
            "K2": np.tensordot(cols2, dz, axes=((0, 1, 2), (0, 1, 2))),
        }

    return Case(loss, params, grads, {"mean over positions not divided": "K1 K2"})
