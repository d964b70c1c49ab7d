"""The bench of trust: its parts, and a reduced run in which no verdict may be wrong."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# At the end: an installed fastcheck comes before the one in this folder.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import fastcheck
from benchmarks import trust
from benchmarks.__main__ import main
from benchmarks.cases import Case
from benchmarks.trusted import cost, first_source, listed, outside, rules
from benchmarks.trusted.causes import named
from benchmarks.trusted.convolution import Convolution
from benchmarks.trusted.counts import Rate, Tally, by_rule, grouped
from benchmarks.trusted.dense import KINDS, Dense
from benchmarks.trusted.recurrent import LSTM, Recurrent
from benchmarks.trusted.sources import Dictionary, Digits, HiddenLayer, ReluSoftmax, Sigmoid231
from benchmarks.trusted.spot import FIRST_SEED, Spot, spots
from benchmarks.trusted.trial import Trial, below, check, trials
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.errors import FastcheckError
from fastcheck.params import ParamTree
from fastcheck.planted import BUGS
from fastcheck.report import Finding
from fastcheck.verdict.stencil import five_point

# -- counts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (1, 100, 0.0018, 0.0545),
    ],
)
def test_wilsons_interval(count: int, total: int, low: float, high: float) -> None:
    assert Rate(count, total).interval == (
        pytest.approx(low, abs=1e-4),
        pytest.approx(high, abs=1e-4),
    )


def test_nothing_of_nothing_says_nothing() -> None:
    assert (Rate(0, 0).value, Rate(0, 0).interval) == (0.0, (0.0, 1.0))


def one(bug: str = "", outcome: str = "pass", **more: Any) -> Trial:
    return Trial("family", "float64", "replay", 1, 0, bug, outcome, **more)


TRIALS = [
    one(),
    one(outcome="fail"),
    one(outcome="inconclusive"),
    one("sign", "fail", cause="right"),
    one("sign", "fail", cause="wrong", elsewhere=True),
    one("sign", "inconclusive"),
    one("scale", "pass"),
    one("scale", "pass", below="tolerance"),
    one("scale", "error"),
]


def test_a_tally_counts_what_was_said_of_right_gradients_and_of_bugs() -> None:
    tally = Tally.of(TRIALS)
    assert (tally.false_fail, tally.right_open, tally.right) == (1, 1, 3)
    assert (tally.missed, tally.wrong_open, tally.wrong, tally.below) == (1, 1, 5, 1)
    assert (tally.elsewhere, tally.named, tally.misnamed, tally.errors) == (1, 1, 1, 1)
    assert str(tally.rates["false FAIL"]) == "1/3 (6.15% – 79%)"


def test_trials_that_must_not_be_are_alarming() -> None:
    assert [TRIALS.index(trial) for trial in TRIALS if trial.alarming] == [1, 4, 6, 8]


def test_trials_are_grouped_by_any_of_their_properties() -> None:
    groups = grouped(TRIALS, lambda trial: trial.bug)
    assert {name: tally.wrong for name, tally in groups.items()} == {"": 0, "scale": 2, "sign": 3}


def test_a_wrong_verdict_is_refused() -> None:
    run = first_source.Run(0, {way: {"pass": 1} for way in first_source.WAYS}, 1)
    trust.refuse_alarms([one(), one("sign", "fail")], [run])
    with pytest.raises(FastcheckError, match="1 right gradients failed, 1 bugs were missed"):
        trust.refuse_alarms(TRIALS, [run])
    failed = first_source.Run(0, {way: {"fail": 1} for way in first_source.WAYS}, 1)
    with pytest.raises(FastcheckError, match="2 right gradients failed"):
        trust.refuse_alarms([], [failed])


# -- the other rules -------------------------------------------------------------------------------


def accepted(a: list[float], n: list[float]) -> list[bool]:
    return [rule.accepts(np.array(a), np.array(n)) for rule in rules.RULES]


def test_every_rule_accepts_equal_gradients() -> None:
    assert accepted([1.0, -2.0, 0.0], [1.0, -2.0, 0.0]) == [True] * 6


def test_every_rule_rejects_a_gradient_of_the_wrong_sign() -> None:
    assert accepted([1.0, -2.0], [-1.0, 2.0]) == [False] * 6


def test_each_rule_has_its_own_threshold() -> None:
    assert accepted([1.0], [1.0 + 2.2e-7]) == [True, False, True, False, True, False]
    # One element is far off in itself, and tiny beside the other.
    assert accepted([1.0, 1e-9], [1.0, 2e-9]) == [True, False, False, True, True, True]


def test_allclose_accepts_a_small_gradient_that_is_doubled() -> None:
    assert accepted([2e-6], [1e-6])[0]


def test_the_loop_behind_the_rules_computes_central_differences() -> None:
    params = {"w": np.array([1.0, 2.0]), "c": np.array(3.0)}
    found = rules.numeric_gradients(
        lambda p: np.sum(p["w"] ** 3) * p["c"], params, [1e-3, 1e-5, 1e-3]
    )
    assert list(found) == [1e-3, 1e-5]
    np.testing.assert_allclose(found[1e-5], [9, 36, 9], rtol=1e-8)
    np.testing.assert_allclose(found[1e-3] - found[1e-5], [3e-6, 3e-6, 0], atol=1e-8)
    assert params["w"].tolist() == [1, 2]


def test_rules_are_counted_over_the_bugs_that_count() -> None:
    yes, no = {"a": True}, {"a": False}
    every = [
        one(rules=yes),
        one(rules=no),
        one("sign", "fail", rules=yes),
        one("scale", "pass", below="tolerance", rules=yes),
    ]
    rejected, passed = by_rule(every)["a"]
    assert (rejected.count, rejected.total, passed.count, passed.total) == (1, 2, 1, 1)


# -- networks --------------------------------------------------------------------------------------

MAKERS = {
    **{f"{kind} MLP": lambda rng, dtype, kind=kind: Dense(rng, kind, dtype) for kind in KINDS},
    "CNN": Convolution,
    "RNN": Recurrent,
    "LSTM": LSTM,
    "2-3-1": Sigmoid231,
    "5-4-3": HiddenLayer,
    "4-5-3-1": Dictionary,
    "12-6-6-4": ReluSoftmax,
    "digits": Digits,
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_gradients_of_a_network_are_right(name: str) -> None:
    """By a loop of fourth order, not by a verdict: verdicts are what the bench judges."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        network = MAKERS[name](rng, np.float64)
        # Off the kinks that zero biases and black pixels make.
        params = {
            n: v + 0.01 * rng.standard_normal(v.shape) for n, v in network.initial(rng).items()
        }
        grads = network.gradients(params)
        tree = ParamTree.from_user(params)
        loop = LoopEngine(LossFunction(network.loss, tree), tree)
        for tensor in tree:
            drawn = rng.permutation(tensor.size)[:12]
            near, far = (
                loop.differences(tensor.name, drawn, np.full(len(drawn), h)) for h in (1e-5, 2e-5)
            )
            numeric, _, _ = five_point(near, far)
            np.testing.assert_allclose(
                grads[tensor.name].ravel()[drawn], numeric, rtol=1e-5, atol=1e-8
            )


@pytest.mark.parametrize("name", ["mixed MLP", "CNN", "RNN", "LSTM", "digits"])
def test_a_float32_network_computes_in_float32(name: str) -> None:
    rng = np.random.default_rng(0)
    network = MAKERS[name](rng, np.float32)
    params = network.initial(rng)
    arrays = [*params.values(), *network.gradients(params).values()]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


def test_a_dense_network_takes_stacks() -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        network = Dense(rng, "mixed")
        copies = [network.initial(rng) for _ in range(3)]
        stacked = {name: np.stack([copy[name] for copy in copies]) for name in copies[0]}
        expected = [network.loss(copy) for copy in copies]
        np.testing.assert_allclose(network.loss(stacked), expected, rtol=1e-13)


@pytest.mark.parametrize("name", ["mixed MLP", "2-3-1", "5-4-3", "4-5-3-1", "12-6-6-4", "digits"])
def test_the_backward_pass_for_bugs_is_the_networks_own(name: str) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        network = MAKERS[name](rng, np.float64)
        params = network.initial(rng)
        backward = network.backward(params)
        assert backward is not None
        for tensor, gradient in network.gradients(params).items():
            np.testing.assert_allclose(
                backward.gradients()[tensor], gradient, rtol=1e-10, atol=1e-16
            )


# -- spots and trials ------------------------------------------------------------------------------


def test_a_seed_makes_the_same_spots_again() -> None:
    for first, second in zip(spots(FIRST_SEED + 5), spots(FIRST_SEED + 5), strict=True):
        assert first.iteration == second.iteration
        assert first.network.family == second.network.family
        for name, gradient in first.grads.items():
            np.testing.assert_array_equal(gradient, second.grads[name])


def test_spots_begin_untrained_and_without_an_earlier_step() -> None:
    first, *others = spots(FIRST_SEED + 5)
    assert (first.iteration, first.previous) == (0, None)
    assert all(spot.iteration > 0 and spot.previous for spot in others)


def linear_spot(dtype: Any = np.float64) -> Spot:
    rng = np.random.default_rng(0)
    network = Dense(rng, "tanh", dtype)
    params = network.initial(rng)
    return Spot(0, 0, network, params, network.gradients(params), None)


def test_a_bug_within_the_tolerance_does_not_count() -> None:
    spot = linear_spot()
    for factor, expected in ((1 + 5e-7, "tolerance"), (1 + 1e-5, "")):
        bug = BUGS["scale"].but(factor=factor, tensors="W1")
        wrong = bug(spot.grads, **spot.known)
        report, _ = check(spot, wrong, "replay")
        assert below(spot, wrong, report, ("W1",)) == expected


def test_a_thousandth_of_a_percent_is_within_the_tolerance_of_float32() -> None:
    spot = linear_spot(np.float32)
    wrong = BUGS["scale"].but(factor=1 + 1e-5)(spot.grads, **spot.known)
    report, _ = check(spot, wrong, "replay")
    assert below(spot, wrong, report, ("W1",)) == "tolerance"


def test_the_cause_is_compared_with_what_was_planted() -> None:
    spot = linear_spot()
    wrong = BUGS["sign"](spot.grads, **spot.known)
    report, _ = check(spot, wrong, "replay")
    assert named(report, BUGS["sign"]) in ("right", "none")
    assert named(report, BUGS["transpose"]) in ("wrong", "none")
    right, _ = check(spot, spot.grads, "replay")
    assert named(right, BUGS["sign"]) == "none"


def test_an_error_of_a_check_becomes_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(fastcheck, "check", broken)
    first, *_ = trials(FIRST_SEED, 1, compare=False)
    assert (first.outcome, first.reason) == ("error", "RuntimeError: out of order")


# -- causes ----------------------------------------------------------------------------------------


def strange(untrue: bool) -> listed.Strange:
    return listed.Strange("noise", 1, 0, ("scale",), untrue)


def test_causes_are_counted_over_the_bugs_that_failed() -> None:
    causes = listed.Causes(TRIALS[3:], [strange(False), strange(True)])
    assert (causes.named.count, causes.misnamed.count, causes.named.total) == (1, 1, 2)
    assert (causes.untrue.count, causes.untrue.total) == (1, 2)


def test_too_few_causes_and_untrue_ones_are_refused() -> None:
    named = one("sign", "fail", cause="right")
    trust.refuse_causes(listed.Causes([named], [strange(False)]))
    for planted, others in (
        ([named, one("sign", "fail")], []),
        ([*[named] * 200, one("sign", "fail", cause="wrong")], []),
        ([named], [strange(True)]),
    ):
        with pytest.raises(FastcheckError, match="causes were named right, where 99% must be"):
            trust.refuse_causes(listed.Causes(planted, others))


def said(spot: Spot, cause: str, **changes: Any) -> bool:
    """Whether a finding on all tensors is held to be untrue of gradients so changed."""
    wrong = {name: changes.get(name, g) for name, g in spot.grads.items()}
    finding = Finding(
        cause=cause, certainty="exact", tensors=tuple(changes), evidence="", explanation=""
    )
    return outside.untrue(finding, outside.Stranger("any", lambda *_: None), spot, wrong)


def test_what_can_be_seen_in_a_gradient_is_true_whatever_was_done() -> None:
    spot = linear_spot()
    W1 = spot.grads["W1"]
    assert not said(spot, "scale", W1=3 * W1)
    assert not said(spot, "zero", W1=0 * W1)
    assert said(spot, "zero", W1=3 * W1)
    assert said(spot, "scale", W1=W1 + np.cos(np.arange(W1.size)).reshape(W1.shape))
    assert said(spot, "missing-mask", W1=3 * W1)


def test_a_factor_may_be_that_of_the_loss_without_its_penalty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spot = linear_spot()
    monkeypatch.setattr(spot.network, "backward", lambda params: None)  # it would know no penalty
    added = 0.01 * spot.params["W1"]
    with_penalty = replace(spot, grads={**spot.grads, "W1": spot.grads["W1"] + added})
    spot.network.decay = 0.0
    assert said(with_penalty, "scale", W1=3 * spot.grads["W1"] + added)
    spot.network.decay = 0.01
    assert not said(with_penalty, "scale", W1=3 * spot.grads["W1"] + added)
    assert said(with_penalty, "sign", W1=3 * spot.grads["W1"] + added)
    assert said(with_penalty, "missing-path", W1=3 * spot.grads["W1"] + added)
    assert not said(with_penalty, "missing-path", W1=added)


def test_what_one_sample_adds_is_told_from_figures() -> None:
    spot = linear_spot()
    passed = spot.network.backward(spot.params)
    assert passed is not None
    last = passed.layers[-1].bias
    assert last is not None
    alone = {last: passed.dZ[:, 1]}
    assert not said(spot, "missing-bias-sum", **alone)
    assert said(spot, "missing-bias-sum", **{last: passed.dZ.max(axis=1)})
    assert said(spot, "scale", **alone)


def test_gradients_may_differ_by_what_right_ones_do() -> None:
    """Near a minimum those of two backward passes are rounded each in its own way."""
    spot = linear_spot()
    W1 = spot.grads["W1"]
    rough = 1 + 1e-3 * np.cos(np.arange(W1.size)).reshape(W1.shape)
    assert said(spot, "scale", W1=2 * W1 * rough)
    other = replace(spot, grads={**spot.grads, "W1": W1 * rough})
    assert not said(other, "scale", W1=2 * W1)
    assert not said(other, "scale", W1=2 * W1 * rough)
    assert said(other, "scale", W1=2 * W1 * rough**20)


def test_every_mistake_outside_the_list_spoils_some_network() -> None:
    places = [spot for seed in range(60) for spot in listed.ends(FIRST_SEED + 200 + seed)]
    left = {stranger.name: stranger for stranger in outside.STRANGERS}
    for spot in places:
        for name, stranger in list(left.items()):
            wrong = stranger.make(spot, np.random.default_rng(0))
            if wrong is not None and any(
                np.abs(wrong[n] - g).max() > 1e-4 * np.abs(g).max() for n, g in spot.grads.items()
            ):
                assert {n: np.shape(w) for n, w in wrong.items()} == {
                    n: g.shape for n, g in spot.grads.items()
                }
                del left[name]
    assert not left
    assert len(outside.STRANGERS) >= 60


# -- the cost of a verdict -------------------------------------------------------------------------


def test_the_parts_of_a_check_add_up() -> None:
    found = cost.measure(Case((12, 5, 3), batch=8), "replay", 2, 60.0)
    assert isinstance(found, cost.Cost)
    assert tuple(sorted(found.parts)) == tuple(sorted(cost.PARTS))
    assert all(seconds > 0 for seconds in found.parts.values())
    assert found.parts["passes"] < found.whole


def test_watches_are_taken_off_again() -> None:
    from fastcheck.run import Run

    before = Run.measure
    with cost.watched():
        assert Run.measure is not before
    assert Run.measure is before


def test_what_would_take_too_long_is_not_measured() -> None:
    found = cost.measure(Case((12, 5, 3), batch=8), "replay", 2, 1e-9)
    assert isinstance(found, str)
    assert "over the budget" in found


# -- the reduced run -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reduced(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("trust")
    command = ["trust", "--quick", "--checks", "100", "--processes", "1"]
    # 0: it ends with 2 where any verdict was wrong.
    assert main([*command, "--save", "--force", "--out", str(folder)]) == 0
    assert (folder / "trust.png").stat().st_size > 0
    text = (folder / "trust.json").read_text(encoding="utf-8")
    saved = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    return {section["section"]: section["rows"] for section in saved["results"]}


def test_no_right_gradient_fails_and_no_bug_is_missed(reduced: dict[str, Any]) -> None:
    whole = reduced["verdicts"][0]
    assert whole["trials"] == "all"
    assert (whole["right"], whole["wrong"]) >= (100, 150)
    assert (whole["false_fail"], whole["missed"], whole["elsewhere"], whole["errors"]) == (0,) * 4
    assert reduced["alarms"] == []


def test_the_causes_of_planted_bugs_are_named(reduced: dict[str, Any]) -> None:
    whole, *each = reduced["causes"]
    assert len(each) == sum(len(bug.variants) for bug in BUGS) - 1  # one is the checker's own
    assert whole["failed"] >= 75
    assert whole["right"] >= 0.99 * whole["failed"]
    assert whole["wrong"] == 0


def test_no_untrue_cause_is_asserted_outside_the_list(reduced: dict[str, Any]) -> None:
    rows = reduced["causes outside the list"]
    assert {row["mistake"] for row in rows} == {one.name for one in outside.STRANGERS}
    assert sum(row["failed"] for row in rows) >= 140
    assert sum(row["untrue"] for row in rows) == 0


def test_nearly_all_right_gradients_pass(reduced: dict[str, Any]) -> None:
    whole = reduced["verdicts"][0]
    assert whole["right_open"] <= 0.05 * whole["right"]


def test_every_engine_and_both_dtypes_take_part(reduced: dict[str, Any]) -> None:
    groups = {row["trials"]: row["right"] for row in reduced["verdicts"]}
    names = ("replay", "loop", "auto", "batched", "fused")
    assert all(groups[f"engine {name}"] > 0 for name in names)
    assert min(groups["float32"], groups["float64"]) > 0


def test_the_first_source_passes_throughout_where_its_rule_fails(reduced: dict[str, Any]) -> None:
    trace, black_box, rule = reduced["first source"]
    assert trace["passed"]["count"] == trace["passed"]["total"] == 50
    assert black_box["passed"]["count"] >= 49
    assert rule["failed"]["count"] > 25


def test_the_usual_rules_err_on_the_same_gradients(reduced: dict[str, Any]) -> None:
    double = [row for row in reduced["rules"] if row["dtype"] == "float64"]
    erring = [row for row in double if row["rejected"]["count"] + row["accepted"]["count"]]
    assert len(double) == 7
    assert {row["rule"] for row in erring} == {row["rule"] for row in double} - {"fastcheck"}
