"""Every mistake of the list is named, on every network; what is not on the list never is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.report import Verdict

# Test folders are no packages: a helper is loaded by its path.
_SPEC = importlib.util.spec_from_file_location("nets", Path(__file__).with_name("nets.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
nets: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["nets"] = nets
_SPEC.loader.exec_module(nets)

NETWORKS = list(nets.networks(5))


@pytest.fixture(scope="module")
def diagnose() -> Any:
    def check(net: Any, grads: Any, **keywords: Any) -> Any:
        report = fastcheck.check(net.loss, net.params, grads, **keywords)
        assert report.verdict is Verdict.FAIL
        assert report.diagnosis is not None
        return report.diagnosis

    return check


@pytest.mark.parametrize("mistake", nets.MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_named_on_every_network(mistake: Any, diagnose: Any) -> None:
    made = [(net, mistake.make(net)) for net in NETWORKS]
    planted = [(net, grads) for net, grads in made if grads is not None]
    assert planted
    for net, grads in planted:
        found = diagnose(net, grads, **mistake.known(net))
        assert found.causes, str(found)
        assert set(found.causes) <= mistake.causes, str(found)
        assert all(finding.certainty == "exact" for finding in found.findings)


@pytest.mark.parametrize("strange", nets.STRANGE)
def test_what_is_no_mistake_of_the_list_is_not_given_a_cause(strange: str, diagnose: Any) -> None:
    made = [(net, nets.STRANGE[strange](net)) for net in NETWORKS]
    planted = [(net, grads) for net, grads in made if grads is not None]
    assert planted
    for net, grads in planted:
        assert diagnose(net, grads).causes == (), net.seed


@pytest.mark.parametrize(
    "name", ["no derivative", "sample dropped", "pre-activation", "half of all"]
)
def test_the_loop_engine_names_as_much(name: str, diagnose: Any) -> None:
    (mistake,) = (m for m in nets.MISTAKES if m.name == name)
    net = NETWORKS[1]
    found = diagnose(net, mistake.make(net), engine="loop")
    assert found.causes
    assert set(found.causes) <= mistake.causes


def test_float32_names_as_much(diagnose: Any) -> None:
    for net in NETWORKS[:3]:
        grads = {name: (2 * g).astype(np.float32) for name, g in net.grads.items()}
        params = {name: value.astype(np.float32) for name, value in net.params.items()}
        report = fastcheck.check(net.loss, params, grads)
        assert report.diagnosis is not None
        assert report.diagnosis.causes == ("scale",)


def test_a_subset_of_the_elements_shows_factors_but_no_order(diagnose: Any) -> None:
    net = NETWORKS[0]
    assert diagnose(net, {**net.grads, "W1": 2 * net.grads["W1"]}, select=30).causes == ("scale",)
    rolled = {**net.grads, "W1": np.roll(net.grads["W1"], 1, 0)}
    assert diagnose(net, rolled, select=30).causes == ()


def test_without_a_trace_the_order_of_the_tensors_locates(diagnose: Any) -> None:
    net = NETWORKS[1]

    def untraceable(params: Any) -> float:
        return float(str(net.loss(params)))

    grads = nets.STRANGE["another derivative"](net)
    report = fastcheck.check(untraceable, net.params, grads)
    (finding,) = report.diagnosis.findings
    assert finding.certainty == "where"
    assert "order of the layers is that of `params`" in finding.explanation
    nearest = f"W{nets._hidden(net)}"
    assert nearest in finding.evidence


def test_the_first_wrong_layer_is_named_with_the_line_of_its_activation(diagnose: Any) -> None:
    net = NETWORKS[2]
    (finding,) = diagnose(net, nets.STRANGE["another derivative"](net)).findings
    layer = nets._hidden(net)
    assert f"gradients of W{layer} and b{layer} are wrong" in finding.evidence
    assert "nearer to the loss is right" in finding.evidence
    assert "`sigmoid`" in finding.explanation
    assert "nets.py:" in finding.explanation


def test_most_of_an_error_is_a_hint_and_no_cause(diagnose: Any) -> None:
    net = NETWORKS[0]
    rng = np.random.default_rng(5)
    noisy = 2 * net.grads["W1"] * (1 + 1e-3 * rng.standard_normal(net.grads["W1"].shape))
    (finding,) = diagnose(net, {**net.grads, "W1": noisy}).findings
    assert (finding.certainty, finding.cause) == ("partly", "scale")
    assert "The rest has another cause." in finding.explanation


def test_two_mistakes_are_two_findings_the_one_next_to_the_loss_first(diagnose: Any) -> None:
    net = NETWORKS[1]
    g = net.grads
    found = diagnose(net, {**g, "W1": np.roll(g["W1"], 1, 0), "W3": -g["W3"]})
    assert [(f.cause, f.tensors) for f in found.findings] == [
        ("sign", ("W3",)),
        ("permuted-rows", ("W1",)),
    ]


def test_a_mistake_and_noise_behind_it_are_told_apart(diagnose: Any) -> None:
    net = NETWORKS[1]
    noise = np.random.default_rng(5).standard_normal(net.grads["W1"].shape)
    found = diagnose(net, {**net.grads, "W1": noise, "W3": -net.grads["W3"]})
    assert [(f.cause, f.certainty) for f in found.findings] == [
        ("sign", "exact"),
        ("unknown", "where"),
    ]
