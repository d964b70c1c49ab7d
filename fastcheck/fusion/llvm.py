"""LLVM's intermediate language: one function, a loop over perturbed copies, explicit vectors.

LLVM is the compiler under Numba. Printing for it directly compiles in tens of milliseconds, where
the same loops written for Numba take a second, and needs no luck with the vectoriser.
"""

from __future__ import annotations

import struct

from fastcheck.fusion.code import ARGUMENTS, FUNCTION, Code, Running, Scope
from fastcheck.fusion.schedule import WIDTH

# A multiplication and an addition may be fused; nothing is reordered.
_FAST = "contract"


class LlvmCode(Code):
    """A kernel in LLVM's language; names begin with %."""

    language = "llvm"

    def __init__(self, vectorised: bool) -> None:
        super().__init__(vectorised)
        self._number = f"<{WIDTH} x double>" if vectorised else "double"
        self._mask = f"<{WIDTH} x i1>" if vectorised else "i1"
        self._suffix = f"v{WIDTH}f64" if vectorised else "f64"

    # -- numbers and conditions -------------------------------------------------------------------

    def constant(self, value: float) -> str:
        bits = f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
        return bits if not self.vectorised else f"<{', '.join([f'double {bits}'] * WIDTH)}>"

    def arithmetic(self, scope: Scope, op: str, *names: str) -> str:
        if op == "sqrt":
            call = f"call {self._number} @llvm.sqrt.{self._suffix}({self._number} {names[0]})"
            return self._emit(scope, call)
        if op == "fneg":
            return self._emit(scope, f"fneg {self._number} {names[0]}")
        return self._emit(scope, f"{op} {_FAST} {self._number} {names[0]}, {names[1]}")

    def exceeds(self, scope: Scope, number: str, bound: str) -> str:
        call = f"call {self._number} @llvm.fabs.{self._suffix}({self._number} {number})"
        size = self._emit(scope, call)
        return self._emit(scope, f"fcmp ugt {self._number} {size}, {bound}")

    def either(self, scope: Scope, one: str, other: str) -> str:
        return self._emit(scope, f"or {self._mask} {one}, {other}")

    @property
    def never(self) -> str:
        return "zeroinitializer" if self.vectorised else "false"

    def total(self, scope: Scope, number: str) -> str:
        total = self._emit(
            scope,
            f"call reassoc double @llvm.vector.reduce.fadd.{self._suffix}"
            f"(double 0.0, {self._number} {number})",
        )
        return self._splat(scope, total)

    def anywhere(self, scope: Scope, condition: str) -> str:
        call = f"call i1 @llvm.vector.reduce.or.v{WIDTH}i1({self._mask} {condition})"
        return self._splat(scope, self._emit(scope, call), "i1")

    # -- memory -----------------------------------------------------------------------------------

    def step(self) -> str:
        return self._splat(self.copy, self._element(self.copy, "double", "%steps", "%copy_index"))

    def pointer(self, table: str, number: int, integers: bool = False) -> str:
        return self._element(self.entry, "ptr", f"%{table}", number)

    def length(self, number: int) -> str:
        return self._element(self.entry, "i64", "%lengths", number)

    def stride(self, number: int) -> str:
        return self._element(self.entry, "i64", "%strides", number)

    def position(self, number: int) -> str:
        return self.integer(self.copy, self.pointer("positions", number), "%copy_index")

    def integer(self, scope: Scope, pointer: str, index: str) -> str:
        return self._element(scope, "i64", pointer, index)

    def following(self, integer: str) -> str:
        return self._once(self.copy, ("following", integer), f"add i64 {integer}, 1")

    def moved(self, scope: Scope, pointer: str, place: str, stride: str) -> str:
        distance = self._once(scope, ("distance", place, stride), f"mul i64 {place}, {stride}")
        return self._once(
            scope,
            ("moved", pointer, distance),
            f"getelementptr double, ptr {pointer}, i64 {distance}",
        )

    def load(self, scope: Scope, pointer: str, offset: int, lanes: bool) -> str:
        if offset:
            pointer = self._once(
                scope,
                ("offset", pointer, offset),
                f"getelementptr double, ptr {pointer}, i64 {offset}",
            )
        kind = self._number if lanes else "double"
        value = self._emit(scope, f"load {kind}, ptr {pointer}, align 8")
        return value if lanes else self._splat(scope, value)

    def weight(self, scope: Scope, place: str) -> str:
        return self._element(scope, self._number, self.pointer("blocks", 2), place)

    def room(self, elements: int) -> str:
        return self._emit(self.entry, f"alloca [{elements} x {self._number}], align 64")

    def keep(self, scope: Scope, room: str, index: str, number: str) -> None:
        at = self._emit(scope, f"getelementptr {self._number}, ptr {room}, i64 {index}")
        scope.lines.append(f"  store {self._number} {number}, ptr {at}, align 8")
        self.count(scope)

    def kept(self, scope: Scope, room: str, index: str) -> str:
        return self._element(scope, self._number, room, index)

    # -- loops and the whole ----------------------------------------------------------------------

    def index(self) -> str:
        return "%" + self.name("index")

    def running(self, summand: str, any: bool) -> Running:
        return Running("%" + self.name("any" if any else "sum"), summand, any)

    def loop(
        self,
        scope: Scope,
        body: Scope,
        index: str,
        span: tuple[str, str],
        sums: list[Running],
        spread: bool,
    ) -> list[str]:
        first, last = span
        header, done, after = body.header, f"{index[1:]}.done", f"{index}.next"
        some = self._emit(scope, f"icmp slt i64 {first}, {last}")
        before = scope.block
        phis = [f"  {index} = phi i64 [ {first}, %{before} ], [ {after}, %{body.block} ]"]
        updates, ends, names = [], [], []
        for running in sums:
            kind = self._mask if running.any else self._number
            zero = {"double": "0.0", "i1": "false"}.get(kind, "zeroinitializer")
            total, end = f"{running.so_far}.next", f"{running.so_far}.end"
            either_way = f"phi {kind} [ {zero}, %{before} ], [ {total}, %{body.block} ]"
            add = "or" if running.any else "fadd"
            phis.append(f"  {running.so_far} = {either_way}")
            updates.append(f"  {total} = {add} {kind} {running.so_far}, {running.summand}")
            ends.append(f"  {end} = {either_way}")
            names.append(end)
        scope.lines += [
            # A copy may have no sample to look at.
            f"  br i1 {some}, label %{header}, label %{done}",
            f"{header}:",
            *phis,
            *body.lines,
            *updates,
            f"  {after} = add i64 {index}, 1",
            f"  {index}.more = icmp slt i64 {after}, {last}",
            f"  br i1 {index}.more, label %{header}, label %{done}",
            f"{done}:",
            *ends,
        ]
        scope.block = done
        return names

    def function(self, plus: str, minus: str, refused: str, odd: bool) -> str:
        plus = self._lane(self._number, plus)
        # J(θ) − J(θ−h) is the negative of the change at −h.
        minus = self._lane(self._number, minus)
        if not odd:
            minus = self._emit(self.copy, f"fneg double {minus}")
        flag = self._emit(self.copy, f"zext i1 {self._lane(self._mask, refused)} to i8")
        arguments = ", ".join(f"ptr noalias %{name}" for name in ARGUMENTS)
        lines = [
            f"define void @{FUNCTION}({arguments}, i64 %first, i64 %last) {{",
            "entry:",
            *self.entry.lines,
            "  br label %copy",
            "copy:",
            f"  %copy_index = phi i64 [ %first, %entry ], [ %next_copy, %{self.copy.block} ]",
            *self.copy.lines,
            *_store("plus", "double", plus),
            *_store("minus", "double", minus),
            *_store("refused", "i8", flag),
            "  %next_copy = add i64 %copy_index, 1",
            "  %more_copies = icmp slt i64 %next_copy, %last",
            "  br i1 %more_copies, label %copy, label %done",
            "done:",
            "  ret void",
            "}",
            *self._declarations(),
        ]
        return "\n".join(lines) + "\n"

    # -- lines ------------------------------------------------------------------------------------

    def _emit(self, scope: Scope, code: str) -> str:
        """Add a line that computes something; return its name."""
        name = "%" + self.name("v")
        scope.lines.append(f"  {name} = {code}")
        self.count(scope)
        return name

    def _once(self, scope: Scope, key: object, code: str) -> str:
        return self.once(scope, key, lambda: self._emit(scope, code))

    def _element(self, scope: Scope, kind: str, pointer: str, index: str | int) -> str:
        """Load one element of an array of numbers, integers or pointers."""
        at = self._once(
            scope, ("at", pointer, index), f"getelementptr {kind}, ptr {pointer}, i64 {index}"
        )
        return self._once(scope, ("loaded", kind, at), f"load {kind}, ptr {at}, align 8")

    def _splat(self, scope: Scope, name: str, kind: str = "double") -> str:
        """Fill a vector with one number."""
        if not self.vectorised:
            return name
        vector = f"<{WIDTH} x {kind}>"
        one = self._once(
            scope, ("one", name), f"insertelement {vector} poison, {kind} {name}, i32 0"
        )
        return self._once(
            scope,
            ("splat", name),
            f"shufflevector {vector} {one}, {vector} poison, <{WIDTH} x i32> zeroinitializer",
        )

    def _lane(self, kind: str, name: str) -> str:
        """Return one number of a vector whose lanes are all alike."""
        if not self.vectorised:
            return name
        return self._emit(self.copy, f"extractelement {kind} {name}, i32 0")

    def _declarations(self) -> list[str]:
        """Return the declarations of LLVM's own functions."""
        lines = [
            f"declare {self._number} @llvm.{name}.{self._suffix}({self._number})"
            for name in ("fabs", "sqrt")
        ]
        if self.vectorised:
            lines += [
                f"declare double @llvm.vector.reduce.fadd.{self._suffix}(double, {self._number})",
                f"declare i1 @llvm.vector.reduce.or.v{WIDTH}i1({self._mask})",
            ]
        return lines


def _store(array: str, kind: str, value: str) -> list[str]:
    return [
        f"  %{array}_at = getelementptr {kind}, ptr %{array}, i64 %copy_index",
        f"  store {kind} {value}, ptr %{array}_at",
    ]
