"""Dropout and its kin: the mask of this very step, and what is said where that is not known."""

import random

import numpy as np
import pytest

from fastcheck import InputError, InputTypeError, Monitor, Verdict
from fastcheck.monitor.randomness import Randomness

MODES = ("full", "sample", "directions")
DATA = np.random.default_rng(0).standard_normal((64, 20))
WANTED = np.random.default_rng(1).standard_normal((64, 3))


class Uniform:
    """One way to draw, whichever generator it is."""

    def __init__(self, kind):
        self.source = {
            "Generator": np.random.default_rng(5),
            "RandomState": np.random.RandomState(5),
            "Random": random.Random(5),
            "numpy": "numpy",
            "random": "random",
        }[kind]
        self.kind = kind

    def __call__(self, shape):
        if self.kind == "Generator":
            return self.source.random(shape)
        if self.kind == "RandomState":
            return self.source.random_sample(shape)
        if self.kind == "numpy":
            return np.random.random_sample(shape)
        draw = self.source.random if self.kind == "Random" else random.random
        return np.array([draw() for _ in range(shape[0] * shape[1])]).reshape(shape)


class Dropout:
    """A network with a mask, drawn in every forward pass."""

    def __init__(self, uniform):
        self.uniform = uniform
        self.params = {
            "W1": np.random.default_rng(2).standard_normal((20, 8)) / 4,
            "W2": np.random.default_rng(3).standard_normal((8, 3)),
        }

    def loss(self, params, batch):
        self.h = np.tanh(batch[0] @ params["W1"])
        self.mask = (self.uniform(self.h.shape) < 0.7) / 0.7
        self.out = (self.h * self.mask) @ params["W2"]
        return 0.5 * np.sum((self.out - batch[1]) ** 2) / len(batch[0])

    def grads(self, batch, wrong=False):
        self.loss(self.params, batch)
        d = (self.out - batch[1]) / len(batch[0])
        dh = (d @ self.params["W2"].T) * (1 if wrong else self.mask) * (1 - self.h**2)
        return {"W1": batch[0].T @ dh, "W2": (self.h * self.mask).T @ d}


def run(net, monitor, steps=12, wrong=False, block=True, data=None):
    """Train with dropout; `data` draws the batches."""
    data = data or np.random.default_rng(1)
    for _ in range(steps):
        chosen = data.integers(64, size=16)
        batch = DATA[chosen], WANTED[chosen]
        if monitor is None:
            grads = net.grads(batch, wrong)
        elif block:
            with monitor.step() as step:
                grads = net.grads(batch, wrong)
                step.check(net.params, grads, batch=batch)
        else:
            grads = net.grads(batch, wrong)
            monitor(net.params, grads, batch=batch)
        for name in net.params:
            net.params[name] -= 0.1 * grads[name]
    return net.params


def verdicts(monitor):
    return {one.verdict for one in monitor.history}


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(7)
    random.seed(7)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["Generator", "RandomState", "Random", "numpy", "random"])
def test_the_mask_of_this_step_is_the_one_that_counts(kind, mode):
    net = Dropout(Uniform(kind))
    monitor = Monitor(net.loss, every=4, mode=mode, rng=net.uniform.source)
    run(net, monitor)
    assert verdicts(monitor) == {Verdict.PASS}
    assert len(monitor.history) == 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block", [True, False])
def test_a_mask_that_is_missing_backwards_fails(mode, block):
    net = Dropout(Uniform("Generator"))
    monitor = Monitor(net.loss, every=4, mode=mode, rng=net.uniform.source, on_fail="record")
    run(net, monitor, wrong=True, block=block)
    assert verdicts(monitor) == {Verdict.FAIL}
    wrong = {n for one in monitor.history for n, v in one.tensors.items() if v is Verdict.FAIL}
    assert wrong == {"W1"}


def test_without_a_block_a_step_begins_where_the_last_call_ended():
    net = Dropout(Uniform("Generator"))
    monitor = Monitor(net.loss, every=4, rng=net.uniform.source)
    run(net, monitor, block=False)
    assert verdicts(monitor) == {Verdict.PASS}
    assert len(monitor.history) == 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wrong", [False, True])
def test_draws_that_cannot_be_made_again_are_no_verdict(mode, wrong):
    """Batches come from the same generator, and nothing says where the forward pass began."""
    net = Dropout(Uniform("Generator"))
    generator = net.uniform.source
    monitor = Monitor(net.loss, every=4, mode=mode, rng=generator, on_fail="record")
    run(net, monitor, wrong=wrong, block=False, data=generator)
    assert verdicts(monitor) == {Verdict.INCONCLUSIVE}
    assert "with monitor.step()" in monitor.history[0].notes[0]


@pytest.mark.parametrize("wrong", [False, True])
def test_a_block_tells_the_forward_pass_from_other_draws(wrong):
    net = Dropout(Uniform("Generator"))
    generator = net.uniform.source
    monitor = Monitor(net.loss, every=4, rng=generator, on_fail="record")
    run(net, monitor, wrong=wrong, data=generator)
    assert verdicts(monitor) == {Verdict.FAIL if wrong else Verdict.PASS}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wrong", [False, True])
def test_hold_is_called_before_every_forward_pass(mode, wrong):
    net = Dropout(lambda shape: held["mask"])
    held, calls = {"mask": None}, iter(range(10**6))

    def hold():
        next(calls)
        held["mask"] = held["now"]

    monitor = Monitor(net.loss, every=1, mode=mode, hold=hold, on_fail="record")
    rng = np.random.default_rng(0)
    for _ in range(3):
        held["mask"] = held["now"] = rng.random((16, 8))
        batch = DATA[:16], WANTED[:16]
        monitor(net.params, net.grads(batch, wrong), batch=batch)
    assert verdicts(monitor) == {Verdict.FAIL if wrong else Verdict.PASS}
    assert next(calls) > 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["Generator", "RandomState", "Random", "numpy", "random"])
def test_training_with_dropout_is_not_disturbed(kind, mode):
    alone = run(Dropout(Uniform(kind)), None)
    np.random.seed(7)
    random.seed(7)
    net = Dropout(Uniform(kind))
    watched = run(net, Monitor(net.loss, every=3, mode=mode, rng=net.uniform.source))
    assert all(np.array_equal(alone[name], watched[name]) for name in alone)


def test_several_generators_are_all_set_back():
    one, two = np.random.default_rng(1), np.random.RandomState(2)
    net = Dropout(lambda shape: (one.random(shape) + two.random_sample(shape)) / 2)
    monitor = Monitor(net.loss, every=3, rng=[one, two])
    run(net, monitor)
    assert verdicts(monitor) == {Verdict.PASS}


@pytest.mark.parametrize("mode", ["full", "sample", "directions"])
def test_a_loss_that_draws_without_being_held_is_refused_with_the_remedy(mode):
    net = Dropout(Uniform("Generator"))
    monitor = Monitor(net.loss, every=1, mode=mode)
    with pytest.raises(InputError, match="two different values"):
        run(net, monitor, steps=4)
    assert monitor.history == []


def test_cupys_generators_are_refused_by_name():
    class Generator:
        pass

    Generator.__module__ = "cupy.random._generator"
    with pytest.raises(Exception, match="give `hold`"):
        Randomness(Generator(), None)


def test_what_is_no_generator_is_refused():
    with pytest.raises(InputTypeError, match="`rng` is a ndarray"):
        Randomness(np.zeros(3), None)


def test_batches_drawn_from_numpys_own_generator_are_no_failure():
    """Without `step()` the draws of the batch come before those of the mask: that is not known."""
    np.random.seed(0)
    data = np.random.standard_normal((32, 4))
    W = np.random.standard_normal(4)
    drawn = {}

    def loss(p, x):
        drawn["mask"] = np.random.random(x.shape) < 0.5
        return np.sum((x * drawn["mask"]) @ p["W"])

    monitor = Monitor(loss, every=1, rng="numpy", on_fail="record")
    for _ in range(3):
        x = data[np.random.randint(32, size=8)]
        loss({"W": W}, x)
        monitor({"W": W}, {"W": (x * drawn["mask"]).sum(axis=0)}, batch=x)
    assert Verdict.FAIL not in verdicts(monitor)
    assert "begin the step" in monitor.history[-1].notes[0]
