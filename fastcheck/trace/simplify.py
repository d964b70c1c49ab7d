"""Rewriting a graph into an equal one that is kinder to differences.

Softmax and its logarithm are written in many ways, most with a maximum subtracted that the result
does not depend on. Taken literally, that maximum has kinks where two logits tie, though the loss
has none, and costs passes over the stack. So log(exp(x)/Σexp(x)), x − log Σexp(x) and the like
become LOG_SOFTMAX and LOGSUMEXP of x, and a shift that is the same along their axes is taken out.

Arrays that are filled part by part are read part by part: see `assembled`. Python loops over
samples become one pass over all of them: see `rolling`.

1/(1 + exp(−x)) becomes SIGMOID, whose difference stays finite where exp overflows, and one minus
that the SIGMOID of −x, which keeps the digits that the subtraction loses.

A rewrite holds for all parameters, not only at θ: logarithms are split only where both parts are
positive whatever the parameters are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.trace import factors
from fastcheck.trace.assembled import (
    Block,
    box_of,
    fitted,
    joined,
    leaf,
    part_of,
    whole,
    with_units,
    written,
)
from fastcheck.trace.collecting import without_collecting
from fastcheck.trace.graph import CONSTANT, PARAMETER, Graph, Guard, Node, Primitive, SourceLine
from fastcheck.trace.patterns import (
    is_one,
    is_real,
    keeps_axes,
    logsumexp_of,
    only_units,
    opposite_powers,
    reduced_shape,
    take_the_same_away,
    wide,
    without_units,
)
from fastcheck.trace.primitives import (
    BROADCAST,
    CONCATENATE,
    CONTRACT,
    INDEX,
    LOG_SOFTMAX,
    LOGSUMEXP,
    RESHAPE,
    SIGMOID,
    SUM,
    TRANSPOSE,
    WRITE,
    elementwise,
)
from fastcheck.trace.rolling import rolled
from fastcheck.trace.separable import axis_by_axis

ADD, SUBTRACT, DIVIDE = elementwise(np.add), elementwise(np.subtract), elementwise(np.divide)
EXP, LOG = elementwise(np.exp), elementwise(np.log)
MULTIPLY, SQRT = elementwise(np.multiply), elementwise(np.sqrt)
NEGATIVE, RECIPROCAL = elementwise(np.negative), elementwise(np.reciprocal)
LOGADDEXP, TANH = elementwise(np.logaddexp), elementwise(np.tanh)


@without_collecting()
def simplify(graph: Graph) -> Graph:
    """Return an equal graph in which log-softmax and log-sum-exp are operations of their own."""
    written = _rewritten(graph)
    found = rolled(written)
    return written if found is written else _rewritten(found)


def _rewritten(graph: Graph) -> Graph:
    rewriter = _Rewriter()
    with np.errstate(all="ignore"):
        for node in graph:
            rewriter.take(node)
    new = rewriter.new
    guards = [Guard(new[g.node], g.action, g.source) for g in graph.guards]
    output = None if graph.output is None else new[graph.output]
    parameters = {name: new[node] for name, node in graph.parameters.items()}
    return Graph(_needed(rewriter.graph, output, guards, parameters), parameters, guards, output)


def _needed(
    graph: Graph, output: Node | None, guards: list[Guard], parameters: dict[str, Node]
) -> list[Node]:
    """Return the nodes, in order, that the loss, a guard or a parameter needs."""
    wanted = {*parameters.values(), *(guard.node for guard in guards)}
    if output is not None:
        wanted.add(output)
    for node in reversed(graph.nodes):
        if node in wanted:
            wanted.update(node.operands)
    return [node for node in graph.nodes if node in wanted]


class _Rewriter:
    """Builds the new graph node by node."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.new: dict[Node, Node] = {}
        self._source = SourceLine("", 0)
        self._known: dict[Any, Node] = {}
        self._positive: dict[Node, bool] = {}
        self._logarithms: dict[Node, Node | None] = {}
        self._blocks: dict[Node, Block] = {}

    def take(self, node: Node) -> None:
        """Copy a node of the old graph, rewritten if a rule knows it."""
        self._source = node.source
        if node.primitive in (PARAMETER, CONSTANT):
            self.new[node] = self._add(node.primitive, (), node.params, node.value, node.tensors)
            return
        operands = tuple(self.new[operand] for operand in node.operands)
        if self._blocks and node.primitive not in (INDEX, WRITE):
            operands = tuple(map(self._settled, operands))
        rewritten = None if node.constant else self._rewritten(node, operands)
        if rewritten is None or rewritten.shape != node.shape:
            rewritten = self._add(node.primitive, operands, node.params, node.value, node.tensors)
        self.new[node] = rewritten
        if not node.constant and node.primitive in (WRITE, CONCATENATE):
            self._assemble(rewritten)

    def make(self, primitive: Primitive, *operands: Node, **params: Any) -> Node:
        """Add an operation that the user did not write."""
        value = primitive.evaluate(*[operand.value for operand in operands], **params)
        tensors: frozenset[str] = frozenset().union(*[operand.tensors for operand in operands])
        if not tensors:
            return self._add(CONSTANT, (), {}, value, tensors)
        return self._add(primitive, operands, params, value, tensors)

    def _as(self, node: Node, primitive: Primitive, *operands: Node, **params: Any) -> Node:
        """Add another way to compute the value of `node`, which need not be computed again."""
        return self._add(primitive, operands, params, node.value, node.tensors)

    def constant(self, value: float) -> Node:
        """Add a number."""
        return self._add(CONSTANT, (), {}, np.float64(value), frozenset())

    def _add(
        self, primitive: Primitive, operands: Any, params: Any, value: Any, tensors: frozenset[str]
    ) -> Node:
        """Add a node, or return the equal one that is there (`np.exp(z)` written twice)."""
        key = _key(primitive, operands, params, value)
        if key in self._known:
            return self._known[key]
        node = Node(
            len(self.graph.nodes), primitive, operands, params, value, tensors, self._source
        )
        self.graph.nodes.append(node)
        if not node.constant:
            self._positive[node] = self._moves_above_zero(node)
        if key is not None:
            self._known[key] = node
        return node

    def _is_positive(self, node: Node) -> bool:
        """Whether the value is positive for all parameters."""
        if node not in self._positive:
            # A constant may be a whole data set, which few graphs make it worth looking at.
            value = node.value
            numbers = bool(value.size) and value.dtype.kind in "fiu"
            self._positive[node] = numbers and bool(np.all(value > 0))
        return self._positive[node]

    def _moves_above_zero(self, node: Node) -> bool:
        """Whether a node that is not constant is positive for all parameters."""
        if not node.value.size:
            return False
        if node.primitive in (EXP, SIGMOID):
            return True
        if node.primitive in (SUM, INDEX, RESHAPE, TRANSPOSE, BROADCAST, SQRT):
            return self._is_positive(node.operands[0])
        if node.primitive not in (ADD, MULTIPLY, DIVIDE):
            return False
        moving_first = sorted(node.operands, key=lambda operand: operand.constant)
        return all(map(self._is_positive, moving_first))

    def _rewritten(self, node: Node, operands: tuple[Node, ...]) -> Node | None:
        if node.primitive is INDEX:
            return self._picked(operands[0], node)
        if node.primitive is RESHAPE:
            return self._reshaped(operands[0], node.shape)
        if node.primitive is LOG:
            return self.log(operands[0])
        if node.primitive is SUBTRACT:
            return self._subtract(*operands)
        if node.primitive is ADD:
            return self._add_back(*operands)
        if node.primitive is SUM:
            return self._total(operands[0], node)
        if node.primitive is CONTRACT:
            return self._with_factors_after(node, operands)
        if node.primitive in (DIVIDE, RECIPROCAL):
            one = self.constant(1.0) if len(operands) == 1 else operands[0]
            return self._quotient(one, operands[-1])
        return None

    # -- arrays that are filled part by part ------------------------------------------------------

    def _assemble(self, node: Node) -> None:
        """Note the parts of an array that has just been written into, or joined from parts."""
        if not node.value.size or any(x.value.dtype != node.value.dtype for x in node.operands):
            return
        if node.primitive is CONCATENATE:
            self._blocks[node] = joined(list(map(self._block, node.operands)), node.params["axis"])
        elif node.primitive is WRITE:
            base, value = node.operands
            index = node.params["index"]
            box = box_of(index, node.shape)
            part = None if box is None else fitted(self.make, self._settled(value), index, box)
            if box is not None and part is not None:
                self._blocks[node] = written(self.make, self._block(base), box, self._block(part))

    def _block(self, node: Node) -> Block:
        return self._blocks.get(node) or leaf(node)

    def _settled(self, node: Node) -> Node:
        """Return what was written part by part as one concatenation, if it can be."""
        if node.primitive is not WRITE or node not in self._blocks:
            return node
        return self._of(self._blocks[node])

    def _of(self, block: Block) -> Node:
        """Return the node of a block, whose parts remain known."""
        node = whole(self.make, block)
        if block.node is None:
            self._blocks[node] = block
        return node

    def _picked(self, x: Node, node: Node) -> Node | None:
        """Return x[index]: what was last written there, where that is known."""
        index = node.params["index"]
        box = box_of(index, x.shape) if x in self._blocks else None
        if box is None:
            settled = self._settled(x)
            by_axes = axis_by_axis(self.make, settled, index)
            if by_axes is not None:
                return self._as(node, by_axes.primitive, *by_axes.operands, **by_axes.params)
            return None if settled is x else self._as(node, INDEX, settled, index=index)
        part = part_of(self.make, self._blocks[x], box)
        return self._of(with_units(self.make, part, node.shape))

    def _reshaped(self, x: Node, shape: tuple[int, ...]) -> Node | None:
        """Return an array of parts with axes of size 1 added or dropped."""
        if x not in self._blocks or wide(x.shape) != wide(shape):
            return None
        return self._of(with_units(self.make, self._blocks[x], shape))

    # -- products ---------------------------------------------------------------------------------

    def _with_factors_after(self, node: Node, operands: tuple[Node, ...]) -> Node | None:
        found = factors.after(self.make, node, operands)
        return None if found is None else self._as(node, found.primitive, *found.operands)

    # -- sums -------------------------------------------------------------------------------------

    def _total(self, x: Node, node: Node) -> Node | None:
        """Return the sum of all of c·x, c constant, as one contraction; sums of sums as one sum."""
        if node.ndim or not x.value.size:
            return None
        if x.primitive is SUM:
            inner = x.operands[0]
            params = {"axes": tuple(range(inner.ndim)), "keepdims": False}
            return self._total(inner, node) or self._as(node, SUM, inner, **params)
        if x.primitive is not MULTIPLY or x.ndim == 0:
            return None
        for c, moving in (x.operands, x.operands[::-1]):
            if c.constant and c.shape == moving.shape == x.shape and is_real(c):
                labels = tuple(range(x.ndim))
                return self._as(node, CONTRACT, moving, c, labels=(labels, labels, ()))
        return None

    # -- quotients --------------------------------------------------------------------------------

    def _quotient(self, a: Node, b: Node) -> Node | None:
        """Return 1/(1 + e⁻ˣ), eˣ/(1 + eˣ) as sigmoid, (eˣ − e⁻ˣ)/(eˣ + e⁻ˣ) as tanh."""
        if b.primitive is not ADD:
            return None
        for one, power in (b.operands, b.operands[::-1]):
            if is_one(one) and power.primitive is EXP:
                x = power.operands[0]
                if a is power:
                    return self.make(SIGMOID, x)
                if is_one(a):
                    return self.make(SIGMOID, self._minus(x))
        up, down = b.operands
        if a.primitive is SUBTRACT and a.operands == b.operands and opposite_powers(up, down):
            return self.make(TANH, up.operands[0])
        return None

    # -- logarithms -------------------------------------------------------------------------------

    def log(self, x: Node) -> Node | None:
        """Return log x in another form; None where there is none."""
        if x not in self._logarithms:
            self._logarithms[x] = self._log(x)
        return self._logarithms[x]

    def _log(self, x: Node) -> Node | None:
        if x.primitive is EXP:
            return x.operands[0]
        if x.primitive is SIGMOID:
            softplus = self.make(LOGADDEXP, self.constant(0.0), self._minus(x.operands[0]))
            return self.make(NEGATIVE, softplus)
        if x.primitive in (INDEX, RESHAPE, TRANSPOSE, BROADCAST):
            inner = self.log(x.operands[0])
            return None if inner is None else self.make(x.primitive, inner, **x.params)
        if x.primitive is SUM and x.operands[0].primitive is EXP:
            return self._logsumexp(
                x.operands[0].operands[0], x.params["axes"], x.params["keepdims"]
            )
        if x.primitive is DIVIDE and all(map(self._is_positive, x.operands)):
            return self._log_quotient(*x.operands)
        return None

    def _log_quotient(self, a: Node, b: Node) -> Node | None:
        log_a, log_b = self.log(a), self.log(b)
        if log_a is None or log_b is None:
            return None
        return self._subtract(log_a, log_b) or self.make(SUBTRACT, log_a, log_b)

    def _logsumexp(self, x: Node, axes: tuple[int, ...], keepdims: bool) -> Node:
        """Return log Σ exp x; for x = y − c with c the same along the axes, that of y, less c."""
        if x.primitive is SUBTRACT and x.operands[0].shape == x.shape:
            y, c = x.operands
            shape = reduced_shape(c.shape, x.ndim, axes, keepdims)
            if shape is not None:
                c = c if c.shape == shape else self.make(RESHAPE, c, shape=shape)
                return self.make(SUBTRACT, self._logsumexp(y, axes, keepdims), c)
        return self.make(LOGSUMEXP, x, axes=axes, keepdims=keepdims)

    # -- sums and differences ---------------------------------------------------------------------

    def _subtract(self, a: Node, b: Node) -> Node | None:
        """Return x − LSE(x) as log-softmax, (x−c) − (y−c) as x − y, 1 − σ(x) as σ(−x)."""
        if is_one(a) and b.primitive is SIGMOID:
            return self.make(SIGMOID, self._minus(b.operands[0]))
        b = self._inwards(b)
        if a.primitive is SUBTRACT and b.primitive is SUBTRACT and take_the_same_away(a, b):
            x, y = a.operands[0], b.operands[0]
            if np.broadcast_shapes(x.shape, y.shape) == np.broadcast_shapes(a.shape, b.shape):
                return self._subtract(x, y) or self.make(SUBTRACT, x, y)
        origin, axes = logsumexp_of(b)
        if origin is a and keeps_axes(a.shape, b.shape, axes):
            return self.make(LOG_SOFTMAX, a, axes=axes)
        return None

    def _add_back(self, a: Node, b: Node) -> Node | None:
        """Return c + (x − c) as x, where that has the shape of the sum."""
        for c, rest in ((a, self._inwards(b)), (b, self._inwards(a))):
            if rest.primitive is SUBTRACT:
                x, taken = rest.operands
                if (
                    without_units(taken) is without_units(c)
                    and taken.shape == c.shape
                    and x.shape == rest.shape
                ):
                    return x
        return None

    def _minus(self, x: Node) -> Node:
        """Return −x, or what x is the negative of."""
        return x.operands[0] if x.primitive is NEGATIVE else self.make(NEGATIVE, x)

    def _inwards(self, node: Node) -> Node:
        """Move a reshape that only adds or drops size-1 axes inside a subtraction."""
        if not only_units(node) or node.operands[0].primitive is not SUBTRACT:
            return node
        inner = self._inwards(node.operands[0])
        if inner.primitive is not SUBTRACT or any(x.shape != inner.shape for x in inner.operands):
            return node
        moved = [self.make(RESHAPE, x, shape=node.shape) for x in inner.operands]
        return self.make(SUBTRACT, *moved)


def _key(primitive: Primitive, operands: Any, params: Any, value: Any) -> Any:
    """Return what makes two nodes equal; None for a node that is only equal to itself."""
    if primitive is PARAMETER:
        return None
    if primitive is CONSTANT:
        return (primitive, value.dtype, repr(value.item())) if np.ndim(value) == 0 else None
    if not params:
        return primitive, operands
    try:
        key = (primitive, operands, tuple((name, _frozen(params[name])) for name in sorted(params)))
        hash(key)
    except TypeError:  # an index array, say
        return None
    return key


def _frozen(value: Any) -> Any:
    """Return a parameter of an operation with its slices as tuples, which can be hashed."""
    if isinstance(value, slice):
        return slice, value.start, value.stop, value.step
    return tuple(map(_frozen, value)) if isinstance(value, tuple) else value
