"""A right backward pass, and what mistakes at one of its nodes do to the tensors.

The gradient is linear in what flows back: a mistake at one operation changes it by what the error
there becomes on its way to the parameters. That is added to the numerical gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.trace.backward import Fault, pull_back
from fastcheck.trace.graph import Graph, Node
from fastcheck.verdict.diagnosis.evidence import ALL, Evidence, Places, TensorFacts
from fastcheck.verdict.diagnosis.hypothesis import Hypothesis, Predict, fit

Found = dict[str, list[Hypothesis]]


@dataclass(frozen=True, eq=False)
class RightPass:
    """The gradients of every node of the trace.

    Attributes
    ----------
    evidence : Evidence
    graph : Graph
    unexplained : tuple of TensorFacts
        The tensors to be explained.
    one_sided : bool
        Whether it takes one side at corners, as backward passes do, where n is between the two.
    """

    evidence: Evidence
    graph: Graph
    unexplained: tuple[TensorFacts, ...]
    one_sided: bool = False

    def base(self, facts: TensorFacts) -> FloatArray:
        """Return the right gradient: n, or this pass's own where the slope at corners matters."""
        if not self.one_sided:
            return facts.numeric
        return self.own(facts)

    def own(self, facts: TensorFacts) -> FloatArray:
        """Return this pass's gradient of a tensor where it was checked."""
        gradient = self.gradients[self.graph.parameters[facts.name]]
        return np.asarray(gradient.reshape(-1)[facts.indices])

    def changed(self, facts: TensorFacts, change: FloatArray) -> Predict:
        """Return the right gradient and a change to it."""
        base = self.base(facts)

        def predict(places: Places) -> tuple[FloatArray, FloatArray]:
            return base[places] + change[places], 2 * facts.bars[places]

        return predict

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

        def changes(towards: frozenset[str]) -> dict[str, FloatArray]:
            return self.changes(node, error, towards)

        self._add_fitting(found, changes, node.tensors, (cause, key, complexity), figures)

    def add_with_faults(
        self,
        found: Found,
        faults: Sequence[Fault],
        cause: str,
        complexity: float,
        figures: dict[str, Any],
    ) -> None:
        """Add the hypotheses that all these mistakes were made at once, if they all fit."""
        places = sorted((fault.at.index, fault.to.index) for fault in faults)
        key = (cause, *places, *sorted((k, str(v)) for k, v in figures.items()))

        def changes(towards: frozenset[str]) -> dict[str, FloatArray]:
            return self.changes_with(faults, towards)

        reached = frozenset().union(*(fault.to.tensors for fault in faults))
        if self.names <= reached:
            self._add_fitting(found, changes, reached, (cause, key, complexity), figures)

    def add_totals(
        self,
        found: Found,
        totals: dict[str, FloatArray],
        cause: str,
        complexity: float,
        figures: dict[str, Any],
    ) -> None:
        """Add the hypotheses that the gradients are these in place of the right ones."""
        key = (cause, *sorted((k, str(v)) for k, v in figures.items()))
        changes = {
            facts.name: (
                totals[facts.name] - self.gradients[self.graph.parameters[facts.name]]
            ).reshape(-1)[facts.indices]
            for facts in self.evidence.tensors
            if facts.name in totals
        }
        if self.names <= changes.keys():
            reached = frozenset(changes)
            self._add_fitting(found, lambda _: changes, reached, (cause, key, complexity), figures)

    def changes_with(
        self, faults: Sequence[Fault], towards: frozenset[str]
    ) -> dict[str, FloatArray]:
        """Return by how much mistakes made at once change the gradients of the tensors."""
        assert self.graph.output is not None
        start = {self.graph.output: self.gradients[self.graph.output]}
        moved = pull_back(self.graph.nodes, start, towards, faults)
        found = {}
        for facts in self.evidence.tensors:
            node = self.graph.parameters[facts.name]
            if facts.name in towards and node in moved:
                change = (moved[node] - self.gradients[node]).reshape(-1)[facts.indices]
                found[facts.name] = np.asarray(change)
        return found

    def _add_fitting(
        self,
        found: Found,
        changes_of: Callable[[frozenset[str]], dict[str, FloatArray]],
        reached_names: frozenset[str],
        made_of: tuple[str, tuple[Any, ...], float],
        figures: dict[str, Any],
    ) -> None:
        """Add hypotheses if these changes explain all that is unexplained and spare the rest."""
        cause, key, complexity = made_of
        made = []
        right = self.right & reached_names
        reached = [f for f in self.evidence.tensors if f.name in self.names | right]
        # The smallest one is quick to see, and rules most out.
        smallest, *others = sorted(reached, key=lambda f: len(f.indices))
        for tensors in ([smallest], others):
            changes = changes_of(frozenset(f.name for f in tensors))
            for facts in tensors:
                if facts.name in right:
                    if facts.name in changes and not _is_nothing(facts, changes[facts.name]):
                        return
                    continue
                if facts.name not in changes:
                    return
                predict = self.changed(facts, changes[facts.name])
                hypothesis = Hypothesis(cause, key, complexity, predict, figures=figures)
                if not fit(facts, hypothesis).exact:
                    return
                made.append((facts.name, hypothesis))
        for name, hypothesis in made:
            found[name].append(hypothesis)


def are_trusted(passes: Sequence[RightPass]) -> bool:
    """Whether these backward passes give the numerical gradient of what is to be explained.

    At a corner it may be that of either side, or lie between the two.
    """
    for facts in passes[0].unexplained:
        node = passes[0].graph.parameters.get(facts.name)
        if any(node not in passed.gradients for passed in passes):
            return False
        own = np.stack([passed.own(facts) for passed in passes])
        low, high = own.min(axis=0), own.max(axis=0)
        room = facts.allowed(ALL, np.maximum(np.abs(low), np.abs(high)), facts.bars)
        with np.errstate(invalid="ignore"):
            apart = (facts.numeric < low - room) | (facts.numeric > high + room)
        if np.any(apart & facts.usable):
            return False
    return True


def _is_nothing(facts: TensorFacts, change: FloatArray) -> bool:
    """Whether a change is too small for a verdict to see."""
    return not np.any(np.abs(change) > facts.allowed(ALL, facts.numeric, facts.bars))


def given(facts: TensorFacts, values: FloatArray) -> Predict:
    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        return values[places], 2 * facts.bars[places]

    return predict
