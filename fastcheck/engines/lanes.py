"""The replay engine in machine code: eight copies side by side, by `fastcheck.lanes`.

It is the same replay of the same slice, and gives the same differences. What its programs refuse
(kinks, arguments too large for a series) is replayed with NumPy; so is everything, once the two
have been found to disagree.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import prod

import numpy as np

from fastcheck.engines.adjoint import Expected
from fastcheck.engines.base import (
    U64,
    Attempt,
    BoolArray,
    Differences,
    FloatArray,
    IndexArray,
)
from fastcheck.engines.kernelcheck import all_together, one_by_one
from fastcheck.engines.replay import PROBE_STEP, ReplayEngine, spread_over
from fastcheck.engines.trust import structure
from fastcheck.errors import oneline
from fastcheck.fusion.kernel import threads
from fastcheck.lanes.assembly import BYTES, LANES
from fastcheck.lanes.program import Program, write
from fastcheck.lanes.run import run
from fastcheck.lanes.writer import REACHES, Hoisted, NoProgram
from fastcheck.params import Tensor
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CONTRACT

# A vector operation, a call of the interpreter, and writing an operation down.
_SECONDS_A_VECTOR, _SECONDS_A_CALL, SECONDS_AN_OPERATION = 0.4e-9, 1e-4, 12e-6
# Arguments of a series are a step times inputs and weights; they are seldom larger than this.
_USUAL_GAIN = 8.0
_LARGEST_STEP = 2.0**-12
_MOST_REFUSED = 0.1
_RELATIVE = 1e-9
# So many derivatives at once are worth adding up along a direction, with so small a step.
_MANY, _SMALL_STEP = 64, 2.0**-24

_agreed: set[Hashable] = set()
_MOST_REMEMBERED = 10_000


class LanesEngine:
    """Exact differences for one tensor, replayed in machine code.

    Parameters
    ----------
    replay : ReplayEngine
        Computes what the programs refuse, and is what they are compared with.
    tensor : Tensor
    hoisted : Hoisted
        Constants that the tensors of one graph share.
    memory : int
        Bytes for the workspaces of all threads.
    expected : Expected, optional
        The derivatives by a backward pass. Whatever is computed at steps that are tiny is held
        against them, and the replay engine is not run for a comparison.

    Raises
    ------
    NoProgram
        The slice does something that a program does not.

    Attributes
    ----------
    refused : int
        How many copies have been left to the replay engine so far.
    obstacle : str or None
        Why the programs are not used any more: what they disagreed in.
    """

    name = "replay"
    exact = True
    device = "cpu"
    unit_roundoff = U64

    def __init__(
        self,
        replay: ReplayEngine,
        tensor: Tensor,
        hoisted: Hoisted,
        memory: int,
        expected: Expected | None = None,
    ) -> None:
        if not replay.exact:
            raise NoProgram("a function takes part whose difference cancels digits")
        self.replay = replay
        self.loss = replay.loss
        self.magnitude = replay.magnitude
        self.refused = 0
        self.obstacle: str | None = None
        self._tensor = tensor
        self._hoisted = hoisted
        self._memory = memory
        self._expected = expected
        self._programs: dict[int, Program | None] = {}
        writing, running = _least(replay, tensor.size)
        # A second step is out of the reach of short series: where running takes no longer than
        # writing, one program is enough.
        self._terms = 4 if running < writing else 2
        self._compared = self._added_up = False
        self._program(self._terms)

    @property
    def doubt(self) -> str:
        """Why the programs are not used any more; empty while they are."""
        return self.obstacle or ""

    @property
    def careful(self) -> ReplayEngine:
        """The replay engine: what seems wrong is looked at again with NumPy."""
        return self.replay

    def kinks_of(self, indices: IndexArray) -> list[Node | None]:
        """Return the operations at which elements met a kink; the replay engine knows."""
        return self.replay.kinks_of(indices)

    def seconds(self, count: int) -> float:
        """Estimate the time of the differences of `count` elements."""
        program = self._programs[self._terms]
        work = 0.0 if program is None else program.work * 2 * count / LANES * _SECONDS_A_VECTOR
        return _SECONDS_A_CALL + work / min(threads(), max(1.0, work / 1e-4))

    def differences(
        self,
        tensor: str,
        indices: IndexArray,
        steps: FloatArray,
        *,
        central: bool = True,
    ) -> Differences:
        """Perturb single elements of the tensor; see `fastcheck.engines.base.Engine`."""
        found = self._attempted(indices, steps, central)
        if found is None:
            return self.replay.differences(tensor, indices, steps, central=central)
        changes, refused = found
        left = np.broadcast_to(refused, changes.shape)
        kinked = np.zeros(len(indices), dtype=bool)
        self.refused += int(refused.sum())
        return self.replay.completing(Attempt(steps.copy(), changes, kinked, left), indices)

    def _attempted(
        self, indices: IndexArray, steps: FloatArray, central: bool
    ) -> tuple[FloatArray, BoolArray] | None:
        """Run the programs; None where they are not to be trusted, or cannot be run."""
        if self.obstacle is not None:
            return None
        try:
            self.compare()
            found = self._computed(indices, steps, central)
            if self.obstacle is None:
                self._look_at_all(indices, steps, *found)
        except Exception as fault:
            self.obstacle = _fault(fault)
        return found if self.obstacle is None else None

    # -- programs ---------------------------------------------------------------------------------

    def _program(self, terms: int) -> Program | None:
        if terms not in self._programs:
            with np.errstate(all="ignore"):  # what overflows is refused, copy by copy
                program = write(self.replay.slice, terms, self._hoisted)
            if program is not None and program.vectors * BYTES * threads() > self._memory:
                raise NoProgram("eight copies would take too much memory")
            self._programs[terms] = program
        return self._programs[terms]

    def _computed(
        self, indices: IndexArray, steps: FloatArray, central: bool
    ) -> tuple[FloatArray, BoolArray]:
        """Return J(θ ± step) − J(θ), a row for each sign, and the elements that are refused."""
        signs = np.array([[1.0], [-1.0]] if central else [[1.0]])
        changes = np.zeros((len(signs), len(indices)))
        largest = float(np.abs(steps).max(initial=0.0))
        if largest > _LARGEST_STEP:
            return changes, np.ones(len(indices), dtype=bool)
        left: BoolArray = np.ones(len(indices), dtype=bool)
        for terms in (2, 4):
            far = terms == 2 and largest * _USUAL_GAIN > REACHES[terms]
            if terms < self._terms or far:
                continue
            tried = left.copy()
            changes[:, tried], left[tried] = self._run(terms, indices[tried], signs * steps[tried])
            if not left.any():
                break
            if left.sum() > _MOST_REFUSED * tried.sum():
                self._terms = 4
        return changes, left

    def _run(
        self, terms: int, indices: IndexArray, moves: FloatArray
    ) -> tuple[FloatArray, BoolArray]:
        program = self._program(terms)
        if program is None:  # no element reaches the loss
            return np.zeros_like(moves), np.zeros(len(indices), dtype=bool)
        changes, refused = run(program, np.tile(indices, len(moves)), moves.ravel())
        refused |= ~np.isfinite(changes)
        several: BoolArray = refused.reshape(moves.shape)
        return changes.reshape(moves.shape), np.asarray(several.any(axis=0))

    # -- trust ------------------------------------------------------------------------------------

    def compare(self) -> str | None:
        """Compare a few differences, before any is trusted; return what they disagreed in."""
        if self._compared:
            return self.obstacle
        self._compared = True
        try:
            self._compare()
        except Exception as fault:
            self.obstacle = _fault(fault)
        return self.obstacle

    def _compare(self) -> None:
        if self._expected is not None:
            probes = spread_over(self._tensor.size)
            steps = np.full(len(probes), PROBE_STEP)
            found = self._computed(probes, steps, central=True)
            self._hold_against(self._expected, probes, steps, *found)
            return
        survey = self.replay.survey
        changes, refused = self._computed(
            survey.probes, np.full(len(survey.probes), PROBE_STEP), central=True
        )
        self.obstacle = one_by_one(survey, changes[0], -changes[1], refused, _RELATIVE)

    def _hold_against(
        self,
        expected: Expected,
        indices: IndexArray,
        steps: FloatArray,
        changes: FloatArray,
        refused: BoolArray,
    ) -> None:
        with np.errstate(invalid="ignore"):  # of refused copies
            self.obstacle = expected.unlike(indices, steps, changes[0] - changes[1], refused)

    def _look_at_all(
        self, indices: IndexArray, steps: FloatArray, changes: FloatArray, refused: BoolArray
    ) -> None:
        """Compare all that was computed first, by the backward pass or in one sum."""
        expected = self._expected
        if expected is None:
            if len(changes) == 2:
                self._add_up(indices, steps, changes, refused)
            return
        if len(changes) != 2 or not expected.compares(steps):  # a step of the user's own
            if self._added_up:
                return
            steps = np.full(len(indices), expected.tiny)
            changes, refused = self._computed(indices, steps, central=True)
        self._added_up = True
        self._hold_against(expected, indices, steps, changes, refused)

    def _add_up(
        self, indices: IndexArray, steps: FloatArray, changes: FloatArray, refused: BoolArray
    ) -> None:
        """Compare the derivatives of many elements with the replay's along a direction.

        The first time that a slice has this structure in the process: the replay moves all of the
        elements at once, and one wrong element shows.
        """
        small = float(np.abs(steps).max(initial=0.0)) <= _SMALL_STEP
        if self._added_up or not small or len(np.unique(indices)) < max(_MANY, len(indices)):
            return
        self._added_up = True
        key = structure(self.replay.slice)
        if key in _agreed:
            return
        with np.errstate(invalid="ignore"):  # of refused copies
            derivatives = np.where(refused, 0.0, (changes[0] - changes[1]) / (2.0 * steps))
        rng = np.random.default_rng(len(indices))
        self.obstacle = all_together(
            self.replay, self._tensor, indices, derivatives, refused, rng, _RELATIVE
        )
        if self.obstacle is None:
            if len(_agreed) >= _MOST_REMEMBERED:
                _agreed.clear()
            _agreed.add(key)


def _fault(fault: Exception) -> str:
    return f"they could not be run ({oneline(fault)})"


def least_seconds(replay: ReplayEngine, count: int) -> float:
    """Estimate from below what an engine of lanes would take, without making it."""
    return _SECONDS_A_CALL + sum(_least(replay, count))


def _least(replay: ReplayEngine, count: int) -> tuple[float, float]:
    """Estimate the seconds that it takes to write a program, and to run it."""
    part = replay.slice
    moving = set(part.nodes)
    work = 0.0
    for node in part.nodes:
        work += prod(node.shape)
        if node.primitive is CONTRACT and any(operand in moving for operand in node.operands):
            work += _products(node)
    running = work * 2 * count / LANES * _SECONDS_A_VECTOR / threads()
    return SECONDS_AN_OPERATION * len(part.nodes), running


def _products(node: Node) -> float:
    """Return about how many products a sum of products adds up."""
    left, right, _ = node.params["labels"]
    sizes = dict(zip((*left, *right), (n for o in node.operands for n in o.shape), strict=True))
    return 0.8 * prod(sizes.values())
