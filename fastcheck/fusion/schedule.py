"""Which label is vectorised, which are unrolled, and which are loops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastcheck.fusion.dims import Label, NotFusable
from fastcheck.fusion.expression import ANY, LOAD, SUM, Expression, in_order
from fastcheck.fusion.lower import Program

WIDTH = 8
"""Samples in one vector: 8 float64 fill a register of AVX-512, or two of AVX2."""
_UNROLLED = 16
_MOST_OPERATIONS = 6000
# Printing goes down recursively from sum to sum, and hoisting from operand to operand.
_DEEPEST, _DEEPEST_HOISTED = 40, 120
# Elements of a layer that a kernel multiplies out, and operations up to which it unrolls that.
_WIDEST = 64
_MOST_UNROLLED = 1500


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
    kept : dict of Expression to Label
        What is computed for all of a loop first, and then kept: the units of a layer before the
        next one is multiplied out, and the sums that these are.
    """

    order: tuple[Expression, ...]
    vector: Label | None
    loops: frozenset[Label]
    level: dict[Expression, int]
    roots: tuple[Expression | None, ...]
    operations: int = 0
    kept: Mapping[Expression, Label] = field(default_factory=dict)

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
        The kernel would be too long, or a sum would have to be kept for every iteration of a long
        loop: that is a product of matrices, which is better done by BLAS.
    """
    all_roots = (program.change, program.refused)
    roots = [root for root in all_roots if root is not None]
    order = tuple(in_order(*roots))
    if _depth(order) > _DEEPEST or _depth_of_hoisted(order) > _DEEPEST_HOISTED:
        raise NotFusable("too many operations follow upon each other")
    vector = _vector(order)
    labels = {label for node in order for label in _all_labels(node)}
    always = {label for label in labels if label is vector or label.size > _UNROLLED}
    loops, operations = _loops(order, labels, always, _MOST_OPERATIONS)
    if operations > _MOST_UNROLLED:
        compact, fewer = _loops(order, labels, always, _MOST_UNROLLED)
        try:
            kept = _kept(order, compact, vector)
        except NotFusable:
            kept = {}
        if kept:  # one layer is multiplied by another: short code is nearly as quick
            loops, operations = compact, fewer
    if operations > _MOST_OPERATIONS:
        raise NotFusable("the kernel would be too long")
    kept = _kept(order, loops, vector)
    levels = _levels(order)
    return Schedule(order, vector, frozenset(loops), levels, tuple(all_roots), operations, kept)


def _loops(
    order: tuple[Expression, ...], labels: set[Label], always: set[Label], most: int
) -> tuple[set[Label], int]:
    """Return the loops that leave at most so many operations, and how many these are."""
    loops = set(always)
    operations = _operations(order, loops)
    for size in sorted({label.size for label in labels - loops}, reverse=True):
        for label in sorted(labels - loops, key=lambda label: label.number):
            if label.size == size and operations > most:
                loops.add(label)
                operations = _operations(order, loops)
    return loops, operations


def _kept(
    order: tuple[Expression, ...], loops: set[Label], vector: Label | None
) -> dict[Expression, Label]:
    """Return what is kept along loops, so that no sum is taken again in another loop."""
    outermost = vector or _outermost(order, loops)
    inner = loops - {outermost}
    kept: dict[Expression, Label] = {}
    for node in order:
        if node.op != SUM or node.payload not in loops:
            continue
        around = node.labels & inner
        if not around:
            continue
        if node.payload is outermost or not _is_narrow({node.payload, *around}):
            raise NotFusable("a wide layer would be multiplied out for every copy")
        (label,) = around
        kept[node] = label
        for part in _apart_from(label, node.operands[0], node.payload):
            if part.labels & inner != {node.payload}:
                raise NotFusable("a wide layer would be multiplied out for every copy")
            kept[part] = node.payload
    return kept


def _outermost(order: tuple[Expression, ...], loops: set[Label]) -> Label | None:
    """Return the loop that sums are taken in, where no label is long enough for vectors."""
    weight: dict[Label, int] = {}
    for node in order:
        if node.op == SUM and node.payload in loops:
            for label in node.labels & loops:
                weight[label] = weight.get(label, 0) + 1
    return max(weight, key=lambda label: (weight[label], -label.number), default=None)


def _is_narrow(labels: set[Label]) -> bool:
    return len(labels) == 2 and all(label.size <= _WIDEST for label in labels)


def _apart_from(label: Label, summand: Expression, along: Label) -> list[Expression]:
    """Return the largest parts of a summand that vary along one label and not along another."""
    found = []
    waiting = [summand]
    while waiting:
        node = waiting.pop()
        if along not in node.labels or node.op == LOAD:
            continue
        if label in node.labels:
            waiting += node.operands
        else:
            found.append(node)
    return found


def _depth(order: tuple[Expression, ...]) -> int:
    """Return how many sums build upon each other at most."""
    depth: dict[Expression, int] = {}
    for node in order:
        below = max([depth[operand] for operand in node.operands], default=0)
        depth[node] = below + (node.op in (SUM, ANY))
    return max(depth.values(), default=0)


def _depth_of_hoisted(order: tuple[Expression, ...]) -> int:
    return max([node.payload.depth for node in order if node.op == LOAD], default=0)


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
