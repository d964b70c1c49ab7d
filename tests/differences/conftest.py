"""A laboratory for one rule: nodes on a tape of their own, random stacks, and the plain answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastcheck.differences import Bases, Context, Delta, Pin, propagate
from fastcheck.differences.delta import spread
from fastcheck.trace.graph import Node, Primitive
from fastcheck.trace.tape import Tape

COPIES = 5


class Lab:
    """Makes nodes and passes stacks of differences through them."""

    def __init__(self) -> None:
        self.tape = Tape()
        self.context = Context(Bases(), COPIES)

    def parameter(self, value: Any) -> Node:
        """A node that copies may change."""
        name = f"p{len(self.tape.graph.parameters)}"
        return self.tape.parameter(name, np.asarray(value, dtype=float))

    def node(self, primitive: Primitive, *operands: Any, **params: Any) -> Node:
        """A node computed from nodes (which move) and plain data (which does not)."""
        nodes = [x if isinstance(x, Node) else self.tape.constant(x) for x in operands]
        return self.tape.apply(primitive, *nodes, **params)

    def propagate(self, node: Node, *deltas: Delta | None) -> Delta | None:
        """Pass differences through the node, as one chunk; `kinked` tells what it marked."""
        self.context = Context(Bases(), COPIES)
        with np.errstate(all="ignore"):
            return propagate(self.context, node, list(deltas))

    @property
    def kinked(self) -> list[bool]:
        return self.context.kinked.tolist()

    def delta(self, rng: np.random.Generator, node: Node, scale: float) -> Delta:
        """A random difference: every axis full, the same all along, or pinned."""
        dims, pins = [], {}
        for axis, size in enumerate(node.shape):
            kind = rng.choice(["full", "same", "pinned"])
            if kind == "pinned" and size > 1:
                index = rng.integers(size, size=COPIES)
                pins[axis] = Pin.of(index if rng.random() < 0.7 else np.full(COPIES, index[0]))
            dims.append(size if kind == "full" else 1)
        return Delta(scale * rng.uniform(-1, 1, (COPIES, *dims)), pins)

    def stack(self, delta: Delta | None, node: Node) -> np.ndarray:
        """The difference written out, (copies, *shape)."""
        if delta is None:
            return np.zeros((COPIES, *node.shape))
        for axis, size in enumerate(node.shape):
            full, pinned = delta.values.shape[axis + 1] == size, axis in delta.pins
            assert full or delta.values.shape[axis + 1] == 1
            assert not (pinned and size == 1), "axes of size 1 carry no pin"
        return np.array(spread(np, delta, node.shape))

    def plain(
        self, node: Node, *deltas: Delta | None, dtype: Any = np.float64
    ) -> tuple[np.ndarray, np.ndarray]:
        """f(b + d) − f(b) copy by copy in the given type, and |f(b + d)| + |f(b)|."""
        stacks = [
            None if delta is None else self.stack(delta, operand).astype(dtype)
            for delta, operand in zip(deltas, node.operands, strict=True)
        ]
        wide = [
            x.value if x.value.dtype.kind in "biu" else np.asarray(x.value).astype(dtype)
            for x in node.operands
        ]
        with np.errstate(all="ignore"):
            old = np.asarray(node.primitive.evaluate(*wide, **node.params)).astype(dtype)
            new = [
                np.asarray(
                    node.primitive.evaluate(
                        *[
                            b if d is None else b + d[copy]
                            for b, d in zip(wide, stacks, strict=True)
                        ],
                        **node.params,
                    )
                ).astype(dtype)
                for copy in range(COPIES)
            ]
        moved = np.stack(new)
        return moved - old, abs(moved) + abs(old)


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture(params=range(6))
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng(request.param)
