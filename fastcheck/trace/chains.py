"""Products one after the other, where what does not move is multiplied beforehand.

In (a @ v) @ w only the attention weights a move when a query does: v @ w is the same for all
copies, and a @ (v @ w) takes one product a copy instead of two, of fewer columns often. This holds
in the slice of one tensor; in that of another v or w moves.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from fastcheck.trace.graph import CONSTANT, Node
from fastcheck.trace.primitives import CONTRACT, contract_values
from fastcheck.trace.slices import Slice, last_uses

Labels = tuple[int, ...]


@dataclass(frozen=True)
class _Product:
    """A contraction of what moves with what does not, the labels of each."""

    moving: Node
    constant: Node
    labels: tuple[Labels, Labels, Labels]

    def sizes(self) -> dict[int, int]:
        """Return the length of each label; -1 where the operands do not agree on it."""
        found: dict[int, int] = {}
        for node, labels in zip((self.moving, self.constant), self.labels, strict=False):
            for label, size in zip(labels, node.shape, strict=True):
                found[label] = size if found.get(label, size) == size else -1
        return found

    def cost(self) -> int:
        """Return how many products one copy takes."""
        return math.prod(self.sizes().values())


def shortened(part: Slice) -> Slice:
    """Return an equal slice in which no copy multiplies by two constants one after the other."""
    if sum(node.primitive is CONTRACT for node in part.nodes) < 2:
        return part
    uses = Counter(operand for node in part.nodes for operand in node.operands)
    asked = {part.output, *(guard.node for guard in part.guards)}
    new: dict[Node, Node] = {}
    products: dict[Node, _Product] = {}
    for node in part.nodes:
        operands, params = tuple(new.get(one, one) for one in node.operands), node.params
        product = _product(part, node, operands)
        if product is not None:
            before = node.operands[operands.index(product.moving)]
            inner = products.get(product.moving)
            if inner is not None and uses[before] == 1 and before not in asked:
                joint = _together(inner, product)
                if joint is not None:
                    product, operands = joint, (joint.moving, joint.constant)
                    params = {"labels": joint.labels}
        if any(one is not other for one, other in zip(operands, node.operands, strict=True)):
            new[node] = replace(node, operands=operands, params=params)
        if product is not None:
            products[new.get(node, node)] = product
    if not new:
        return part
    return _of(part, new)


def _product(part: Slice, node: Node, operands: tuple[Node, ...]) -> _Product | None:
    if node.primitive is not CONTRACT:
        return None
    left, right, out = node.params["labels"]
    moving = [part.tensor in operand.tensors for operand in operands]
    if sum(moving) != 1 or any(len(set(x)) != len(x) for x in (left, right, out)):
        return None
    labels = (left, right, out) if moving[0] else (right, left, out)
    a, b = operands if moving[0] else operands[::-1]
    return _Product(a, b, labels)


def _together(inner: _Product, outer: _Product) -> _Product | None:
    """Return x·(c·d) for (x·c)·d; None where that takes no less."""
    # The labels of both, the inner result's being those of the outer's moving operand.
    names = dict(zip(outer.labels[0], inner.labels[2], strict=True))
    fresh = 1 + max((label for labels in inner.labels for label in labels), default=-1)
    for label in (*outer.labels[1], *outer.labels[2]):
        if label not in names:
            names[label], fresh = fresh, fresh + 1
    x, c = inner.labels[:2]
    d, out = (tuple(names[label] for label in labels) for labels in outer.labels[1:])
    both = inner.sizes() | {names[label]: size for label, size in outer.sizes().items()}
    if -1 in (*inner.sizes().values(), *outer.sizes().values()):
        return None
    wanted = {*x, *out}
    kept = tuple(label for label in dict.fromkeys((*c, *d)) if label in wanted)
    size = math.prod(both[label] for label in kept)
    cost = math.prod(both[label] for label in {*x, *kept})
    before = inner.cost() + outer.cost()
    if cost > before or size > inner.constant.value.size + outer.constant.value.size:
        return None
    with np.errstate(all="ignore"):
        value = contract_values(inner.constant.value, outer.constant.value, (c, d, kept))
    constant = replace(
        outer.constant,
        primitive=CONSTANT,
        operands=(),
        params={},
        value=np.asarray(value),
        tensors=frozenset(),
    )
    return _Product(inner.moving, constant, (x, kept, out))


def _of(part: Slice, new: dict[Node, Node]) -> Slice:
    """Return the slice with new nodes in the place of old ones, without what none of them needs."""
    guards = tuple(replace(guard, node=new.get(guard.node, guard.node)) for guard in part.guards)
    output = new.get(part.output, part.output)
    wanted = {output, *(guard.node for guard in guards)}
    kept: list[Node] = []
    for node in reversed(part.nodes):
        now = new.get(node, node)
        if now in wanted:
            wanted.update(now.operands)
            kept.append(now)
    nodes = tuple(reversed(kept))
    return replace(
        part, nodes=nodes, guards=guards, output=output, last_use=last_uses(nodes, output, guards)
    )
