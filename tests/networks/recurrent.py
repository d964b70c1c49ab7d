"""Recurrent networks: cells filled into arrays or lists, with backpropagation through time."""

from __future__ import annotations

import numpy as np

from .case import Case, network


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


@network("LSTM, h and c filled into np.zeros((T + 1, n, H))", no_kernel="Wx Wh b", large=(64, 32))
def lstm_preallocated(n, H, T=5, D=3, C=3):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(T, n, D))
    y = rng.integers(C, size=n)
    params = {
        "Wx": rng.normal(size=(D, 4 * H)) / np.sqrt(D),
        "Wh": rng.normal(size=(H, 4 * H)) / np.sqrt(H),
        "b": 0.1 * rng.normal(size=4 * H),
        "Wy": rng.normal(size=(H, C)) / np.sqrt(H),
        "by": np.zeros(C),
    }

    def forward(p):
        h = np.zeros((T + 1, n, H))
        c = np.zeros((T + 1, n, H))
        gates = np.zeros((T, n, 4 * H))
        for t in range(T):
            a = X[t].dot(p["Wx"]) + h[t].dot(p["Wh"]) + p["b"]
            gates[t, :, : 3 * H] = sigmoid(a[:, : 3 * H])
            gates[t, :, 3 * H :] = np.tanh(a[:, 3 * H :])
            i, f, o, g = np.split(gates[t], 4, axis=1)
            c[t + 1] = f * c[t] + i * g
            h[t + 1] = o * np.tanh(c[t + 1])
        scores = h[T].dot(p["Wy"]) + p["by"]
        scores -= np.max(scores, axis=1, keepdims=True)
        probs = np.exp(scores) / np.sum(np.exp(scores), axis=1, keepdims=True)
        return h, c, gates, probs

    def loss(p):
        probs = forward(p)[-1]
        return -np.mean(np.log(probs[np.arange(n), y]))

    def grads(p, bug=None):
        h, c, gates, probs = forward(p)
        d = probs.copy()
        d[np.arange(n), y] -= 1
        d /= n
        g = {k: np.zeros_like(v) for k, v in p.items()}
        g["Wy"] = h[T].T @ d
        g["by"] = d.sum(axis=0)
        dh, dc = d @ p["Wy"].T, np.zeros((n, H))
        for t in reversed(range(T)):
            i, f, o, u = np.split(gates[t], 4, axis=1)
            tc = np.tanh(c[t + 1])
            if bug == "cell state's derivative overwritten":
                dc = dh * o * (1 - tc**2)
            else:
                dc = dc + dh * o * (1 - tc**2)
            da = np.hstack(
                [
                    dc * u * i * (1 - i),
                    dc * c[t + (bug == "forget gate at the wrong step")] * f * (1 - f),
                    dh * tc * o * (1 - o),
                    dc * i * (1 - u**2),
                ]
            )
            g["Wx"] += X[t].T @ da
            g["Wh"] += h[t].T @ da
            g["b"] += da.sum(axis=0)
            dh, dc = da @ p["Wh"].T, dc * f
        return g

    bugs = {
        "cell state's derivative overwritten": "Wx Wh b",
        "forget gate at the wrong step": "Wx Wh b",
    }
    return Case(loss, params, grads, bugs)


@network(
    "LSTM, a matrix for each gate, samples in columns, caches in dicts",
    large=(64, 32),
)
def lstm_columns(m, n_a, T=4, n_x=3, n_y=2):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(n_x, m, T))
    Y = rng.normal(size=(n_y, m, T))
    params = {}
    for gate in "fico":
        params["W" + gate] = rng.normal(size=(n_a, n_a + n_x)) / np.sqrt(n_a + n_x)
        params["b" + gate] = 0.1 * rng.normal(size=(n_a, 1))
    params["Wy"] = rng.normal(size=(n_y, n_a)) / np.sqrt(n_a)
    params["by"] = np.zeros((n_y, 1))

    def cell(xt, a_prev, c_prev, p):
        concat = np.zeros((n_a + n_x, m))
        concat[:n_a, :] = a_prev
        concat[n_a:, :] = xt
        ft = sigmoid(np.dot(p["Wf"], concat) + p["bf"])
        it = sigmoid(np.dot(p["Wi"], concat) + p["bi"])
        cct = np.tanh(np.dot(p["Wc"], concat) + p["bc"])
        c_next = np.multiply(ft, c_prev) + np.multiply(it, cct)
        ot = sigmoid(np.dot(p["Wo"], concat) + p["bo"])
        a_next = ot * np.tanh(c_next)
        return a_next, c_next, (concat, c_prev, c_next, ft, it, cct, ot)

    def forward(p):
        a = np.zeros((n_a, m, T))
        y_pred = np.zeros((n_y, m, T))
        a_next, c_next = np.zeros((n_a, m)), np.zeros((n_a, m))
        caches = []
        for t in range(T):
            a_next, c_next, cache = cell(x[:, :, t], a_next, c_next, p)
            a[:, :, t] = a_next
            y_pred[:, :, t] = np.dot(p["Wy"], a_next) + p["by"]
            caches.append(cache)
        return a, y_pred, caches

    def loss(p):
        _, y_pred, _ = forward(p)
        cost = np.sum(np.square(y_pred - Y)) / (2 * m)
        return np.squeeze(cost)

    def grads(p, bug=None):
        a, y_pred, caches = forward(p)
        g = {"d" + k: np.zeros(v.shape) for k, v in p.items()}
        da_next, dc_next = np.zeros((n_a, m)), np.zeros((n_a, m))
        for t in range(T)[::-1]:
            concat, c_prev, c_next, ft, it, cct, ot = caches[t]
            dy = (y_pred[:, :, t] - Y[:, :, t]) / m
            g["dWy"] += dy.dot(a[:, :, t].T)
            g["dby"] += dy.sum(1, keepdims=True)
            da = p["Wy"].T.dot(dy) + da_next
            dot = da * np.tanh(c_next) * ot * (1 - ot)
            dc = dc_next + da * ot * (1 - np.tanh(c_next) ** 2)
            gates = {
                "o": dot,
                "c": dc * it * (1 - cct**2),
                "i": dc * cct * it * (1 - it),
                "f": dc * c_prev * ft * (1 - ft),
            }
            if bug == "input gate without its sigmoid":
                gates["i"] = dc * cct
            dconcat = 0
            for gate, dz in gates.items():
                g["dW" + gate] += dz.dot(concat.T)
                g["db" + gate] += dz.sum(axis=1, keepdims=True)
                dconcat = dconcat + p["W" + gate].T.dot(dz)
            da_next, dc_next = dconcat[:n_a, :], dc * ft
            if bug == "one step only":
                break
        if bug == "bias summed over everything":
            g["dby"][:] = g["dby"].sum()
        return g

    bugs = {
        "one step only": "Wf bf Wi bi Wc bc Wo bo Wy by",
        "input gate without its sigmoid": "Wf bf Wi bi Wc bc Wo bo",
        "bias summed over everything": "by",
    }
    return Case(loss, params, grads, bugs)


@network("GRU, h filled into np.zeros((T + 1, n, H))", large=(64, 40))
def gru_preallocated(n, H, T=5, D=3):
    rng = np.random.default_rng(3)
    X, target = rng.normal(size=(n, T, D)), rng.normal(size=(n, 1))
    params = {
        "Wz": rng.normal(size=(D + H, H)) / np.sqrt(D + H),
        "Wr": rng.normal(size=(D + H, H)) / np.sqrt(D + H),
        "Wn": rng.normal(size=(D + H, H)) / np.sqrt(D + H),
        "bz": np.zeros(H),
        "br": np.zeros(H),
        "bn": np.zeros(H),
        "w": rng.normal(size=(H, 1)),
    }

    def forward(p):
        h = np.zeros((T + 1, n, H))
        cache = []
        for t in range(T):
            xh = np.concatenate((X[:, t], h[t]), axis=1)
            z = sigmoid(xh @ p["Wz"] + p["bz"])
            r = sigmoid(xh @ p["Wr"] + p["br"])
            xrh = np.concatenate((X[:, t], r * h[t]), axis=1)
            new = np.tanh(xrh @ p["Wn"] + p["bn"])
            h[t + 1] = (1 - z) * new + z * h[t]
            cache.append((xh, z, r, xrh, new))
        return h, cache

    def loss(p):
        h, _ = forward(p)
        return 0.5 * np.mean((h[-1] @ p["w"] - target) ** 2)

    def grads(p, bug=None):
        h, cache = forward(p)
        g = {k: np.zeros_like(v) for k, v in p.items()}
        err = (h[-1] @ p["w"] - target) / n
        g["w"] = h[-1].T @ err
        dh = err @ p["w"].T
        for t in reversed(range(T)):
            xh, z, r, xrh, new = cache[t]
            dnew = dh * (1 - z) * (1 - new**2)
            dz = dh * (h[t] - new) * z * (1 - z)
            if bug == "sign of the update gate":
                dz = -dz
            g["Wn"] += xrh.T @ dnew
            g["bn"] += dnew.sum(0)
            dxrh = dnew @ p["Wn"].T
            dr = dxrh[:, D:] * h[t] * r * (1 - r)
            dh_prev = dh * z + dxrh[:, D:] * r
            if bug == "path past the reset gate forgotten":
                dh_prev = dh * z
            for gate, d in (("z", dz), ("r", dr)):
                g["W" + gate] += xh.T @ d
                g["b" + gate] += d.sum(0)
                dh_prev += (d @ p["W" + gate].T)[:, D:]
            dh = dh_prev
        return g

    bugs = {
        "sign of the update gate": "Wz Wr Wn bz br bn",
        "path past the reset gate forgotten": "Wz Wr Wn bz br bn",
    }
    return Case(loss, params, grads, bugs)


@network("vanilla RNN, a list of states and np.stack", large=(64, 48))
def rnn_stack(n, H, T=6, D=4, C=3):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(n, T, D))
    Y = np.eye(C)[rng.integers(C, size=(n, T))]
    params = [
        rng.normal(size=(D, H)) / np.sqrt(D),
        rng.normal(size=(H, H)) / np.sqrt(H),
        np.zeros(H),
        rng.normal(size=(H, C)) / np.sqrt(H),
        np.zeros(C),
    ]

    def forward(params):
        Wxh, Whh, bh, Why, by = params
        h = np.zeros((n, H))
        hs = []
        for t in range(T):
            h = np.tanh(X[:, t, :] @ Wxh + h @ Whh + bh)
            hs.append(h)
        hs = np.stack(hs, axis=1)
        logits = hs @ Why + by
        e = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return hs, e / e.sum(axis=-1, keepdims=True)

    def loss(params):
        _, probs = forward(params)
        return -(Y * np.log(probs)).sum() / (n * T)

    def grads(params, bug=None):
        Wxh, Whh, bh, Why, _ = params
        hs, probs = forward(params)
        dlogits = (probs - Y) / (n if bug == "divided by n, not by n T" else n * T)
        dWhy = np.einsum("nth,ntc->hc", hs, dlogits)
        dhs = dlogits @ Why.T
        dWxh, dWhh, dbh = np.zeros_like(Wxh), np.zeros_like(Whh), np.zeros_like(bh)
        carry = np.zeros((n, H))
        for t in range(T - 1, -1, -1):
            dz = (dhs[:, t] + carry) * (1 - hs[:, t] ** 2)
            before = hs[:, t - 1] if t else np.zeros((n, H))
            if bug == "this state for the one before":
                before = hs[:, t]
            dWxh += X[:, t].T @ dz
            dWhh += before.T @ dz
            dbh += dz.sum(axis=0)
            carry = dz @ Whh.T
        return [dWxh, dWhh, dbh, dWhy, dlogits.sum(axis=(0, 1))]

    bugs = {
        "divided by n, not by n T": "[0] [1] [2] [3] [4]",
        "this state for the one before": "[1]",
    }
    return Case(loss, params, grads, bugs)


@network("vanilla RNN, a list of states and np.array", large=(64, 48))
def rnn_array(n, H, T=5, D=3):
    rng = np.random.default_rng(5)
    xs = [rng.normal(size=(n, D)) for _ in range(T)]
    target = rng.normal(size=(T, n))
    params = {
        "U": rng.normal(size=(D, H)) / np.sqrt(D),
        "W": rng.normal(size=(H, H)) / np.sqrt(H),
        "V": rng.normal(size=H) / np.sqrt(H),
    }

    def states(p):
        hs = [np.zeros((n, H))]
        for x in xs:
            hs.append(np.tanh(np.dot(x, p["U"]) + np.dot(hs[-1], p["W"])))
        return np.array(hs)

    def loss(p):
        out = np.dot(states(p)[1:], p["V"])
        return ((out - target) ** 2).mean()

    def grads(p, bug=None):
        hs = states(p)
        dout = 2 * (np.dot(hs[1:], p["V"]) - target) / target.size
        dU, dW = np.zeros_like(p["U"]), np.zeros_like(p["W"])
        dh = np.zeros((n, H))
        for t in reversed(range(T)):
            dh = dh + np.outer(dout[t], p["V"])
            dz = dh if bug == "no derivative of tanh" else dh * (1 - hs[t + 1] ** 2)
            dU += xs[t].T.dot(dz)
            dW += hs[t].T.dot(dz)
            dh = dz.dot(p["W"] if bug == "W without its transpose" else p["W"].T)
        return {"dU": dU, "dW": dW, "dV": np.tensordot(dout, hs[1:], axes=([0, 1], [0, 1]))}

    bugs = {"no derivative of tanh": "U W", "W without its transpose": "U W"}
    return Case(loss, params, grads, bugs)


@network(
    "character RNN: dicts of columns by time, a running loss",
    large=(25, 100),
)
def char_rnn(T, H, V=7):
    rng = np.random.default_rng(6)
    text = rng.integers(V, size=T + 1)
    inputs, targets = text[:-1], text[1:]
    params = {
        "Wxh": rng.normal(size=(H, V)) * 0.5,
        "Whh": rng.normal(size=(H, H)) * 0.5,
        "Why": rng.normal(size=(V, H)) * 0.5,
        "bh": np.zeros((H, 1)),
        "by": np.zeros((V, 1)),
    }

    def forward(p):
        xs, hs, ys, ps = {}, {}, {}, {}
        hs[-1] = np.zeros((H, 1))
        loss = 0
        for t in range(len(inputs)):
            xs[t] = np.zeros((V, 1))
            xs[t][inputs[t]] = 1
            hs[t] = np.tanh(np.dot(p["Wxh"], xs[t]) + np.dot(p["Whh"], hs[t - 1]) + p["bh"])
            ys[t] = np.dot(p["Why"], hs[t]) + p["by"]
            ps[t] = np.exp(ys[t]) / np.sum(np.exp(ys[t]))
            loss += -np.log(ps[t][targets[t], 0])
        return loss, xs, hs, ps

    def grads(p, bug=None):
        _, xs, hs, ps = forward(p)
        g = {"d" + k: np.zeros_like(v) for k, v in p.items()}
        dhnext = np.zeros((H, 1))
        for t in reversed(range(len(inputs))):
            dy = np.copy(ps[t])
            dy[targets[t]] -= 1
            g["dWhy"] += np.dot(dy, hs[t].T)
            g["dby"] += dy
            dh = np.dot(p["Why"].T, dy) + dhnext
            dhraw = (1 - hs[t] * hs[t]) * dh
            g["dbh"] += dhraw
            g["dWxh"] += np.dot(dhraw, xs[t].T)
            g["dWhh"] += np.dot(dhraw, hs[t - 1].T)
            if bug == "nothing flows back in time":
                continue
            dhnext = np.dot(p["Whh"].T, dhraw)
        if bug == "clipped":
            for d in g.values():
                np.clip(d, -0.05, 0.05, out=d)
        return g

    bugs = {"nothing flows back in time": "Wxh Whh bh", "clipped": "Wxh Whh Why bh by"}
    return Case(lambda p: forward(p)[0], params, grads, bugs)


@network("RNN over words: U[:, word], s[-1] holds the initial state", large=(12, 48))
def word_rnn(T, H, V=6):
    rng = np.random.default_rng(7)
    sentences = rng.integers(V, size=(2, T + 1))
    params = {
        "U": rng.uniform(-0.6, 0.6, (H, V)),
        "V": rng.uniform(-0.6, 0.6, (V, H)),
        "W": rng.uniform(-0.6, 0.6, (H, H)),
    }

    def softmax(x):
        xt = np.exp(x - np.max(x))
        return xt / np.sum(xt)

    def forward(p, x):
        s = np.zeros((len(x) + 1, H))
        s[-1] = np.zeros(H)
        o = np.zeros((len(x), V))
        for t in np.arange(len(x)):
            s[t] = np.tanh(p["U"][:, x[t]] + p["W"].dot(s[t - 1]))
            o[t] = softmax(p["V"].dot(s[t]))
        return o, s

    def loss(p):
        L = 0
        for sentence in sentences:
            x, y = sentence[:-1], sentence[1:]
            o, _ = forward(p, x)
            correct = o[np.arange(len(y)), y]
            L += -1 * np.sum(np.log(correct))
        return L / sum(len(s) - 1 for s in sentences)

    def grads(p, bug=None):
        dU, dV, dW = np.zeros_like(p["U"]), np.zeros_like(p["V"]), np.zeros_like(p["W"])
        for sentence in sentences:
            x, y = sentence[:-1], sentence[1:]
            o, s = forward(p, x)
            delta_o = o
            delta_o[np.arange(len(y)), y] -= 1.0
            for t in np.arange(T)[::-1]:
                dV += np.outer(delta_o[t], s[t].T)
                delta = p["V"].T.dot(delta_o[t]) * (1 - s[t] ** 2)
                truncate = 1 if bug == "truncated after one step" else T
                for step in np.arange(max(0, t - truncate), t + 1)[::-1]:
                    dW += np.outer(delta, s[step - 1])
                    if bug == "U assigned, not added":
                        dU[:, x[step]] = delta
                    else:
                        dU[:, x[step]] += delta
                    delta = p["W"].T.dot(delta) * (1 - s[step - 1] ** 2)
        return {"U": dU / (2 * T), "V": dV / (2 * T), "W": dW / (2 * T)}

    bugs = {"truncated after one step": "U W", "U assigned, not added": "U"}
    return Case(loss, params, grads, bugs)


@network(
    "bidirectional RNN, two passes joined by np.concatenate",
    large=(64, 48),
)
def bidirectional(n, H, T=4, D=3):
    rng = np.random.default_rng(8)
    X = rng.normal(size=(T, n, D))
    Y = (rng.random((T, n)) < 0.5).astype(float)
    params = {}
    for way in ("f", "b"):
        params["Wx" + way] = rng.normal(size=(D, H)) / np.sqrt(D)
        params["Wh" + way] = rng.normal(size=(H, H)) / np.sqrt(H)
    params["w"] = rng.normal(size=2 * H)
    params["b"] = np.zeros(1)

    def run(x, Wx, Wh):
        h = np.zeros((T, n, H))
        state = np.zeros((n, H))
        for t in range(T):
            state = np.tanh(x[t] @ Wx + state @ Wh)
            h[t] = state
        return h

    def forward(p):
        hf = run(X, p["Wxf"], p["Whf"])
        hb = run(X[::-1], p["Wxb"], p["Whb"])[::-1]
        h = np.concatenate([hf, hb], axis=-1)
        return h, sigmoid(h @ p["w"] + p["b"])

    def loss(p):
        _, a = forward(p)
        return -np.mean(Y * np.log(a) + (1 - Y) * np.log(1 - a))

    def grads(p, bug=None):
        h, a = forward(p)
        dz = (a - Y) / Y.size
        g = {"w": np.einsum("tnk,tn->k", h, dz), "b": np.array([dz.sum()])}
        dh = dz[..., None] * p["w"]
        halves = {
            "f": (X, h[..., :H], dh[..., :H]),
            "b": (X[::-1], h[::-1, :, H:], dh[::-1, :, H:]),
        }
        if bug == "backward pass in forward order":
            halves["b"] = (X, h[..., H:], dh[..., H:])
        for way, (x, states, d) in halves.items():
            dWx, dWh = np.zeros((D, H)), np.zeros((H, H))
            carry = 0.0
            for t in range(T - 1, -1, -1):
                dpre = (d[t] + carry) * (1 - states[t] ** 2)
                dWx += x[t].T @ dpre
                if t > 0:
                    dWh += states[t - 1].T @ dpre
                carry = dpre @ p["Wh" + way].T
            g["Wx" + way], g["Wh" + way] = dWx, dWh
        return g

    return Case(loss, params, grads, {"backward pass in forward order": "Wxb Whb"})


class GRUCell:
    """A cell that remembers what it needs, the way that minimal libraries write it."""

    def __init__(self, W, U, b):
        self.W, self.U, self.b = W, U, b
        self.cache = []

    def __call__(self, x, h):
        H = h.shape[-1]
        xW, hU = x @ self.W + self.b, h @ self.U
        z = sigmoid(xW[:, :H] + hU[:, :H])
        r = sigmoid(xW[:, H : 2 * H] + hU[:, H : 2 * H])
        c = np.tanh(xW[:, 2 * H :] + r * hU[:, 2 * H :])
        self.cache.append((x, h, z, r, c, hU[:, 2 * H :]))
        return z * h + (1 - z) * c

    def backward(self, dh, bug=None):
        x, h, z, r, c, hUc = self.cache.pop()
        dz, dc = dh * (h - c) * z * (1 - z), dh * (1 - z) * (1 - c**2)
        dr = dc * hUc * r * (1 - r)
        dx = np.concatenate([dz, dr, dc], axis=1)
        dhU = np.concatenate([dz, dr, dc if bug == "reset gate left out of U" else dc * r], axis=1)
        self.dW += x.T @ dx
        self.dU += h.T @ dhU
        self.db += dx.sum(0)
        return dh * z + dhU @ self.U.T


@network("GRU cell, a class with a stack of caches", no_kernel="W", large=(64, 32))
def gru_cell(n, H, T=4, D=3):
    rng = np.random.default_rng(9)
    X, Y = rng.normal(size=(T, n, D)), rng.normal(size=(n, H))
    params = {
        "W": rng.normal(size=(D, 3 * H)) / np.sqrt(D),
        "U": rng.normal(size=(H, 3 * H)) / np.sqrt(H),
        "b": np.zeros(3 * H),
    }

    def run(p):
        cell = GRUCell(p["W"], p["U"], p["b"])
        h = np.zeros((n, H))
        for x in X:
            h = cell(x, h)
        return cell, h

    def loss(p):
        _, h = run(p)
        return ((h - Y) ** 2).sum() / 2 / n

    def grads(p, bug=None):
        cell, h = run(p)
        cell.dW, cell.dU, cell.db = (np.zeros_like(p[k]) for k in "WUb")
        dh = (h - Y) / n
        while cell.cache:
            dh = cell.backward(dh, bug)
        return {"W": cell.dW, "U": cell.dU, "b": cell.db}

    return Case(loss, params, grads, {"reset gate left out of U": "W U b"})


@network("RNN with masks for sequences of different lengths", large=(64, 40))
def masked_rnn(n, H, T=5, D=3, C=3):
    rng = np.random.default_rng(10)
    X = rng.normal(size=(n, T, D))
    lengths = rng.integers(1, T + 1, size=n)
    mask = (np.arange(T)[None, :] < lengths[:, None]).astype(float)
    y = rng.integers(C, size=n)
    params = {
        "Wx": rng.normal(size=(D, H)),
        "Wh": rng.normal(size=(H, H)) / np.sqrt(H),
        "Wo": rng.normal(size=(H, C)),
    }

    def forward(p):
        h, hs = np.zeros((n, H)), [np.zeros((n, H))]
        for t in range(T):
            new = np.maximum(0, X[:, t].dot(p["Wx"]) + h.dot(p["Wh"]))
            m = mask[:, t][:, np.newaxis]
            h = m * new + (1 - m) * h
            hs.append(h)
        return hs, h.dot(p["Wo"])

    def loss(p):
        _, z = forward(p)
        z = z - z.max(1)[:, None]
        return (np.log(np.exp(z).sum(1)) - z[range(n), y]).mean()

    def grads(p, bug=None):
        hs, z = forward(p)
        d = np.exp(z - z.max(1, keepdims=True))
        d /= d.sum(1, keepdims=True)
        d[range(n), y] -= 1
        d /= n
        g = {k: np.zeros_like(v) for k, v in p.items()}
        g["Wo"] += hs[-1].T.dot(d)
        dh = d.dot(p["Wo"].T)
        for t in reversed(range(T)):
            m = mask[:, t][:, np.newaxis]
            pre = X[:, t].dot(p["Wx"]) + hs[t].dot(p["Wh"])
            dpre = dh * (pre > 0) * (1 if bug == "mask left out" else m)
            g["Wx"] += X[:, t].T.dot(dpre)
            g["Wh"] += hs[t].T.dot(dpre)
            dh = dpre.dot(p["Wh"].T) + dh * (1 - m)
        return g

    return Case(loss, params, grads, {"mask left out": "Wx Wh"})
