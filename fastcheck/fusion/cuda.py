"""CUDA C++: what a team of threads does for one perturbed copy.

A lane of the CPU's vectors is a thread here, so numbers are plain ones, and the arrays are the same
in the same layout. Pointers come out of tables, so the compiler has to be told that what they point
to is only read (``__ldg``). Blocks of samples are spread over the rows of a team. The kernel around
it is in ``kernels/differences.cu``.
"""

from __future__ import annotations

import math

from fastcheck.fusion.code import Code, Running, Scope
from fastcheck.fusion.schedule import WIDTH

_SIGNS = {"fadd": "+", "fsub": "-", "fmul": "*", "fdiv": "/"}
_SIGNATURE = """\
__device__ __forceinline__ void change(
    const Team &team, const void *const *arrays, const Index *strides,
    const void *const *positions, const Index *lengths, const void *const *blocks,
    const Real *steps, Index copy, Real &plus, Real &minus, bool &refused)
{"""


class CudaCode(Code):
    """The body of `change`; every line is a statement."""

    language = "cuda"

    # -- numbers and conditions -------------------------------------------------------------------

    def constant(self, value: float) -> str:
        if not math.isfinite(value):
            return {math.inf: "(Real)(1.0 / 0.0)", -math.inf: "(Real)(-1.0 / 0.0)"}.get(
                value, "(Real)(0.0 / 0.0)"
            )
        return f"(Real)({float(value).hex()})"

    def arithmetic(self, scope: Scope, op: str, *names: str) -> str:
        if op == "sqrt":
            return self._number(scope, f"sqrt({names[0]})")
        if op == "fneg":
            return self._number(scope, f"-{names[0]}")
        return self._number(scope, f"{names[0]} {_SIGNS[op]} {names[1]}")

    def exceeds(self, scope: Scope, number: str, bound: str) -> str:
        return self._emit(scope, "bool", f"!(fabs({number}) <= {bound})")

    def either(self, scope: Scope, one: str, other: str) -> str:
        return self._emit(scope, "bool", f"{one} | {other}")

    @property
    def never(self) -> str:
        return "false"

    def total(self, scope: Scope, number: str) -> str:
        return self._number(scope, f"total(team, {number})")

    def anywhere(self, scope: Scope, condition: str) -> str:
        return self._emit(scope, "bool", f"anywhere(team, {condition})")

    # -- memory -----------------------------------------------------------------------------------

    def step(self) -> str:
        return self._once(self.copy, "step", "Real", "steps[copy]")

    def pointer(self, table: str, number: int, integers: bool = False) -> str:
        kind = "const Index *" if integers else "const Real *"
        return self._once(self.entry, (table, number), kind, f"({kind}){table}[{number}]")

    def length(self, number: int) -> str:
        return self._once(self.entry, ("length", number), "Index", f"lengths[{number}]")

    def stride(self, number: int) -> str:
        return self._once(self.entry, ("stride", number), "Index", f"strides[{number}]")

    def position(self, number: int) -> str:
        pointer = self.pointer("positions", number, integers=True)
        return self.integer(self.copy, pointer, "copy")

    def integer(self, scope: Scope, pointer: str, index: str) -> str:
        key = ("integer", pointer, index)
        return self._once(scope, key, "Index", f"__ldg({pointer} + {index})")

    def following(self, integer: str) -> str:
        return self._once(self.copy, ("following", integer), "Index", f"{integer} + 1")

    def moved(self, scope: Scope, pointer: str, place: str, stride: str) -> str:
        key = ("moved", pointer, place, stride)
        return self._once(scope, key, "const Real *", f"{pointer} + {place} * {stride}")

    def load(self, scope: Scope, pointer: str, offset: int, lanes: bool) -> str:
        lane = " + team.lane" if lanes else ""
        return self._number(scope, f"__ldg({pointer} + {offset}{lane})")

    def weight(self, scope: Scope, place: str) -> str:
        ones = self.pointer("blocks", 2)
        return self._number(scope, f"__ldg({ones} + {place} * {WIDTH} + team.lane)")

    def room(self, elements: int) -> str:
        name = self.name("kept")
        self.entry.lines.append(f"Real {name}[{elements}];")
        return name

    def keep(self, scope: Scope, room: str, index: str, number: str) -> None:
        scope.lines.append(f"{room}[{index}] = {number};")
        self.count(scope)

    def kept(self, scope: Scope, room: str, index: str) -> str:
        return self._number(scope, f"{room}[{index}]")

    # -- loops and the whole ----------------------------------------------------------------------

    def index(self) -> str:
        return self.name("index")

    def running(self, summand: str, any: bool) -> Running:
        return Running(self.name("any" if any else "sum"), summand, any)

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
        start, stride = (f"{first} + team.part", "team.parts") if spread else (first, "1")
        for running in sums:
            kind, zero = ("bool", "false") if running.any else ("Real", "0")
            scope.lines.append(f"{kind} {running.so_far} = {zero};")
        scope.lines.append(
            f"for (Index {index} = {start}; {index} < {last}; {index} += {stride}) {{"
        )
        scope.lines += [f"    {line}" for line in body.lines]
        for running in sums:
            join = "|=" if running.any else "+="
            scope.lines.append(f"    {running.so_far} {join} {running.summand};")
        scope.lines.append("}")
        return [running.so_far for running in sums]

    def function(self, plus: str, minus: str, refused: str, odd: bool) -> str:
        # J(θ) − J(θ−h) is the negative of the change at −h.
        lines = [
            *self.entry.lines,
            *self.copy.lines,
            f"plus = {plus};",
            f"minus = {minus if odd else f'-{minus}'};",
            f"refused = {refused};",
        ]
        return "\n".join([_SIGNATURE, *[f"    {line}" for line in lines], "}"])

    # -- lines ------------------------------------------------------------------------------------

    def _emit(self, scope: Scope, kind: str, code: str) -> str:
        """Add a line that computes something; return its name."""
        name = self.name("v")
        space = "" if kind.endswith("*") else " "
        const = "" if kind.startswith("const") else "const "
        scope.lines.append(f"{const}{kind}{space}{name} = {code};")
        self.count(scope)
        return name

    def _number(self, scope: Scope, code: str) -> str:
        return self._emit(scope, "Real", code)

    def _once(self, scope: Scope, key: object, kind: str, code: str) -> str:
        return self.once(scope, key, lambda: self._emit(scope, kind, code))
