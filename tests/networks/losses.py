"""Losses and activations on one hidden layer, each written in its usual ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .case import Case, network

D, C = 4, 3
ALL = "W1 b1 W2 b2"


class Head:
    """tanh(X W1 + b1) W2 + b2, and the data that losses need."""

    def __init__(self, seed: int, n: int, H: int, outputs: int = C) -> None:
        rng = np.random.default_rng(seed)
        self.rng, self.n = rng, n
        self.X = rng.normal(size=(n, D))
        self.y = rng.integers(outputs, size=n)
        self.Y = np.eye(outputs)[self.y]
        self.T = rng.normal(size=(n, outputs))
        self.signs = rng.choice([-1.0, 1.0], size=(n, outputs))
        self.bits = (self.signs + 1) / 2
        self.params = {
            "W1": rng.normal(size=(D, H)) / 2,
            "b1": 0.1 * rng.normal(size=H),
            "W2": rng.normal(size=(H, outputs)) / np.sqrt(H),
            "b2": np.zeros(outputs),
        }

    def scores(self, p: Any) -> Any:
        self.a = np.tanh(self.X @ p["W1"] + p["b1"])
        return self.a @ p["W2"] + p["b2"]

    def back(self, p: Any, dz: Any) -> dict[str, Any]:
        da = dz @ p["W2"].T * (1 - self.a**2)
        return {"W1": self.X.T @ da, "b1": da.sum(0), "W2": self.a.T @ dz, "b2": dz.sum(0)}

    def case(
        self, loss: Callable[[Any], Any], slope: Callable[..., Any], *bugs: str, spoils: str = ALL
    ) -> Case:
        """Make a case of ``loss(scores)`` and its derivative, in which the bugs are."""

        def grads(p: Any, bug: str | None = None) -> Any:
            z = self.scores(p)
            return self.back(p, slope(z, bug))

        return Case(lambda p: loss(self.scores(p)), self.params, grads, dict.fromkeys(bugs, spoils))


def softmax(z):
    e = np.exp(z - np.max(z, axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# -- cross-entropy ---------------------------------------------------------------------------------


@network("cross-entropy: one-hot, probabilities with an epsilon")
def one_hot_epsilon(n, H):
    head = Head(81, n, H)

    def loss(z):
        return -np.mean(np.sum(head.Y * np.log(softmax(z) + 1e-8), axis=1))

    def slope(z, bug):
        p = softmax(z)
        dp = -head.Y / (p + 1e-8) / n
        if bug == "softmax taken for elementwise":
            return dp * p * (1 - p)
        return p * (dp - np.sum(dp * p, axis=1, keepdims=True))

    return head.case(loss, slope, "softmax taken for elementwise")


@network("cross-entropy: integer labels, from logits")
def labels_from_logits(n, H):
    head = Head(82, n, H)

    def loss(z):
        m = z.max(axis=1)
        lse = m + np.log(np.exp(z - m[:, np.newaxis]).sum(axis=1))
        return (lse - z[np.arange(n), head.y]).mean()

    def slope(z, bug):
        d = softmax(z)
        if bug != "labels not subtracted":
            d[np.arange(n), head.y] -= 1
        return d / n

    return head.case(loss, slope, "labels not subtracted")


@network("cross-entropy: integer labels, probabilities clipped")
def labels_clipped(n, H):
    head = Head(83, n, H)

    def loss(z):
        p = np.clip(softmax(z), 1e-12, 1.0 - 1e-12)
        correct = p[range(len(p)), head.y]
        return np.sum(-np.log(correct)) / n

    def slope(z, bug):
        return (softmax(z) - head.Y) / (n * C if bug == "divided by the classes too" else n)

    return head.case(loss, slope, "divided by the classes too")


@network("cross-entropy: a loop over samples and classes")
def nested_sums(n, H):
    n = min(n, 16)
    head = Head(84, n, H)

    def loss(z):
        p = softmax(z)
        total = 0
        for i in range(n):
            for k in range(C):
                if head.Y[i, k] == 1:
                    total -= np.log(p[i][k])
        return total / n

    def slope(z, bug):
        return (softmax(z) - head.Y) / (1 if bug == "not averaged" else n)

    return head.case(loss, slope, "not averaged")


@network("cross-entropy with smoothed labels and a temperature")
def smoothed(n, H, temperature=2.0):
    head = Head(85, n, H)
    soft = 0.9 * head.Y + 0.1 / C

    def loss(z):
        z = z / temperature
        z -= np.max(z, axis=-1, keepdims=True)
        logp = z - np.log(np.sum(np.exp(z), axis=-1, keepdims=True))
        return -np.einsum("nc,nc->", soft, logp) / n

    def slope(z, bug):
        d = (softmax(z / temperature) - soft) / n
        return d if bug == "temperature left out" else d / temperature

    return head.case(loss, slope, "temperature left out")


@network("focal loss")
def focal(n, H, gamma=2.0):
    head = Head(86, n, H)

    def loss(z):
        p = softmax(z)[np.arange(n), head.y]
        return np.mean(-((1 - p) ** gamma) * np.log(p))

    def slope(z, bug):
        probs = softmax(z)
        p = probs[np.arange(n), head.y]
        dp = gamma * (1 - p) ** (gamma - 1) * np.log(p) - (1 - p) ** gamma / p
        if bug == "weight taken for a constant":
            dp = -((1 - p) ** gamma) / p
        return (dp * p)[:, None] * (head.Y - probs) / n

    return head.case(loss, slope, "weight taken for a constant")


# -- two classes -----------------------------------------------------------------------------------


@network("binary cross-entropy from probabilities, clipped")
def binary_clipped(n, H):
    head = Head(87, n, H)

    def loss(z):
        a = np.clip(sigmoid(z), 1e-10, 1 - 1e-10)
        return -np.mean(head.bits * np.log(a) + (1 - head.bits) * np.log(1 - a))

    def slope(z, bug):
        a = sigmoid(z)
        d = (a - head.bits) / a.size
        return d * a * (1 - a) if bug == "derivative of sigmoid twice" else d

    return head.case(loss, slope, "derivative of sigmoid twice")


@network("binary cross-entropy from logits, the stable form")
def binary_logits(n, H):
    head = Head(88, n, H)

    def loss(z):
        t = head.bits
        return np.mean(np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z))))

    def slope(z, bug):
        return (sigmoid(z) - head.bits) / (n if bug == "mean over the samples only" else z.size)

    return head.case(loss, slope, "mean over the samples only")


@network("binary cross-entropy, a sigmoid in two masked halves")
def binary_masked_sigmoid(n, H):
    head = Head(89, n, H)

    def stable_sigmoid(x):
        positive = x >= 0
        z = np.zeros_like(x)
        z[positive] = np.exp(-x[positive])
        z[~positive] = np.exp(x[~positive])
        top = np.ones_like(x)
        top[~positive] = z[~positive]
        return top / (1 + z)

    def loss(z):
        a = stable_sigmoid(z)
        return -np.sum(head.bits * np.log(a + 1e-9) + (1 - head.bits) * np.log(1 - a + 1e-9)) / n

    def slope(z, bug):
        a = sigmoid(z)
        da = -(head.bits / (a + 1e-9) - (1 - head.bits) / (1 - a + 1e-9)) / n
        return da if bug == "no derivative of sigmoid" else da * a * (1 - a)

    return head.case(loss, slope, "no derivative of sigmoid")


@network("logistic loss of margins, np.logaddexp")
def logistic_margins(n, H):
    head = Head(90, n, H)

    def loss(z):
        return np.logaddexp(0, -head.signs * z).sum() / n

    def slope(z, bug):
        sign = 1 if bug == "sign" else -1
        return sign * head.signs * sigmoid(-head.signs * z) / n

    return head.case(loss, slope, "sign")


# -- margins ---------------------------------------------------------------------------------------


@network("multiclass hinge, margins[arange, y] = 0")
def hinge(n, H):
    head = Head(91, n, H)

    def margins_of(z):
        correct = z[np.arange(n), head.y].reshape(-1, 1)
        margins = np.maximum(0, z - correct + 1.0)
        margins[np.arange(n), head.y] = 0
        return margins

    def loss(z):
        return np.sum(margins_of(z)) / n

    def slope(z, bug):
        d = (margins_of(z) > 0).astype(float)
        if bug != "the right class left out":
            d[np.arange(n), head.y] -= d.sum(axis=1)
        return d / n

    return head.case(loss, slope, "the right class left out")


@network("multiclass hinge, a loop with if margin > 0", large=(64, 512))
def hinge_loop(n, H):
    n = min(n, 16)
    head = Head(92, n, H)

    def loss(z):
        total = 0.0
        for i in range(n):
            scores = z[i]
            for j in range(C):
                if j == head.y[i]:
                    continue
                margin = scores[j] - scores[head.y[i]] + 1
                if margin > 0:
                    total += margin
        return total / n

    def slope(z, bug):
        d = np.zeros((n, C))
        for i in range(n):
            for j in range(C):
                if j != head.y[i] and z[i, j] - z[i, head.y[i]] + 1 > 0:
                    d[i, j] += 1
                    if bug != "the right class left out":
                        d[i, head.y[i]] -= 1
        return d / n

    return head.case(loss, slope, "the right class left out")


@network("squared binary hinge")
def squared_hinge(n, H):
    head = Head(93, n, H)

    def loss(z):
        return np.square(np.maximum(0, 1 - head.signs * z)).mean()

    def slope(z, bug):
        gap = np.maximum(0, 1 - head.signs * z)
        return -(1 if bug == "factor two" else 2) * gap * head.signs / z.size

    return head.case(loss, slope, "factor two")


# -- regression ------------------------------------------------------------------------------------

SCALINGS = {
    "mean over everything": (lambda e, n: np.mean(e**2), lambda e, n: 2 / e.size),
    "half the mean over everything": (lambda e, n: 0.5 * np.mean(e * e), lambda e, n: 1 / e.size),
    "sum": (lambda e, n: np.sum(np.square(e)), lambda e, n: 2),
    "half the sum": (lambda e, n: 0.5 * (e**2).sum(), lambda e, n: 1),
    "sum / (2 n)": (lambda e, n: np.sum(np.power(e, 2)) / (2 * n), lambda e, n: 1 / n),
    "mean of sums over the outputs": (
        lambda e, n: np.mean(np.sum(e**2, axis=1)),
        lambda e, n: 2 / n,
    ),
    "mean of squared norms": (
        lambda e, n: np.mean(np.linalg.norm(e, axis=1) ** 2),
        lambda e, n: 2 / n,
    ),
    "a running sum over samples": (
        lambda e, n: sum(np.dot(row, row) for row in e) / n,
        lambda e, n: 2 / n,
    ),
    "one product of the flat errors": (
        lambda e, n: e.ravel().dot(e.ravel()) / n,
        lambda e, n: 2 / n,
    ),
}


def _squares(name: str) -> None:
    of, factor = SCALINGS[name]

    @network(f"squared error: {name}")
    def squares(n: int, H: int) -> Case:
        head = Head(94, n, H)

        def slope(z: Any, bug: str | None) -> Any:
            error = z - head.T
            return error * factor(error, n) * (0.5 if bug == "half" else 1)

        return head.case(lambda z: of(z - head.T, n), slope, "half")


for _name in SCALINGS:
    _squares(_name)


@network("Huber loss by np.where")
def huber_where(n, H, delta=0.8):
    head = Head(95, n, H)

    def loss(z):
        r = z - head.T
        small = np.abs(r) <= delta
        return np.mean(np.where(small, 0.5 * r**2, delta * (np.abs(r) - 0.5 * delta)))

    def slope(z, bug):
        r = z - head.T
        if bug == "squares everywhere":
            return r / r.size
        return np.clip(r, -delta, delta) / r.size

    return head.case(loss, slope, "squares everywhere")


@network("Huber loss by masks that pick elements")
def huber_masks(n, H, delta=1.0):
    head = Head(96, n, H)

    def loss(z):
        r = np.abs(z - head.T)
        quadratic = r[r < delta]
        linear = r[r >= delta]
        return (0.5 * np.sum(quadratic**2) + np.sum(delta * linear - 0.5 * delta**2)) / n

    def slope(z, bug):
        r = z - head.T
        d = r.copy()
        d[np.abs(r) >= delta] = 1 if bug == "sign" else delta * np.sign(r[np.abs(r) >= delta])
        return d / n

    return head.case(loss, slope, "sign")


@network("absolute error and log-cosh")
def absolute_log_cosh(n, H):
    head = Head(97, n, H)

    def loss(z):
        e = z - head.T
        return np.abs(e).mean() + np.mean(np.log(np.cosh(e)))

    def slope(z, bug):
        e = z - head.T
        curve = np.cosh(e) if bug == "cosh for tanh" else np.tanh(e)
        return (np.sign(e) + curve) / e.size

    return head.case(loss, slope, "cosh for tanh")


@network("Gaussian likelihood with a learned variance")
def gaussian(n, H):
    head = Head(98, n, H, outputs=2)
    t = head.rng.normal(size=n)

    def loss(z):
        mu, log_sigma = z[:, 0], z[:, 1]
        return np.mean(0.5 * ((t - mu) / np.exp(log_sigma)) ** 2 + log_sigma)

    def slope(z, bug):
        mu, log_sigma = z.T
        r = (mu - t) * np.exp(-2 * log_sigma)
        dsigma = 1 - (mu - t) * r
        if bug == "the log term left out":
            dsigma = -(mu - t) * r
        return np.stack([r, dsigma], axis=1) / n

    return head.case(loss, slope, "the log term left out")


@network("mixture density: log of a sum of weighted Gaussians")
def mixture(n, H, K=2):
    head = Head(99, n, H, outputs=3 * K)
    t = head.rng.normal(size=(n, 1))

    def parts(z):
        weights = softmax(z[:, :K])
        mu, sigma = z[:, K : 2 * K], np.exp(z[:, 2 * K :])
        density = np.exp(-((t - mu) ** 2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
        return weights, mu, sigma, density

    def loss(z):
        weights, _, _, density = parts(z)
        return -np.log((weights * density).sum(axis=1)).mean()

    def slope(z, bug):
        weights, mu, sigma, density = parts(z)
        share = weights * density
        share = share / share.sum(axis=1, keepdims=True)
        dmu = share * (mu - t) / sigma**2
        dsigma = share * (1 - ((mu - t) / sigma) ** 2)
        dw = weights - (density if bug == "density for the share" else share)
        return np.concatenate([dw, dmu, dsigma], axis=1) / n

    return head.case(loss, slope, "density for the share")


# -- pairs -----------------------------------------------------------------------------------------


@network("contrastive loss of a siamese network")
def contrastive(n, H, margin=1.5):
    rng = np.random.default_rng(100)
    A, B = rng.normal(size=(n, D)), rng.normal(size=(n, D))
    same = (rng.random(n) < 0.5).astype(float)
    params = {"W": rng.normal(size=(D, H)) / 2, "b": np.zeros(H)}

    def embed(p, X):
        return np.tanh(X @ p["W"] + p["b"])

    def loss(p):
        d = np.sqrt(np.sum((embed(p, A) - embed(p, B)) ** 2, axis=1) + 1e-9)
        return np.mean(same * d**2 + (1 - same) * np.maximum(margin - d, 0) ** 2) / 2

    def grads(p, bug=None):
        ea, eb = embed(p, A), embed(p, B)
        d = np.sqrt(np.sum((ea - eb) ** 2, axis=1) + 1e-9)
        dd = (same * d - (1 - same) * np.maximum(margin - d, 0)) / n
        de = (dd / d)[:, None] * (ea - eb)
        da, db = de * (1 - ea**2), -de * (1 - eb**2)
        if bug == "second twin forgotten":
            db = np.zeros_like(db)
        return {"W": A.T @ da + B.T @ db, "b": (da + db).sum(axis=0)}

    return Case(loss, params, grads, {"second twin forgotten": "W b"})


@network("triplet loss")
def triplet(n, H, margin=0.5):
    rng = np.random.default_rng(101)
    anchor, positive, negative = rng.normal(size=(3, n, D))
    params = {"W": rng.normal(size=(D, H))}

    def loss(p):
        a, q, r = anchor @ p["W"], positive @ p["W"], negative @ p["W"]
        pos = np.sum(np.square(a - q), axis=-1)
        neg = np.sum(np.square(a - r), axis=-1)
        basic = pos - neg + margin
        return np.sum(np.maximum(basic, 0)) / n

    def grads(p, bug=None):
        dp, dn = anchor - positive, anchor - negative
        gap = np.sum((dp @ p["W"]) ** 2, -1) - np.sum((dn @ p["W"]) ** 2, -1) + margin
        active = np.ones(n) if bug == "all triplets active" else (gap > 0).astype(float)
        weight = (2 * active / n)[:, None]
        return {"W": dp.T @ (weight * (dp @ p["W"])) - dn.T @ (weight * (dn @ p["W"]))}

    return Case(loss, params, grads, {"all triplets active": "W"})


@network("InfoNCE: cosine similarities of a batch with itself", large=(64, 512))
def info_nce(n, H, temperature=0.5):
    rng = np.random.default_rng(102)
    A = rng.normal(size=(n, D))
    B = A + 0.3 * rng.normal(size=(n, D))
    params = {"W": rng.normal(size=(D, H))}

    def unit(p, X):
        z = X @ p["W"]
        length = np.linalg.norm(z, axis=1, keepdims=True)
        return z / length, length

    def loss(p):
        (u, _), (v, _) = unit(p, A), unit(p, B)
        logits = u @ v.T / temperature
        logits = logits - np.max(logits, axis=1, keepdims=True)
        logp = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return -np.mean(np.diag(logp))

    def grads(p, bug=None):
        (u, lu), (v, lv) = unit(p, A), unit(p, B)
        d = (softmax(u @ v.T / temperature) - np.eye(n)) / n / temperature
        du, dv = d @ v, d.T @ u
        if bug != "lengths taken for constants":
            du = du - u * np.sum(du * u, axis=1, keepdims=True)
            dv = dv - v * np.sum(dv * v, axis=1, keepdims=True)
        return {"W": A.T @ (du / lu) + B.T @ (dv / lv)}

    return Case(loss, params, grads, {"lengths taken for constants": "W"})


# -- penalties -------------------------------------------------------------------------------------


@network("L2 and L1 terms, sums over the tensors")
def penalties(n, H, l2=0.03, l1=0.02):
    head = Head(103, n, H)

    def loss(p):
        data = np.mean((head.scores(p) - head.T) ** 2)
        ridge = 0.5 * l2 * sum(np.sum(p[k] ** 2) for k in ("W1", "W2"))
        lasso = l1 * np.sum([np.sum(np.abs(p[k])) for k in ("W1", "W2")])
        return data + ridge + lasso

    def grads(p, bug=None):
        e = head.scores(p) - head.T
        g = head.back(p, 2 * e / e.size)
        for k in ("W1", "W2"):
            g[k] += (2 * l2 if bug == "half forgotten in L2" else l2) * p[k]
            if bug != "L1 left out":
                g[k] += l1 * np.sign(p[k])
        return g

    bugs = {"half forgotten in L2": "W1 W2", "L1 left out": "W1 W2"}
    return Case(loss, head.params, grads, bugs)


@network("a norm of all weights, elastic, over .values()")
def all_weights(n, H, lam=0.1):
    head = Head(104, n, H)

    def loss(p):
        reg_loss = 0
        for w in p.values():
            reg_loss += 0.5 * lam * np.sum(w * w)
        z = head.scores(p)
        z -= np.max(z)
        p_true = np.exp(z[np.arange(n), head.y]) / np.sum(np.exp(z), axis=1)
        return -np.log(p_true).sum() / n + reg_loss

    def grads(p, bug=None):
        d = softmax(head.scores(p))
        d[np.arange(n), head.y] -= 1
        g = head.back(p, d / n)
        return {k: v + lam * p[k] * (bug != f"penalty of {k}") for k, v in g.items()}

    return Case(loss, head.params, grads, {"penalty of W1": "W1"})


@network("a sparse autoencoder's KL penalty on mean activations")
def sparse(n, H, rho=0.1, beta=0.5):
    rng = np.random.default_rng(105)
    X = rng.random((D, n))
    params = {"W1": rng.normal(size=(H, D)), "b1": np.zeros((H, 1)), "W2": rng.normal(size=(D, H))}

    def forward(p):
        a = sigmoid(p["W1"].dot(X) + p["b1"])
        return a, p["W2"].dot(a), np.mean(a, axis=1, keepdims=True)

    def loss(p):
        _, out, hat = forward(p)
        kl = np.sum(rho * np.log(rho / hat) + (1 - rho) * np.log((1 - rho) / (1 - hat)))
        return np.sum((out - X) ** 2) / (2 * n) + beta * kl

    def grads(p, bug=None):
        a, out, hat = forward(p)
        d = (out - X) / n
        sparsity = beta * (-rho / hat + (1 - rho) / (1 - hat)) / n
        da = p["W2"].T.dot(d) + (0 if bug == "penalty left out" else sparsity)
        dz = da * a * (1 - a)
        return {"W1": dz.dot(X.T), "b1": dz.sum(axis=1, keepdims=True), "W2": d.dot(a.T)}

    return Case(loss, params, grads, {"penalty left out": "W1 b1"})


# -- activations -----------------------------------------------------------------------------------


def _elu(z):
    return np.where(z > 0, z, np.exp(z) - 1)


def _gelu(z):
    return 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))


def _d_gelu(z):
    inner = np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)
    dinner = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z**2)
    return 0.5 * (1 + np.tanh(inner)) + 0.5 * z * (1 - np.tanh(inner) ** 2) * dinner


def _relu_in_place(z):
    z = np.array(z)
    z[z < 0] = 0
    return z


def _hard_tanh(z):
    return np.clip(z, -1, 1)


def _stable(x):
    return np.where(x >= 0, 1 / (1 + np.exp(-x)), np.exp(x) / (1 + np.exp(x)))


ACTIVATIONS = {
    "ReLU, np.maximum(0, z)": (lambda z: np.maximum(0, z), lambda z: z > 0),
    "ReLU, z * (z > 0)": (lambda z: z * (z > 0), lambda z: z > 0),
    "ReLU, (abs(z) + z) / 2": (lambda z: (abs(z) + z) / 2, lambda z: z > 0),
    "ReLU, z[z < 0] = 0": (_relu_in_place, lambda z: z > 0),
    "leaky ReLU, np.maximum": (
        lambda z: np.maximum(0.01 * z, z),
        lambda z: np.where(z > 0, 1, 0.01),
    ),
    "ELU": (_elu, lambda z: np.where(z > 0, 1, np.exp(z))),
    "softplus": (lambda z: np.log(1 + np.exp(z)), sigmoid),
    "swish": (lambda z: z * sigmoid(z), lambda z: sigmoid(z) * (1 + z * (1 - sigmoid(z)))),
    "GELU by tanh": (_gelu, _d_gelu),
    "hard tanh": (_hard_tanh, lambda z: np.abs(z) < 1),
    "tanh of exponentials": (
        lambda z: (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z)),
        lambda z: 1 - np.tanh(z) ** 2,
    ),
    "sigmoid by np.where": (_stable, lambda z: sigmoid(z) * (1 - sigmoid(z))),
    "softsign": (lambda z: z / (1 + np.abs(z)), lambda z: 1 / (1 + np.abs(z)) ** 2),
    "Gaussian": (lambda z: np.exp(-(z**2)), lambda z: -2 * z * np.exp(-(z**2))),
    "sine": (np.sin, np.cos),
}


def _activation(name: str) -> None:
    f, slope = ACTIVATIONS[name]

    @network(f"activation: {name}")
    def activated(n: int, H: int) -> Case:
        rng = np.random.default_rng(106)
        X, Y = rng.normal(size=(n, D)), np.eye(C)[rng.integers(C, size=n)]
        params = {
            "W1": rng.normal(size=(D, H)),
            "b1": rng.normal(size=H),
            "W2": rng.normal(size=(H, C)) / np.sqrt(H),
        }

        def loss(p: Any) -> Any:
            return -np.sum(Y * np.log(softmax(f(X.dot(p["W1"]) + p["b1"]).dot(p["W2"])))) / n

        def grads(p: Any, bug: str | None = None) -> Any:
            z = X.dot(p["W1"]) + p["b1"]
            d = (softmax(f(z).dot(p["W2"])) - Y) / n
            dz = d.dot(p["W2"].T) * (1 if bug else slope(z))
            return {"W1": X.T.dot(dz), "b1": dz.sum(axis=0), "W2": f(z).T.dot(d)}

        return Case(loss, params, grads, {"no derivative": "W1 b1"})


for _name in ACTIVATIONS:
    _activation(_name)


@network("maxout, and a learned slope")
def maxout_prelu(n, H):
    rng = np.random.default_rng(107)
    X, T = rng.normal(size=(n, D)), rng.normal(size=n)
    params = {"W": rng.normal(size=(3, D, H)), "slope": np.array(0.2), "w": rng.normal(size=H)}

    def forward(p):
        pieces = np.einsum("nd,kdh->knh", X, p["W"])
        best = pieces.max(axis=0)
        return pieces, best, np.where(best > 0, best, p["slope"] * best)

    def loss(p):
        return ((forward(p)[-1] @ p["w"] - T) ** 2).mean()

    def grads(p, bug=None):
        pieces, best, a = forward(p)
        e = 2 * (a @ p["w"] - T) / n
        da = np.outer(e, p["w"])
        dbest = np.where(best > 0, da, p["slope"] * da)
        chosen = pieces == best
        if bug == "shared among all pieces":
            chosen = np.ones_like(pieces) / 3
        return {
            "W": np.einsum("nd,knh->kdh", X, chosen * dbest),
            "slope": np.sum(da * np.minimum(best, 0)),
            "w": a.T @ e,
        }

    return Case(loss, params, grads, {"shared among all pieces": "W"})
