"""Two mistakes that come to the same gradient are both named; what is not proven is not asserted.

Dead units, corners and small batches make one mistake look like another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck

RNG = np.random.default_rng(11)
Arrays = dict[str, np.ndarray]


class Layers:
    """Two layers with ReLU between, halved squared errors, samples in rows, perhaps an L2 term."""

    def __init__(self, samples: int = 7, decay: float = 0.0, bias: float = 0.1) -> None:
        rng = np.random.default_rng(samples)
        self.samples, self.decay = samples, decay
        self.X, self.T = rng.standard_normal((samples, 5)), rng.standard_normal((samples, 3))
        self.params = {
            "W1": rng.standard_normal((5, 4)),
            "b1": bias * rng.standard_normal(4),
            "W2": rng.standard_normal((4, 3)),
            "b2": bias * rng.standard_normal(3),
        }

    def loss(self, p: Any) -> Any:
        a = np.maximum(0, self.X @ p["W1"] + p["b1"])
        fit = 0.5 * np.sum((a @ p["W2"] + p["b2"] - self.T) ** 2) / self.samples
        return fit + self.decay / 2 * (np.sum(p["W1"] ** 2) + np.sum(p["W2"] ** 2))

    def backward(
        self, decay: float | None = None, mask: bool = True, keep: slice = slice(None)
    ) -> Arrays:
        p, decay = self.params, self.decay if decay is None else decay
        z = self.X @ p["W1"] + p["b1"]
        a = np.maximum(0, z)
        d = (a @ p["W2"] + p["b2"] - self.T) / self.samples
        d[np.setdiff1d(np.arange(self.samples), np.arange(self.samples)[keep])] = 0
        e = (d @ p["W2"].T) * ((z > 0) if mask else 1.0)
        return {
            "W1": self.X.T @ e + decay * p["W1"],
            "b1": e.sum(axis=0),
            "W2": a.T @ d + decay * p["W2"],
            "b2": d.sum(axis=0),
        }

    def diagnosis(self, grads: Arrays, **known: Any) -> Any:
        report = fastcheck.check(self.loss, self.params, grads, **known)
        assert report.diagnosis is not None
        return report.diagnosis


def causes(finding: Any) -> set[str]:
    assert finding.certainty == "exact"
    return {finding.cause, *finding.alternatives}


# -- factors that are numbers of samples -----------------------------------------------------------


def doubled(net: Layers, factor: float = 2.0, of: str = "Wb") -> Arrays:
    return {n: factor * g if n[0] in of else g for n, g in net.backward().items()}


@pytest.mark.parametrize("known", [{}, {"batch_size": 2}])
def test_with_two_samples_a_missing_mean_is_twice_the_gradient(known: Any) -> None:
    net = Layers(samples=2)
    (finding,) = net.diagnosis(doubled(net), **known).findings
    assert causes(finding) >= {"scale", "missing-mean"}
    assert "the sum over the 2 samples stands where the loss takes their mean" in str(finding)


def test_with_seven_samples_it_is_not() -> None:
    net = Layers(samples=7)
    (finding,) = net.diagnosis(doubled(net), batch_size=7).findings
    assert causes(finding) == {"scale"}


def test_half_of_the_biases_may_be_a_mean_over_two_samples() -> None:
    net = Layers(samples=2)
    (finding,) = net.diagnosis(doubled(net, 0.5, "b"), batch_size=2).findings
    assert causes(finding) >= {"scale", "missing-bias-sum"}
    assert "the mean over the 2 samples stands where their sum belongs" in str(finding)


def test_a_number_that_nobody_named_may_be_no_number_of_samples() -> None:
    net = Layers(samples=7)
    (finding,) = net.diagnosis(doubled(net, 7.0)).findings
    assert (finding.cause, finding.alternatives) == ("missing-mean", ("scale",))
    assert "Or it is a plain factor of 7" in str(finding)
    (finding,) = net.diagnosis(doubled(net, 7.0), batch_size=7).findings
    assert (finding.cause, finding.alternatives) == ("missing-mean", ())


# -- dead units ------------------------------------------------------------------------------------


def dead(net: Layers) -> Layers:
    """No unit lets anything through."""
    net.params["b1"] = np.full(4, -50.0)
    return net


def test_a_penalty_that_is_missing_where_nothing_else_flows_back_leaves_zero() -> None:
    net = dead(Layers(decay=0.01))
    (finding,) = net.diagnosis(net.backward(decay=0.0)).findings
    assert causes(finding) >= {"zero", "missing-l2"}
    assert set(finding.tensors) == {"W1", "W2"}


def test_what_reaches_the_loss_is_not_called_unused_where_its_units_are_dead() -> None:
    net = dead(Layers())
    (finding,) = net.diagnosis(net.backward(mask=False)).findings
    assert finding.cause == "missing-mask"
    assert finding.tensors == ("W1", "b1")
    strange = {**net.backward(), "W1": RNG.standard_normal((5, 4))}
    (finding,) = net.diagnosis(strange).findings
    assert finding.certainty == "where"
    assert "The loss does not change with W1 here" in finding.explanation


def test_without_a_trace_either_may_be_so() -> None:
    net = dead(Layers())

    def loss(p: Any) -> float:
        return float(
            net.loss({n: np.frombuffer(v.tobytes()).reshape(v.shape) for n, v in p.items()})
        )

    report = fastcheck.check(loss, net.params, net.backward(mask=False))
    (finding,) = report.diagnosis.findings
    assert causes(finding) == {"unused", "missing-mask"}
    assert "the mask for that is missing" in str(finding)


def test_the_only_sample_of_a_row_that_is_dropped_leaves_the_row_zero() -> None:
    net = Layers()
    net.X[:, 0] = 0
    net.X[-1, 0] = 1.0
    grads = net.backward()
    row = {**grads, "W1": grads["W1"] * (np.arange(5) != 0)[:, None]}
    (finding,) = net.diagnosis(row).findings
    assert "one-row" in causes(finding)


def test_it_is_said_where_nothing_is_known_of_the_rest() -> None:
    """What the first row holds is seen; of the second next to nothing is."""
    scales = np.array([[1.0, 1.0, 1.0], [1.0, 1e-16, 1e-16]])
    gradient = scales * RNG.uniform(1, 2, (2, 3))
    theta = RNG.uniform(1, 2, (2, 3))
    for size, known in ((1.0, False), (0.0, True)):
        right = gradient.copy()
        right[1, 1:] *= size
        wrong = right * np.array([0.5, 1.0, 1.0])
        report = fastcheck.check(lambda p, c=right: np.sum(c * p), theta, wrong)
        (finding,) = report.diagnosis.findings
        assert finding.cause == "one-row"
        said = "; the rest is right." if known else "; the rest is right, where it can be told from"
        assert said in finding.evidence


# -- columns ---------------------------------------------------------------------------------------


def test_a_column_of_weights_that_holds_one_sample_is_no_bias() -> None:
    rng = np.random.default_rng(8)
    X, y = rng.standard_normal((6, 4)), rng.standard_normal((6, 1))
    params = {"w": rng.standard_normal((4, 1)), "b": np.zeros(1)}
    d = X @ params["w"] + params["b"] - y
    report = fastcheck.check(
        lambda p: 0.5 * np.sum((X @ p["w"] + p["b"] - y) ** 2),
        params,
        {"w": X[2:3].T @ d[2:3], "b": d.sum(axis=0)},
    )
    (finding,) = report.diagnosis.findings
    assert (finding.cause, finding.certainty) == ("one-sample", "exact")


# -- corners of ReLUs ------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_a_mistake_is_named_beside_units_that_are_at_their_corner(engine: str) -> None:
    net = Layers(bias=0.0)
    net.X[2] = 0  # and so z = 0 for that sample, in every unit
    found = net.diagnosis(net.backward(keep=slice(0, -1)), engine=engine)
    assert set(found.causes) == {"sample-dropped"}


# -- sums over samples, wherever they are ----------------------------------------------------------

M, STEPS = 6, 4
SEQUENCES = RNG.standard_normal((STEPS, M, 3))
WANTED = RNG.standard_normal((M, 2))
RECURRENT = {
    "Wx": RNG.standard_normal((3, 5)) * 0.5,
    "Wh": RNG.standard_normal((5, 5)) * 0.4,
    "b": RNG.standard_normal(5) * 0.1,
    "V": RNG.standard_normal((5, 2)),
    "c": RNG.standard_normal(2) * 0.1,
}


def recurrent(p: Any) -> tuple[Any, list[Any]]:
    states = [np.zeros((M, 5))]
    for x in SEQUENCES:
        states.append(np.tanh(x @ p["Wx"] + states[-1] @ p["Wh"] + p["b"][None, :]))
    return states[-1] @ p["V"] + p["c"][None, :], states


def recurrent_loss(p: Any) -> Any:
    return 0.5 * np.sum((recurrent(p)[0] - WANTED) ** 2) / M


def through_time(sample: int | None = None, keep: slice = slice(None)) -> Arrays:
    """Backpropagation through time; `sample` is the only one in the biases, `keep` those in all."""
    p = RECURRENT
    out, states = recurrent(p)
    d = np.zeros((M, 2))
    d[keep] = ((out - WANTED) / M)[keep]
    one = slice(None) if sample is None else slice(sample, sample + 1)
    g = {n: np.zeros_like(v) for n, v in p.items()}
    g["V"], g["c"] = states[-1].T @ d, d[one].sum(axis=0)
    dh = d @ p["V"].T
    for t in range(STEPS, 0, -1):
        dz = dh * (1 - states[t] ** 2)
        g["Wx"] += SEQUENCES[t - 1].T @ dz
        g["Wh"] += states[t - 1].T @ dz
        g["b"] += dz[one].sum(axis=0)
        dh = dz @ p["Wh"].T
    return g


def test_a_sample_that_all_steps_leave_out() -> None:
    report = fastcheck.check(recurrent_loss, RECURRENT, through_time(keep=slice(0, -1)))
    (finding,) = report.diagnosis.findings
    assert (finding.cause, finding.certainty) == ("sample-dropped", "exact")
    assert set(finding.tensors) == set(RECURRENT)
    assert f"sample {M - 1} of {M}" in str(finding)


def test_a_bias_of_all_steps_that_holds_one_sample() -> None:
    report = fastcheck.check(recurrent_loss, RECURRENT, through_time(sample=3))
    (finding,) = report.diagnosis.findings
    assert (finding.cause, finding.certainty) == ("missing-bias-sum", "exact")
    assert set(finding.tensors) == {"b", "c"}


PATCHES = RNG.standard_normal((M, 9, 4))
KERNELS = {"K": RNG.standard_normal((4, 3)), "b": RNG.standard_normal(3)}


def convolution_loss(p: Any) -> Any:
    return np.sum(np.tanh(PATCHES @ p["K"] + p["b"]) ** 2) / M


def convolution_flow() -> np.ndarray:
    a = np.tanh(PATCHES @ KERNELS["K"] + KERNELS["b"])
    return np.asarray(2 * a * (1 - a**2) / M)


@pytest.mark.parametrize("one", [(2,), (2, 5)], ids=["sample", "sample and window"])
def test_a_bias_of_a_convolution_that_holds_one(one: tuple[int, ...]) -> None:
    flow = convolution_flow()
    wrong = {
        "K": np.einsum("mwc,mwf->cf", PATCHES, flow),
        "b": flow[one].reshape(-1, 3).sum(axis=0),
    }
    (finding,) = fastcheck.check(convolution_loss, KERNELS, wrong).diagnosis.findings
    assert (finding.cause, finding.tensors) == ("missing-bias-sum", ("b",))


@pytest.mark.parametrize(
    ("left_out", "words"), [(4, "sample 4 of 6"), (None, "place 5 of 9 along")]
)
def test_windows_are_not_called_samples_where_these_are_counted(
    left_out: int | None, words: str
) -> None:
    flow = convolution_flow()
    if left_out is None:
        flow[:, 5] = 0
    else:
        flow[left_out] = 0
    wrong = {"K": np.einsum("mwc,mwf->cf", PATCHES, flow), "b": flow.sum(axis=(0, 1))}
    report = fastcheck.check(convolution_loss, KERNELS, wrong, batch_size=M)
    assert words in str(report.diagnosis.findings[0])


def test_the_only_window_that_is_left_is_no_sample() -> None:
    flow = convolution_flow()
    wrong = {"K": PATCHES[:, 0].T @ flow[:, 0], "b": flow[:, 0].sum(axis=0)}
    report = fastcheck.check(convolution_loss, KERNELS, wrong, batch_size=M)
    assert "place 0 of 9 alone along axis 1 of the result of" in str(report.diagnosis)
    assert "sample" not in str(report.diagnosis)


def test_a_convolution_without_one_sample() -> None:
    flow = convolution_flow()
    flow[4] = 0
    wrong = {"K": np.einsum("mwc,mwf->cf", PATCHES, flow), "b": flow.sum(axis=(0, 1))}
    (finding,) = fastcheck.check(convolution_loss, KERNELS, wrong).diagnosis.findings
    assert (finding.cause, finding.tensors) == ("sample-dropped", ("K", "b"))


def test_a_bias_with_an_axis_of_its_own_added_by_an_index() -> None:
    flow = convolution_flow()
    wrong = {"K": np.einsum("mwc,mwf->cf", PATCHES, flow), "b": flow[0, 0]}
    report = fastcheck.check(
        lambda p: np.sum(np.tanh(PATCHES @ p["K"] + p["b"][..., None, :]) ** 2) / M, KERNELS, wrong
    )
    assert report.diagnosis.causes == ("missing-bias-sum",)


# -- what is not proven ----------------------------------------------------------------------------


def test_what_fits_behind_something_that_nothing_explains_is_a_hint() -> None:
    net = Layers(samples=12)
    wrong = net.backward()
    wrong = {**wrong, "b2": wrong["b2"] + RNG.standard_normal(3), "W1": 2 * wrong["W1"]}
    found = net.diagnosis(wrong)
    assert {f.certainty for f in found.findings} <= {"where", "partly"}
    assert "may as well follow from what is wrong nearer to the loss" in str(found)


def test_two_mistakes_in_two_layers_are_both_named() -> None:
    net = Layers(samples=12)
    wrong = net.backward(mask=False)
    found = net.diagnosis({**wrong, "W2": -wrong["W2"]})
    assert set(found.causes) == {"missing-mask", "sign"}


def test_signs_that_agree_by_chance_prove_no_penalty() -> None:
    w = np.array([1.0, -2.0, 3.0])
    loss = lambda p: np.sum(p["w"] ** 2)  # noqa: E731
    report = fastcheck.check(loss, {"w": w}, {"w": 2 * w + 0.3 * np.sign(w)})
    assert report.diagnosis.causes == ()


def test_many_signs_that_agree_do() -> None:
    w = RNG.standard_normal(40)
    loss = lambda p: np.sum(p["w"] ** 3)  # noqa: E731
    report = fastcheck.check(loss, {"w": w}, {"w": 3 * w**2 + 0.3 * np.sign(w)})
    assert report.diagnosis.causes == ("extra-l1",)


def test_a_row_is_not_called_wrong_where_the_rest_is_not_known() -> None:
    net = Layers(samples=12)
    scale = 1e-14  # far below what rounding leaves
    loss = lambda p: scale * net.loss(p) + 1.0  # noqa: E731
    grads = {n: scale * g for n, g in net.backward().items()}
    wrong = {**grads, "W1": np.roll(grads["W1"], 1, axis=0)}
    report = fastcheck.check(loss, net.params, wrong)
    assert report.diagnosis is None or set(report.diagnosis.causes) <= {"permuted-rows"}
