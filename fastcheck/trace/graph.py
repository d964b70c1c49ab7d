"""The graph of one forward pass: nodes in the order in which they were computed.

A `Node` is immutable once made: the operation, its operands, and the value it had at θ. Writes in
place never change a node; they make a new one (see `memory`). So a graph is straight-line code, and
any part of it can be computed again for other parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Primitive:
    """One kind of operation.

    `evaluate(*values, **params)` computes it from plain arrays. `discrete` marks results that move
    in jumps (comparisons, argmax, rounding): between jumps their difference is exactly zero.
    """

    name: str
    evaluate: Callable[..., Any]
    discrete: bool = False

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


@dataclass(frozen=True)
class SourceLine:
    """A line of the user's own code."""

    file: str
    line: int
    function: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, eq=False)
class Node:
    """One operation of the forward pass and the value that it had at θ.

    `value` is what NumPy gave: an array, or a NumPy scalar (which has a shape and dtype too, but
    cannot be written to). `tensors` names the parameter tensors that reach the node; a node that
    none reaches is constant.
    """

    index: int
    primitive: Primitive
    operands: tuple[Node, ...]
    params: Mapping[str, Any]
    value: NDArray[Any]
    tensors: frozenset[str]
    source: SourceLine

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    @property
    def ndim(self) -> int:
        return int(self.value.ndim)

    @property
    def constant(self) -> bool:
        return not self.tensors

    def __repr__(self) -> str:
        operands = ", ".join(f"%{operand.index}" for operand in self.operands)
        return f"%{self.index} = {self.primitive.name}({operands}) {self.shape}"


@dataclass(frozen=True)
class Guard:
    """A place where Python read a traced value: a branch, a loop bound, an index.

    The graph holds for a copy only while the node keeps the value that it had at θ; any other copy
    has to be computed by the user's own function.
    """

    node: Node
    action: str
    source: SourceLine

    @property
    def discrete(self) -> bool:
        """Whether what was read moves in jumps: most copies keep it."""
        return self.node.primitive.discrete or self.node.value.dtype.kind in "biu"


@dataclass
class Graph:
    """A traced forward pass."""

    nodes: list[Node] = field(default_factory=list)
    parameters: dict[str, Node] = field(default_factory=dict)
    guards: list[Guard] = field(default_factory=list)
    output: Node | None = None

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def evaluate(self, values: Mapping[str, NDArray[Any]]) -> float:
        """Compute the loss again from other parameter values, node by node."""
        if self.output is None:
            raise ValueError("the graph has no output")
        known: dict[Node, Any] = {}
        with np.errstate(all="ignore"):
            for node in self.nodes:
                if node.primitive is PARAMETER:
                    known[node] = values[node.params["name"]]
                elif not node.constant:
                    operands = [known.get(operand, operand.value) for operand in node.operands]
                    known[node] = node.primitive.evaluate(*operands, **node.params)
        return float(np.reshape(known.get(self.output, self.output.value), ()))


def _no_evaluation(*_: Any, **__: Any) -> Any:
    raise TypeError("parameters and constants have no operands to compute from")


PARAMETER = Primitive("parameter", _no_evaluation)
CONSTANT = Primitive("constant", _no_evaluation)
