"""Whether a loss compiled by Numba is called in a compiled loop, tensor by tensor, and why."""

from __future__ import annotations

import numpy as np

from fastcheck.engines.assignment import Assignment
from fastcheck.engines.base import FloatArray
from fastcheck.engines.choice import Costs
from fastcheck.engines.compiled import CompiledEngine
from fastcheck.engines.compiled_calls import NotCalled, Observed, has_numba, observe
from fastcheck.engines.compiled_kernel import seconds_to_make
from fastcheck.engines.compiled_overload import Unusable
from fastcheck.engines.compiled_threads import obstacle_to_threads
from fastcheck.engines.crosscheck import Noise
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.errors import FastcheckError, InputError, oneline
from fastcheck.fusion.kernel import threads
from fastcheck.params import ParamTree, Tensor

_CHECKED = 3
_STEP, _SMALL_STEP = 2.0**-8, 2.0**-20
_ROUNDOFFS = 64
_NOISE = 32.0
# Seconds of a call that are Python's: in the user's own call, and in the loop engine around it.
_OF_A_CALL, _AROUND_A_CALL = 2e-7, 8e-7
_WORTH_A_LOOK, _TO_PREPARE = 5e-3, 2e-3
"""Seconds of the loop below which the call is not looked for, and that preparing it takes."""


class CompiledPlanner:
    """Assigns the compiled engine where it pays and agrees with the loop.

    Parameters
    ----------
    loss : LossFunction
    tree : ParamTree
    loop : LoopEngine
    wanted : bool
        It was asked for: whether it pays is not asked, and where it cannot be used is an error.
    memory : int
        Bytes for copies of parameters and data.
    noise : callable
        σ of the loss.
    rng : numpy.random.Generator
    met : str
        A compiled function that the trace has met.

    Attributes
    ----------
    obstacle : str
        Why no tensor can be computed this way; empty if nothing is known to be in the way.
    """

    def __init__(
        self,
        loss: LossFunction,
        tree: ParamTree,
        loop: LoopEngine,
        *,
        wanted: bool,
        memory: int,
        noise: Noise,
        rng: np.random.Generator,
        met: str = "",
    ) -> None:
        self._loss, self._tree, self._loop = loss, tree, loop
        self._wanted, self._memory, self._noise, self._rng = wanted, memory, noise, rng
        self._engine: CompiledEngine | None = None
        self._observed: Observed | None = None
        self._met = met
        self._waited = 0.0
        self.obstacle = ""
        if wanted:
            self._look()

    def assign(self, tensor: Tensor, count: int, trial: bool) -> Assignment:
        """Choose between the compiled loop and the Python loop, for `count` elements."""
        looped = 2 * count * (self._loss.fastest + _AROUND_A_CALL)
        if self._observed is None and not self.obstacle:
            if not self._worth(looped, _WORTH_A_LOOK, trial):
                return self._too_short(Costs(looped))
            self._look()
        if self.obstacle:
            return Assignment(self._loop, self.obstacle, Costs(looped))
        if self._engine is None:
            costs = self._expected(count, looped)
            assert costs.compiled is not None
            saved = looped - costs.compiled
            if not self._wanted and not self._worth(saved, costs.compiling, trial):
                return self._too_short(costs)
            self._make()
        if self._engine is None:
            return Assignment(self._loop, self.obstacle, Costs(looped))
        costs = Costs(looped, compiled=self._engine.seconds(count))
        found = self._unusable_for(tensor) if count else None
        if found is None:
            return Assignment(self._engine, self._why(self._engine), costs)
        why = f"{self._what()}, but {found}"
        if self._wanted:
            self._insist(why)
        return Assignment(self._loop, why, Costs(looped))

    def _look(self) -> None:
        """Find the call of a compiled function, or what is in the way."""
        self.obstacle = self._observe()
        if self.obstacle and self._wanted:
            self._insist(self.obstacle)

    def _observe(self) -> str:
        if not has_numba():
            return "`loss` calls no function compiled by Numba"
        try:
            self._observed = observe(self._loss, self._tree)
        except NotCalled:
            return "`loss` calls no function compiled by Numba"
        except Unusable as why:
            return f"`loss` computes in a function compiled by Numba, but {why}"
        except Exception as fault:  # Numba may be of a version that is built in another way
            return f"what `loss` calls could not be found out ({oneline(fault)})"
        return ""

    def _make(self) -> None:
        assert self._observed is not None
        try:
            self._engine = CompiledEngine(
                self._loss, self._tree, self._loop, self._observed, self._memory
            )
            return
        except Unusable as why:
            self.obstacle = f"{self._what()}, but {why}"
        except Exception as fault:  # nothing is lost: there is the loop
            self.obstacle = f"{self._what()}, but no loop could be made ({oneline(fault)})"
        if self._wanted:
            self._insist(self.obstacle)

    def _expected(self, count: int, looped: float) -> Costs:
        """Estimate before anything is made."""
        assert self._observed is not None
        team = 1 if obstacle_to_threads(self._observed.dispatcher) else threads()
        alone = max(self._loss.fastest - _OF_A_CALL, _OF_A_CALL / 4)
        return Costs(
            looped,
            compiled=2 * count * alone / team,
            compiling=seconds_to_make(self._observed.dispatcher) + _TO_PREPARE,
        )

    def _worth(self, saved: float, price: float, trial: bool) -> bool:
        """Whether a price has been saved, counting what other tensors would have saved.

        Unless it is a trial, this tensor counts for the next ones.
        """
        total = self._waited + saved
        if total >= price:
            return True
        if not trial:
            self._waited = max(0.0, total)
        return False

    def _too_short(self, costs: Costs) -> Assignment:
        why = f"{self._what()}; a compiled loop around it would take longer to make"
        return Assignment(self._loop, why, costs)

    def _unusable_for(self, tensor: Tensor) -> str | None:
        assert self._engine is not None
        try:
            return self._engine.obstacle(tensor) or self._disagreement(self._engine, tensor)
        except Unusable as why:
            return str(why)

    def _disagreement(self, engine: CompiledEngine, tensor: Tensor) -> str | None:
        """Compare a few elements with the loop, at a step that its rounding does not hide."""
        try:
            return self._difference(engine, tensor, _STEP)
        except FastcheckError:
            raise
        except Exception:  # the loss may be defined nearer to θ only
            return self._difference(engine, tensor, _SMALL_STEP)

    def _difference(self, engine: CompiledEngine, tensor: Tensor, step: float) -> str | None:
        """Say for which element the two differ, if for any."""
        size = min(_CHECKED, tensor.size)
        indices = self._rng.choice(tensor.size, size, replace=False).astype(np.int64)
        steps: FloatArray = np.full(size, step * (tensor.rms or 1.0))
        with np.errstate(all="ignore"):
            ours = engine.differences(tensor.name, indices, steps)
            theirs = self._loop.differences(tensor.name, indices, steps)
        for one, other in ((ours.plus, theirs.plus), (ours.minus, theirs.minus)):
            for index, fast, plain in zip(indices, one, other, strict=True):
                if not self._agree(float(fast), float(plain)):
                    return (
                        f"the cross-check failed: moving {tensor.name_of(int(index))} changes the "
                        f"loss by {plain:.9g}, but by {fast:.9g} in the compiled loop"
                    )
        return None

    def _agree(self, fast: float, plain: float) -> bool:
        if not (np.isfinite(fast) and np.isfinite(plain)):
            return fast == plain or (np.isnan(fast) and np.isnan(plain))
        gap = abs(fast - plain)
        largest = max(abs(fast), abs(plain), self._loop.magnitude)
        rounding = _ROUNDOFFS * self._loss.unit_roundoff * largest
        return gap <= rounding or gap <= _NOISE * self._noise()

    def _what(self) -> str:
        name = self._met if self._observed is None else self._observed.name
        return f"`loss` computes in `{name}`, compiled by Numba"

    def _why(self, engine: CompiledEngine) -> str:
        """Say how it is called; the loop's own reason is that it cannot be traced."""
        cores = threads()
        if engine.team > 1:
            return f"{self._what()}; called in a compiled loop, in {engine.team} threads"
        if cores > 1 and engine.alone:
            return f"{self._what()}; called in a compiled loop, in one thread: {engine.alone}"
        return f"{self._what()}; called in a compiled loop"

    def _insist(self, why: str) -> None:
        raise InputError(
            f"`engine` is 'compiled', but {why}. Use engine='auto', which falls back to the loop "
            "engine and says so."
        )
