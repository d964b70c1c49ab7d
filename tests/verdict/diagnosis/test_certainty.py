"""What fits by chance, within the error or beside another mistake is not asserted as a cause.

For each there is the mistake itself, which is: nobody may stop naming causes to be never wrong.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

import fastcheck

RNG = np.random.default_rng(5)
Arrays = dict[str, np.ndarray]


def asserted(loss: Any, params: Arrays, grads: Arrays, **known: Any) -> dict[str, set[str]]:
    """Return the causes of which a diagnosis is certain: of each tensor, and what fits as well."""
    report = fastcheck.check(loss, params, grads, **known)
    assert report.diagnosis is not None
    exact = [one for one in report.diagnosis.findings if one.certainty == "exact"]
    return {name: {one.cause, *one.alternatives} for one in exact for name in one.tensors}


class Net:
    """Two tanh layers, halved squared errors and an L2 term."""

    decay = 0.01

    def __init__(self, dtype: Any = np.float64, samples: int = 16) -> None:
        rng = np.random.default_rng(samples)
        self.X = rng.standard_normal((samples, 4)).astype(dtype)
        self.Y = rng.standard_normal((samples, 3)).astype(dtype)
        shapes = {"W1": (4, 5), "b1": (5,), "W2": (5, 3), "b2": (3,)}
        self.params = {n: rng.standard_normal(s).astype(dtype) for n, s in shapes.items()}

    def loss(self, p: Any) -> Any:
        h = np.tanh(self.X @ p["W1"] + p["b1"])
        fit = 0.5 * np.sum((h @ p["W2"] + p["b2"] - self.Y) ** 2) / len(self.X)
        return fit + self.decay / 2 * (np.sum(p["W1"] ** 2) + np.sum(p["W2"] ** 2))

    def backward(self, factor: float = 1.0, decay: float = decay) -> Arrays:
        p = self.params
        h = np.tanh(self.X @ p["W1"] + p["b1"])
        d = factor * (h @ p["W2"] + p["b2"] - self.Y) / len(self.X)
        e = (d @ p["W2"].T) * (1 - h**2)
        return {
            "W1": self.X.T @ e + decay * p["W1"],
            "b1": e.sum(axis=0),
            "W2": h.T @ d + decay * p["W2"],
            "b2": d.sum(axis=0),
        }


# -- a factor beside a penalty ---------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.2, 0.5, 2.0, 0.37])
def test_a_factor_that_spares_the_penalty_is_no_penalty(factor: float) -> None:
    net = Net()
    said = asserted(net.loss, net.params, net.backward(factor), batch_size=16)
    assert set(said) == {"W1", "b1", "W2", "b2"}
    assert all("scale" in causes and "extra-l2" not in causes for causes in said.values())


def test_it_is_said_that_the_penalty_is_right() -> None:
    net = Net()
    report = fastcheck.check(net.loss, net.params, net.backward(0.2))
    assert "but for what penalties on W1 and W2 add, which is right." in str(report.diagnosis)


@pytest.mark.parametrize(("factor", "decay"), [(1.0, 0.03), (2.0, 0.0), (0.5, 0.02)])
def test_another_strength_of_the_penalty_still_is_one(factor: float, decay: float) -> None:
    net = Net()
    said = asserted(net.loss, net.params, net.backward(factor, decay))
    cause = "missing-l2" if decay == 0 else "extra-l2"
    assert said["W1"] == said["W2"] == {cause}


def test_a_fitted_penalty_has_to_be_seen_beside_its_factor() -> None:
    """Some multiple of the parameters lies nearer to any small error than none does."""
    w, c = RNG.uniform(1, 2, 6), RNG.uniform(1, 2, 6)

    def loss(p: Any) -> Any:
        return np.sum(np.exp(c * p["w"]))

    right = c * np.exp(c * w)
    off = 3e-6 * right.max() * w + 1e-6 * right * RNG.choice([-1, 1], 6)
    assert not asserted(loss, {"w": w}, {"w": 2 * right + off})
    assert asserted(loss, {"w": w}, {"w": 2 * right + 0.01 * w})["w"] == {"extra-l2"}


# -- what nearly fits ------------------------------------------------------------------------------


def test_a_step_before_that_is_parallel_cannot_be_told_from_a_factor() -> None:
    net = Net()
    right = net.backward()
    before = {n: g * (1 + 1e-9 * RNG.standard_normal(g.shape)) for n, g in right.items()}
    wrong = {n: g - 0.0137 * before[n] for n, g in right.items()}
    said = asserted(net.loss, net.params, wrong, previous_grads=before)
    assert all(causes == {"scale"} for causes in said.values())


def test_a_step_before_that_is_another_is_told() -> None:
    net = Net()
    right = net.backward()
    before = {n: g + 0.1 * RNG.standard_normal(g.shape) for n, g in right.items()}
    wrong = {n: g - 0.0137 * before[n] for n, g in right.items()}
    said = asserted(net.loss, net.params, wrong, previous_grads=before)
    assert all(causes == {"accumulated"} for causes in said.values())
    assert len(said) == 4


def test_what_rounding_may_leave_at_worst_is_not_what_it_leaves() -> None:
    """In float32 that may be as much as a mistake: no cause is certain of what is that far off."""
    net = Net(np.float32)
    right = {n: np.asarray(g, dtype=np.float64) for n, g in net.backward().items()}
    net.params = {n: v.astype(np.float32) for n, v in net.params.items()}
    noisy = {n: 2 * g * (1 + 1.4e-4 * RNG.uniform(-1, 1, g.shape)) for n, g in right.items()}
    assert not asserted(net.loss, net.params, noisy)
    twice = {n: 2 * g for n, g in right.items()}
    assert set.union(*asserted(net.loss, net.params, twice).values()) == {"scale"}


@pytest.mark.parametrize("twice", [True, False])
def test_the_rounding_of_a_penalty_excuses_nothing_of_a_mistake_that_is_smaller(
    twice: bool,
) -> None:
    """All that the data add here is a hundred-millionth of the gradient."""
    rng = np.random.default_rng(0)
    X, T = 2e-9 * rng.uniform(1, 2, (3, 2)), rng.uniform(1, 2, (3, 2))
    W, v = np.array([[1.0, 1e-4], [2e-4, 3e-4]]), np.ones(1)
    times = np.full(3, 2.0) if twice else np.array([2.0, 1.99, 1.995])

    def loss(p: Any) -> Any:
        # Beside so large a gradient as that of v, more than that may be rounding.
        return 0.5 * np.sum(p["W"] ** 2) + np.sum(X @ p["W"] * T) + 4e4 * np.sum(p["v"] ** 2)

    said = asserted(loss, {"W": W, "v": v}, {"W": W + (X.T * times) @ T, "v": 8e4 * v})
    assert said == ({"W": {"path-twice"}} if twice else {})


class Certain:
    """A float32 classifier that is all but certain: p − y has few digits, and so has all behind."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.params = {
            "W1": rng.standard_normal((5, 6)).astype(np.float32),
            "b1": np.zeros(6, dtype=np.float32),
            "W2": 8 * rng.standard_normal((6, 3)).astype(np.float32),
            "b2": np.zeros(3, dtype=np.float32),
        }
        X = rng.standard_normal((80, 5)).astype(np.float32)
        Z = self.forward(self.params, X)[1]
        best = np.sort(Z, axis=1)
        kept = best[:, -1] - best[:, -2] > 7
        self.X, self.Y = X[kept], np.eye(3, dtype=np.float32)[np.argmax(Z, axis=1)[kept]]

    @staticmethod
    def forward(p: Any, X: np.ndarray) -> tuple[Any, Any]:
        h = np.tanh(X @ p["W1"] + p["b1"])
        return h, h @ p["W2"] + p["b2"]

    def loss(self, p: Any) -> Any:
        Z = self.forward(p, self.X)[1]
        Z = Z - np.max(Z, axis=1, keepdims=True)
        log_p = Z - np.log(np.sum(np.exp(Z), axis=1, keepdims=True))
        return -np.sum(log_p * self.Y) / len(self.X)

    def summed(self) -> Arrays:
        """The gradients, in float32 throughout, without the division by the number of samples."""
        h, Z = self.forward(self.params, self.X)
        e = np.exp(Z - Z.max(axis=1, keepdims=True))
        d = e / e.sum(axis=1, keepdims=True) - self.Y
        f = (d @ self.params["W2"].T) * (1 - h**2)
        return {"W1": self.X.T @ f, "b1": f.sum(axis=0), "W2": h.T @ d, "b2": d.sum(axis=0)}


@pytest.mark.parametrize("seed", range(4))
def test_what_rounding_leaves_of_a_right_gradient_hides_no_mistake(seed: int) -> None:
    """It is a thousandth of it here: the tolerance alone would leave no factor exact."""
    net = Certain(seed)
    samples = len(net.X)
    said = asserted(net.loss, net.params, net.summed(), batch_size=samples)
    assert said == {name: {"missing-mean"} for name in net.params}
    off = np.random.default_rng(1)
    noisy = {n: g * (1 + 0.02 * off.standard_normal(g.shape)) for n, g in net.summed().items()}
    assert not asserted(net.loss, net.params, noisy, batch_size=samples)


def test_a_gradient_that_cannot_be_told_from_zero_shows_nothing() -> None:
    """A sample that adds next to nothing is not the one that stands for all."""
    rng = np.random.default_rng(3)
    X, Y = rng.standard_normal((6, 3)).astype(np.float32), np.ones((6, 1), dtype=np.float32)
    X[2] = (60, 0, 0)  # its sigmoid is 1 to the last digit
    params = {"w": np.ones((3, 1), dtype=np.float32), "b": np.zeros(1, dtype=np.float32)}

    def loss(p: Any) -> Any:
        return np.sum(np.logaddexp(0, X @ p["w"] + p["b"]) - Y * (X @ p["w"] + p["b"])) / 6

    d = (1 / (1 + np.exp(-(X @ params["w"] + params["b"]))) - Y).astype(np.float64) / 6
    said = asserted(loss, params, {"w": X.T @ d, "b": np.array([1e-11])})
    assert "b" not in said
    said = asserted(loss, params, {"w": X.T @ d, "b": d[1]})
    assert "missing-bias-sum" in said["b"]


# -- one mistake beside another --------------------------------------------------------------------


class Sparse:
    """A hidden layer of ReLUs, each of which lets few of three samples through."""

    X = np.array([[1.0, 0.5, 0.2], [0.3, 2.0, 0.1], [0.8, 0.1, 0.4]])
    Y = np.array([[0.3], [1.4], [-0.7]])
    params: ClassVar[Arrays] = {
        "W1": np.array([[1.0, -2.0], [-2.0, 1.0], [0.1, 0.2]]),
        "b1": np.array([0.1, 0.05]),
        "W2": np.array([[0.7], [-0.4]]),
        "b2": np.array([0.2]),
    }

    @classmethod
    def loss(cls, p: Any) -> Any:
        a = np.maximum(0, cls.X @ p["W1"] + p["b1"])
        return 0.5 * np.sum((a @ p["W2"] + p["b2"] - cls.Y) ** 2) / 3

    @classmethod
    def backward(cls, without: int | None = None) -> Arrays:
        z = cls.X @ cls.params["W1"] + cls.params["b1"]
        a = np.maximum(0, z)
        d = (a @ cls.params["W2"] + cls.params["b2"] - cls.Y) / 3
        if without is not None:
            d[without] = 0
        e = (d @ cls.params["W2"].T) * (z > 0)
        return {"W1": cls.X.T @ e, "b1": e.sum(axis=0), "W2": a.T @ d, "b2": d.sum(axis=0)}


def test_zeros_beside_another_mistake_do_not_show_that_a_sample_stands_alone() -> None:
    z = Sparse.X @ Sparse.params["W1"] + Sparse.params["b1"]
    assert (z > 0).tolist() == [[True, False], [False, True], [True, False]]
    wrong = Sparse.backward(without=2)
    wrong["W1"][:, 1] = 0  # all that sample 1 adds
    said = asserted(Sparse.loss, Sparse.params, wrong, batch_size=3)
    assert said["b2"] == said["W2"] == {"sample-dropped"}
    assert "one-sample" not in said.get("W1", set())


def test_a_sample_that_stands_alone_is_named_where_nothing_else_is_wrong() -> None:
    wrong = {**Sparse.backward(), "W1": Sparse.backward(without=2)["W1"]}
    wrong["W1"][:, 1] = 0
    said = asserted(Sparse.loss, Sparse.params, wrong, batch_size=3)
    assert "one-sample" in said["W1"]


def test_what_lies_behind_an_unknown_factor_may_follow_from_it() -> None:
    net = Net()
    wrong = net.backward()
    wrong["W2"], wrong["b2"] = 1.234 * wrong["W2"], 1.234 * wrong["b2"]
    wrong["W1"] = 2 * wrong["W1"]
    said = asserted(net.loss, net.params, wrong)
    assert (said["b2"], "W1" in said) == ({"scale"}, False)
    # A bias that is right shows that what flows back is.
    assert asserted(net.loss, net.params, {**wrong, "b2": net.backward()["b2"]})["W1"] == {"scale"}


def test_what_flows_back_is_not_said_to_be_wrong_where_the_bias_is_so_otherwise() -> None:
    net = Net()
    h = np.tanh(net.X @ net.params["W1"] + net.params["b1"])
    d = (h @ net.params["W2"] + net.params["b2"] - net.Y) / len(net.X)
    e = d @ net.params["W2"].T * (1 - h)
    wrong = {**net.backward(), "W1": net.X.T @ e + net.decay * net.params["W1"]}
    said = asserted(net.loss, net.params, {**wrong, "b1": e.sum(axis=0)})
    assert said["W1"] == said["b1"] == {"activation-derivative"}
    said = asserted(net.loss, net.params, {**wrong, "b1": 0 * wrong["b1"]})
    assert (said["b1"], "W1" in said) == ({"zero"}, False)


def test_a_number_of_samples_that_there_are_not_is_a_plain_factor() -> None:
    net = Net()
    wrong = {n: g / 7 if n[0] == "b" else g for n, g in net.backward().items()}
    assert asserted(net.loss, net.params, wrong, batch_size=16)["b2"] == {"scale"}
    wrong = {n: g / 16 if n[0] == "b" else g for n, g in net.backward().items()}
    assert "missing-bias-sum" in asserted(net.loss, net.params, wrong, batch_size=16)["b2"]


def logistic(Y: np.ndarray, change: Any) -> dict[str, set[str]]:
    """What is said of a logistic regression with another derivative of its loss."""
    X = np.random.default_rng(1).standard_normal((8, 3))
    params = {"w": np.array([[0.3], [-0.2], [0.5]]), "b": np.array([0.1])}

    def loss(p: Any) -> Any:
        A = 1 / (1 + np.exp(-(X @ p["w"] + p["b"])))
        return -np.sum(np.multiply(np.log(A), Y) + np.multiply(np.log(1 - A), 1 - Y)) / 8

    A = 1 / (1 + np.exp(-(X @ params["w"] + params["b"])))
    d = change(A, Y) / 8
    return asserted(loss, params, {"w": X.T @ d, "b": d.sum(axis=0)})


def test_labels_that_are_all_alike_are_no_mask() -> None:
    """Absolute errors: 1 − y left out of what it multiplies adds the same, where all y are 1."""
    assert not logistic(np.ones((8, 1)), lambda A, Y: np.sign(A - Y))


def test_labels_that_differ_are() -> None:
    Y = np.array([[1.0, 0, 1, 1, 0, 0, 1, 0]]).T
    said = logistic(Y, lambda A, Y: -(1 - A) * Y + A)
    assert "missing-mask" in said["w"]


# -- normalisation ---------------------------------------------------------------------------------


def normalised(mistake: str, seed: int) -> dict[str, set[str]]:
    """What is said of a layer with batch normalisation and a mistake in its derivative."""
    rng = np.random.default_rng(seed)
    m, units = 7, 4
    X, Y = rng.standard_normal((m, 3)), rng.standard_normal((m, 2))
    shapes = {"W1": (3, units), "gamma": (units,), "beta": (units,), "W2": (units, 2)}
    params = {n: rng.standard_normal(s) for n, s in shapes.items()}

    def forward(p: Any) -> Any:
        Z = X @ p["W1"]
        size = np.sqrt(Z.var(axis=0) + 1e-5)
        hat = (Z - Z.mean(axis=0)) / size
        A = np.tanh(hat * p["gamma"] + p["beta"])
        return size, hat, A, A @ p["W2"] - Y

    def loss(p: Any) -> Any:
        return 0.5 * np.sum(forward(p)[-1] ** 2) / m

    size, hat, A, d = forward(params)
    ds = (d / m) @ params["W2"].T * (1 - A**2)
    dhat = ds * params["gamma"]
    mean, along = dhat.mean(axis=0), (dhat * hat).mean(axis=0)
    dZ = {
        "the mean is a constant": (dhat - hat * along) / size,
        "the variance is a constant": (dhat - mean) / size,
        "sums for means": (dhat - m * mean - m * hat * along) / size,
        "over one sample less": (dhat - mean - hat * along * m / (m - 1)) / size,
        "both are constants": dhat / size,
    }[mistake]
    grads = {"W1": X.T @ dZ, "gamma": (ds * hat).sum(axis=0), "beta": ds.sum(axis=0)}
    return asserted(loss, params, {**grads, "W2": A.T @ d / m}, batch_size=m)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mistake", ["the mean is a constant", "the variance is a constant"])
def test_statistics_of_the_batch_taken_for_constants_are_a_path_left_out(
    mistake: str, seed: int
) -> None:
    assert "missing-path" in normalised(mistake, seed)["W1"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mistake", ["sums for means", "over one sample less"])
def test_other_mistakes_in_a_normalisation_are_given_no_cause(mistake: str, seed: int) -> None:
    assert not normalised(mistake, seed)
