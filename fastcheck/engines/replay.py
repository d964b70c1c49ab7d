"""The replay engine: a slice of the traced graph, for a stack of perturbed copies at a time.

One chunk holds +h and −h of the same parameters side by side. Differences are exact, so the step
may be tiny; copies that would take another branch than the trace did are computed by the user's
own function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcheck.differences import Bases, Context, Delta, Pin, cancels, propagate
from fastcheck.engines.base import BoolArray, Differences, FloatArray, IndexArray
from fastcheck.engines.rounding import term_size
from fastcheck.errors import InputError
from fastcheck.params import Tensor
from fastcheck.trace.graph import Graph, Node
from fastcheck.trace.primitives import CONTRACT, LOG_SOFTMAX, LOGSUMEXP
from fastcheck.trace.slices import Slice, slice_for

CACHE_BYTES = 2 * 1024**2
"""The size that the largest stack of a chunk is meant to have, so that a few stay in the cache."""
_MOST_COPIES = 4096
_PROBES = 8
PROBE_STEP = 2.0**-30
# What the parts of a replay take, about: a call of a rule, an element of a stack, a product in a
# sum of products; a softmax goes over its stack several times.
_SECONDS_A_RULE = 15e-6
_SECONDS_AN_ELEMENT = 0.6e-9
_SECONDS_A_PRODUCT = 0.1e-9
_SOFTMAX = 8

Fallback = Callable[[IndexArray, FloatArray], FloatArray]
"""J(θ + step) − J(θ) by the user's own function, for flat indices and signed steps."""


class ReplayEngine:
    """Exact differences for one tensor, by replaying its slice of the graph.

    Parameters
    ----------
    graph : Graph
        The traced forward pass.
    tensor : Tensor
        The tensor whose elements are perturbed.
    loss : float
        J(θ).
    memory : int
        How many bytes the stacks of one chunk may take together.
    fallback : callable
        Computes single copies by the user's own function, for those that would branch otherwise.
    bases : Bases, optional
        Base values in the array namespace to compute with, shared between tensors.
    magnitude : float, optional
        The size of the largest terms that J is made of, if it is known.

    Attributes
    ----------
    exact : bool
        Whether no rule on the way cancels digits, so that the step may be tiny.
    """

    name = "replay"

    def __init__(
        self,
        graph: Graph,
        tensor: Tensor,
        loss: float,
        memory: int,
        fallback: Fallback,
        bases: Bases | None = None,
        magnitude: float | None = None,
    ) -> None:
        self.slice: Slice = slice_for(graph, tensor.name)
        self.loss = loss
        size = term_size(self.slice.output) if magnitude is None else magnitude
        self.magnitude = max(abs(loss), size)
        self.exact = not any(map(cancels, self.slice.nodes))
        self._tensor = tensor
        self._fallback = fallback
        self._bases = Bases() if bases is None else bases
        self._bases.pool.clear()  # the chunks of another tensor have other sizes
        self._memory = memory
        self._survey: Survey | None = None

    @property
    def chunk(self) -> int:
        """Parameters per chunk, preferring one that stays in the cache.

        Raises
        ------
        InputError
            Not even one parameter fits the memory.
        """
        per_parameter, largest = self.bytes_per_parameter, self.survey.largest
        if per_parameter > self._memory:
            raise InputError(
                f"`memory` is {self._memory:,} bytes, but one perturbed copy of the network needs "
                f"{per_parameter:,} bytes (tensor {self._tensor.name}): give at least that, or use "
                "engine='loop'."
            )
        return max(1, min(self._memory // per_parameter, CACHE_BYTES // largest, _MOST_COPIES))

    @property
    def bytes_per_parameter(self) -> int:
        """The peak size of the live stacks, per parameter."""
        # A rule may hold a few temporaries of the largest stack.
        return self.survey.peak + 3 * self.survey.largest

    def seconds(self, count: int) -> float:
        """Estimate the time of the differences of `count` elements."""
        chunks = -(-count // self.chunk)
        elements, products = count * self.survey.elements, count * self.survey.products
        rules = chunks * len(self.slice.nodes) * _SECONDS_A_RULE
        return rules + elements * _SECONDS_AN_ELEMENT + products * _SECONDS_A_PRODUCT

    def differences(
        self,
        tensor: str,
        indices: IndexArray,
        steps: FloatArray,
        *,
        central: bool = True,
    ) -> Differences:
        """Perturb single elements of the tensor; see `fastcheck.engines.base.Engine`."""
        count = len(indices)
        plus, minus = np.zeros(count), np.zeros(count)
        kinked = np.zeros(count, dtype=bool)
        calls = 0
        for first in range(0, count, self.chunk):
            part = slice(first, first + self.chunk)
            changes, kinks, called = self._chunk(indices[part], steps[part], central)
            plus[part], kinked[part] = changes[0], kinks
            if central:
                minus[part] = -changes[1]
            calls += called
        return Differences(
            plus=plus,
            minus=minus,
            step_plus=steps.copy(),
            step_minus=steps.copy() if central else np.zeros(count),
            kinked=kinked,
            loss_calls=calls,
        )

    @property
    def survey(self) -> Survey:
        """What is known of the stacks' sizes, from a few copies that are run for it.

        Elements of one tensor may reach very different parts of the graph (a flat vector that is
        sliced into layers), so they are spread over all of it. Their step is tiny: where nothing
        comes near a kink, no stack is left out.
        """
        if self._survey is None:
            self._survey = self._surveyed()
        return self._survey

    def _surveyed(self) -> Survey:
        size = self._tensor.size
        if not size:
            return Survey(1, 1, 1, 0, np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
        probes = np.unique(np.linspace(0, size - 1, min(_PROBES, size)).astype(np.int64))
        moves = np.repeat([PROBE_STEP, -PROBE_STEP], len(probes))
        sizes = _Sizes()
        context = Context(self._bases, len(moves))
        change, _ = self._run(context, self._seed(np.tile(probes, 2), moves), sizes.watch)
        return sizes.survey(len(moves), probes, *np.reshape(change, (2, -1)))

    def changes(self, indices: IndexArray, moves: FloatArray) -> FloatArray:
        """Return J(θ + move) − J(θ) for a few moves of single elements, of either sign."""
        context = Context(self._bases, len(moves))
        change, diverged = self._run(context, self._seed(indices, moves))
        diverged |= ~np.isfinite(change)
        if diverged.any():
            change[diverged] = self._fallback(indices[diverged], moves[diverged])
        return change

    def directional(self, *directions: FloatArray) -> list[float | None]:
        """Return J(θ + v) − J(θ) for dense changes v of the whole tensor.

        None where the graph does not hold for θ + v, because of a branch.
        """
        xp = self._bases.xp
        context = Context(self._bases, len(directions))
        change, diverged = self._run(context, Delta(xp.asarray(np.stack(directions)), {}))
        return [None if left else float(one) for one, left in zip(change, diverged, strict=True)]

    def _chunk(
        self, indices: IndexArray, steps: FloatArray, central: bool
    ) -> tuple[FloatArray, BoolArray, int]:
        """Return the changes, (1 or 2, n), which parameters met a kink, and calls of the loss."""
        signs = (1.0, -1.0) if central else (1.0,)
        moves = np.concatenate([sign * steps for sign in signs])
        where = np.tile(indices, len(signs))
        context = Context(self._bases, len(moves))
        change, diverged = self._run(context, self._seed(where, moves))
        kinks = _to_host(context.kinked)
        # An overflow on the way (exp of a saturated unit) need not be one of the loss.
        diverged |= ~np.isfinite(change)
        calls = 0
        if diverged.any():
            change[diverged] = self._fallback(where[diverged], moves[diverged])
            kinks = kinks | diverged
            calls = int(diverged.sum())
        shape = (len(signs), len(indices))
        return change.reshape(shape), kinks.reshape(shape).any(axis=0), calls

    def _seed(self, indices: IndexArray, moves: FloatArray) -> Delta:
        """Return the perturbed parameter itself: one element a copy, pinned on every axis."""
        xp, shape = self._bases.xp, self._tensor.shape
        values = xp.asarray(moves).reshape((-1,) + (1,) * len(shape))
        where = np.unravel_index(indices, shape) if shape else ()
        pins = {
            axis: Pin.of(xp.asarray(index)) for axis, index in enumerate(where) if shape[axis] > 1
        }
        return Delta(values, pins)

    def _run(
        self, context: Context, seed: Delta, watch: Any = None
    ) -> tuple[FloatArray, BoolArray]:
        """Pass the perturbation through the slice; also say which copies would branch otherwise."""
        live: dict[Node, Delta] = {self.slice.parameter: seed}
        with np.errstate(all="ignore"):
            for place, node in enumerate(self.slice.nodes):
                delta = propagate(context, node, [live.get(operand) for operand in node.operands])
                if delta is not None:
                    live[node] = delta
                if watch is not None:
                    watch(live)
                for operand in node.operands:
                    if self.slice.last_use[operand] == place:
                        live.pop(operand, None)
        return self._result(context, live), self._diverged(context, live)

    def _result(self, context: Context, live: dict[Node, Delta]) -> FloatArray:
        delta = live.get(self.slice.output)
        if delta is None:
            return np.zeros(context.copies)
        values = np.broadcast_to(_to_host(delta.values).reshape(-1), (context.copies,))
        return values.astype(np.float64)

    def _diverged(self, context: Context, live: dict[Node, Delta]) -> BoolArray:
        diverged = np.zeros(context.copies, dtype=bool)
        for guard in self.slice.guards:
            delta = live.get(guard.node)
            if delta is not None:
                moved = _to_host(delta.values) != 0
                diverged |= moved.reshape(context.copies, -1).any(axis=1)
        return diverged


@dataclass(frozen=True, eq=False)
class Survey:
    """How large the stacks of a replay are, for each parameter (both signs of a step).

    Attributes
    ----------
    peak, largest : int
        Bytes of all stacks that live at the same time, and of the largest one.
    elements : int
        How many numbers are computed, those of a softmax counted several times.
    products : int
        How many products are added up in sums of products.
    probes : (k,) int64
        The elements by which this was found.
    up, down : (k,) float64
        J(θ ± PROBE_STEP) − J(θ) of them.
    """

    peak: int
    largest: int
    elements: int
    products: int
    probes: IndexArray
    up: FloatArray
    down: FloatArray


class _Sizes:
    """Watches the stacks of a run."""

    def __init__(self) -> None:
        self._peak = self._largest = 1
        self._sizes: dict[Node, int] = {}

    def watch(self, live: dict[Node, Delta]) -> None:
        present = {node: delta.values.nbytes for node, delta in live.items()}
        self._sizes.update(present)
        self._peak = max(self._peak, sum(present.values()))
        self._largest = max([self._largest, *present.values()])

    def survey(self, copies: int, probes: IndexArray, up: FloatArray, down: FloatArray) -> Survey:
        elements = sum(
            size * (_SOFTMAX if node.primitive in (LOG_SOFTMAX, LOGSUMEXP) else 1)
            for node, size in self._sizes.items()
        )

        def each(total: int) -> int:
            return -(-2 * total // copies)

        products = sum(
            self._sizes.get(operand, 0) * _columns(node, place)
            for node in self._sizes
            if node.primitive is CONTRACT
            for place, operand in enumerate(node.operands)
        )
        return Survey(
            each(self._peak),
            each(self._largest),
            each(elements // 8),
            each(products // 8),
            probes,
            up,
            down,
        )


def _columns(node: Node, place: int) -> int:
    """Return how many products each element of an operand takes part in."""
    labels = node.params["labels"]
    mine, other, out = labels[place], labels[1 - place], labels[2]
    shape = node.operands[1 - place].shape
    sizes = [n for n, label in zip(shape, other, strict=True) if label in out and label not in mine]
    return math.prod(sizes)


def _to_host(array: Any) -> Any:
    return array.get() if hasattr(array, "get") else np.asarray(array)
