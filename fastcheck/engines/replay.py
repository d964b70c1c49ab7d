"""The replay engine: a slice of the traced graph, for a stack of perturbed copies at a time.

One chunk holds +h and −h of the same parameters side by side. Differences are exact, so the step
may be tiny; copies that would take another branch than the trace did are computed by the user's
own function.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.differences import Bases, Context, Delta, Pin, cancels, propagate
from fastcheck.engines.base import (
    U32,
    U64,
    Attempt,
    BoolArray,
    Differences,
    FloatArray,
    IndexArray,
    lost_in_float32,
)
from fastcheck.engines.ordering import in_order, slowest_first
from fastcheck.engines.pace import CPU, GPU
from fastcheck.engines.rounding import term_size
from fastcheck.engines.survey import Sizes
from fastcheck.engines.survey import Survey as Survey
from fastcheck.errors import InputError
from fastcheck.params import Tensor
from fastcheck.trace.chains import shortened
from fastcheck.trace.graph import Graph, Node
from fastcheck.trace.slices import Slice, slice_for

_PROBES = 8
PROBE_STEP = 2.0**-30


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
    careful : ReplayEngine, optional
        Looks again at what seems wrong: by default itself.

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
        careful: ReplayEngine | None = None,
    ) -> None:
        self.slice: Slice = shortened(slice_for(graph, tensor.name))
        self.loss = loss
        size = term_size(self.slice.output) if magnitude is None else magnitude
        self.magnitude = max(abs(loss), size)
        self.exact = not any(map(cancels, self.slice.nodes))
        self.careful = self if careful is None else careful
        self._tensor = tensor
        self._fallback = fallback
        self._bases = Bases() if bases is None else bases
        self._bases.pool.most = memory
        self._memory = memory
        self._pace = GPU if self._bases.device.is_gpu else CPU
        self._fits: int | None = None  # parameters a chunk, once memory has run out
        self._survey: Survey | None = None
        self._assumed: Survey | None = None
        self._kink_at: NDArray[np.int32] | None = None
        self._kink_nodes: list[Node | None] = [None]

    @property
    def device(self) -> str:
        """Where its stacks are."""
        return str(self._bases.device)

    @property
    def unit_roundoff(self) -> float:
        """The unit roundoff of its stacks."""
        return U64 if self._bases.dtype == np.float64 else U32

    @property
    def chunk(self) -> int:
        """Parameters per chunk: what suits the device, within the memory.

        Raises
        ------
        InputError
            Not even one parameter fits the memory.
        """
        per_parameter, largest = self.bytes_per_parameter, self.sizes.largest
        if per_parameter > self._memory:
            raise InputError(
                f"`memory` is {self._memory:,} bytes, but one perturbed copy of the network needs "
                f"{per_parameter:,} bytes (tensor {self._tensor.name}): give at least that, or use "
                "engine='loop'."
            )
        suits = min(self._pace.stack // largest, self._pace.copies)
        most = max(1, min(self._memory // per_parameter, suits))
        return most if self._fits is None else min(most, self._fits)

    @property
    def bytes_per_parameter(self) -> int:
        """The peak size of the live stacks, per parameter."""
        # A rule may hold a few temporaries of the largest stack.
        return self.sizes.peak + 3 * self.sizes.largest

    @property
    def least_seconds(self) -> float:
        """Estimate the time of any differences from below, without a survey."""
        return len(self.slice.nodes) * self._pace.rule

    def seconds(self, count: int) -> float:
        """Estimate the time of the differences of `count` elements."""
        pace, chunks = self._pace, -(-count // self.chunk)
        elements, products = count * self.sizes.elements, count * self.sizes.products
        rules = chunks * len(self.slice.nodes) * pace.rule
        return rules + elements * pace.element + products * pace.product

    def differences(
        self,
        tensor: str,
        indices: IndexArray,
        steps: FloatArray,
        *,
        central: bool = True,
    ) -> Differences:
        """Perturb single elements of the tensor; see `fastcheck.engines.base.Engine`.

        Raises
        ------
        InputError
            The memory does not suffice for one parameter.
        """
        attempt = self.attempt(indices, steps, central)
        return self.settled(attempt, indices)

    def attempt(self, indices: IndexArray, steps: FloatArray, central: bool) -> Attempt:
        """Compute what the device can, without calling the user's function."""
        steps = steps.astype(self._bases.dtype).astype(np.float64)
        signs = np.array([[1.0], [-1.0]] if central else [[1.0]])
        shape = (len(signs), len(indices))
        changes, left = np.zeros(shape), np.zeros(shape, dtype=bool)
        kinked = np.zeros(len(indices), dtype=bool)
        order = self._order(indices)
        first = 0
        while first < len(indices):
            part: Any = slice(first, first + self.chunk)
            if order is not None:
                part = order[part]
            size = len(indices[part])
            moves = (signs * steps[part]).ravel()
            with self._at_work():
                found = self._run(len(moves), self._seed(np.tile(indices[part], len(signs)), moves))
            if found is None:
                self._take_fewer(size)
                continue
            changes[:, part] = found.change.reshape(-1, size)
            # An overflow on the way (exp of a saturated unit) need not be one of the loss.
            left[:, part] = (found.diverged | ~np.isfinite(found.change)).reshape(-1, size)
            kinked[part] = found.kinked.reshape(-1, size).any(axis=0)
            self._remember_kinks(found, indices[part])
            kinked[part] |= found.diverged.reshape(-1, size).any(axis=0)
            first += size
        if self.unit_roundoff > U64 and len(indices) and lost_in_float32(steps, changes):
            left[:] = True
        return Attempt(steps, changes, kinked, left)

    def _order(self, indices: IndexArray) -> IndexArray | None:
        """Return the order in which elements are put into chunks; None for that of `indices`."""
        if not len(indices) or len(indices) <= self.chunk:
            return None
        return in_order(indices, self._tensor.shape, self._slowest_first)

    @cached_property
    def _slowest_first(self) -> tuple[int, ...]:
        return slowest_first(self.slice)

    def kinks_of(self, indices: IndexArray) -> list[Node | None]:
        """Return for each element the operation at which it met a kink when last computed."""
        if self._kink_at is None:
            return [None] * len(indices)
        return [self._kink_nodes[number] for number in self._kink_at[indices]]

    def _remember_kinks(self, found: _Outcome, indices: IndexArray) -> None:
        if self._kink_at is None and found.kinks:
            self._kink_at = np.zeros(self._tensor.size, dtype=np.int32)
        for node, copies in found.kinks.items():
            if node not in self._kink_nodes:
                self._kink_nodes.append(node)
            met = indices[copies.reshape(-1, len(indices)).any(axis=0)]
            assert self._kink_at is not None
            self._kink_at[met] = self._kink_nodes.index(node)

    def settled(self, attempt: Attempt, indices: IndexArray) -> Differences:
        """Complete an attempt: in float64, or by the user's function where no graph holds."""
        if not attempt.left.any():
            return attempt.differences()
        if self.careful is not self:
            return self.careful.completing(attempt, indices)
        changes = attempt.changes
        calls = 0
        for row, sign in enumerate((1.0, -1.0)[: len(changes)]):
            left = attempt.left[row]
            if left.any():
                changes[row, left] = self._fallback(indices[left], sign * attempt.steps[left])
                calls += int(left.sum())
        kinked = attempt.kinked | attempt.left.any(axis=0)
        return replace(attempt, kinked=kinked).differences(calls)

    def completing(self, attempt: Attempt, indices: IndexArray) -> Differences:
        """Complete the attempt of another engine: replay the copies that it left."""
        left = attempt.left.any(axis=0)
        if not left.any():
            return attempt.differences()
        central = len(attempt.changes) == 2
        again = self.differences(
            self._tensor.name, indices[left], attempt.steps[left], central=central
        )
        found = attempt.differences(again.loss_calls)
        found.plus[left], found.minus[left] = again.plus, again.minus
        found.kinked[left] = again.kinked
        return found

    @property
    def sizes(self) -> Survey:
        """The sizes of its stacks: as `assume` was told, or else from a survey."""
        return self.survey if self._assumed is None else self._assumed

    def assume(self, sizes: Survey | None) -> None:
        """Take the stacks to be as large as those of a slice of the same structure."""
        self._assumed = sizes

    @property
    def survey(self) -> Survey:
        """What is known of the stacks' sizes, from a few copies that are run for it.

        Elements of one tensor may reach very different parts of the graph (a flat vector that is
        sliced into layers), so they are spread over all of it. Their step is tiny: where nothing
        comes near a kink, no stack is left out.
        """
        if self._survey is None:
            if not self._tensor.size:
                none = np.zeros(0)
                return Survey(1, 1, 1, 0, np.zeros(0, dtype=np.int64), none, none)
            self._surveyed(np.zeros(0, dtype=np.int64), np.zeros(0))
        assert self._survey is not None
        return self._survey

    def _surveyed(self, indices: IndexArray, moves: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Survey the stacks by a run that other moves are a part of; return what became of them."""
        size, most = self._tensor.size, _PROBES
        with self._at_work():
            while True:
                probes = spread_over(size, most)
                many, sizes = len(probes), Sizes()
                every = np.concatenate([probes, probes, indices])
                by = np.concatenate([np.repeat([PROBE_STEP, -PROBE_STEP], many), moves])
                found = self._run(len(by), self._seed(every, by), sizes)
                if found is not None:
                    up, down, change = np.split(found.change, [many, 2 * many])
                    self._survey = sizes.survey(len(by), probes, up, down)
                    return change, found.diverged[2 * many :]
                if many == 1:
                    raise self._no_memory()
                most = many // 2

    def changes(self, indices: IndexArray, moves: FloatArray) -> FloatArray:
        """Return J(θ + move) − J(θ) for a few moves of single elements, of either sign.

        The survey is due anyway, and a stack of a few more copies costs hardly more.
        """
        change, diverged = self._surveyed(indices, moves)
        left = diverged | ~np.isfinite(change)
        if left.any():
            change[left] = self._fallback(indices[left], moves[left])
        return change

    def directional(self, *directions: FloatArray) -> list[float | None]:
        """Return J(θ + v) − J(θ) for dense changes v of the whole tensor.

        None where the graph does not hold for θ + v, because of a branch.
        """
        stack = np.stack(directions).astype(self._bases.dtype)
        with self._at_work():
            found = self._run(len(stack), lambda: Delta(self._bases.xp.asarray(stack), {}))
        if found is None:
            raise self._no_memory()
        pairs = zip(found.change, found.diverged, strict=True)
        return [None if left else float(one) for one, left in pairs]

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Use the device; after an error give back what its pool holds."""
        device = self._bases.device
        with device.active():
            try:
                yield
            except BaseException as error:
                if device.is_gpu:  # the stacks live on in the frames of the rules
                    traceback.clear_frames(error.__traceback__)
                device.release()
                raise

    def _take_fewer(self, tried: int) -> None:
        """Halve the chunks from now on, because memory did not suffice for this one."""
        if tried == 1:
            raise self._no_memory()
        self._fits = tried // 2

    def _no_memory(self) -> InputError:
        return InputError(
            f"`memory` is {self._memory:,} bytes, but {self.device} could not allocate what one "
            f"perturbed copy of the network needs (tensor {self._tensor.name}): free memory there, "
            "or use engine='loop'."
        )

    def _seed(self, indices: IndexArray, moves: FloatArray) -> Callable[[], Delta]:
        """Make the perturbed parameter itself: one element a copy, pinned on every axis."""
        xp, shape = self._bases.xp, self._tensor.shape

        def seed() -> Delta:
            values = xp.asarray(moves.astype(self._bases.dtype))
            where = np.unravel_index(indices, shape) if shape else ()
            pins = {axis: Pin.of(index) for axis, index in enumerate(where) if shape[axis] > 1}
            return Delta(values.reshape((-1,) + (1,) * len(shape)), pins)

        return seed

    def _run(
        self, copies: int, seed: Callable[[], Delta], watch: Sizes | None = None
    ) -> _Outcome | None:
        """Pass a perturbation through the slice; None if the memory does not suffice."""
        device = self._bases.device
        try:
            return self._passed(Context(self._bases, copies), seed(), watch)
        except device.out_of_memory as error:
            traceback.clear_frames(error.__traceback__)
        self._bases.pool.clear()
        device.release()
        return None

    def _passed(self, context: Context, seed: Delta, watch: Sizes | None) -> _Outcome:
        live: dict[Node, Delta] = {self.slice.parameter: seed}
        if watch is not None:
            watch.made(self.slice.parameter, seed)
        with np.errstate(all="ignore"):
            for place, node in enumerate(self.slice.nodes):
                delta = propagate(context, node, [live.get(operand) for operand in node.operands])
                if delta is not None:
                    live[node] = delta
                    if watch is not None:
                        watch.made(node, delta)
                for operand in node.operands:
                    if self.slice.last_use[operand] == place:
                        done = live.pop(operand, None)
                        if watch is not None and done is not None:
                            watch.dropped(done)
            return self._outcome(context, live)

    def _outcome(self, context: Context, live: dict[Node, Delta]) -> _Outcome:
        """Bring the results to the host, all of them in one transfer."""
        found = context.zeros((3, context.copies))
        delta = live.get(self.slice.output)
        if delta is not None:
            found[0] = delta.values.reshape(-1)
        found[1] = context.kinked
        for guard in self.slice.guards:
            delta = live.get(guard.node)
            if delta is not None:
                moved = (delta.values != 0).reshape(context.copies, -1).any(axis=1)
                found[2] = context.xp.maximum(found[2], moved)
        to_host = context.bases.device.to_host
        change, kinked, diverged = to_host(found)
        kinks = {}
        if kinked.any():
            copies = (context.copies,)
            kinks = {n: np.broadcast_to(to_host(at), copies) for n, at in context.kinks.items()}
        return _Outcome(change.astype(np.float64), kinked != 0, diverged != 0, kinks)


def spread_over(size: int, most: int = _PROBES) -> IndexArray:
    """Return a few flat indices of a tensor, spread over all of it."""
    return np.unique(np.linspace(0, size - 1, min(most, size)).astype(np.int64))


@dataclass(frozen=True, eq=False)
class _Outcome:
    """What became of a stack of copies, on the host.

    Attributes
    ----------
    change : (B,) float64
        J(θ + move) − J(θ).
    kinked, diverged : (B,) bool
        The copies that met a kink, and those that would have taken another branch.
    kinks : dict of Node to (B,) bool
        At which operation they met it.
    """

    change: FloatArray
    kinked: BoolArray
    diverged: BoolArray
    kinks: dict[Node, BoolArray]
