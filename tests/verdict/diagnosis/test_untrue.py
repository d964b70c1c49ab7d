"""What a diagnosis must not assert: each of these was said once, and was not so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.report.data import Diagnosis

RNG = np.random.default_rng(5)


def diagnosis(loss: Any, params: Any, wrong: Any, **known: Any) -> Diagnosis:
    report = fastcheck.check(loss, params, wrong, **known)
    assert report.verdict == "fail"
    assert report.diagnosis is not None
    return report.diagnosis


# -- what right tensors show of what flows back to wrong ones --------------------------------------

X, Y = RNG.standard_normal((8, 5)), RNG.standard_normal((8, 3))
NORMED = {
    "W1": 0.5 * RNG.standard_normal((5, 6)),
    "g1": 1 + 0.1 * RNG.standard_normal(6),
    "b1": 0.1 * RNG.standard_normal(6),
    "V": RNG.standard_normal((6, 3)),
}


def normed(p: Any) -> Any:
    h = X @ p["W1"]
    r = np.sqrt(np.mean(h * h, axis=1, keepdims=True))
    return r, h / r, np.tanh(h / r * p["g1"] + p["b1"])


def normed_loss(p: Any) -> Any:
    return 0.5 * np.sum((normed(p)[-1] @ p["V"] - Y) ** 2)


def normed_gradients(share: float = 1.0, inputs: np.ndarray = X) -> dict[str, np.ndarray]:
    r, n, a = normed(NORMED)
    d = a @ NORMED["V"] - Y
    da = (d @ NORMED["V"].T) * (1 - a * a)
    dn = da * NORMED["g1"]
    dh = (dn - share * n * np.mean(dn * n, axis=1, keepdims=True)) / r
    return {"W1": inputs.T @ dh, "g1": (da * n).sum(0), "b1": da.sum(0), "V": a.T @ d}


def test_a_gain_behind_a_norm_does_not_clear_what_is_before_it() -> None:
    assert fastcheck.check(normed_loss, NORMED, normed_gradients())
    said = str(diagnosis(normed_loss, NORMED, normed_gradients(0.9)))
    assert "What flows back to this layer" not in said
    assert "What flows back to where g1 and b1 go in is right as far as" in said
    assert "Look between there and this layer" in said
    assert "`sqrt`" in said


def test_a_bias_that_is_added_to_the_product_does() -> None:
    params = {"W": NORMED["W1"], "b": NORMED["b1"]}
    a = np.tanh(X @ params["W"] + params["b"])
    d = 2 * a * (1 - a * a)
    wrong = {"W": X[::-1].T @ d, "b": d.sum(0)}
    loss = lambda p: np.sum(np.tanh(X @ p["W"] + p["b"]) ** 2)  # noqa: E731
    said = str(diagnosis(loss, params, wrong))
    # The sum over the samples is right, though they are in another order.
    assert "What flows back to this layer is right as far as b can show" in said
    assert "the order of samples" in said


@pytest.mark.parametrize("penalty", [lambda w: 0.1 * np.sum(w**2), lambda w: 0.1 * w @ w])
def test_a_tensor_of_another_branch_shows_nothing(penalty: Any) -> None:
    params = {
        "W": RNG.standard_normal((5, 4)),
        "v": RNG.standard_normal(4),
        "s": RNG.standard_normal(4),
    }

    def loss(p: Any) -> Any:
        fitted = np.mean((np.tanh(X @ p["W"]) @ p["v"] - Y[:, 0]) ** 2)
        return fitted + penalty(p["v"]) + np.sum(np.exp(p["s"]) - np.sin(p["s"]))

    h = np.tanh(X @ params["W"])
    d = 2 * (h @ params["v"] - Y[:, 0]) / len(X)
    right = {
        "W": X.T @ (np.outer(d, params["v"]) * (1 - h * h)),
        "v": h.T @ d + 0.2 * params["v"],
        "s": np.exp(params["s"]) - np.cos(params["s"]),
    }
    assert fastcheck.check(loss, params, right)
    wrong = {**right, "s": np.exp(params["s"]) - np.cos(params["s"]) ** 3}
    said = str(diagnosis(loss, params, wrong))
    assert "flows back" not in said
    assert "`exp`" in said
    assert "`sin`" in said


# -- paths -----------------------------------------------------------------------------------------

IMAGES, NOISE = RNG.random((12, 10)), RNG.standard_normal((12, 3))
VAE = {
    "Wm": 0.3 * RNG.standard_normal((10, 3)),
    "Wv": 0.3 * RNG.standard_normal((10, 3)),
    "Wd": 0.3 * RNG.standard_normal((3, 10)),
    "bd": np.zeros(10),
}


def vae(p: Any) -> Any:
    m, v = IMAGES @ p["Wm"], IMAGES @ p["Wv"]; z = m + np.exp(0.5 * v) * NOISE  # noqa: E702 # fmt: skip
    return m, v, z, 1 / (1 + np.exp(-(z @ p["Wd"] + p["bd"])))


def vae_loss(p: Any) -> Any:
    m, v, _, y = vae(p)
    fitted = -np.sum(IMAGES * np.log(y) + (1 - IMAGES) * np.log(1 - y))
    return (fitted - 0.5 * np.sum(1 + v - m**2 - np.exp(v))) / 12


def vae_gradients(encoder: float, decoder: float) -> dict[str, np.ndarray]:
    m, v, z, y = vae(VAE)
    d = (y - IMAGES) / 12
    dz = encoder * d @ VAE["Wd"].T
    width = dz * NOISE * 0.5 * np.exp(0.5 * v) + 0.5 * (np.exp(v) - 1) / 12
    return {
        "Wm": IMAGES.T @ (dz + m / 12),
        "Wv": IMAGES.T @ width,
        "Wd": decoder * z.T @ d,
        "bd": decoder * d.sum(0),
    }


@pytest.mark.parametrize("decoder", [1, 0])
def test_a_path_left_out_is_no_truncation_where_there_is_no_time(decoder: int) -> None:
    assert fastcheck.check(vae_loss, VAE, vae_gradients(1, 1))
    found = diagnosis(vae_loss, VAE, vae_gradients(0, decoder))
    assert set(found.causes) <= {"missing-path", "zero"}
    assert "missing-path" in found.causes
    assert "time" not in str(found)
    assert "for the derivative of" not in str(found)


# -- penalties -------------------------------------------------------------------------------------

W = RNG.standard_normal(4)
DATA, TARGETS = RNG.standard_normal((20, 4)), RNG.standard_normal(20)
PENALTIES = {
    "product": lambda w: 0.05 * w @ w,
    "squares": lambda w: 0.05 * np.sum(w**2),
    "norm": lambda w: 0.05 * np.linalg.norm(w) ** 2,
    "matrix": lambda w: w @ (0.05 * np.eye(4)) @ w,
}


def penalised(penalty: Any) -> tuple[Any, np.ndarray]:
    t = np.tanh(DATA @ W)
    data = 2 * DATA.T @ ((t - TARGETS) * (1 - t * t)) / 20
    return lambda p: np.mean((np.tanh(DATA @ p["w"]) - TARGETS) ** 2) + penalty(p["w"]), data


@pytest.mark.parametrize("spelling", PENALTIES)
@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0])
def test_a_factor_of_the_data_is_no_penalty_however_that_is_written(
    spelling: str, factor: float
) -> None:
    loss, data = penalised(PENALTIES[spelling])
    assert fastcheck.check(loss, {"w": W}, {"w": data + 0.1 * W})
    found = diagnosis(loss, {"w": W}, {"w": factor * data + 0.1 * W})
    assert found.causes == ("scale",)
    assert "but for what penalties on w add, which is right" in str(found)


@pytest.mark.parametrize("spelling", PENALTIES)
@pytest.mark.parametrize(
    ("times", "cause", "words"),
    [
        (0.0, "missing-l2", "the L2 penalty is missing:"),
        (2.0, "extra-l2", "the L2 penalty is counted twice:"),
        (1.001, "extra-l2", "the L2 penalty is 1.001 × what it is in the loss:"),
        (0.5, "missing-l2", "the L2 penalty is 0.5 × what it is in the loss:"),
    ],
)
def test_it_is_said_what_became_of_the_penalty(
    spelling: str, times: float, cause: str, words: str
) -> None:
    loss, data = penalised(PENALTIES[spelling])
    found = diagnosis(loss, {"w": W}, {"w": data + 0.1 * times * W})
    assert found.causes == (cause,)
    assert words in str(found)


def test_a_penalty_that_the_loss_does_not_have() -> None:
    loss, data = penalised(lambda w: 0.0)
    assert "the loss has no such term" in str(diagnosis(loss, {"w": W}, {"w": data + 0.1 * W}))


def at_a_minimum() -> tuple[Any, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A loss whose data pull a tensor away from zero as its penalty pulls it there."""
    a = -0.1 * W + 1e-9 * RNG.standard_normal(4)
    return lambda p: a @ p["w"] + 0.05 * np.sum(p["w"] ** 2), {"w": W}, {"w": a}


def test_at_a_minimum_a_little_of_the_data_is_not_called_a_penalty() -> None:
    loss, params, data = at_a_minimum()
    assert fastcheck.check(loss, params, {"w": data["w"] + 0.1 * W})
    found = diagnosis(loss, params, {"w": (1 - 1e-10) * data["w"] + 0.1 * W})
    exact = [f for f in found.findings if f.certainty == "exact"]
    assert all("extra-l2" not in (f.cause, *f.alternatives) for f in exact)
    # Without it, or with twice the data: both are said.
    (both,) = diagnosis(loss, params, {"w": data["w"]}).findings
    assert {both.cause, *both.alternatives} == {"scale", "missing-l2"}


def test_what_a_penalty_hides_of_a_factor_is_asked_of_the_rest() -> None:
    """Parallel to 4e-5 only, which is within a millionth of the whole."""
    loss, data = penalised(lambda w: 50 * np.sum(w**2))
    assert fastcheck.check(loss, {"w": W}, {"w": data + 100 * W})
    turned = 0.013 * data * (1 + 4e-5 * np.array([1, -1, 1, -1]))
    found = diagnosis(loss, {"w": W}, {"w": turned + 100 * W})
    assert all(f.certainty != "exact" for f in found.findings)
    assert diagnosis(loss, {"w": W}, {"w": 0.013 * data + 100 * W}).causes == ("scale",)


# -- samples ---------------------------------------------------------------------------------------

CLASSES = np.array([1, 1, 0, 2, 0, 1, 0, 2, 2, 2, 2, 2, 0, 0, 0, 2])
POINTS = RNG.standard_normal((16, 5))
FRESH = {
    "W1": RNG.standard_normal((5, 6)),
    "b1": np.zeros(6),
    "W2": np.zeros((6, 3)),
    "b2": np.zeros(3),
}


def fresh_loss(p: Any) -> Any:
    z = np.tanh(POINTS @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
    return np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(16), CLASSES])


def fresh_gradients(keep: np.ndarray, *, both: bool) -> dict[str, np.ndarray]:
    d = (np.full((16, 3), 1 / 3) - np.eye(3)[CLASSES]) / 16
    h = np.tanh(POINTS @ FRESH["W1"])
    return {
        "W1": np.zeros((5, 6)),
        "b1": np.zeros(6),
        "W2": h.T @ (d * keep if both else d),
        "b2": (d * keep).sum(0),
    }


@pytest.mark.parametrize("given", [False, True])
def test_samples_that_add_the_same_are_all_named(given: bool) -> None:
    keep = np.ones((16, 1))
    keep[15] = 0
    assert fastcheck.check(fresh_loss, FRESH, fresh_gradients(np.ones((16, 1)), both=True))
    each = [fresh_gradients(np.eye(16)[:, [s]], both=True) for s in range(16)]
    known = {"sample_grads": {n: np.stack([g[n] for g in each]) for n in FRESH}} if given else {}
    found = diagnosis(fresh_loss, FRESH, fresh_gradients(keep, both=False), **known)
    assert found.causes == ("sample-dropped",)
    assert "one of the samples 3, 7, 8, 9, 10 and 2 more of 16" in str(found)
    # Another tensor tells which one it was.
    found = diagnosis(fresh_loss, FRESH, fresh_gradients(keep, both=True), **known)
    assert found.causes == ("sample-dropped",)
    assert "leave out sample 15 of 16." in str(found)


SERIES, GOALS = RNG.standard_normal((3, 4, 20)), RNG.standard_normal(3)
CONVOLVED = {
    "K": RNG.standard_normal((5, 4, 2)),
    "b": RNG.standard_normal((5, 1)),
    "v": RNG.standard_normal(5),
}


def convolved(p: Any) -> Any:
    cuts = [SERIES[:, :, 3 * k : 3 * k + 16] for k in range(2)]
    return np.tanh(sum(np.einsum("oc,bct->bot", p["K"][:, :, k], cuts[k]) for k in (0, 1)) + p["b"])


def convolved_loss(p: Any) -> Any:
    return np.mean((convolved(p).mean(axis=2) @ p["v"] - GOALS) ** 2)


def convolved_gradients(keep: np.ndarray) -> dict[str, np.ndarray]:
    a = convolved(CONVOLVED)
    d = 2 * (a.mean(axis=2) @ CONVOLVED["v"] - GOALS) / 3
    dh = (d[:, None] * CONVOLVED["v"])[:, :, None] / 16 * (1 - a * a) * keep
    cuts = [SERIES[:, :, 3 * k : 3 * k + 16] for k in range(2)]
    return {
        "K": np.stack([np.einsum("bot,bct->oc", dh, cut) for cut in cuts], axis=2),
        "b": dh.sum(axis=(0, 2))[:, None],
        "v": a.mean(axis=2).T @ d,
    }


@pytest.mark.parametrize("known", [{}, {"batch_size": 3}])
def test_steps_in_time_are_not_called_samples(known: dict[str, Any]) -> None:
    keep = np.ones((3, 1, 16))
    assert fastcheck.check(convolved_loss, CONVOLVED, convolved_gradients(keep))
    keep[:, :, 0] = 0
    said = str(diagnosis(convolved_loss, CONVOLVED, convolved_gradients(keep), **known))
    assert "leave out place 0 of 16 along an axis" in said
    assert "sample" not in said
    keep = np.ones((3, 1, 16))
    keep[2] = 0
    said = str(diagnosis(convolved_loss, CONVOLVED, convolved_gradients(keep), **known))
    assert "leave out sample 2 of 3" in said


def test_the_axis_of_places_is_named() -> None:
    keep = np.ones((3, 1, 16))
    keep[:, :, 0] = 0
    wrong = {**convolved_gradients(np.ones((3, 1, 16))), "b": convolved_gradients(keep)["b"]}
    said = str(diagnosis(convolved_loss, CONVOLVED, wrong))
    assert "place 0 of 16 along axis 2 of the result of `add`" in said


# -- rows taken several times ----------------------------------------------------------------------

TOKENS = np.array([[0, 3, 3], [1, 3, 5], [2, 2, 2], [6, 0, 1]])
EMBEDDED = {"E": RNG.standard_normal((8, 4)), "w": RNG.standard_normal(4)}


def embedded_loss(p: Any) -> Any:
    return np.sum(np.tanh(p["E"][TOKENS].mean(axis=1) @ p["w"]))


def embedded_gradients() -> tuple[dict[str, np.ndarray], np.ndarray]:
    h = EMBEDDED["E"][TOKENS].mean(axis=1)
    d = 1 - np.tanh(h @ EMBEDDED["w"]) ** 2
    rows = np.repeat(np.outer(d, EMBEDDED["w"])[:, None] / 3, 3, axis=1)
    E = np.zeros((8, 4))
    np.add.at(E, TOKENS, rows)
    return {"E": E, "w": h.T @ d}, rows


def test_rows_that_are_written_over_each_other() -> None:
    right, rows = embedded_gradients()
    assert fastcheck.check(embedded_loss, EMBEDDED, right)
    E = np.zeros((8, 4))
    E[TOKENS] += rows
    found = diagnosis(embedded_loss, EMBEDDED, {**right, "E": E})
    assert found.causes == ("repeated-index",)
    assert found.findings[0].tensors == ("E",)
    assert "np.add.at" in str(found)


def test_rows_of_which_the_first_is_kept_are_not_called_so() -> None:
    right, rows = embedded_gradients()
    E = np.zeros((8, 4))
    E[TOKENS.ravel()[::-1]] = rows.reshape(-1, 4)[::-1] * np.linspace(1, 2, 12)[:, None]
    found = diagnosis(embedded_loss, EMBEDDED, {**right, "E": E})
    assert "repeated-index" not in found.causes


# -- names -----------------------------------------------------------------------------------------


def test_a_logarithm_is_called_what_it_is_in_the_line() -> None:
    def loss(p: Any) -> Any:
        y = 1 / (1 + np.exp(-(X @ p["w"])))
        return -np.sum(np.log(y))

    w = RNG.standard_normal(5)
    d = 1 / (1 + np.exp(-(X @ w))) - 1
    assert fastcheck.check(loss, {"w": w}, {"w": X.T @ d})
    said = str(diagnosis(loss, {"w": w}, {"w": X.T @ (d * np.sqrt(np.abs(d)))}))
    assert "`log`" in said
    assert "logaddexp" not in said


def test_at_a_minimum_a_factor_beside_the_penalty_is_not_certain() -> None:
    """The data's gradient is the penalty's the other way round: c of one is 2 − c of the other."""
    b = np.array([-1.0, 0.5, 2.0, -0.3, 1.1])
    pull = 0.1 * b

    def loss(p: Any) -> Any:
        return np.sum(p["b"] * -pull) + 0.05 * np.sum(p["b"] ** 2)

    right = fastcheck.numerical_gradient(loss, {"b": b})["b"]
    assert np.abs(right).max() < 1e-12
    report = fastcheck.check(loss, {"b": b}, {"b": -1.09 * pull + pull})
    assert report.failed == ("b",)
    assert "scale" not in report.diagnosis.causes
