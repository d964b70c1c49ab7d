"""LLVM's language, as far as the interpreter needs it: lines, loops and branches in SSA form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

LANES = 8
"""Copies side by side: a register of AVX-512, two of AVX2."""
VECTOR = f"<{LANES} x double>"
MASK = f"<{LANES} x i1>"
BITS = f"<{LANES} x i64>"
BYTES = 8 * LANES
"""Of one vector."""

Body = Callable[[str, list[str]], Sequence[str]]


class Assembly:
    """The lines of one function."""

    def __init__(self, block: str) -> None:
        self.lines: list[str] = []
        self.block = block
        self._names = 0

    def name(self, what: str) -> str:
        """Return a new name."""
        self._names += 1
        return f"{what}{self._names}"

    def emit(self, code: str) -> str:
        """Add a line that computes something; return its name."""
        name = "%" + self.name("v")
        self.lines.append(f"  {name} = {code}")
        return name

    def do(self, code: str) -> None:
        """Add a line that gives nothing."""
        self.lines.append(f"  {code}")

    def label(self, block: str) -> None:
        """Begin a block."""
        self.lines.append(f"{block}:")
        self.block = block

    # -- integers and memory ----------------------------------------------------------------------

    def add(self, a: str, b: str | int) -> str:
        return self.emit(f"add i64 {a}, {b}")

    def multiply(self, a: str, b: str | int) -> str:
        return self.emit(f"mul i64 {a}, {b}")

    def at(self, pointer: str, offset: str) -> str:
        """Return a pointer moved on by some bytes."""
        return self.emit(f"getelementptr i8, ptr {pointer}, i64 {offset}")

    def pointer(self, address: str) -> str:
        return self.emit(f"inttoptr i64 {address} to ptr")

    def load(self, kind: str, pointer: str) -> str:
        return self.emit(f"load {kind}, ptr {pointer}, align 8")

    def store(self, kind: str, value: str, pointer: str) -> None:
        self.do(f"store {kind} {value}, ptr {pointer}, align 8")

    # -- vectors ----------------------------------------------------------------------------------

    def arithmetic(self, op: str, a: str, b: str, kind: str = VECTOR) -> str:
        """Write fadd, fsub, fmul or fdiv; a product may be fused with a sum."""
        return self.emit(f"{op} contract {kind} {a}, {b}")

    def splat(self, number: str, kind: str = "double") -> str:
        """Fill a vector with one number."""
        vector = f"<{LANES} x {kind}>"
        one = self.emit(f"insertelement {vector} poison, {kind} {number}, i32 0")
        zeros = f"<{LANES} x i32> zeroinitializer"
        return self.emit(f"shufflevector {vector} {one}, {vector} poison, {zeros}")

    def beyond(self, number: str, bound: str) -> str:
        """Write the condition |number| > bound, which also holds for NaN."""
        size = self.emit(f"call {VECTOR} @llvm.fabs.v{LANES}f64({VECTOR} {number})")
        return self.emit(f"fcmp ugt {VECTOR} {size}, {bound}")

    # -- control ----------------------------------------------------------------------------------

    def loop(
        self,
        first: str,
        last: str,
        body: Body,
        carried: Sequence[tuple[str, str]] = (),
        step: int = 1,
    ) -> tuple[str, list[str]]:
        """Write a loop; return where its index has come to, and what is carried after it.

        `carried` are kinds and initial values; `body` is given the index and their values, and
        returns the next ones. The loop runs while a whole `step` fits before `last`.
        """
        name = self.name("loop")
        index, header, done = f"%{name}.index", f"{name}.body", f"{name}.done"
        before = self.block
        limit = last if step == 1 else self.add(last, 1 - step)
        some = self.emit(f"icmp slt i64 {first}, {limit}")
        self.do(f"br i1 {some}, label %{header}, label %{done}")
        self.label(header)
        place = len(self.lines)
        names = [f"%{name}.carried{k}" for k in range(len(carried))]
        ends = list(body(index, names))
        following = self.add(index, step)
        more = self.emit(f"icmp slt i64 {following}, {limit}")
        latch = self.block
        self.do(f"br i1 {more}, label %{header}, label %{done}")
        phis = [f"  {index} = phi i64 [ {first}, %{before} ], [ {following}, %{latch} ]"]
        for (kind, start), one, end in zip(carried, names, ends, strict=True):
            phis.append(f"  {one} = phi {kind} [ {start}, %{before} ], [ {end}, %{latch} ]")
        self.lines[place:place] = phis
        self.label(done)
        after = self.emit(f"phi i64 [ {first}, %{before} ], [ {following}, %{latch} ]")
        results = [
            self.emit(f"phi {kind} [ {start}, %{before} ], [ {end}, %{latch} ]")
            for (kind, start), end in zip(carried, ends, strict=True)
        ]
        return after, results

    def when(self, condition: str, body: Callable[[], None]) -> None:
        """Write a branch that is taken if the condition holds."""
        name = self.name("when")
        self.do(f"br i1 {condition}, label %{name}.so, label %{name}.done")
        self.label(f"{name}.so")
        body()
        self.do(f"br label %{name}.done")
        self.label(f"{name}.done")
