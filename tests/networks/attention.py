"""Attention: scaled dot products with masks, several heads, additive scores."""

from __future__ import annotations

import numpy as np

from .case import Case, network


def softmax(x, axis=-1):
    x = x - np.max(x, axis=axis, keepdims=True)
    e = np.exp(x)
    return e / np.sum(e, axis=axis, keepdims=True)


def d_softmax(d, s):
    return s * (d - np.sum(d * s, axis=-1, keepdims=True))


def _weights(rng, D, H, C):
    return {
        "Wq": rng.normal(size=(D, H)) / np.sqrt(D),
        "Wk": rng.normal(size=(D, H)) / np.sqrt(D),
        "Wv": rng.normal(size=(D, H)) / np.sqrt(D),
        "Wo": rng.normal(size=(H, C)) / np.sqrt(H),
    }


@network("causal self-attention, np.tril and np.where", large=(64, 128))
def causal(B, H, T=5, D=4, C=3):
    rng = np.random.default_rng(41)
    X = rng.normal(size=(B, T, D))
    y = rng.integers(C, size=(B, T))
    mask = np.tril(np.ones((T, T), dtype=bool))
    rows, columns = np.arange(B)[:, None], np.arange(T)[None, :]
    params = _weights(rng, D, H, C)

    def forward(p):
        q, k, v = X @ p["Wq"], X @ p["Wk"], X @ p["Wv"]
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(H)
        scores = np.where(mask, scores, -np.inf)
        A = softmax(scores)
        out = A @ v
        return q, k, v, A, out, softmax(out @ p["Wo"])

    def loss(p):
        probs = forward(p)[-1]
        return -np.log(probs[rows, columns, y]).mean()

    def grads(p, bug=None):
        q, k, v, A, out, probs = forward(p)
        d = probs.copy()
        d[rows, columns, y] -= 1
        d /= B * T
        dout = d @ p["Wo"].T
        dA = dout @ v.transpose(0, 2, 1)
        dS = d_softmax(dA, A) if bug != "softmax taken for elementwise" else dA * A * (1 - A)
        if bug != "not divided by the root of the width":
            dS = dS / np.sqrt(H)
        return {
            "Wq": np.einsum("btd,bth->dh", X, dS @ k),
            "Wk": np.einsum("btd,bth->dh", X, dS.transpose(0, 2, 1) @ q),
            "Wv": np.einsum("btd,bth->dh", X, A.transpose(0, 2, 1) @ dout),
            "Wo": np.einsum("bth,btc->hc", out, d),
        }

    bugs = {
        "softmax taken for elementwise": "Wq Wk",
        "not divided by the root of the width": "Wq Wk",
    }
    return Case(loss, params, grads, bugs)


@network("causal self-attention, -1e9 added above the diagonal", large=(64, 64))
def causal_additive_mask(B, H, T=4, D=4, C=2):
    rng = np.random.default_rng(42)
    X, Y = rng.normal(size=(B, T, D)), rng.normal(size=(B, T, C))
    mask = np.triu(np.full((T, T), -1e9), k=1)
    params = _weights(rng, D, H, C)

    def forward(p):
        q, k, v = np.matmul(X, p["Wq"]), np.matmul(X, p["Wk"]), np.matmul(X, p["Wv"])
        A = softmax(np.matmul(q, np.swapaxes(k, -1, -2)) * H**-0.5 + mask)
        out = np.matmul(A, v)
        return q, k, v, A, out, np.matmul(out, p["Wo"])

    def loss(p):
        return 0.5 * np.sum((forward(p)[-1] - Y) ** 2) / B

    def grads(p, bug=None):
        q, k, v, A, out, pred = forward(p)
        d = (pred - Y) / B
        dout = d @ p["Wo"].T
        dS = d_softmax(dout @ v.swapaxes(-1, -2), A) * H**-0.5
        if bug == "queries and keys swapped":
            q, k = k, q
        flat = X.reshape(-1, D).T
        return {
            "Wq": flat @ (dS @ k).reshape(-1, H),
            "Wk": flat @ (dS.swapaxes(-1, -2) @ q).reshape(-1, H),
            "Wv": flat @ (A.swapaxes(-1, -2) @ dout).reshape(-1, H),
            "Wo": out.reshape(-1, H).T @ d.reshape(-1, C),
        }

    return Case(loss, params, grads, {"queries and keys swapped": "Wq Wk"})


@network("multi-head attention, layer norm and a ReLU block", no_kernel="Wqkv g b", large=(64, 16))
def transformer_block(B, H, T=3, heads=2, C=3):
    H = max(4, H // heads * heads)
    rng = np.random.default_rng(43)
    X = rng.normal(size=(B, T, H))
    y = rng.integers(C, size=B)
    dh = H // heads
    shapes = {"Wqkv": (H, 3 * H), "Wo": (H, H), "W1": (H, 2 * H), "W2": (2 * H, H), "Wc": (H, C)}
    params = {k: rng.normal(size=s) / np.sqrt(s[0]) for k, s in shapes.items()}
    params |= {"g": rng.uniform(0.5, 1.5, H), "b": 0.1 * rng.normal(size=H)}

    def split_heads(x):
        return x.reshape(B, T, heads, dh).transpose(0, 2, 1, 3)

    def merge_heads(x):
        return x.transpose(0, 2, 1, 3).reshape(B, T, H)

    def norm(x):
        mean = x.mean(axis=-1, keepdims=True)
        std = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        return (x - mean) / std, std

    def forward(p):
        xhat, _ = norm(X)
        ln = xhat * p["g"] + p["b"]
        q, k, v = map(split_heads, np.split(ln @ p["Wqkv"], 3, axis=-1))
        A = softmax(np.einsum("bhid,bhjd->bhij", q, k) / np.sqrt(dh))
        merged = merge_heads(np.einsum("bhij,bhjd->bhid", A, v))
        x1 = X + merged @ p["Wo"]
        h = x1 @ p["W1"]
        a = np.maximum(h, 0)
        x2 = x1 + a @ p["W2"]
        return xhat, ln, q, k, v, A, merged, x1, h, a, x2, x2.mean(axis=1) @ p["Wc"]

    def loss(p):
        return -np.mean(np.log(softmax(forward(p)[-1]))[np.arange(B), y])

    def grads(p, bug=None):
        xhat, ln, q, k, v, A, merged, x1, h, a, x2, z = forward(p)
        d = softmax(z)
        d[np.arange(B), y] -= 1
        d /= B
        g = {"Wc": x2.mean(axis=1).T @ d}
        dx2 = np.repeat((d @ p["Wc"].T)[:, None, :] / T, T, axis=1)
        dhid = dx2 @ p["W2"].T * (h > 0)
        dx1 = dhid @ p["W1"].T
        if bug != "shortcut left out":
            dx1 = dx1 + dx2
        dmerged = split_heads(dx1 @ p["Wo"].T)
        dA = np.einsum("bhid,bhjd->bhij", dmerged, v)
        dS = d_softmax(dA, A) / np.sqrt(H if bug == "root of the whole width" else dh)
        dqkv = np.concatenate(
            [
                merge_heads(np.einsum("bhij,bhjd->bhid", dS, k)),
                merge_heads(np.einsum("bhij,bhid->bhjd", dS, q)),
                merge_heads(np.einsum("bhij,bhid->bhjd", A, dmerged)),
            ],
            axis=-1,
        )
        dln = dqkv @ p["Wqkv"].T
        sums = "bti,btj->ij"
        return g | {
            "W2": np.einsum(sums, a, dx2),
            "W1": np.einsum(sums, x1, dhid),
            "Wo": np.einsum(sums, merged, dx1),
            "Wqkv": np.einsum(sums, ln, dqkv),
            "g": np.sum(dln * xhat, axis=(0, 1)),
            "b": np.sum(dln, axis=(0, 1)),
        }

    bugs = {
        "shortcut left out": "Wqkv Wo g b",
        "root of the whole width": "Wqkv g b",
    }
    return Case(loss, params, grads, bugs)


@network("attention head by head, joined at the end", large=(64, 48))
def heads_in_a_loop(B, H, T=4, D=3):
    rng = np.random.default_rng(44)
    X, Y = rng.normal(size=(B, T, D)), rng.normal(size=(B, T, D))
    params = {
        "heads": [tuple(rng.normal(size=(D, H)) / np.sqrt(D) for _ in range(3)) for _ in range(2)],
        "Wo": rng.normal(size=(2 * H, D)) / np.sqrt(H),
    }

    def head(Wq, Wk, Wv):
        q, k, v = X.dot(Wq), X.dot(Wk), X.dot(Wv)
        A = softmax(np.einsum("bih,bjh->bij", q, k) / H**0.5)
        return q, k, v, A, np.einsum("bij,bjh->bih", A, v)

    def loss(p):
        joined = np.concatenate([head(*ws)[-1] for ws in p["heads"]], axis=2)
        return np.mean(np.square(joined.dot(p["Wo"]) - Y))

    def grads(p, bug=None):
        found = [head(*ws) for ws in p["heads"]]
        joined = np.concatenate([f[-1] for f in found], axis=2)
        d = 2 * (joined.dot(p["Wo"]) - Y) / Y.size
        g = {"heads": [], "Wo": np.einsum("bth,btd->hd", joined, d)}
        dj = d.dot(p["Wo"].T)
        for i, (q, k, v, A, _) in enumerate(found):
            part = dj[..., :H] if bug == "first half for both heads" else dj[..., i * H : i * H + H]
            dS = d_softmax(np.einsum("bih,bjh->bij", part, v), A) / H**0.5
            g["heads"].append(
                (
                    np.einsum("bid,bij,bjh->dh", X, dS, k),
                    np.einsum("bjd,bij,bih->dh", X, dS, q),
                    np.einsum("bjd,bij,bih->dh", X, A, part),
                )
            )
        return g

    bugs = {"first half for both heads": "heads[1][0] heads[1][1] heads[1][2]"}
    return Case(loss, params, grads, bugs)


@network("additive attention over an RNN's states", large=(64, 48))
def additive(B, H, T=4, D=3, C=3):
    rng = np.random.default_rng(45)
    X = rng.normal(size=(T, B, D))
    Y = np.eye(C)[rng.integers(C, size=B)]
    params = {
        "U": rng.normal(size=(D, H)) / np.sqrt(D),
        "W": rng.normal(size=(H, H)) / np.sqrt(H),
        "Wa": rng.normal(size=(H, H)) / np.sqrt(H),
        "va": rng.normal(size=H),
        "V": rng.normal(size=(H, C)),
    }

    def forward(p):
        h, hs = np.zeros((B, H)), []
        for x in X:
            h = np.tanh(x @ p["U"] + h @ p["W"])
            hs.append(h)
        hs = np.stack(hs)
        u = np.tanh(hs @ p["Wa"])
        alpha = softmax(u @ p["va"], axis=0)
        context = (alpha[:, :, None] * hs).sum(axis=0)
        return hs, u, alpha, context, softmax(context @ p["V"])

    def loss(p):
        return -np.sum(Y * np.log(forward(p)[-1])) / B

    def grads(p, bug=None):
        hs, u, alpha, context, probs = forward(p)
        d = (probs - Y) / B
        dcontext = d @ p["V"].T
        dhs = alpha[:, :, None] * dcontext
        dalpha = np.einsum("tbh,bh->tb", hs, dcontext)
        de = alpha * (dalpha - (alpha * dalpha).sum(axis=0))
        du = de[:, :, None] * p["va"] * (1 - u**2)
        if bug != "states through the scores left out":
            dhs = dhs + du @ p["Wa"].T
        dU, dW, carry = np.zeros_like(p["U"]), np.zeros_like(p["W"]), 0
        for t in reversed(range(T)):
            dz = (dhs[t] + carry) * (1 - hs[t] ** 2)
            dU += X[t].T @ dz
            if t:
                dW += hs[t - 1].T @ dz
            carry = dz @ p["W"].T
        return {
            "U": dU,
            "W": dW,
            "Wa": np.einsum("tbh,tbk->hk", hs, du),
            "va": np.einsum("tbh,tb->h", u, de),
            "V": context.T @ d,
        }

    return Case(loss, params, grads, {"states through the scores left out": "U W"})


@network("cross attention of one query, sample by sample", large=(64, 64))
def per_sample(B, H, D=3):
    rng = np.random.default_rng(46)
    keys = [rng.normal(size=(rng.integers(2, 5), D)) for _ in range(B)]
    queries = rng.normal(size=(B, D))
    target = rng.normal(size=(B, H))
    params = {"Wk": rng.normal(size=(D, H)), "Wv": rng.normal(size=(D, H)), "Wq": np.eye(D, H)}

    def forward(p, i):
        K, V = np.dot(keys[i], p["Wk"]), np.dot(keys[i], p["Wv"])
        q = np.dot(queries[i], p["Wq"])
        a = softmax(np.dot(K, q))
        return K, V, q, a, np.dot(a, V)

    def loss(p):
        total = 0.0
        for i in range(B):
            out = forward(p, i)[-1]
            total += np.sum((out - target[i]) ** 2)
        return total / B

    def grads(p, bug=None):
        g = {k: np.zeros_like(v) for k, v in p.items()}
        for i in range(B):
            K, V, q, a, out = forward(p, i)
            d = 2 * (out - target[i]) / B
            da = V.dot(d)
            ds = da * a if bug == "only the diagonal of softmax" else d_softmax(da, a)
            g["Wv"] += keys[i].T.dot(np.outer(a, d))
            g["Wk"] += keys[i].T.dot(np.outer(ds, q))
            g["Wq"] += np.outer(queries[i], K.T.dot(ds))
        return g

    return Case(loss, params, grads, {"only the diagonal of softmax": "Wk Wq"})
