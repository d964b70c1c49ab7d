"""Which label is vectorised, which are unrolled, and which are loops."""

from __future__ import annotations

from dataclasses import dataclass

from fastcheck.fusion.dims import Label, NotFusable
from fastcheck.fusion.expression import ANY, LOAD, SUM, Expression, in_order
from fastcheck.fusion.lower import Program

WIDTH = 8
"""Samples in one vector: 8 float64 fill a register of AVX-512, or two of AVX2."""
_UNROLLED = 16
_MOST_OPERATIONS = 6000
# Printing and hoisting go down recursively.
_DEEPEST = 120


@dataclass(frozen=True, eq=False)
class Schedule:
    """How a program is turned into loops.

    Attributes
    ----------
    order : tuple of Expression
        Everything to compute, operands first.
    vector : Label or None
        The label that runs along vectors.
    loops : frozenset of Label
        The labels that are loops, the vector's included; the others are unrolled.
    level : dict of Expression to int
        For every sum, how many sums over the same label it builds upon: sums of one level do not
        need each other.
    roots : tuple of (Expression or None)
        The program's change and refusal.
    operations : int
        How many operations are to be printed, about.
    """

    order: tuple[Expression, ...]
    vector: Label | None
    loops: frozenset[Label]
    level: dict[Expression, int]
    roots: tuple[Expression | None, ...]
    operations: int = 0

    @property
    def width(self) -> int:
        """Return the number of elements in a vector."""
        return 1 if self.vector is None else WIDTH

    def trips(self, label: Label) -> int:
        """Return how many iterations a loop has: elements, or blocks of samples."""
        return -(-label.size // WIDTH) if label is self.vector else label.size


def schedule(program: Program) -> Schedule:
    """Decide on the loops.

    Raises
    ------
    NotFusable
        A sum would have to be kept for every iteration of a loop: that is a product of matrices,
        which is better done by BLAS.
    """
    all_roots = (program.change, program.refused)
    roots = [root for root in all_roots if root is not None]
    order = tuple(in_order(*roots))
    if _depth(order) > _DEEPEST:
        raise NotFusable("too many operations follow upon each other")
    vector = _vector(order)
    labels = {label for node in order for label in _all_labels(node)}
    loops = {label for label in labels if label is vector or label.size > _UNROLLED}
    for label in sorted(labels - loops, key=lambda label: (-label.size, label.number)):
        if _operations(order, loops) > _MOST_OPERATIONS:
            loops.add(label)
    operations = _operations(order, loops)
    if operations > _MOST_OPERATIONS:
        raise NotFusable("the kernel would be too long")
    for node in order:
        if node.op == SUM and node.payload in loops and node.labels & loops - {vector}:
            raise NotFusable("a wide layer would be multiplied out for every copy")
    return Schedule(order, vector, frozenset(loops), _levels(order), tuple(all_roots), operations)


def _depth(order: tuple[Expression, ...]) -> int:
    """Return the length of the longest chain of operations, hoisted ones included."""
    depth: dict[Expression, int] = {}
    for node in order:
        own = node.payload.depth if node.op == LOAD else 0
        depth[node] = 1 + max([own, *[depth[operand] for operand in node.operands]])
    return max(depth.values(), default=0)


def _all_labels(node: Expression) -> frozenset[Label]:
    return node.labels | {node.payload} if node.op in (SUM, ANY) else node.labels


def _vector(order: tuple[Expression, ...]) -> Label | None:
    """Return the label that most of the arithmetic runs along: that of the samples."""
    weight: dict[Label, int] = {}
    for node in order:
        for label in node.labels:
            if node.op != LOAD:
                weight[label] = weight.get(label, 0) + 1
    wide = [label for label in weight if label.size >= WIDTH and not _inside(label, order)]
    return max(wide, key=lambda label: (weight[label], label.size, -label.number), default=None)


def _inside(label: Label, order: tuple[Expression, ...]) -> bool:
    """Whether a sum over the label has labels left, and so would be taken inside another loop."""
    return any(
        node.op in (SUM, ANY)
        and node.payload is label
        and any(other.size > _UNROLLED for other in node.labels)
        for node in order
    )


def _operations(order: tuple[Expression, ...], loops: set[Label]) -> int:
    total = 0
    for node in order:
        count = 1
        for label in _all_labels(node):
            count *= 1 if label in loops else label.size
        total += count
    return total


def _levels(order: tuple[Expression, ...]) -> dict[Expression, int]:
    """Return for every sum how many sums over the same label it builds upon."""
    below: dict[Expression, dict[Label, int]] = {}
    levels: dict[Expression, int] = {}
    for node in order:
        depths: dict[Label, int] = {}
        for operand in node.operands:
            for label, depth in below[operand].items():
                depths[label] = max(depth, depths.get(label, 0))
        if node.op in (SUM, ANY):
            levels[node] = depths.get(node.payload, 0)
            depths[node.payload] = levels[node] + 1
        below[node] = depths
    return levels
