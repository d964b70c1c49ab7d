"""Prints a program as the code of a kernel, in one of the languages that there are.

Each loop is a scope. An expression is printed in the outermost scope in which its labels are bound,
and only once there, so that what does not change in a loop is before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastcheck.fusion.code import Code, Running, Scope
from fastcheck.fusion.dims import Label, NotFusable
from fastcheck.fusion.expression import (
    ANY,
    EXCEEDS,
    LOAD,
    NUMBER,
    OR,
    STEP,
    SUM,
    Expression,
    Parity,
    in_order,
)
from fastcheck.fusion.llvm import LlvmCode
from fastcheck.fusion.lower import Program
from fastcheck.fusion.memory import Memory
from fastcheck.fusion.schedule import Schedule
from fastcheck.fusion.source import Parts, Source, Template, printed
from fastcheck.fusion.zeros import Zeros

# Numbers that a kernel keeps at most, of 8 samples each (a thread may have half a megabyte for all
# that it does), and to how many a room is rounded up.
_MOST_KEPT, _ROUNDED = 4096, 8

# Operations down a chain that are printed by recursion.
_MOST_RECURSIVE = 60


@dataclass(frozen=True)
class Value:
    """Names of the values at +h and −h. For the even and odd one name stands for both."""

    parity: Parity
    plus: str
    minus: str


def print_kernel(program: Program, schedule: Schedule, language: type[Code] = LlvmCode) -> Source:
    """Print the kernel of a program that changes the loss."""

    def print_it(parts: Parts) -> Template:
        return _Printer(program, schedule, language).template(parts)

    return printed(schedule, language.language, print_it)


class _Printer:
    def __init__(self, program: Program, schedule: Schedule, language: type[Code]) -> None:
        self._program = program
        self._schedule = schedule
        self._zeros = Zeros(schedule)
        self._code = language(schedule.vector is not None)
        self._memory = Memory(self._code, schedule, self._zeros.padded)
        self._weighted = False
        self._open: set[Expression] = set()
        self._kept_elements = 0
        self._depth = 0

    def template(self, parts: Parts) -> Template:
        """Print the whole function."""
        code, memory = self._code, self._memory
        change, refused = self._program.change, self._program.refused
        assert change is not None
        value = self._evaluate(change, {})
        mask = code.never if refused is None else self._evaluate(refused, {})
        text = code.function(value.plus, value.minus, mask, value.parity is Parity.ODD)
        skipping = self._zeros.skipping
        number = parts.number
        return Template(
            text=text,
            arrays=tuple((number[h], layout.zeros) for h, layout in memory.layouts.items()),
            pins=tuple(number[pin] for pin in memory.pins),
            loops=tuple(number[label] for label in memory.loops),
            weighted=self._weighted,
            skipping=None if skipping is None else number[skipping],
            counts=tuple(
                (tuple(number[label] for label in nest), n) for nest, n in code.counts.items()
            ),
        )

    # -- expressions ------------------------------------------------------------------------------

    def _evaluate(self, node: Expression, places: dict[Label, int]) -> Any:
        """Print an expression for the given elements of the unrolled labels."""
        scope, key = self._scope(node), _key(node, places)
        if key not in scope.known:
            self._depth += 1
            if self._depth > _MOST_RECURSIVE:
                self._print_operands(node, places)
            scope.known[key] = self._made(node, places, scope)
            self._depth -= 1
        return scope.known[key]

    def _print_operands(self, node: Expression, places: dict[Label, int]) -> None:
        """Print what a node is computed from, without going down a long chain recursively."""
        for below in in_order(node, below=lambda node: self._is_to_be_printed(node, places)):
            if below is not node:
                scope, key = self._scope(below), _key(below, places)
                if key not in scope.known:
                    scope.known[key] = self._made(below, places, scope)

    def _is_to_be_printed(self, node: Expression, places: dict[Label, int]) -> bool:
        """Whether the operands of a node are needed where it is needed."""
        if node.op in (SUM, ANY) or node in self._schedule.kept:
            return False
        return _key(node, places) not in self._scope(node).known

    def _made(self, node: Expression, places: dict[Label, int], scope: Scope) -> Any:
        kept = node in self._schedule.kept
        return self._from_kept(node, places, scope) if kept else self._print(node, places, scope)

    def _scope(self, node: Expression) -> Scope:
        for scope in reversed(self._code.stack):
            if scope.label is not None and scope.label in node.labels:
                return scope
        return self._code.copy

    def _print(self, node: Expression, places: dict[Label, int], scope: Scope) -> Any:
        code = self._code
        if node.op == STEP:
            return Value(Parity.ODD, *[code.step()] * 2)
        if node.op == NUMBER:
            return Value(Parity.EVEN, *[code.constant(node.payload)] * 2)
        if node.op == LOAD:
            return Value(Parity.EVEN, *[self._memory.load(node.payload, places, scope)] * 2)
        if node.op in (SUM, ANY):
            return self._reduced(node, places, scope)
        operands = [self._evaluate(operand, places) for operand in node.operands]
        if node.op == OR:
            return code.either(scope, operands[0], operands[1])
        if node.op == EXCEEDS:
            return self._exceeds(scope, *operands)
        return self._arithmetic(node, scope, operands)

    def _arithmetic(self, node: Expression, scope: Scope, operands: list[Value]) -> Value:
        code = self._code
        plus = code.arithmetic(scope, node.op, *[operand.plus for operand in operands])
        if node.parity is not Parity.MIXED:
            return Value(node.parity, plus, plus)
        names = [self._at_minus(scope, operand) for operand in operands]
        return Value(node.parity, plus, code.arithmetic(scope, node.op, *names))

    def _at_minus(self, scope: Scope, value: Value) -> str:
        """Return the value at −h; the negative of an odd one is printed once."""
        if value.parity is not Parity.ODD:
            return value.minus
        code, key = self._code, ("negative", value.plus)
        for outer in code.around(scope):
            if key in outer.known:
                return str(outer.known[key])
        return code.once(scope, key, lambda: code.arithmetic(scope, "fneg", value.plus))

    def _exceeds(self, scope: Scope, value: Value, bound: Value) -> str:
        code = self._code
        names = dict.fromkeys([value.plus, value.minus])
        tests = [code.exceeds(scope, name, bound.plus) for name in names]
        return tests[0] if len(tests) == 1 else code.either(scope, *tests)

    # -- what is kept along a loop ----------------------------------------------------------------

    def _from_kept(self, node: Expression, places: dict[Label, int], scope: Scope) -> Value:
        """Load what has been computed for all of a loop, before the loop at hand."""
        code, label = self._code, self._schedule.kept[node]
        outer = self._scope_without(node, label)
        key = ("kept", self._key_of_kept(node, places))
        if key not in outer.known:
            self._keep(node, places, outer)
        parity, *rooms = outer.known[key]
        names = [code.kept(scope, room, str(scope.known["place"])) for room in rooms]
        return Value(parity, names[0], names[-1])

    def _scope_without(self, node: Expression, label: Label) -> Scope:
        for scope in reversed(self._code.stack):
            if scope.label is not None and scope.label in node.labels - {label}:
                return scope
        return self._code.copy

    def _keep(self, node: Expression, places: dict[Label, int], outer: Scope) -> None:
        """Print the loop that keeps an expression, and with it sums that it goes along with."""
        code, outside = self._code, self._code.stack
        label = self._schedule.kept[node]
        code.stack = outside[: outside.index(outer) + 1]
        body = Scope(label, code.name("loop"), (*outer.nest, label))
        index = code.index()
        code.stack.append(body)
        body.known["place"] = index
        for each in self._kept_with(node, places, outer):
            key = _key(each, places)
            if key not in body.known:
                body.known[key] = self._print(each, places, body)
            value: Value = body.known[key]
            names = [value.plus, value.minus] if value.parity is Parity.MIXED else [value.plus]
            rooms = [self._room(label) for _ in names]
            for room, name in zip(rooms, names, strict=True):
                code.keep(body, room, index, name)
            outer.known["kept", self._key_of_kept(each, places)] = (value.parity, *rooms)
        code.stack = outside
        code.counts[body.nest] += 2
        code.loop(outer, body, index, self._span(label), [], False)

    def _kept_with(
        self, node: Expression, places: dict[Label, int], outer: Scope
    ) -> list[Expression]:
        """Return the sums to be kept in the same loop; they share what they sum over."""
        schedule = self._schedule
        if node.op != SUM:
            return [node]
        return [
            other
            for other, label in schedule.kept.items()
            if other.op == SUM
            and label is schedule.kept[node]
            and other.payload is node.payload
            and other.labels == node.labels
            and schedule.level[other] == schedule.level[node]
            and other not in self._open - {node}
            and ("kept", self._key_of_kept(other, places)) not in outer.known
        ]

    def _key_of_kept(self, node: Expression, places: dict[Label, int]) -> Any:
        """Return what is common to expressions that differ in the name of the loop's label."""
        return _key(node.of(self._schedule.kept[node]), places)

    def _room(self, label: Label) -> str:
        """Make room for all of a loop."""
        elements = -(-label.size // _ROUNDED) * _ROUNDED
        self._kept_elements += elements
        if self._kept_elements > _MOST_KEPT:
            raise NotFusable("a kernel would keep too much")
        return self._code.room(elements)

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
            return code.either(scope, total, value)
        plus = code.arithmetic(scope, "fadd", total.plus, value.plus)
        if node.parity is not Parity.MIXED:
            return Value(node.parity, plus, plus)
        return Value(node.parity, plus, code.arithmetic(scope, "fadd", total.minus, value.minus))

    def _loop(self, label: Label, together: list[Expression], scope: Scope) -> None:
        code, outside = self._code, self._code.stack
        code.stack = outside[: outside.index(scope) + 1]
        body = Scope(label, code.name("loop"), (*scope.nest, label))
        index = code.index()
        sums = [node for node in together if self._is_at_home(node, scope)]
        code.stack.append(body)
        body.known["place"] = self._place(label, index, body)
        summands = [
            (node, places, self._summands(node, places, body))
            for node in sums
            for places in _instances(node, self._schedule.loops)
        ]
        code.stack = outside
        span, spread = self._span(label), label is self._schedule.vector
        running = [each for _, _, several in summands for each in several]
        code.counts[body.nest] += len(running) + 2
        ends = iter(code.loop(scope, body, index, span, running, spread))
        for node, places, several in summands:
            names = [next(ends) for _ in several]
            scope.known[_key(node, places)] = self._ended(scope, node, names)

    def _is_at_home(self, node: Expression, scope: Scope) -> bool:
        """Whether a scope is where an expression is to be printed: all of its loops are open."""
        around = {outer.label for outer in self._code.stack}
        return node.labels & self._schedule.loops <= around and self._scope(node) is scope

    def _place(self, label: Label, index: str, body: Scope) -> str:
        """Return what an iteration stands for: an element, or a block of samples."""
        if label is self._schedule.vector and self._zeros.skipping is not None:
            return self._code.integer(body, self._memory.blocks(1), index)
        return index

    def _summands(self, node: Expression, places: dict[Label, int], body: Scope) -> list[Running]:
        """Print what one iteration adds."""
        code = self._code
        value = self._evaluate(node.operands[0], places)
        if node.op == ANY:
            return [code.running(value, any=True)]
        names = [value.plus] if node.parity is not Parity.MIXED else [value.plus, value.minus]
        if node.payload is self._schedule.vector and not self._zeros.vanishes(node):
            self._weighted = True
            weight = code.once(body, "weight", lambda: code.weight(body, str(body.known["place"])))
            names = [code.arithmetic(body, "fmul", name, weight) for name in names]
        return [code.running(name, any=False) for name in names]

    def _ended(self, scope: Scope, node: Expression, names: list[str]) -> Any:
        """Return a sum after its loop: of all lanes, if it ran along the vector."""
        if node.payload is self._schedule.vector:
            across = self._code.anywhere if node.op == ANY else self._code.total
            names = [across(scope, name) for name in names]
        return names[0] if node.op == ANY else Value(node.parity, names[0], names[-1])

    def _span(self, label: Label) -> tuple[str, str]:
        """Return the first index of a loop, and the one after its last."""
        skipping = self._zeros.skipping
        if label is not self._schedule.vector or skipping is None:
            return "0", self._memory.length(label)
        code, starts = self._code, self._memory.blocks(0)
        position = self._memory.position(skipping.pins[0])
        following = code.following(position)
        return (
            code.integer(code.copy, starts, position),
            code.integer(code.copy, starts, following),
        )


def _key(node: Expression, places: dict[Label, int]) -> tuple[int, tuple[tuple[int, int], ...]]:
    mine = [(label.number, place) for label, place in places.items() if label in node.labels]
    return node.number, tuple(sorted(mine))


def _instances(node: Expression, loops: frozenset[Label]) -> list[dict[Label, int]]:
    """Return every choice of the unrolled labels of a sum."""
    choices: list[dict[Label, int]] = [{}]
    for label in sorted(node.labels - loops, key=lambda label: label.number):
        choices = [{**choice, label: place} for choice in choices for place in range(label.size)]
    return choices
