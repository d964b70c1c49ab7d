"""The compiled engine: a loss compiled by Numba, called in a compiled loop over perturbed copies.

It is the loop engine without Python: the same machine code of the user's function, called with the
same numbers, so the losses are equal to the last bit. Every thread has the parameters in a block of
memory of its own, in which one element after the other is moved. A function that writes into what
it is given is found out, and gets the block restored before every call from then on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np

from fastcheck.engines.base import U32, U64, Differences, FloatArray, IndexArray
from fastcheck.engines.compiled_calls import Observed, capture
from fastcheck.engines.compiled_kernel import WROTE, Loop, Table, loop_around
from fastcheck.engines.compiled_memory import Layout, bytes_of_others, numbers, others_written
from fastcheck.engines.compiled_overload import Overload, Unusable
from fastcheck.engines.compiled_threads import obstacle_to_threads
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.fusion.kernel import threads
from fastcheck.params import ParamTree, Tensor
from fastcheck.trace.graph import Node

_SECONDS_A_CHUNK = 0.04
"""Ctrl-C is heard between chunks."""
_WORTH_A_THREAD = 1e-3
_CHUNKS = 4
"""Chunks a thread, so that threads that are slowed down do not hold up the others."""


class CompiledEngine:
    """Differences of the loss by calling the user's compiled function in a compiled loop.

    Parameters
    ----------
    loss : LossFunction
        The user's loss, wrapped.
    tree : ParamTree
        The parameters θ.
    loop : LoopEngine
        Computes what the compiled loop cannot: a call that raises, above all.
    observed : Observed
        The call that computes the loss.
    memory : int
        Bytes for the parameters of all threads, and for copies of the data that tell whether the
        function writes into it.

    Raises
    ------
    Unusable
        The call cannot be made from a compiled loop.

    Attributes
    ----------
    team : int
        How many threads are used.
    alone : str
        Why there are not more, if more cores are to be had.
    seconds_a_copy : float
        What a call takes in one thread, as far as is known.
    """

    name = "compiled"
    exact = False
    device = "cpu"
    unit_roundoff = U64

    def __init__(
        self,
        loss: LossFunction,
        tree: ParamTree,
        loop: LoopEngine,
        observed: Observed,
        memory: int,
    ) -> None:
        self._function, self._tree, self._loop_engine = loss, tree, loop
        self._observed, self._memory = observed, memory
        self.loss, self.magnitude = loop.loss, loop.magnitude
        self.seconds_a_copy = loss.fastest
        self._fresh = bool(loop.writes_params)
        self._layout = Layout(tree)
        self._block = self._layout.block()
        self._capture()
        overload = Overload(observed.dispatcher, self._captured.arguments)
        self._types = overload.types
        Table(self._types, self._captured.arguments)  # raises where an argument is of another kind
        if overload.is_single:  # Python gets a float, which does not show it
            loss.unit_roundoff = max(loss.unit_roundoff, U32)
        self._loop: Loop = loop_around(overload)
        self._choose_team()
        self._workers: list[_Worker] = []
        self._rest: FloatArray | None = None

    @property
    def careful(self) -> CompiledEngine:
        """Itself."""
        return self

    def kinks_of(self, indices: IndexArray) -> list[Node | None]:
        """Return nothing: a black box does not know."""
        return [None] * len(indices)

    def obstacle(self, tensor: Tensor) -> str | None:
        """Say why a tensor cannot be moved in the arguments of the call, if so."""
        found = self._observed.obstacle(tensor.name)
        if found is not None:
            return found
        given = (self._observed.arguments, self._captured.arguments)
        for node, argument in _pairs(*given):
            if tensor.name in node.tensors and not self._layout.holds(
                self._block, tensor, argument
            ):
                return f"an argument of it is computed from {tensor.name} in Python"
        return None

    def seconds(self, count: int) -> float:
        """Estimate the time of central differences of `count` elements."""
        work = 2 * count * self.seconds_a_copy
        return work / min(self.team, 1 + int(work / _WORTH_A_THREAD))

    def differences(
        self,
        tensor: str,
        indices: IndexArray,
        steps: FloatArray,
        *,
        central: bool = True,
    ) -> Differences:
        """Perturb single elements of one tensor; see `fastcheck.engines.base.Engine`."""
        entry = self._tree[tensor]
        # `flat` counts in C order whatever the memory layout is.
        start = entry.value.flat[indices]
        upper, lower = start + steps, start - steps
        sides = (upper, lower) if central else (upper,)
        places = np.tile(self._layout.positions(entry, indices), len(sides))
        losses = self._losses(tensor, places, np.concatenate(sides))
        if losses is None:
            # The loop raises what the function raises, in the way that users know.
            return self._loop_engine.differences(tensor, indices, steps, central=central)
        found = losses.reshape(len(sides), len(indices))
        zeros = np.zeros(len(indices))
        with np.errstate(invalid="ignore"):
            return Differences(
                plus=found[0] - self.loss,
                minus=self.loss - found[1] if central else zeros,
                step_plus=upper - start,
                step_minus=start - lower if central else zeros,
                kinked=np.zeros(len(indices), dtype=bool),
                loss_calls=losses.size,
            )

    # The call

    def _capture(self) -> None:
        """Find the arguments of the call, and what the function writes into."""
        params = self._tree.build({**numbers(self._tree), **self._layout.leaves(self._block)})
        captured = capture(self._function, params, self._observed, self._block)
        self._captured = captured
        if self._layout.altered(captured.owner):
            raise Unusable("Python writes into the parameters before")
        # A copy of each, and the blocks themselves.
        if 2 * bytes_of_others(captured.arguments, self._block) > self._memory:
            raise Unusable("copies of the data that it is given would not fit into `memory`")
        written = self._layout.altered(self._block)
        self._note_writes(written)
        self._take_over_written()

    def _take_over_written(self) -> bool:
        """Give arrays that the function wrote into a place in the blocks; say if there are any."""
        written = others_written(self._captured)
        for array, contents in written:
            array[...] = contents
            self._layout.add(array, contents)
        self._fresh = self._fresh or bool(written)
        return bool(written)

    def _note_writes(self, written: tuple[str, ...]) -> None:
        if written:
            self._fresh = True
            known = self._loop_engine.writes_params
            self._loop_engine.writes_params = tuple(dict.fromkeys((*known, *written)))

    def _choose_team(self) -> None:
        unsafe = obstacle_to_threads(self._observed.dispatcher)
        room = self._memory // max(1, self._layout.size)
        self.team = 1 if unsafe else max(1, min(threads(), room))
        short = "`memory` has no room for the parameters of more threads"
        self.alone = unsafe or (short if room < threads() else "")

    # The loop

    def _losses(self, tensor: str, places: IndexArray, values: FloatArray) -> FloatArray | None:
        """Return the loss with each element in turn at its value; None where a call raises."""
        losses = np.empty(len(places))
        while True:
            stopped = self._run(places, values, losses)
            if stopped == WROTE:
                self._note_writes((tensor,))
            elif stopped:
                self._workers = []
                return None
            elif not self._written():
                return self._observed.losses(losses)
            self._workers = []  # what was written may have come into the losses: once more

    def _written(self) -> bool:
        """Find out whether the function wrote into anything that is not restored; note it."""
        was_fresh, written = self._fresh, self._take_over_written()
        if written:
            self._rest = None  # blocks have become larger
        elif was_fresh:
            return False
        names = [name for each in self._workers for name in self._layout.altered(each.block)]
        self._note_writes(tuple(dict.fromkeys(names)))
        return written or bool(names)

    def _run(self, places: IndexArray, values: FloatArray, losses: FloatArray) -> int:
        """Spread the calls over threads; return why they stopped, 0 if all were made."""
        count = len(places)
        work = count * self.seconds_a_copy
        team = min(self.team, 1 + int(work / _WORTH_A_THREAD))
        self._hire(team)
        chunks = _Chunks(count, max(team * _CHUNKS if team > 1 else 1, work / _SECONDS_A_CHUNK))
        start, before = perf_counter(), self._calls()

        def work_off(worker: _Worker) -> None:
            for part in chunks:
                if why := worker.run(places[part], values[part], losses[part], self._base()):
                    chunks.stop(why)

        if team == 1:
            work_off(self._workers[0])
        else:
            shares: list[Future[None]] = []
            try:
                with suppress(RuntimeError):  # there may be no more threads to be had
                    for worker in self._workers[:team]:
                        shares.append(_pool(threads()).submit(work_off, worker))
                if not shares:
                    work_off(self._workers[0])
                while wait(shares, timeout=_SECONDS_A_CHUNK).not_done:
                    pass  # a chance for Ctrl-C
            finally:  # whatever happens, none is left writing into the arrays
                chunks.stop(chunks.stopped)
                wait(shares)
            for share in shares:
                share.result()
        done = self._calls() - before
        self._function.calls += done
        if done == count:
            self.seconds_a_copy = min(
                self.seconds_a_copy, (perf_counter() - start) * team / max(1, count)
            )
        return chunks.stopped

    def _hire(self, team: int) -> None:
        while len(self._workers) < team:
            block = self._layout.block()
            arguments = self._layout.moved(self._captured.arguments, self._block, block)
            table = Table(self._types, arguments)
            self._workers.append(_Worker(self._loop, block, table))
        if self._fresh and self._rest is None:
            self._rest = self._layout.block()

    def _base(self) -> FloatArray | None:
        return self._rest if self._fresh else None

    def _calls(self) -> int:
        return sum(worker.calls for worker in self._workers)


class _Worker:
    """A thread's own parameters, and the loop that moves them.

    Attributes
    ----------
    calls : int
        Calls of the user's function so far.
    """

    def __init__(self, loop: Loop, block: FloatArray, table: Table) -> None:
        self._loop, self.block, self._table = loop, block, table
        self.calls = 0

    def run(
        self,
        places: IndexArray,
        values: FloatArray,
        losses: FloatArray,
        base: FloatArray | None,
    ) -> int:
        """Fill a part of the losses; return why it stopped, 0 if it did not."""
        done, why = self._loop(self.block, base, self._table, places, values, losses)
        self.calls += done + bool(why)
        return why


class _Chunks:
    """Parts of a range, handed out one by one to any thread until one says stop."""

    def __init__(self, count: int, parts: float) -> None:
        self._lock = threading.Lock()
        self._count, self._next = count, 0
        self._length = max(1, round(count / max(1.0, parts)))
        self.stopped = 0
        self._over = False

    def __iter__(self) -> Iterator[slice]:
        while True:
            with self._lock:
                first = self._next
                if self._over or first >= self._count:
                    return
                self._next = min(first + self._length, self._count)
                part = slice(first, self._next)
            yield part

    def stop(self, why: int) -> None:
        with self._lock:
            self._over = True
            self.stopped = self.stopped or why


def _pairs(traced: Any, plain: Any) -> Iterator[tuple[Node, Any]]:
    """Yield the nodes of traced arguments, each with the plain argument at its place."""
    node = getattr(traced, "node", None)
    if isinstance(node, Node):
        yield node, plain
    elif isinstance(traced, tuple):
        for one, other in zip(traced, plain, strict=True):
            yield from _pairs(one, other)


@cache
def _pool(team: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(team, thread_name_prefix="fastcheck")


if hasattr(os, "register_at_fork"):  # a child process has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
