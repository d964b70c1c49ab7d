"""The 2-3-1 sigmoid network, checked before every one of its 250 training steps."""

from dataclasses import dataclass, field

import numpy as np
import pytest

import fastcheck
from fastcheck.problems import sigmoid_231 as source

MODES: tuple[source.Rule, ...] = ("momentum", "nesterov")


@dataclass
class Run:
    """One training run: the author's record, and fastcheck's reports before each step."""

    history: source.History
    reports: list[fastcheck.Report] = field(default_factory=list)
    spoilt: list[fastcheck.Report] = field(default_factory=list)
    untouched: list[bool] = field(default_factory=list)


def spoil(gradient: np.ndarray) -> np.ndarray:
    """Return the gradient with W2's part (the last three) one percent too large."""
    return gradient * np.array([1.0] * 6 + [1.01] * 3)


def run(rule: source.Rule) -> Run:
    net = source.Net(*source.samples())
    result = Run(source.History())

    def watch(iteration: int, net: source.Net) -> None:
        weights = net.get_weights()
        gradient = net.gradient_at(weights.copy())
        before = vars(net).copy()
        result.reports.append(fastcheck.check(net.cost_at, weights, gradient))
        result.untouched.append(all(vars(net)[name] is before[name] for name in before))
        result.spoilt.append(fastcheck.check(net.cost_at, weights, spoil(gradient)))

    result.history = source.train(net, rule, watch=watch)
    return result


@pytest.fixture(scope="module", params=MODES)
def trained(request: pytest.FixtureRequest) -> Run:
    return run(request.param)


def test_cost_difference_and_smallest_gradient_are_recorded_at_every_iteration(
    trained: Run,
) -> None:
    history = trained.history
    assert len(history.cost) == source.ITERATIONS == 250
    assert len(history.difference) == len(history.smallest_gradient) == 250
    assert history.cost[-1] < 0.05 * history.cost[0]
    assert history.gradient_norm[-1] < 0.02 * max(history.gradient_norm)
    assert min(history.smallest_gradient) < history.smallest_gradient[-1] < 0


def test_the_authors_rule_passes_at_first_and_fails_as_the_solution_nears(trained: Run) -> None:
    failures = trained.history.failures()
    assert 5 <= failures[0] <= 20
    # From the first failure to the end: it is no chance event but the truncation error.
    assert failures == list(range(failures[0], 250))


def test_with_momentum_the_authors_rule_fails_at_236_of_250() -> None:
    history = source.train(source.Net(*source.samples()), "momentum")
    assert history.failures() == list(range(14, 250))


def test_fastcheck_passes_every_iteration(trained: Run) -> None:
    assert [i for i, report in enumerate(trained.reports) if not report.passed] == []


def test_fastcheck_checks_all_nine_weights_each_time(trained: Run) -> None:
    assert {report.tensors["params"].checked for report in trained.reports} == {9}


def test_fastcheck_is_far_closer_than_the_authors_rule_where_that_fails(trained: Run) -> None:
    failures = trained.history.failures()
    worst = max(trained.reports[i].tensors["params"].relative_error for i in failures)
    assert worst < 0.01 * min(trained.history.difference[i] for i in failures)


def test_a_one_percent_error_fails_at_every_iteration(trained: Run) -> None:
    verdicts = [report.verdict for report in trained.spoilt]
    assert verdicts == [fastcheck.Verdict.FAIL] * 250


def test_the_worst_element_is_one_of_the_spoilt_weights(trained: Run) -> None:
    worst = [report.tensors["params"].worst for report in trained.spoilt]
    assert all(element is not None and element.index[0] >= 6 for element in worst)


def test_checking_leaves_the_network_as_it_was(trained: Run) -> None:
    assert all(trained.untouched)


def test_checking_does_not_change_the_training(trained: Run) -> None:
    rule: source.Rule = "momentum" if trained.history.failures()[0] == 14 else "nesterov"
    alone = source.train(source.Net(*source.samples()), rule)
    assert alone.cost == trained.history.cost
