"""Prints a program as LLVM's intermediate language: one function, a loop over perturbed copies.

LLVM is the compiler under Numba. Printing for it directly, with explicit vectors, compiles in tens
of milliseconds, where the same loops written for Numba take a second, and needs no luck with the
vectoriser.

Each loop is a scope. An expression is printed in the outermost scope in which its labels are bound,
and only once there, so that what does not change in a loop is before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastcheck.fusion.code import Code, Scope
from fastcheck.fusion.dims import Label
from fastcheck.fusion.expression import (
    ANY,
    EXCEEDS,
    LOAD,
    NUMBER,
    OR,
    SQRT,
    STEP,
    SUM,
    Expression,
    Parity,
)
from fastcheck.fusion.lower import Program
from fastcheck.fusion.memory import Memory
from fastcheck.fusion.schedule import Schedule
from fastcheck.fusion.source import Parts, Source, Template, printed
from fastcheck.fusion.zeros import Zeros

FUNCTION = "differences"
_ARGUMENTS = "arrays strides positions lengths blocks steps plus minus refused".split()
# A multiplication and an addition may be fused; nothing is reordered.
_FAST = "contract"


@dataclass(frozen=True)
class Value:
    """Names of the values at +h and −h. For the even and odd one name stands for both."""

    parity: Parity
    plus: str
    minus: str


Summand = tuple[str, str]
"""What an iteration adds to a sum: the name of the sum so far, and that of the summand."""


def print_kernel(program: Program, schedule: Schedule) -> Source:
    """Print the kernel of a program that changes the loss."""
    return printed(schedule, lambda parts: _Printer(program, schedule).template(parts))


class _Printer:
    def __init__(self, program: Program, schedule: Schedule) -> None:
        self._program = program
        self._schedule = schedule
        self._zeros = Zeros(schedule)
        self._code = Code(schedule.vector is not None)
        self._memory = Memory(self._code, schedule, self._zeros.padded)
        self._weighted = False
        self._open: set[Expression] = set()

    def template(self, parts: Parts) -> Template:
        """Print the whole function."""
        code, memory = self._code, self._memory
        change, refused = self._program.change, self._program.refused
        assert change is not None
        value = self._evaluate(change, {})
        mask = code.zero(code.mask) if refused is None else self._evaluate(refused, {})
        plus = code.lane(code.number, value.plus)
        # J(θ) − J(θ−h) is the negative of the change at −h.
        minus = code.lane(code.number, value.minus)
        if value.parity is not Parity.ODD:
            minus = code.emit(code.copy, f"fneg double {minus}")
        flag = code.emit(code.copy, f"zext i1 {code.lane(code.mask, mask)} to i8")
        skipping = self._zeros.skipping
        number = parts.number
        return Template(
            text=self._function(plus, minus, flag),
            arrays=tuple((number[h], layout.zeros) for h, layout in memory.layouts.items()),
            pins=tuple(number[pin] for pin in memory.pins),
            loops=tuple(number[label] for label in memory.loops),
            weighted=self._weighted,
            skipping=None if skipping is None else number[skipping],
            counts=tuple(
                (tuple(number[label] for label in nest), n) for nest, n in code.counts.items()
            ),
        )

    def _function(self, plus: str, minus: str, refused: str) -> str:
        code = self._code
        arguments = ", ".join(f"ptr noalias %{name}" for name in _ARGUMENTS)
        lines = [
            f"define void @{FUNCTION}({arguments}, i64 %first, i64 %last) {{",
            "entry:",
            *code.entry.lines,
            "  br label %copy",
            "copy:",
            f"  %copy_index = phi i64 [ %first, %entry ], [ %next_copy, %{code.copy.block} ]",
            *code.copy.lines,
            *_store("plus", "double", plus),
            *_store("minus", "double", minus),
            *_store("refused", "i8", refused),
            "  %next_copy = add i64 %copy_index, 1",
            "  %more_copies = icmp slt i64 %next_copy, %last",
            "  br i1 %more_copies, label %copy, label %done",
            "done:",
            "  ret void",
            "}",
            *code.declarations(),
        ]
        return "\n".join(lines) + "\n"

    # -- expressions ------------------------------------------------------------------------------

    def _evaluate(self, node: Expression, places: dict[Label, int]) -> Any:
        """Print an expression for the given elements of the unrolled labels."""
        scope = self._scope(node)
        key = _key(node, places)
        if key not in scope.known:
            scope.known[key] = self._print(node, places, scope)
        return scope.known[key]

    def _scope(self, node: Expression) -> Scope:
        for scope in reversed(self._code.stack):
            if scope.label is not None and scope.label in node.labels:
                return scope
        return self._code.copy

    def _print(self, node: Expression, places: dict[Label, int], scope: Scope) -> Any:
        code = self._code
        if node.op == STEP:
            step = code.element(code.copy, "double", "%steps", "%copy_index")
            return Value(Parity.ODD, *[code.splat(code.copy, step)] * 2)
        if node.op == NUMBER:
            return Value(Parity.EVEN, *[code.constant(node.payload)] * 2)
        if node.op == LOAD:
            return Value(Parity.EVEN, *[self._memory.load(node.payload, places, scope)] * 2)
        if node.op in (SUM, ANY):
            return self._reduced(node, places, scope)
        operands = [self._evaluate(operand, places) for operand in node.operands]
        if node.op == OR:
            return code.emit(scope, f"or {code.mask} {operands[0]}, {operands[1]}")
        if node.op == EXCEEDS:
            return self._exceeds(scope, *operands)
        return self._arithmetic(node, scope, operands)

    def _arithmetic(self, node: Expression, scope: Scope, operands: list[Value]) -> Value:
        plus = self._operation(node.op, scope, [operand.plus for operand in operands])
        if node.parity is not Parity.MIXED:
            return Value(node.parity, plus, plus)
        names = [self._at_minus(scope, operand) for operand in operands]
        return Value(node.parity, plus, self._operation(node.op, scope, names))

    def _operation(self, op: str, scope: Scope, names: list[str]) -> str:
        code = self._code
        if op == SQRT:
            call = f"call {code.number} @llvm.sqrt.{code.suffix}({code.number} {names[0]})"
            return code.emit(scope, call)
        return code.emit(scope, f"{op} {_FAST} {code.number} {names[0]}, {names[1]}")

    def _at_minus(self, scope: Scope, value: Value) -> str:
        """Return the value at −h; the negative of an odd one is printed once."""
        if value.parity is not Parity.ODD:
            return value.minus
        key = ("negative", value.plus)
        for outer in self._code.stack:
            if key in outer.known:
                return str(outer.known[key])
        return self._code.once(scope, key, f"fneg {self._code.number} {value.plus}")

    def _exceeds(self, scope: Scope, value: Value, bound: Value) -> str:
        code = self._code
        tests = []
        for name in dict.fromkeys([value.plus, value.minus]):
            size = code.emit(
                scope, f"call {code.number} @llvm.fabs.{code.suffix}({code.number} {name})"
            )
            tests.append(code.emit(scope, f"fcmp ugt {code.number} {size}, {bound.plus}"))
        if len(tests) == 1:
            return tests[0]
        return code.emit(scope, f"or {code.mask} {tests[0]}, {tests[1]}")

    # -- sums -------------------------------------------------------------------------------------

    def _reduced(self, node: Expression, places: dict[Label, int], scope: Scope) -> Any:
        """Print a sum, and with it those over the same label that do not need each other.

        What they share then stays in registers.
        """
        # One that is being printed further up is not begun again for company.
        together = [
            other
            for other, level in self._schedule.level.items()
            if other is node
            or (
                other.payload is node.payload
                and level == self._schedule.level[node]
                and other not in self._open
            )
        ]
        opened = set(together) - self._open
        self._open |= opened
        if node.payload in self._schedule.loops:
            self._loop(node.payload, together, scope)
        else:
            alike = [other for other in together if other.labels == node.labels]
            self._unrolled(node.payload, alike, places, scope)
        self._open -= opened
        return scope.known[_key(node, places)]

    def _unrolled(
        self, label: Label, together: list[Expression], places: dict[Label, int], scope: Scope
    ) -> None:
        totals: dict[Expression, Any] = {}
        for place in range(label.size):
            for node in together:
                value = self._evaluate(node.operands[0], {**places, label: place})
                before = totals.get(node)
                totals[node] = value if before is None else self._joined(scope, node, before, value)
        for node, total in totals.items():
            scope.known[_key(node, places)] = total

    def _joined(self, scope: Scope, node: Expression, total: Any, value: Any) -> Any:
        code = self._code
        if node.op == ANY:
            return code.emit(scope, f"or {code.mask} {total}, {value}")
        plus = code.emit(scope, f"fadd {_FAST} {code.number} {total.plus}, {value.plus}")
        if node.parity is not Parity.MIXED:
            return Value(node.parity, plus, plus)
        minus = code.emit(scope, f"fadd {_FAST} {code.number} {total.minus}, {value.minus}")
        return Value(node.parity, plus, minus)

    def _loop(self, label: Label, together: list[Expression], scope: Scope) -> None:
        code, outside = self._code, self._code.stack
        code.stack = outside[: outside.index(scope) + 1]
        body = Scope(label, code.name("loop"), (*scope.nest, label))
        header, index = body.block, "%" + code.name("index")
        sums = [node for node in together if self._scope(node) is scope]
        code.stack.append(body)
        body.known["place"] = self._place(label, index, body)
        summands = [
            (node, places, self._summands(node, places, body))
            for node in sums
            for places in _instances(node, self._schedule.loops)
        ]
        code.stack = outside
        self._stitch(scope, body, header, index, summands)

    def _place(self, label: Label, index: str, body: Scope) -> str:
        """Return what an iteration stands for: an element, or a block of samples."""
        if label is self._schedule.vector and self._zeros.skipping is not None:
            return self._code.element(body, "i64", self._memory.table("blocks", 1), index)
        return index

    def _summands(self, node: Expression, places: dict[Label, int], body: Scope) -> list[Summand]:
        """Print what one iteration adds."""
        code = self._code
        value = self._evaluate(node.operands[0], places)
        if node.op == ANY:
            return [("%" + code.name("any"), value)]
        names = [value.plus] if node.parity is not Parity.MIXED else [value.plus, value.minus]
        if node.payload is self._schedule.vector and not self._zeros.vanishes(node):
            weight = self._weight(body)
            names = [code.emit(body, f"fmul {code.number} {name}, {weight}") for name in names]
        return [("%" + code.name("sum"), name) for name in names]

    def _stitch(
        self,
        scope: Scope,
        body: Scope,
        header: str,
        index: str,
        summands: list[tuple[Expression, dict[Label, int], list[Summand]]],
    ) -> None:
        """Put the loop where its scope has come to, and bind the sums there."""
        code, after, done = self._code, "%" + _code_name(index, "next"), _code_name(index, "done")
        skips = body.label is self._schedule.vector and self._zeros.skipping is not None
        first, last = self._range(body.label, skips)
        some = code.emit(scope, f"icmp slt i64 {first}, {last}")
        before = scope.block
        phis = [f"  {index} = phi i64 [ {first}, %{before} ], [ {after}, %{body.block} ]"]
        updates, ends = [], []
        results: list[tuple[Expression, dict[Label, int], list[str]]] = []
        for node, places, pairs in summands:
            kind = code.mask if node.op == ANY else code.number
            add, zero = ("or" if node.op == ANY else "fadd"), code.zero(kind)
            names = []
            for so_far, summand in pairs:
                total, end = f"{so_far}.next", f"{so_far}.end"
                phis.append(
                    f"  {so_far} = phi {kind} [ {zero}, %{before} ], [ {total}, %{body.block} ]"
                )
                updates.append(f"  {total} = {add} {kind} {so_far}, {summand}")
                ends.append(
                    f"  {end} = phi {kind} [ {zero}, %{before} ], [ {total}, %{body.block} ]"
                )
                names.append(end)
            results.append((node, places, names))
        code.counts[body.nest] += len(updates) + 2
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
        for node, places, names in results:
            scope.known[_key(node, places)] = self._ended(scope, node, names)

    def _ended(self, scope: Scope, node: Expression, names: list[str]) -> Any:
        """Return a sum after its loop: of all lanes, if it ran along the vector."""
        if node.payload is self._schedule.vector:
            across = self._code.anywhere if node.op == ANY else self._code.across
            names = [across(scope, name) for name in names]
        return names[0] if node.op == ANY else Value(node.parity, names[0], names[-1])

    def _range(self, label: Label | None, skips: bool) -> tuple[str, str]:
        assert label is not None
        if not skips:
            return "0", self._memory.length(label)
        assert self._zeros.skipping is not None
        code, starts = self._code, self._memory.table("blocks", 0)
        position = self._memory.position(self._zeros.skipping.pins[0])
        following = code.once(code.copy, "following", f"add i64 {position}, 1")
        return (
            code.element(code.copy, "i64", starts, position),
            code.element(code.copy, "i64", starts, following),
        )

    def _weight(self, body: Scope) -> str:
        """Return 1 for samples, 0 past the last one."""
        self._weighted = True
        code = self._code
        return code.element(body, code.number, self._memory.table("blocks", 2), body.known["place"])


def _code_name(index: str, what: str) -> str:
    """Return a name that goes with a loop's index."""
    return f"{index[1:]}.{what}"


def _store(array: str, kind: str, value: str) -> list[str]:
    return [
        f"  %{array}_at = getelementptr {kind}, ptr %{array}, i64 %copy_index",
        f"  store {kind} {value}, ptr %{array}_at",
    ]


def _key(node: Expression, places: dict[Label, int]) -> tuple[int, tuple[tuple[int, int], ...]]:
    mine = [(label.number, place) for label, place in places.items() if label in node.labels]
    return node.number, tuple(sorted(mine))


def _instances(node: Expression, loops: frozenset[Label]) -> list[dict[Label, int]]:
    """Return every choice of the unrolled labels of a sum."""
    choices: list[dict[Label, int]] = [{}]
    for label in sorted(node.labels - loops, key=lambda label: label.number):
        choices = [{**choice, label: place} for choice in choices for place in range(label.size)]
    return choices
