"""Embeddings: lookups with repeated indices, word2vec, factorisations."""

from __future__ import annotations

import numpy as np

from .case import Case, network


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@network("bag of words: E[indices].mean, repeated indices")
def bag_of_words(n, H, V=9, length=4, C=3):
    rng = np.random.default_rng(51)
    words = rng.integers(V, size=(n, length))
    words[:, 1] = words[:, 0]
    y = rng.integers(C, size=n)
    params = {"E": rng.normal(size=(V, H)), "W": rng.normal(size=(H, C)), "b": np.zeros(C)}

    def forward(p):
        mean = p["E"][words].mean(axis=1)
        scores = mean @ p["W"] + p["b"]
        e = np.exp(scores - scores.max(1, keepdims=True))
        return mean, e / e.sum(1, keepdims=True)

    def loss(p):
        return -np.mean(np.log(forward(p)[1][np.arange(n), y] + 1e-12))

    def grads(p, bug=None):
        mean, probs = forward(p)
        right = probs[np.arange(n), y]
        d = (probs - np.eye(C)[y]) * (right / (right + 1e-12))[:, None]
        d /= n
        dE = np.zeros_like(p["E"])
        each = np.repeat((d @ p["W"].T / length)[:, None, :], length, axis=1)
        if bug == "+= loses repeated words":
            dE[words] += each
        else:
            np.add.at(dE, words, each)
        return {"E": dE, "W": mean.T @ d, "b": d.sum(axis=0)}

    return Case(loss, params, grads, {"+= loses repeated words": "E"})


@network("language model: concatenated embeddings, tied output", large=(64, 32))
def tied_language_model(n, H, V=8, context=3):
    rng = np.random.default_rng(52)
    words = rng.integers(V, size=(n, context + 1))
    params = {
        "C": rng.normal(size=(V, H)) / 2,
        "H": rng.normal(size=(context * H, H)) / np.sqrt(context * H),
        "d": np.zeros(H),
    }

    def forward(p):
        x = np.take(p["C"], words[:, :-1], axis=0).reshape(n, -1)
        h = np.tanh(x.dot(p["H"]) + p["d"])
        logits = h.dot(p["C"].T)
        return x, h, logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))

    def loss(p):
        logp = forward(p)[-1]
        return -np.sum(logp[range(n), words[:, -1]]) / n

    def grads(p, bug=None):
        x, h, logp = forward(p)
        d = np.exp(logp)
        d[range(n), words[:, -1]] -= 1
        d /= n
        dh = d.dot(p["C"]) * (1 - h * h)
        dC = d.T.dot(h)
        if bug != "lookup of a tied matrix left out":
            dx = dh.dot(p["H"].T).reshape(n, context, -1)
            for i in range(n):
                for j in range(context):
                    dC[words[i, j]] += dx[i, j]
        return {"C": dC, "H": x.T.dot(dh), "d": dh.sum(axis=0)}

    return Case(loss, params, grads, {"lookup of a tied matrix left out": "C"})


@network("word2vec, skip-gram with negative samples, a loop over pairs", large=(64, 64))
def skip_gram(n, H, V=10, K=4):
    rng = np.random.default_rng(53)
    pairs = rng.integers(V, size=(n, 2))
    negatives = rng.integers(V, size=(n, K))
    negatives[:, 1] = negatives[:, 0]  # the same word may be drawn twice
    params = {
        "center": rng.normal(size=(V, H)) / np.sqrt(H),
        "outside": rng.normal(size=(V, H)) / np.sqrt(H),
    }

    def loss(p):
        cost = 0.0
        for (c, o), neg in zip(pairs, negatives, strict=True):
            v_c = p["center"][c]
            cost -= np.log(sigmoid(np.dot(p["outside"][o], v_c)))
            for k in neg:
                cost -= np.log(sigmoid(-np.dot(p["outside"][k], v_c)))
        return cost / n

    def grads(p, bug=None):
        g = {k: np.zeros_like(v) for k, v in p.items()}
        for (c, o), neg in zip(pairs, negatives, strict=True):
            v_c = p["center"][c]
            z = sigmoid(p["outside"][o].dot(v_c)) - 1
            g["center"][c] += z * p["outside"][o]
            g["outside"][o] += z * v_c
            for k in set(neg) if bug == "repeated negatives counted once" else neg:
                z = sigmoid(p["outside"][k].dot(v_c))
                g["center"][c] += z * p["outside"][k]
                g["outside"][k] += z * v_c
        return {k: v / n for k, v in g.items()}

    return Case(loss, params, grads, {"repeated negatives counted once": "center outside"})


@network("word2vec, negative samples in one einsum", large=(64, 256))
def skip_gram_vectorised(n, H, V=12, K=5):
    rng = np.random.default_rng(54)
    center, outside = rng.integers(V, size=n), rng.integers(V, size=n)
    negative = rng.integers(V, size=(n, K))
    params = {
        "W_in": rng.normal(size=(V, H)) / np.sqrt(H),
        "W_out": rng.normal(size=(V, H)) / np.sqrt(H),
    }

    def scores(p):
        v = p["W_in"][center]
        positive = np.sum(v * p["W_out"][outside], axis=1)
        return v, positive, np.einsum("nh,nkh->nk", v, p["W_out"][negative])

    def loss(p):
        _, positive, others = scores(p)
        return -(np.log(sigmoid(positive)).sum() + np.log(sigmoid(-others)).sum())

    def grads(p, bug=None):
        v, positive, others = scores(p)
        dp, dn = sigmoid(positive) - 1, sigmoid(others)
        if bug == "sign of the negative samples":
            dn = -dn
        dv = dp[:, None] * p["W_out"][outside] + np.einsum("nk,nkh->nh", dn, p["W_out"][negative])
        d_in, d_out = np.zeros_like(p["W_in"]), np.zeros_like(p["W_out"])
        np.add.at(d_in, center, dv)
        np.add.at(d_out, outside, dp[:, None] * v)
        np.add.at(d_out, negative, dn[:, :, None] * v[:, None, :])
        return {"W_in": d_in, "W_out": d_out}

    return Case(loss, params, grads, {"sign of the negative samples": "W_in W_out"})


@network("CBOW with one-hot columns and a full softmax", large=(64, 192))
def cbow(m, N, V=7, window=2):
    rng = np.random.default_rng(55)
    context = rng.integers(V, size=(m, 2 * window))
    X = np.zeros((V, m))
    for i in range(m):
        for w in context[i]:
            X[w, i] += 1 / (2 * window)
    Y = np.eye(V)[:, rng.integers(V, size=m)]
    params = (
        rng.random((N, V)),
        rng.random((V, N)),
        rng.random((N, 1)),
        rng.random((V, 1)),
    )

    def forward(params):
        W1, W2, b1, b2 = params
        h = np.maximum(np.dot(W1, X) + b1, 0)
        z = np.dot(W2, h) + b2
        return h, np.exp(z) / np.sum(np.exp(z), axis=0)

    def loss(params):
        _, yhat = forward(params)
        logprobs = np.multiply(np.log(yhat), Y)
        cost = -1 / m * np.sum(logprobs)
        return np.squeeze(cost)

    def grads(params, bug=None):
        W2 = params[1]
        h, yhat = forward(params)
        l1 = np.dot(W2.T, yhat - Y)
        l1 = np.maximum(0, l1) if bug == "ReLU of the derivative" else l1 * (h > 0)
        return (
            np.dot(l1, X.T) / m,
            np.dot(yhat - Y, h.T) / m,
            np.sum(l1, axis=1, keepdims=True) / m,
            np.sum(yhat - Y, axis=1, keepdims=True) / m,
        )

    return Case(loss, params, grads, {"ReLU of the derivative": "[0] [2]"})


@network("GloVe: a weighted square for each count", large=(64, 256))
def glove(n, H, V=9):
    rng = np.random.default_rng(56)
    i, j = rng.integers(V, size=n), rng.integers(V, size=n)
    counts = rng.integers(1, 60, size=n)
    weight = np.minimum(1.0, (counts / 40) ** 0.75)
    params = {
        "w": rng.normal(size=(V, H)),
        "u": rng.normal(size=(V, H)),
        "b": rng.normal(size=V),
        "c": rng.normal(size=V),
    }

    def error(p):
        return (p["w"][i] * p["u"][j]).sum(1) + p["b"][i] + p["c"][j] - np.log(counts)

    def loss(p):
        return 0.5 * np.dot(weight, error(p) ** 2)

    def grads(p, bug=None):
        e = error(p) if bug == "weights forgotten" else weight * error(p)
        g = {k: np.zeros_like(v) for k, v in p.items()}
        np.add.at(g["w"], i, e[:, None] * p["u"][j])
        np.add.at(g["u"], j, e[:, None] * p["w"][i])
        np.add.at(g["b"], i, e)
        np.add.at(g["c"], j, e)
        return g

    return Case(loss, params, grads, {"weights forgotten": "w u b c"})


@network("matrix factorisation over the ratings that there are", large=(64, 128))
def factorisation(n, H, items=8, lam=0.02):
    users = max(4, n // 2)
    rng = np.random.default_rng(57)
    R = rng.normal(size=(users, items))
    known = rng.random(R.shape) < 0.6
    params = {"P": rng.normal(size=(users, H)), "Q": rng.normal(size=(items, H))}

    def loss(p):
        E = R - p["P"].dot(p["Q"].T)
        return np.sum(E[known] ** 2) + lam * (np.sum(p["P"] ** 2) + np.sum(p["Q"] ** 2))

    def grads(p, bug=None):
        E = (R - p["P"].dot(p["Q"].T)) * known
        dP = -2 * E.dot(p["Q"]) + 2 * lam * p["P"]
        dQ = -2 * E.T.dot(p["P"]) + (lam if bug == "half the penalty" else 2 * lam) * p["Q"]
        return {"P": dP, "Q": dQ}

    return Case(loss, params, grads, {"half the penalty": "Q"})


@network("graph convolution over a normalised adjacency", large=(64, 128))
def graph_convolution(n, H, D=4, C=3):
    rng = np.random.default_rng(58)
    A = (rng.random((n, n)) < 0.3).astype(float)
    A = np.maximum(A, A.T) + np.eye(n)
    degree = np.diag(1 / np.sqrt(A.sum(axis=1)))
    A_hat = degree @ A @ degree
    X, y = rng.normal(size=(n, D)), rng.integers(C, size=n)
    train = rng.random(n) < 0.7
    train[:2] = True
    params = {"W0": rng.normal(size=(D, H)), "W1": rng.normal(size=(H, C))}

    def forward(p):
        H1 = A_hat @ X @ p["W0"]
        H1 = H1 * (H1 > 0)
        Z = A_hat @ H1 @ p["W1"]
        Z -= Z.max(axis=1, keepdims=True)
        P = np.exp(Z)
        P /= P.sum(axis=1, keepdims=True)
        return H1, P

    def loss(p):
        P = forward(p)[1][train]
        return -np.log(P[np.arange(len(P)), y[train]]).mean()

    def grads(p, bug=None):
        H1, P = forward(p)
        d = P - np.eye(C)[y]
        d[~train] = 0
        d /= n if bug == "mean over all nodes" else train.sum()
        back = A_hat.T @ d
        dH1 = back @ p["W1"].T * (H1 > 0)
        return {"W0": (A_hat @ X).T @ dH1, "W1": H1.T @ back}

    return Case(loss, params, grads, {"mean over all nodes": "W0 W1"})
