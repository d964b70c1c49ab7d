"""The tape that a trace writes: nodes, constants, guards, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastcheck.errors import FastcheckError
from fastcheck.params.places import Place
from fastcheck.trace.downloads import Downloads
from fastcheck.trace.graph import CONSTANT, PARAMETER, Graph, Guard, Node, Primitive
from fastcheck.trace.source import user_line

DEVICE_REMEDY = (
    "write xp = cupy.get_array_module(x) and xp.dot(x, W), or import cupy at the top of your "
    "module, so that its functions can be traced; or give batched=True"
)


_NOTHING: frozenset[str] = frozenset()


class Untraceable(FastcheckError):  # noqa: N818  # a state of the code, not a mistake
    """The forward pass does something that cannot be traced faithfully."""


class Converted(Untraceable):
    """A traced array reached C code that wants an ordinary one, as in `X.dot(W)` with plain X."""


class UntraceableAttribute(Untraceable, AttributeError):  # noqa: N818
    """An attribute that a traced array does not have (an AttributeError, so `hasattr` works)."""


class Tape:
    """Collects the graph of the forward pass that is being traced.

    `refusal` keeps the first thing that could not be traced, so that user code which swallows the
    exception cannot turn a broken trace into a trusted one.

    `place` is where the parameters are if they are CuPy arrays: the traced arrays then have CuPy's
    manners, where those differ from NumPy's. `downloads` are the CuPy arrays that it has met.

    `makes_all` says that masks, indices and lists made inside the loss become traced arrays too,
    and `numpy` and `cupy` are what the loss sees in the place of these modules.

    `handed` decides which number is handed out where a traced one is read: see `logged`.
    """

    def __init__(
        self, place: Place | None = None, handed: Callable[[float], float] | None = None
    ) -> None:
        self.place = place
        self._handed = handed
        self.downloads = Downloads()
        self.graph = Graph()
        self.makes_all = False
        self.numpy: Any = np
        self.cupy: Any = None
        self.refusal: Untraceable | None = None
        self.closed = False
        self._read_out: list[tuple[float, Guard]] = []
        self._constants: dict[int, tuple[NDArray[Any], Node]] = {}

    def parameter(self, name: str, value: NDArray[Any]) -> Node:
        node = self._add(PARAMETER, (), {"name": name}, value, frozenset([name]))
        self.graph.parameters[name] = node
        return node

    def constant(self, value: Any) -> Node:
        """Return a node for plain data, sharing one node among uses of the same unchanged array."""
        value = self.downloads.hosted(value)
        if not isinstance(value, np.ndarray):
            return self._add(CONSTANT, (), {}, np.asarray(value), _NOTHING)
        known = self._constants.get(id(value))
        if known is not None:
            original, node = known
            if original is value and (node.value is value or identical(node.value, value)):
                return node
        # A private copy: the user may write into the array later in the same forward pass.
        private = value if self.downloads.made(value) else value.copy(order="K")
        node = self._add(CONSTANT, (), {}, private, _NOTHING)
        self._constants[id(value)] = (value, node)
        return node

    def apply(self, primitive: Primitive, *operands: Node, **params: Any) -> Node:
        """Record `primitive` on `operands`; computed from constants alone, it is a constant."""
        with np.errstate(all="ignore"):
            value = primitive.evaluate(*[operand.value for operand in operands], **params)
        return self.record(primitive, operands, params, value)

    def record(
        self, primitive: Primitive, operands: tuple[Node, ...], params: Any, value: NDArray[Any]
    ) -> Node:
        """Record `primitive` with the value that the user's own NumPy call gave.

        An array without elements depends on nothing, and nothing depends on it.
        """
        tensors = _reaching(operands) if value.size else _NOTHING
        if not tensors:
            return self._add(CONSTANT, (), {}, value, tensors)
        if value.dtype.kind == "c":
            # Differences are real, and `.real`, `abs` and `conj` of a real array are no operations.
            self.refuse(
                "complex numbers that depend on the parameters cannot be traced",
                "compute with their real and imaginary parts as two real arrays",
            )
        return self._add(primitive, operands, params, value, tensors)

    def record_constant(self, value: NDArray[Any]) -> Node:
        """Record data that nothing else will write to, without copying it."""
        return self._add(CONSTANT, (), {}, value, _NOTHING)

    def guard(self, node: Node, action: str) -> None:
        """Note that Python acted on the value of `node`."""
        self.refuse_if_closed()
        if not node.constant:
            self.graph.guards.append(Guard(node, action, user_line()))

    def read_out(self, number: float, node: Node) -> float:
        """Hand out a plain float; `settle` decides what that meant.

        `float(x)` returns the very object that `__float__` gave, so a loss that ends in
        `return float(cost)` is recognised by identity. Any other float that left the trace may
        have come back as a constant, and holds only while its node keeps its value.
        """
        self.refuse_if_closed()
        if not node.constant:
            number = number if self._handed is None else self._handed(number)
            self._read_out.append((number, Guard(node, "a number read from it", user_line())))
        return number

    def settle(self, result: object) -> Node | None:
        """Turn the floats that were read out into guards, but for the one that is the result."""
        found = next((guard.node for number, guard in self._read_out if number is result), None)
        if type(result) is np.float64 and self._read_out and self._read_out[-1][0] == result:
            found = self._read_out[-1][1].node  # np.float64(cost) makes an object of its own
        output = found if found is not None else getattr(result, "node", None)
        # Reading the loss itself (a log, a history) cannot have changed how it was computed.
        self.graph.guards += [guard for _, guard in self._read_out if guard.node is not output]
        return found

    def refuse(self, what: str, remedy: str, kind: type[Untraceable] = Untraceable) -> NoReturn:
        """Stop the trace, saying what cannot be traced, where, and what to write instead."""
        refusal = kind(f"{what} ({user_line()}); {remedy}")
        self.refusal = self.refusal or refusal
        raise refusal

    def refuse_if_closed(self) -> None:
        """Refuse an array that outlived its trace: another trace would take it for a constant."""
        if self.closed:
            self.refuse("an array kept from an earlier forward pass is used", "compute it anew")

    def _add(
        self,
        primitive: Primitive,
        operands: tuple[Node, ...],
        params: Any,
        value: NDArray[Any],
        tensors: frozenset[str],
    ) -> Node:
        self.refuse_if_closed()
        node = Node(len(self.graph.nodes), primitive, operands, params, value, tensors, user_line())
        self.graph.nodes.append(node)
        return node


def _reaching(operands: tuple[Node, ...]) -> frozenset[str]:
    """Return the tensors that reach the elements of operands."""
    found = _NOTHING
    for operand in operands:
        if operand.tensors is not found and operand.value.size:
            found = found | operand.tensors if found else operand.tensors
    return found


def identical(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Equal bit for bit: NaN is itself, and −0 is not 0."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"):
        return False
    return a.dtype.kind != "f" or np.array_equal(np.signbit(a), np.signbit(b))
