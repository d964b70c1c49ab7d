"""Sweeps over arrays in LLVM's language: eight elements at a time, the last few under a mask."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from fastcheck.lanes.assembly import BITS, LANES, MASK, VECTOR, Assembly

ZEROS = "zeroinitializer"
OCTETS = f"<{LANES} x i8>"
_WIDTHS = {"double": 8, "i64": 8, "i8": 1}

DECLARED = [
    f"declare {VECTOR} @llvm.fabs.v{LANES}f64({VECTOR})",
    f"declare {VECTOR} @llvm.sqrt.v{LANES}f64({VECTOR})",
    "declare double @llvm.sqrt.f64(double)",
    f"declare double @llvm.vector.reduce.fadd.v{LANES}f64(double, {VECTOR})",
    f"declare double @llvm.vector.reduce.fmax.v{LANES}f64({VECTOR})",
    f"declare double @llvm.vector.reduce.fmin.v{LANES}f64({VECTOR})",
    f"declare i64 @llvm.vector.reduce.umin.v{LANES}i64({BITS})",
    f"declare i8 @llvm.vector.reduce.or.v{LANES}i8({OCTETS})",
    f"declare {VECTOR} @llvm.masked.load.v{LANES}f64.p0(ptr, i32, {MASK}, {VECTOR})",
    f"declare {BITS} @llvm.masked.load.v{LANES}i64.p0(ptr, i32, {MASK}, {BITS})",
    f"declare {VECTOR} @llvm.masked.gather.v{LANES}f64.v{LANES}p0"
    f"(<{LANES} x ptr>, i32, {MASK}, {VECTOR})",
    f"declare {OCTETS} @llvm.masked.load.v{LANES}i8.p0(ptr, i32, {MASK}, {OCTETS})",
    f"declare void @llvm.masked.store.v{LANES}f64.p0({VECTOR}, ptr, i32, {MASK})",
]


class Vectors(Assembly):
    """The lines of a function that sweeps over arrays of one length.

    Nothing is fused or reordered, so that each element comes out as NumPy computes it.
    """

    def __init__(self) -> None:
        super().__init__("entry")
        self._index = "0"
        self._mask: str | None = None

    # -- elements ---------------------------------------------------------------------------------

    def take(self, array: str, absent: str = ZEROS) -> str:
        """Load the elements of an array; past its end there are those of the vector `absent`."""
        return self._take(array, "double", VECTOR, absent)

    def octets(self, array: str) -> str:
        """Load elements of one byte each; zeros past the end."""
        return self._take(array, "i8", OCTETS, ZEROS)

    def integers(self, array: str) -> str:
        """Load elements that are integers; zeros past the end."""
        return self._take(array, "i64", BITS, ZEROS)

    def gather(self, array: str, places: str, size: str) -> tuple[str, str]:
        """Load what stands at some places of another array; also where these are beyond its size.

        Nothing is read there; what is returned is zero.
        """
        inside = self.emit(f"icmp ult {BITS} {places}, {size}")
        pointers = self.emit(f"getelementptr double, ptr {array}, {BITS} {places}")
        found = self.emit(
            f"call {VECTOR} @llvm.masked.gather.v{LANES}f64.v{LANES}p0(<{LANES} x ptr> {pointers}, "
            f"i32 8, {MASK} {inside}, {VECTOR} {ZEROS})"
        )
        outside = self.emit(f"xor {MASK} {inside}, {_numbers('i1', [1] * LANES)}")
        return found, self.octets_of(outside)

    def octets_of(self, mask: str) -> str:
        return self.emit(f"zext {MASK} {mask} to {OCTETS}")

    def both(self, a: str, b: str) -> str:
        """Join octets by "or"."""
        return self.emit(f"or {OCTETS} {a}, {b}")

    def put(self, vector: str, array: str) -> None:
        """Store elements."""
        place = self._place(array, "double")
        if self._mask is None:
            self.store(VECTOR, vector, place)
        else:
            self.do(
                f"call void @llvm.masked.store.v{LANES}f64.p0({VECTOR} {vector}, ptr {place}, "
                f"i32 8, {MASK} {self._mask})"
            )

    def present(self, vector: str) -> str:
        """Return a vector with zeros past the end of the arrays."""
        return vector if self._mask is None else self.where(self._mask, vector, ZEROS)

    def indices(self) -> str:
        """Return the positions of the elements."""
        first = self.splat(self._index, "i64")
        return self.emit(f"add {BITS} {first}, {_numbers('i64', range(LANES))}")

    def _take(self, array: str, kind: str, vector: str, absent: str) -> str:
        place = self._place(array, kind)
        if self._mask is None:
            return self.emit(f"load {vector}, ptr {place}, align {_WIDTHS[kind]}")
        name = "f64" if kind == "double" else kind
        return self.emit(
            f"call {vector} @llvm.masked.load.v{LANES}{name}.p0(ptr {place}, "
            f"i32 {_WIDTHS[kind]}, {MASK} {self._mask}, {vector} {absent})"
        )

    def _place(self, array: str, kind: str) -> str:
        return self.emit(f"getelementptr {kind}, ptr {array}, i64 {self._index}")

    # -- arithmetic -------------------------------------------------------------------------------

    def plus(self, a: str, b: str) -> str:
        return self.emit(f"fadd {VECTOR} {a}, {b}")

    def minus(self, a: str, b: str) -> str:
        return self.emit(f"fsub {VECTOR} {a}, {b}")

    def times(self, a: str, b: str) -> str:
        return self.emit(f"fmul {VECTOR} {a}, {b}")

    def over(self, a: str, b: str) -> str:
        return self.emit(f"fdiv {VECTOR} {a}, {b}")

    def size(self, a: str) -> str:
        return self.emit(f"call {VECTOR} @llvm.fabs.v{LANES}f64({VECTOR} {a})")

    def root(self, a: str) -> str:
        return self.emit(f"call {VECTOR} @llvm.sqrt.v{LANES}f64({VECTOR} {a})")

    def where(self, condition: str, a: str, b: str, kind: str = VECTOR) -> str:
        return self.emit(f"select {MASK} {condition}, {kind} {a}, {kind} {b}")

    def exceeds(self, a: str, b: str) -> str:
        return self.emit(f"fcmp ogt {VECTOR} {a}, {b}")

    def larger(self, a: str, b: str) -> str:
        return self.where(self.exceeds(a, b), a, b)

    def add_square(self, total: str, a: str) -> str:
        return self.plus(total, self.times(a, a))

    # -- all together -----------------------------------------------------------------------------

    def sweep(
        self, body: Callable[[list[str]], Sequence[str]], carried: Sequence[tuple[str, str]]
    ) -> list[str]:
        """Write a loop over all elements; return what is carried after it.

        `carried` are kinds and initial values; `body` is given their values and returns the next.
        """

        def whole(index: str, values: list[str]) -> Sequence[str]:
            self._index = index
            return body(values)

        after, values = self.loop("0", "%count", whole, carried, step=LANES)
        name, before = self.name("rest"), self.block
        some = self.emit(f"icmp slt i64 {after}, %count")
        self.do(f"br i1 {some}, label %{name}.so, label %{name}.done")
        self.label(f"{name}.so")
        self._index = after
        left = self.splat(self.emit(f"sub i64 %count, {after}"), "i64")
        numbers = _numbers("i64", range(LANES))
        self._mask = self.emit(f"icmp slt {BITS} {numbers}, {left}")
        ends, last = list(body(values)), self.block
        self._mask = None
        self.do(f"br label %{name}.done")
        self.label(f"{name}.done")
        return [
            self.emit(f"phi {kind} [ {value}, %{before} ], [ {end}, %{last} ]")
            for (kind, _), value, end in zip(carried, values, ends, strict=True)
        ]

    def total(self, vector: str) -> str:
        return self.emit(
            f"call double @llvm.vector.reduce.fadd.v{LANES}f64(double 0.0, {VECTOR} {vector})"
        )

    def largest(self, vector: str) -> str:
        return self.emit(f"call double @llvm.vector.reduce.fmax.v{LANES}f64({VECTOR} {vector})")

    def least(self, vector: str) -> str:
        return self.emit(f"call double @llvm.vector.reduce.fmin.v{LANES}f64({VECTOR} {vector})")

    def first_of(self, vector: str, number: str, places: str) -> str:
        """Return the least of the places where a vector holds a number, as a float."""
        there = self.emit(f"fcmp oeq {VECTOR} {vector}, {self.splat(number)}")
        some = self.where(there, places, _numbers("i64", [2**62] * LANES), BITS)
        least = self.emit(f"call i64 @llvm.vector.reduce.umin.v{LANES}i64({BITS} {some})")
        return self.emit(f"uitofp i64 {least} to double")

    def any_of(self, octets: str) -> str:
        """Return whether any octet is not zero, as a float."""
        one = self.emit(f"call i8 @llvm.vector.reduce.or.v{LANES}i8({OCTETS} {octets})")
        return self.emit(f"uitofp i8 {one} to double")

    # -- numbers ----------------------------------------------------------------------------------

    def given(self, array: str, place: int) -> str:
        """Load one number of an array."""
        return self.load("double", self.at(array, str(8 * place)))

    def answer(self, array: str, numbers: Sequence[str]) -> None:
        """Store numbers at the beginning of an array."""
        for place, number in enumerate(numbers):
            self.store("double", number, self.at(array, str(8 * place)))

    def scalar(self, op: str, a: str, b: str) -> str:
        """Write fadd, fsub, fmul or fdiv of two numbers."""
        return self.emit(f"{op} double {a}, {b}")


def constant(number: float) -> str:
    """Return a vector that holds one number throughout."""
    return _numbers("double", [float(number)] * LANES)


def _numbers(kind: str, values: Sequence[float] | range) -> str:
    return "<" + ", ".join(f"{kind} {_literal(value)}" for value in values) + ">"


def _literal(value: float) -> str:
    """Return a number as LLVM reads it: floats by their bits."""
    if isinstance(value, int):
        return str(value)
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
