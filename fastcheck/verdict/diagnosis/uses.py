"""Where a tensor enters the forward pass, and what each slice of a batch adds to its gradient.

Every axis of an operation's result that the tensor itself does not have is summed over in the
tensor's gradient: that of the samples, and those of windows or steps. What one place along such an
axis adds is that gradient with everything else set to zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.trace.backward_rules import (
    factor_gradient,
    is_elementwise,
    operand_gradients,
    slopes,
    unbroadcast,
)
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import (
    BROADCAST,
    CAST,
    CONTRACT,
    INDEX,
    RESHAPE,
    TRANSPOSE,
    contract_values,
)
from fastcheck.verdict.diagnosis.depths import is_parameter_itself
from fastcheck.verdict.diagnosis.right_pass import RightPass

_SHAPING = (RESHAPE, TRANSPOSE, CAST, INDEX, BROADCAST)
_MOST_USES = 64

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Use:
    """One place where a tensor enters the forward pass: weights in a product, say.

    Attributes
    ----------
    node : Node
        The operation that takes it together with something else.
    place : int
        Which of its operands it is.
    chain : tuple of Node
        What turns or cuts the tensor before, the last of these first.
    """

    node: Node
    place: int
    chain: tuple[Node, ...]

    @property
    def other(self) -> Node:
        """The other operand."""
        return self.node.operands[1 - self.place]

    def forward(self, array: FloatArray) -> FloatArray:
        """Return the operand that the tensor would become, if it held other values."""
        for node in reversed(self.chain):
            array = np.asarray(node.primitive.evaluate(array, **node.params))
        return array

    def back(self, gradient: FloatArray) -> FloatArray:
        """Return the gradient of the tensor from that of the operand it became."""
        for node in self.chain:
            (part,) = operand_gradients(node, gradient)
            assert part is not None
            gradient = part
        return gradient

    @property
    def summed(self) -> Axes:
        """The axes of the result that the tensor's gradient is summed over."""
        shape = self.node.shape
        if self.node.primitive is CONTRACT:
            *labels, out = self.node.params["labels"]
            kept = labels[self.place]
            return tuple(i for i, label in enumerate(out) if label not in kept and shape[i] > 1)
        own = self.node.operands[self.place].shape
        full = (1,) * (len(shape) - len(own)) + own
        return tuple(i for i, n in enumerate(shape) if n > 1 and full[i] == 1)

    def moved(self, direction: FloatArray) -> FloatArray:
        """Return by how much the result moves, to first order, when the tensor does."""
        values = self.forward(direction)
        if self.node.primitive is CONTRACT:
            *labels, out = self.node.params["labels"]
            order = (labels[self.place], labels[1 - self.place], out)
            return np.asarray(contract_values(values, np.asarray(self.other.value), order))
        return np.broadcast_to(values * slopes(self.node)[self.place], self.node.shape)

    def part(self, gradient: FloatArray, axes: Axes, place: tuple[int, ...]) -> FloatArray:
        """Return what one place along some axes of the result adds to the tensor's gradient."""
        cut = [slice(None)] * gradient.ndim
        for axis, i in zip(axes, place, strict=True):
            cut[axis] = slice(i, i + 1)
        alone = gradient[tuple(cut)]
        if self.node.primitive is not CONTRACT:
            slope = np.broadcast_to(slopes(self.node)[self.place], gradient.shape)[tuple(cut)]
            return self.back(unbroadcast(alone * slope, self.node.operands[self.place].shape))
        *labels, out = self.node.params["labels"]
        others = labels[1 - self.place]
        places = {out[axis]: i for axis, i in zip(axes, place, strict=True)}
        of_other = tuple(
            slice(places[label], places[label] + 1) if label in places else slice(None)
            for label in others
        )
        other = np.asarray(self.other.value)[of_other]
        return self.back(factor_gradient(self.node, self.place, alone, other))


def uses_of(passed: RightPass, name: str) -> tuple[Use, ...]:
    """Return where a tensor goes in; penalties on it do not count. Nothing where there are many."""
    found: list[Use] = []
    ahead: list[tuple[Node, tuple[Node, ...]]] = [(passed.graph.parameters[name], ())]
    while ahead:
        node, chain = ahead.pop()
        for user, place in passed.users.get(node, []):
            if user.primitive in _SHAPING:
                ahead.append((user, (user, *chain)))
            elif is_layer(user, place):
                found.append(Use(user, place, chain))
        if len(found) + len(ahead) > _MOST_USES:
            return ()
    return tuple(found)


def is_layer(user: Node, place: int) -> bool:
    """Whether an operation takes a tensor together with something else."""
    others = [operand for i, operand in enumerate(user.operands) if i != place]
    return any(operand.ndim > 0 and not is_parameter_itself(operand) for operand in others)


@dataclass(frozen=True)
class Slices:
    """The places along some axes that all uses of a tensor have in common, such as its samples.

    Attributes
    ----------
    axes : tuple of int
        Of the results of all uses.
    lengths : tuple of int
    uses : tuple of Use
    flows : tuple of arrays
        The gradients of the uses' results.
    """

    axes: Axes
    lengths: tuple[int, ...]
    uses: tuple[Use, ...]
    flows: tuple[FloatArray, ...]

    @property
    def count(self) -> int:
        return int(np.prod(self.lengths))

    def products(self, direction: FloatArray) -> FloatArray:
        """Return ⟨direction, what slice s adds to the gradient⟩ for every s, for one product."""
        total = np.zeros(self.lengths)
        for use, flow in zip(self.uses, self.flows, strict=True):
            both = flow * use.moved(direction)
            rest = tuple(i for i in range(both.ndim) if i not in self.axes)
            total += both.sum(axis=rest)
        return total.reshape(-1)

    def part(self, number: int) -> FloatArray:
        """Return what one slice adds to the gradient, flat."""
        place = tuple(int(i) for i in np.unravel_index(number, self.lengths))
        parts = [u.part(f, self.axes, place) for u, f in zip(self.uses, self.flows, strict=True)]
        return np.asarray(sum(parts)).reshape(-1)


def slices_of(passed: RightPass, name: str) -> list[Slices]:
    """Return the axes that a tensor's gradient is summed over: each, and all of them together."""
    uses = uses_of(passed, name)
    if not uses or not all(u.node.primitive is CONTRACT or is_elementwise(u.node) for u in uses):
        return []
    if any(u.node.primitive is not CONTRACT and len(u.node.operands) != 2 for u in uses):
        return []
    flows = tuple(np.broadcast_to(passed.gradients[use.node], use.node.shape) for use in uses)
    common = [
        axis
        for axis in uses[0].summed
        if all(
            axis in use.summed and use.node.shape[axis] == uses[0].node.shape[axis] for use in uses
        )
    ]
    groups: list[Axes] = [(axis,) for axis in common]
    if len(common) > 1:
        groups.append(tuple(common))
    shape = uses[0].node.shape
    return [Slices(axes, tuple(shape[a] for a in axes), uses, flows) for axes in groups]
