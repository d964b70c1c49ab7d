"""A batch that does not fit the loss, or is used up by one pass, is refused by name."""

from __future__ import annotations

import numpy as np
import pytest

import fastcheck
from fastcheck import InputTypeError, Verdict

from .loops import loss, problem


def test_a_batch_that_is_missing() -> None:
    params, grads, _ = problem()
    with pytest.raises(InputTypeError, match=r"`batch` was not given, but `loss` takes more"):
        fastcheck.Monitor(loss)(params, grads)


def test_a_batch_too_many() -> None:
    params, grads, batch = problem()
    monitor = fastcheck.Monitor(lambda p: loss(p, batch))
    with pytest.raises(InputTypeError, match=r"`batch` was given, but `loss` does not take"):
        monitor(params, grads, batch=batch)
    assert monitor.history == []


def test_an_iterator() -> None:
    params, grads, batch = problem()
    monitor = fastcheck.Monitor(lambda p, b: loss(p, tuple(b)))
    with pytest.raises(
        InputTypeError, match=r"`batch` is a generator, which gives its samples once"
    ):
        monitor(params, grads, batch=(part for part in batch))


def test_a_loss_without_a_signature_and_one_of_many_arguments() -> None:
    params, grads, batch = problem()

    def loose(*arguments: object) -> object:
        return loss(*arguments)

    report = fastcheck.Monitor(loose)(params, grads, batch=batch)
    assert report is not None
    assert report.verdict is Verdict.PASS
    total = fastcheck.Monitor(np.sum, mode="full")(np.ones(3), np.ones(3))
    assert total is not None
    assert total.verdict is Verdict.PASS
