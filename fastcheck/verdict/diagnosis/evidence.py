"""What a diagnosis is made from: both gradients of every tensor, their error bars, and context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fastcheck.engines.base import BoolArray, FloatArray, IndexArray
from fastcheck.trace.graph import Graph
from fastcheck.verdict.bars import largest
from fastcheck.verdict.tolerances import Tolerance

_SAMPLED = 512
_LEEWAY = 2.0
_ROUNDED = 1e-6
_USUAL = 0.25
"""Of what rounding may leave at worst, three times what it was found to leave."""

Places = IndexArray | slice
"""Positions among the checked elements of a tensor: some of them, or ``slice(None)`` for all."""

ALL = slice(None)


@dataclass(frozen=True, eq=False)
class TensorFacts:
    """One tensor: its checked elements, flat and in the order of `indices`.

    Attributes
    ----------
    name, shape
        The tensor's.
    analytic, numeric, bars, theta : (k,) float64
        g, n, the error bar B of n, and θ. n is NaN where the loss was not finite around θ.
    indices : (k,) int64
        Flat C-order indices.
    size : int
        How many elements there are, checked or not.
    failed, passed : bool
        Whether its verdict is FAIL; whether it is PASS. It may be neither.
    reacts, hidden : bool
        Whether the loss changed with it; whether it does so under large steps only.
    floor : float
        What rounding alone may leave of a derivative that vanishes.
    depth : int
        Layers between it and the loss; 0 is next to the loss.
    tolerance : Tolerance
    owner : str
        The tensor of the report that it is a part of, if it is one; see `parts`.
    rounding : (k,) float64, optional
        How much of `bars` is what rounding may leave of the analytic gradient at worst, where that
        is known; see `rounding`.
    """

    name: str
    shape: tuple[int, ...]
    analytic: FloatArray
    numeric: FloatArray
    bars: FloatArray
    theta: FloatArray
    indices: IndexArray
    size: int
    failed: bool
    reacts: bool
    hidden: bool
    floor: float
    depth: int
    tolerance: Tolerance
    owner: str = ""
    passed: bool = True
    rounding: FloatArray | None = None

    @cached_property
    def usable(self) -> BoolArray:
        """Elements that have both derivatives."""
        return np.isfinite(self.numeric) & np.isfinite(self.analytic)

    @cached_property
    def finite(self) -> bool:
        """Whether every element has both derivatives."""
        return bool(self.usable.all())

    @cached_property
    def complete(self) -> bool:
        """Whether all elements were checked, in order, so that places mean something."""
        count = len(self.indices)
        return count == self.size and bool(np.array_equal(self.indices, np.arange(count)))

    @cached_property
    def peak(self) -> float:
        """The largest |n|."""
        return largest(self.numeric)

    @property
    def grain(self) -> float:
        """What may be wrong with any analytic derivative through its own rounding."""
        return self.floor + self.tolerance.gamma * self.peak

    @cached_property
    def sizes(self) -> tuple[float, float]:
        """(‖g‖, ‖n‖) over usable elements."""
        g, n = self.both()
        return float(np.linalg.norm(g)), float(np.linalg.norm(n))

    @cached_property
    def alive(self) -> bool:
        """Whether either gradient is not zero throughout."""
        return any(size > 0 for size in self.sizes)

    @cached_property
    def sample(self) -> Places:
        """A few positions, those of the largest |g| and |n| among them; all of a small tensor."""
        count = len(self.indices)
        if count <= 2 * _SAMPLED:
            return ALL
        drawn = np.random.default_rng(count).integers(0, count, _SAMPLED)
        tops = [np.nanargmax(np.abs(values)) for values in (self.analytic, self.numeric)]
        return np.unique(np.concatenate([drawn, tops]))

    @cached_property
    def axis_lengths(self) -> tuple[int, ...]:
        """The lengths of its axes that are longer than 1."""
        return tuple(length for length in self.shape if length > 1)

    @property
    def is_bias(self) -> bool:
        """Whether it is a vector, as biases are."""
        return len(self.axis_lengths) <= 1

    def both(self) -> tuple[FloatArray, FloatArray]:
        """Return g and n where both are finite."""
        if self.finite:
            return self.analytic, self.numeric
        return self.analytic[self.usable], self.numeric[self.usable]

    def allowed(self, places: Places, predicted: FloatArray, bars: FloatArray) -> FloatArray:
        """Return how far g may be from a prediction that has these error bars."""
        rtol, gamma = self.tolerance.rtol, self.tolerance.gamma
        larger = np.maximum(np.abs(self.analytic[places]), np.abs(predicted))
        room: FloatArray = bars + self.floor + _LEEWAY * (rtol * larger + gamma * self.peak)
        return room

    def usual(self, places: Places) -> FloatArray | float:
        """Return what part of the error bars is to be expected: rounding leaves less than it may.

        Several times less: the bound is made to hold for every element, and for unlucky roundings.
        """
        if self.rounding is None:
            return 1.0
        bars = self.bars[places]
        left = bars - (1 - _USUAL) * self.rounding[places]
        return np.divide(left, bars, out=np.ones_like(bars), where=bars > 0)

    @cached_property
    def wrong(self) -> BoolArray:
        """All elements in which g differs from n by more than is allowed."""
        return self.wrong_at(ALL)

    def wrong_at(self, places: Places) -> BoolArray:
        """Whether g differs from n at some places by more than is allowed."""
        numeric = self.numeric[places]
        with np.errstate(invalid="ignore"):
            apart = np.abs(self.analytic[places] - numeric)
            differ: BoolArray = apart > self.allowed(places, numeric, self.bars[places])
        return differ & self.usable[places]


Tensors = tuple[TensorFacts, ...]


def in_report(tensors: Tensors) -> tuple[str, ...]:
    """Return the names of the tensors as the report has them."""
    return tuple(dict.fromkeys(facts.owner or facts.name for facts in tensors))


Arrays = Mapping[str, FloatArray]
"""Tensor name → one value for each checked element."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that a diagnosis may use.

    Attributes
    ----------
    tensors : tuple of TensorFacts
        In the order of the parameter tree; those of which something was checked.
    batch_size : int or None
        M, the number of samples.
    previous : mapping or None
        The user's gradient of the step before.
    samples : mapping or None
        Each sample's own gradient: tensor name → (M, k).
    graph : Graph or None
        The traced forward pass.
    certain_depths : bool
        Whether the depths are those of the trace, and not guessed from the order of the tree.
    unit : float
        What gradients are measured in: 1, or a power of two where squares would overflow.
    """

    tensors: tuple[TensorFacts, ...]
    batch_size: int | None = None
    previous: Arrays | None = None
    samples: Arrays | None = None
    graph: Graph | None = field(default=None, repr=False)
    certain_depths: bool = False
    unit: float = 1.0

    @cached_property
    def failing(self) -> tuple[TensorFacts, ...]:
        """The tensors that fail; all of them where only the model as a whole does."""
        failed = tuple(facts for facts in self.tensors if facts.failed)
        return failed or tuple(facts for facts in self.tensors if facts.alive)

    @cached_property
    def right(self) -> tuple[TensorFacts, ...]:
        """The tensors with a gradient that is right."""
        failing = set(self.failing)
        return tuple(f for f in self.tensors if f not in failing and f.alive and f.passed)

    def uses(self, facts: TensorFacts) -> bool | None:
        """Whether the traced loss is computed from a tensor; None where there is no trace."""
        if self.graph is None or self.graph.output is None:
            return None
        return facts.name in self.graph.output.tensors

    @property
    def may_be_two(self) -> bool:
        """Whether there are, or may be, two samples: then a factor 2 may be their number."""
        if self.batch_size is not None:
            return self.batch_size == 2
        return 2 in self.data_lengths - self.parameter_lengths

    @cached_property
    def data_lengths(self) -> frozenset[int]:
        """Lengths of the axes of the data in the traced loss: one of them counts the samples."""
        if self.graph is None:
            return frozenset()
        constants = [node for node in self.graph if node.constant]
        return frozenset(n for node in constants for n in node.shape if n > 1)

    @cached_property
    def parameter_lengths(self) -> frozenset[int]:
        """Lengths of the axes of the parameters: where they meet the data, these are features."""
        return frozenset(length for facts in self.tensors for length in facts.axis_lengths)

    def averages(self, count: int) -> bool:
        """Whether the traced loss divides by this number, as a mean over so many does.

        Where that is the length of an axis of the data, there may be a factor of 2 beside it, or
        another length: 1/(2M), 1/(M·K).
        """
        if any(abs(divisor / count - 1) <= _ROUNDED for divisor in self._divisors):
            return True
        lengths = self.data_lengths
        wholes = {k * other for other in {1, *lengths} for k in (1, 2)}
        return count in lengths and any(
            abs(divisor / (count * whole) - 1) <= _ROUNDED
            for divisor in self._divisors
            if round(divisor) not in lengths  # that is a mean over that length
            for whole in wholes
        )

    def counts_samples(self, count: int) -> bool:
        """Whether the trace shows an axis of this length that is hardly one of features."""
        return count in self.data_lengths - self.parameter_lengths or self.averages(count)

    def may_count(self, count: int) -> bool:
        """Whether a number may be that of the samples, or of what else is averaged over."""
        if self.graph is None:
            return self.batch_size in (None, count)
        return count == self.batch_size or self.counts_samples(count)

    @cached_property
    def _divisors(self) -> frozenset[float]:
        """The numbers that something is divided by, or multiplied by one over them."""
        found = set()
        for node in self.graph or ():
            if node.primitive.name not in ("multiply", "divide") or node.constant:
                continue
            for operand in node.operands:
                values = np.asarray(operand.value)
                if operand.constant and values.size and np.all(values == values.flat[0]):
                    value = abs(float(values.flat[0]))
                    if value > 0:
                        found.add(max(value, 1 / value))
        return frozenset(found)
