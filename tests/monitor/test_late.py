"""A monitor called after the update says so, and says it of nothing else."""

from __future__ import annotations

import numpy as np
import pytest

import fastcheck
from fastcheck import Verdict

from .loops import backward, data, initial, loss

SAID = "updated with it already"


def step(rate, *, late=True, momentum=0.0, bug=1.0, mode="full"):
    """Return the monitor after one step of training, called after the update if `late`."""
    params, batch = initial(3), data(3)
    monitor = fastcheck.Monitor(loss, mode=mode, on_fail="record")
    grads = {name: bug * g for name, g in backward(params, batch).items()}
    if late:
        for name, g in grads.items():
            params[name] -= rate * (g + momentum * np.sign(g))
    monitor(params, grads, batch=batch)
    return monitor


@pytest.mark.parametrize("mode", ["full", "sample", "directions"])
@pytest.mark.parametrize("rate", [1e-3, 0.1, 1.0])
def test_called_after_the_update(rate, mode):
    monitor = step(rate, mode=mode)
    assert monitor.history[-1].verdict is Verdict.FAIL
    (said,) = [note for note in monitor.history[-1].notes if SAID in note]
    assert f"{rate:.3g} × the gradient" in said


def test_called_in_time():
    monitor = step(0.1, late=False)
    assert monitor.history[-1].verdict is Verdict.PASS


@pytest.mark.parametrize("bug", [2.0, 1.01, -1.0])
def test_a_wrong_gradient_in_time_is_not_called_late(bug):
    monitor = step(0.1, late=False, bug=bug)
    assert monitor.history[-1].verdict is Verdict.FAIL
    assert not any(SAID in note for note in monitor.history[-1].notes)


def test_another_update_than_that_of_the_gradient_is_not_guessed():
    monitor = step(0.1, momentum=0.5)
    assert monitor.history[-1].verdict is Verdict.FAIL
    assert not any(SAID in note for note in monitor.history[-1].notes)
