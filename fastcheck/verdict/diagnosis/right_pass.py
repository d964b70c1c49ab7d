"""A right backward pass, and what mistakes at one of its nodes do to the tensors.

The gradient is linear in what flows back: a mistake at one operation changes it by what the error
there becomes on its way to the parameters. That is added to the numerical gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.trace.graph import Graph, Node
from fastcheck.trace.primitives import CAST, RESHAPE, TRANSPOSE
from fastcheck.verdict.diagnosis.backward import operand_gradients, pull_back
from fastcheck.verdict.diagnosis.depths import is_parameter_itself
from fastcheck.verdict.diagnosis.evidence import ALL, Evidence, Places, TensorFacts
from fastcheck.verdict.diagnosis.hypothesis import Hypothesis, Predict, fit

Found = dict[str, list[Hypothesis]]


@dataclass(frozen=True, eq=False)
class RightPass:
    """The gradients of every node of the trace."""

    evidence: Evidence
    graph: Graph
    unexplained: tuple[TensorFacts, ...]

    @cached_property
    def gradients(self) -> dict[Node, FloatArray]:
        assert self.graph.output is not None
        start = {self.graph.output: np.full(self.graph.output.shape, 1 / self.evidence.unit)}
        return pull_back(self.graph.nodes, start)

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(facts.name for facts in self.unexplained)

    @cached_property
    def right(self) -> frozenset[str]:
        return frozenset(facts.name for facts in self.evidence.right)

    @cached_property
    def nearest(self) -> tuple[str, ...]:
        """The unexplained tensors of the layer next to the loss."""
        depth = min(facts.depth for facts in self.unexplained)
        return tuple(facts.name for facts in self.unexplained if facts.depth == depth)

    @cached_property
    def users(self) -> dict[Node, list[tuple[Node, int]]]:
        """For each node the operations that take it, and as which operand."""
        users: dict[Node, list[tuple[Node, int]]] = {}
        for node in self.graph:
            for place, operand in enumerate(node.operands):
                if node in self.gradients and not operand.constant:
                    users.setdefault(operand, []).append((node, place))
        return users

    @cached_property
    def reused(self) -> frozenset[str]:
        """Tensors that go into the forward pass in more than one place."""
        nodes = self.graph.parameters
        return frozenset(name for name, node in nodes.items() if len(self.users.get(node, [])) > 1)

    def is_trusted(self) -> bool:
        """Whether this backward pass gives the numerical gradient of what is to be explained."""
        for facts in self.unexplained:
            node = self.graph.parameters.get(facts.name)
            if node not in self.gradients:
                return False
            own = self.gradients[node].reshape(-1)[facts.indices]
            usable = facts.usable
            with np.errstate(invalid="ignore"):
                apart = np.abs(own - facts.numeric) > facts.allowed(slice(None), own, facts.bars)
            if np.any(apart & usable):
                return False
        return True

    def could_spoil(self, node: Node) -> bool:
        """Whether a mistake at this node reaches all that is unexplained."""
        return self.names <= node.tensors

    def order(self, node: Node) -> tuple[int, int]:
        """Rank nodes: first those that reach nothing right, and of these the one next to the loss.

        A mistake may reach what is right all the same, where its effect happens to be zero there.
        """
        return len(node.tensors & self.right), -node.index

    def changes(
        self, node: Node, error: FloatArray, towards: frozenset[str]
    ) -> dict[str, FloatArray]:
        """Return by how much an error in the gradient of a node changes those of the tensors."""
        moved = pull_back(self.graph.nodes[: node.index + 1], {node: error}, towards)
        return {
            facts.name: moved[self.graph.parameters[facts.name]].reshape(-1)[facts.indices]
            for facts in self.evidence.tensors
            if self.graph.parameters[facts.name] in moved and facts.name in towards
        }

    def add_changed(
        self,
        found: Found,
        node: Node,
        error: FloatArray,
        cause: str,
        complexity: float,
        figures: dict[str, Any],
    ) -> None:
        """Add the hypotheses that the gradient of a node is off by `error`, if they all fit."""
        if not np.any(error) or not np.all(np.isfinite(error)):
            return
        key = (cause, node.index, *sorted((k, str(v)) for k, v in figures.items()))
        made = []
        right = self.right & node.tensors
        reached = [f for f in self.evidence.tensors if f.name in self.names | right]
        # The smallest one is quick to see, and rules most out.
        smallest, *others = sorted(reached, key=lambda f: len(f.indices))
        for tensors in ([smallest], others):
            changes = self.changes(node, error, frozenset(f.name for f in tensors))
            for facts in tensors:
                if facts.name in right:
                    if facts.name in changes and not _is_nothing(facts, changes[facts.name]):
                        return
                    continue
                if facts.name not in changes:
                    return
                predict = changed(facts, changes[facts.name])
                hypothesis = Hypothesis(cause, key, complexity, predict, figures=figures)
                if not fit(facts, hypothesis).exact:
                    return
                made.append((facts.name, hypothesis))
        for name, hypothesis in made:
            found[name].append(hypothesis)


def _is_nothing(facts: TensorFacts, change: FloatArray) -> bool:
    """Whether a change is too small for a verdict to see."""
    return not np.any(np.abs(change) > facts.allowed(ALL, facts.numeric, facts.bars))


def changed(facts: TensorFacts, change: FloatArray) -> Predict:
    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        return facts.numeric[places] + change[places], 2 * facts.bars[places]

    return predict


def given(facts: TensorFacts, values: FloatArray) -> Predict:
    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        return values[places], 2 * facts.bars[places]

    return predict


@dataclass(frozen=True)
class Use:
    """Where a tensor enters the forward pass, if it does so once: weights in a product, say."""

    node: Node
    place: int
    chain: tuple[Node, ...]

    def back(self, gradient: FloatArray) -> FloatArray:
        """Return the gradient of the tensor from that of the operand it became."""
        for node in self.chain:
            (part,) = operand_gradients(node, gradient)
            assert part is not None
            gradient = part
        return gradient


def use_of(passed: RightPass, name: str) -> Use | None:
    """Return where a tensor goes in, if in one place only; penalties on it do not count."""
    node = passed.graph.parameters[name]
    chain: tuple[Node, ...] = ()
    while True:
        users = [user for user in passed.users.get(node, []) if _is_layer(*user)]
        if len(users) != 1:
            return None
        user, place = users[0]
        if user.primitive not in (RESHAPE, TRANSPOSE, CAST):
            return Use(user, place, chain)
        node, chain = user, (user, *chain)


def _is_layer(user: Node, place: int) -> bool:
    """Whether an operation takes a tensor together with something else, or turns it only."""
    if user.primitive in (RESHAPE, TRANSPOSE, CAST):
        return True
    others = [operand for i, operand in enumerate(user.operands) if i != place]
    return any(operand.ndim > 0 and not is_parameter_itself(operand) for operand in others)
