"""The loop engine: one call of the user's function for every perturbed parameter.

It is the reference that the other engines are held against, and the honest fallback. One private
working tree is perturbed an element at a time, so a call costs the user's own function and a
fraction of a microsecond. A loss that writes into what it is given would spoil that tree: it is
found out, and gets fresh copies in every call from then on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.engines.base import U64, Differences, FloatArray, IndexArray
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.working import WorkingTree
from fastcheck.params import ParamTree, Tensor
from fastcheck.trace.graph import Node

_SLICE = 256
"""Calls of the loss between two comparisons of the whole working tree with θ."""


class LoopEngine:
    """Differences of the loss by calling the user's function.

    Parameters
    ----------
    loss : LossFunction
        The user's loss, wrapped.
    tree : ParamTree
        The parameters θ.

    Attributes
    ----------
    loss : float
        J(θ).
    magnitude : float
        |J|, unless a trace has shown larger terms.
    writes_params : tuple of str
        The tensors that the loss was seen to write into (or to replace in their container).

    Raises
    ------
    InputError, InputTypeError
        If the loss at θ is not one finite real number.
    """

    name = "loop"
    exact = False
    device = "cpu"
    unit_roundoff = U64

    def __init__(self, loss: LossFunction, tree: ParamTree) -> None:
        self._function = loss
        self._tree = tree
        self.writes_params: tuple[str, ...] = ()
        self._working = WorkingTree(tree)
        self._fresh = False
        self.loss = loss(self._working.tree)
        self.magnitude = abs(self.loss)
        self._notice_writes()

    @property
    def careful(self) -> LoopEngine:
        """Itself."""
        return self

    def kinks_of(self, indices: IndexArray) -> list[Node | None]:
        """Return nothing: a black box does not know."""
        return [None] * len(indices)

    def differences(
        self,
        tensor: str,
        indices: IndexArray,
        steps: FloatArray,
        *,
        central: bool = True,
    ) -> Differences:
        """Perturb single elements of one tensor; see `fastcheck.engines.base.Engine`."""
        before = self._function.calls
        entry = self._tree[tensor]
        # `flat` counts in C order whatever the memory layout is.
        start = entry.value.flat[indices]
        upper, lower = start + steps, start - steps
        plus, minus = np.zeros(len(indices)), np.zeros(len(indices))
        sides = (upper, lower) if central else (upper,)
        length = _SLICE // len(sides)
        for first in range(0, len(indices), length):
            part = slice(first, first + length)
            values = np.concatenate([side[part] for side in sides])
            losses = self._losses(entry, np.tile(indices[part], len(sides)), values)
            found = np.reshape(losses, (len(sides), -1))
            plus[part] = found[0]
            if central:
                minus[part] = found[1]
        with np.errstate(invalid="ignore"):
            return Differences(
                plus=plus - self.loss,
                minus=self.loss - minus if central else minus,
                step_plus=upper - start,
                step_minus=start - lower if central else np.zeros(len(indices)),
                kinked=np.zeros(len(indices), dtype=bool),
                loss_calls=self._function.calls - before,
            )

    def _losses(self, entry: Tensor, indices: IndexArray, values: FloatArray) -> list[float]:
        """Return the loss with each element in turn set to its value."""
        flat = None if self._fresh else self._working.flat(entry.name)
        if flat is not None:
            losses = self._losses_in_place(entry.name, flat, indices.tolist(), values.tolist())
            if not self._notice_writes():
                return losses
        return [
            self._function.evaluate(self._perturbed_copy(entry, index, value))
            for index, value in zip(indices.tolist(), values.tolist(), strict=True)
        ]

    def _losses_in_place(
        self, name: str, flat: Any, indices: list[int], values: list[float]
    ) -> list[float]:
        """Perturb the working tree; every element is put back, also when the loss raises."""
        evaluate, tree = self._function.evaluate, self._working.tree
        losses = []
        for index, value in zip(indices, values, strict=True):
            start = flat[index]
            try:
                flat[index] = value
                losses.append(evaluate(tree))
                written = flat[index] != value
            finally:
                flat[index] = start
            if written:
                # Restoring the element would hide this write from the comparison with θ.
                self._stop_sharing((name,))
                break
        return losses

    def _perturbed_copy(self, entry: Tensor, index: int, value: float) -> Any:
        """Return a fresh tree with one element changed."""
        leaves: dict[str, Any] = {
            t.name: t.value[()] if t.scalar else t.value.copy(order="K") for t in self._tree
        }
        moved = entry.value.copy(order="K")
        moved.flat[index] = value
        leaves[entry.name] = moved[()] if entry.scalar else moved
        return self._tree.build(leaves)

    def _notice_writes(self) -> bool:
        """Whether the loss has written into the working tree; if so, stop sharing it."""
        if not self._fresh:
            written = self._working.altered()
            if written is not None:
                self._stop_sharing(written)
        return self._fresh

    def _stop_sharing(self, written: tuple[str, ...]) -> None:
        self._fresh = True
        self.writes_params = tuple(dict.fromkeys((*self.writes_params, *written)))
