"""Nothing of the training is disturbed: weights, batch, random states, attributes, bit for bit."""

import random

import numpy as np
import pytest

from fastcheck import GradientError, InputError, Monitor, Verdict
from fastcheck.keep import keep

from .loops import backward, loss, problem, scaled, train

WAYS = {
    "full": {"mode": "full", "every": 7},
    "sample": {"mode": "sample", "every": 7, "sample": 12},
    "directions": {"mode": "directions", "every": 7},
    "little budget": {"budget": 0.05, "every": 1},
    "all the budget": {"budget": 1.0, "every": 1},
}
MODES = ("full", "sample", "directions")


def same(one, other):
    return all(one[name].tobytes() == other[name].tobytes() for name in one)


@pytest.mark.parametrize("way", WAYS)
def test_the_weights_are_the_same_with_and_without_a_monitor(way):
    monitor = Monitor(loss, **WAYS[way])
    assert same(train(60, monitor), train(60))


@pytest.mark.parametrize("way", WAYS)
def test_the_weights_are_the_same_while_the_gradient_is_wrong(way):
    monitor = Monitor(loss, on_fail="record", **WAYS[way])
    bug = scaled("W2", 1.5, start=20)
    assert same(train(40, monitor, bug), train(40, bug=bug))
    assert any(one.verdict is Verdict.FAIL for one in monitor.history) or "budget" in way


@pytest.mark.parametrize("mode", MODES)
def test_parameters_gradient_and_batch_are_as_before(mode):
    params, grads, batch = problem()
    arrays = [*params.values(), *grads.values(), *batch]
    before = [array.copy() for array in arrays]
    Monitor(loss, every=1, mode=mode)(params, grads, batch=batch)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(arrays, before, strict=True))
    assert all(array.flags.writeable for array in arrays)


@pytest.mark.parametrize("mode", MODES)
def test_global_random_states_are_as_before(mode):
    def noisy(params, batch):
        np.random.random(3)
        random.random()
        return loss(params, batch)

    params, grads, batch = problem()
    monitor = Monitor(noisy, every=1, mode=mode)
    np.random.seed(3)
    random.seed(3)
    np.random.standard_normal()  # the second of the pair waits
    legacy, plain = np.random.get_state(), random.getstate()
    for _ in range(2):
        monitor(params, grads, batch=batch)
    now = np.random.get_state()
    assert now[0] == legacy[0]
    assert np.array_equal(now[1], legacy[1])
    assert now[2:] == legacy[2:]
    assert random.getstate() == plain


@pytest.mark.parametrize("mode", MODES)
def test_generators_that_the_loss_or_the_batch_holds_are_as_before(mode):
    closed_over, passed_in = np.random.default_rng(1), np.random.RandomState(2)

    def noisy(params, batch):
        closed_over.random(3)
        batch["rng"].random_sample(3)
        return loss(params, batch["data"])

    params, grads, data = problem()
    states = closed_over.bit_generator.state, passed_in.get_state()[1].copy()
    monitor = Monitor(noisy, every=1, mode=mode)
    for _ in range(2):
        monitor(params, grads, batch={"data": data, "rng": passed_in})
    assert closed_over.bit_generator.state == states[0]
    assert np.array_equal(passed_in.get_state()[1], states[1])


class Network:
    """Writes to itself in every forward pass, as layers with a cache and running means do."""

    total = 0

    def __init__(self):
        self.mean = np.zeros(3)
        self.cache = {}
        self.seen = []

    def loss(self, params, batch):
        Network.total += 1
        self.mean *= 0.9
        self.mean += 0.1
        self.cache["probabilities"] = batch[1]
        self.seen.append(len(batch[0]))
        self.last = params
        return loss(params, batch)


@pytest.mark.parametrize("mode", MODES)
def test_attributes_that_the_loss_writes_are_as_before(mode):
    net = Network()
    params, grads, batch = problem()
    net.loss(params, batch)
    mean, cache, seen, total = net.mean, net.cache, net.seen, Network.total
    values, entries = mean.copy(), dict(cache)
    monitor = Monitor(net.loss, every=1, mode=mode)
    for _ in range(2):
        monitor(params, grads, batch=batch)
    assert net.mean is mean
    assert np.array_equal(mean, values)
    assert net.cache is cache
    assert cache.keys() == entries.keys()
    assert cache["probabilities"] is entries["probabilities"]
    assert net.seen is seen
    assert seen == [64]
    assert net.last is params
    assert Network.total == total


@pytest.mark.parametrize("mode", MODES)
def test_after_an_error_of_the_loss_all_is_as_before(mode):
    net = Network()
    params, grads, batch = problem()
    big = np.ones((200, 100))

    def failing(p, b):
        net.loss(p, b[:2])
        b[2][0, 0] = 7.0
        raise RuntimeError("the disk is full")

    monitor = Monitor(failing, every=1, mode=mode)
    with pytest.raises(RuntimeError, match="the disk is full"):
        monitor(params, grads, batch=(*batch, big))
    assert net.seen == []
    assert big.flags.writeable
    assert np.array_equal(big, np.ones((200, 100)))


def test_after_a_gradient_error_all_is_as_before():
    params, grads, batch = problem()
    copies = {name: value.copy() for name, value in params.items()}
    monitor = Monitor(loss, every=1)
    with pytest.raises(GradientError):
        monitor(params, {**grads, "W1": -grads["W1"]}, batch=batch)
    assert same(params, copies)


def test_the_kept_gradient_of_the_step_before_is_a_copy():
    """The loop reuses its gradient arrays, and so the one kept must not be one of them."""
    params, _, batch = problem()
    grads = backward(params, batch)
    monitor = Monitor(loss, every=2, on_fail="record")
    for step in range(5):
        fresh = backward(params, batch)
        for name in grads:
            grads[name][...] = fresh[name]
        monitor(params, grads, batch=batch)
        for name in params:
            params[name] -= 0.1 * grads[name]
            grads[name][...] = np.nan  # what happens to them now is the user's business
        assert step % 2 or monitor.history[-1].verdict is Verdict.PASS


# -- large batches are lent ------------------------------------------------------------------------

BIG = np.random.default_rng(0).standard_normal((3000, 8))
WEIGHTS = {"w": np.random.default_rng(1).standard_normal(8) / 4}


def on(batch):
    return batch[-1] if isinstance(batch, tuple) else batch


def of_large(params, batch):
    return np.sum(np.tanh(on(batch) @ params["w"])) / 100


def right(batch):
    X = on(batch)
    return {"w": X.T @ (1 - np.tanh(X @ WEIGHTS["w"]) ** 2) / 100}


def watch_twice(function, batch, mode="directions"):
    """Check two steps; all arrays of the batch have to be as they were."""
    arrays = batch if isinstance(batch, tuple) else (batch,)
    before = [(array.tobytes(), array.flags.writeable) for array in arrays]
    monitor = Monitor(function, every=1, mode=mode)
    for _ in range(2):
        assert monitor(WEIGHTS, right(batch), batch=batch)
        assert [(array.tobytes(), array.flags.writeable) for array in arrays] == before
    with pytest.raises(GradientError):
        monitor(WEIGHTS, {"w": 1.01 * right(batch)["w"]}, batch=batch)
    assert [(array.tobytes(), array.flags.writeable) for array in arrays] == before


def layouts():
    whole = BIG.copy()
    locked = BIG.copy()
    view_of_locked = locked[:2000]
    locked.flags.writeable = False
    return {
        "whole": whole,
        "Fortran order": np.asfortranarray(BIG),
        "a view alone": whole[:2000],
        "an array and its view": (whole, whole[:2000]),
        "a view before its array": (whole[:2000], whole),
        "a small view before its array": (whole[:10], whole),
        "views that overlap": (whole[1000:], whole[:2000]),
        "a view of a view, and all": (whole[:2500][:10], whole[:2500], whole),
        "read-only": locked,
        "a view of what is read-only": view_of_locked,
        "a view, and its read-only array": (view_of_locked, locked),
        "over a bytearray": np.frombuffer(bytearray(BIG.tobytes())).reshape(BIG.shape),
        "over bytes": np.frombuffer(BIG.tobytes()).reshape(BIG.shape),
        "a subclass": BIG.view(np.recarray),
    }


@pytest.mark.parametrize("layout", layouts())
def test_a_large_batch_comes_back_as_it_was_lent(layout):
    watch_twice(of_large, layouts()[layout])


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_mapped_file_comes_back_as_it_was(tmp_path, mode):
    file = tmp_path / "data.bin"
    BIG.tofile(file)
    mapped = np.memmap(file, dtype=float, mode=mode, shape=BIG.shape)
    watch_twice(of_large, mapped)
    watch_twice(of_large, np.asarray(mapped)[:2000])
    assert file.read_bytes() == BIG.tobytes()


def growing(params, batch):
    """Write to the batch, which is twice as large the next time."""
    value = of_large(params, batch)
    batch *= 2.0
    return value


@pytest.mark.parametrize("mode", MODES)
def test_a_loss_that_writes_to_a_large_batch_is_checked_all_the_same(mode):
    X = BIG.copy()
    before = X.copy()

    def halving(params, batch):
        batch *= 2.0
        value = of_large(params, batch / 2.0)
        batch /= 2.0
        return value

    monitor = Monitor(halving, every=1, mode=mode)
    for _ in range(2):
        assert monitor(WEIGHTS, right(X), batch=X)
        assert np.array_equal(X, before)
        assert X.flags.writeable


@pytest.mark.parametrize("mode", MODES)
def test_a_loss_that_spoils_its_batch_never_passes_and_leaves_it_whole(mode):
    X = BIG.copy()
    monitor = Monitor(growing, every=1, mode=mode, on_fail="record")
    with pytest.raises(InputError, match="two different values for the same parameters"):
        monitor(WEIGHTS, right(X), batch=X)
    assert np.array_equal(X, BIG)
    assert X.flags.writeable


def test_parameters_inside_a_large_array_are_never_lent():
    """All weights are views of one buffer, which the loss reaches and writes to."""
    buffer = np.linspace(-1, 1, 20_000)
    params = {"w": buffer[:8]}

    def writes(p, batch):
        buffer[:8] = p["w"]
        return np.sum(np.tanh(batch @ buffer[:8]))

    with keep(writes, params, lend=True):
        writes({"w": np.ones(8)}, BIG)
    assert np.array_equal(buffer, np.linspace(-1, 1, 20_000))
    assert buffer.flags.writeable


def test_what_is_lent_cannot_be_written_to_and_what_is_small_is_copied():
    large, small = BIG.copy(), np.zeros(3)

    def uses(p):
        return large, small

    with keep(uses, {}, lend=True):
        with pytest.raises(ValueError, match="read-only"):
            large[0] = 1.0
        small[0] = 1.0
    assert large.flags.writeable
    assert small[0] == 0.0


def test_what_is_lent_comes_back_after_an_error():
    large = BIG.copy()
    view = large[:2000]

    def uses(p):
        return view, large

    with pytest.raises(KeyError), keep(uses, {}, lend=True):
        raise KeyError
    assert large.flags.writeable
    assert view.flags.writeable
