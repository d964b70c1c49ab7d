"""Places along training trajectories at which gradients are checked, each from one seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.trusted.convolution import Convolution
from benchmarks.trusted.dense import Dense
from benchmarks.trusted.network import (
    Generator,
    Network,
    Parameters,
    Update,
    adam,
    descent,
    momentum,
    trajectory,
)
from benchmarks.trusted.recurrent import LSTM, Recurrent
from benchmarks.trusted.sources import (
    Dictionary,
    Digits,
    HiddenLayer,
    ReluSoftmax,
    Sigmoid231,
)

FIRST_SEED = 730_000_000
"""Seeds from here on are used nowhere else: nothing was ever tuned on these networks."""

STOPS = 8
_SINGLE = 0.3
Maker = Callable[[Generator, Any], Network]


def _dense(kind: str) -> Maker:
    return lambda rng, dtype: Dense(rng, kind, dtype)


# How many in a hundred trajectories, how to make the network, and whether it has float32 data.
_FAMILIES: tuple[tuple[int, Maker, bool], ...] = (
    (15, _dense("tanh"), True),
    (15, _dense("sigmoid"), True),
    (18, _dense("relu"), True),
    (12, _dense("mixed"), True),
    (9, Sigmoid231, False),
    (8, HiddenLayer, False),
    (7, Dictionary, False),
    (5, ReluSoftmax, False),
    (1, Digits, True),
    (3, Convolution, True),
    (4, Recurrent, True),
    (3, LSTM, True),
)


@dataclass(frozen=True, eq=False)
class Spot:
    """A network at some point of its training.

    Attributes
    ----------
    seed, iteration
        Where it comes from.
    network
        The loss, and the way to its gradients.
    params, grads, previous
        The parameters, the right gradients, and those one step earlier, if there was one.
    """

    seed: int
    iteration: int
    network: Network
    params: Parameters
    grads: Parameters
    previous: Parameters | None

    @property
    def known(self) -> dict[str, Any]:
        """What `fastcheck.planted` takes beside the gradients."""
        return {
            "params": self.params,
            "previous": self.previous,
            "batch_size": self.network.batch_size,
            "decay": self.network.decay,
            "backward": self.network.backward(self.params),
        }

    @property
    def dtype(self) -> str:
        """The parameters' dtype."""
        return str(next(iter(self.params.values())).dtype)


def spots(seed: int, most: int = STOPS) -> Iterator[Spot]:
    """Draw a network and the way it is trained, and yield up to `most` places of its training."""
    rng = np.random.default_rng(seed)
    shares = np.array([share for share, _, _ in _FAMILIES], dtype=float)
    _, make, has_single = _FAMILIES[rng.choice(len(_FAMILIES), p=shares / shares.sum())]
    dtype = np.float32 if has_single and rng.random() < _SINGLE else np.float64
    network = make(rng, dtype)
    params = network.initial(rng)
    update, stops = _update(rng), _stops(rng, network.iterations, most)
    with np.errstate(all="ignore"):  # training may diverge; that is where the trajectory ends
        for iteration, at, grads, previous in trajectory(network, params, update, stops):
            if not _finite(network.loss(at), at, grads, previous):
                return
            before = previous if iteration else None
            yield Spot(seed, iteration, network, at, grads, before)


def _update(rng: Generator) -> Update:
    rate = float(10 ** rng.uniform(-2, 0))
    kind = rng.integers(3)
    if kind == 0:
        return descent(rate)
    return momentum(rate / 2, 0.5) if kind == 1 else adam(rate / 10)


def _stops(rng: Generator, iterations: int, most: int) -> list[int]:
    """Draw iterations, early ones closer together: much changes there. The first is always in."""
    drawn = np.exp(rng.uniform(0, np.log(iterations), most - 1)).astype(int)
    return sorted({0, *drawn.tolist()})


def _finite(loss: float, *trees: Parameters) -> bool:
    arrays = [array for tree in trees for array in tree.values()]
    return bool(np.isfinite(loss)) and all(np.isfinite(array).all() for array in arrays)
