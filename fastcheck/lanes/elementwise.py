"""Instructions that compute one number after the other, over a range of them."""

from __future__ import annotations

from collections.abc import Callable

from fastcheck.lanes.assembly import BITS, BYTES, MASK, VECTOR, Assembly
from fastcheck.lanes.opcodes import Field, Op

Names = list[str]


class Instruction:
    """The fields of the instruction at hand, each read once, where it is needed first."""

    def __init__(self, code: Assembly) -> None:
        self.code = code

    def field(self, place: int) -> str:
        at = self.code.emit(f"getelementptr i64, ptr %instruction, i64 {place}")
        return self.code.load("i64", at)

    def difference(self, place: int) -> str:
        """Return a pointer to a difference in the workspace."""
        return self.code.at("%workspace", self.field(place))

    def constant(self, place: int) -> str:
        """Return a pointer to constants, or to a table."""
        return self.code.pointer(self.field(place))


def refuse(code: Assembly, condition: str) -> None:
    """Note copies as refused: the workspace begins with a mask of them."""
    mask = code.emit(f"sext {MASK} {condition} to {BITS}")
    before = code.load(BITS, "%workspace")
    code.store(BITS, code.emit(f"or {BITS} {before}, {mask}"), "%workspace")


def _formula(
    differences: int, constants: int, write: Callable[[Assembly, Names, Names], str]
) -> Callable[[Assembly], None]:
    """Return what writes a loop in which each number follows from differences and constants."""

    def body(code: Assembly) -> None:
        fields = Instruction(code)
        target = fields.difference(Field.TARGET)
        operands = [fields.difference(Field.A + k) for k in range(differences)]
        pools = [fields.constant(Field.CONSTANT + k) for k in range(constants)]
        stride = fields.field(Field.STRIDE) if constants else ""

        def each(index: str, _: Names) -> Names:
            place = code.multiply(index, BYTES)
            ours = [code.load(VECTOR, code.at(operand, place)) for operand in operands]
            where = code.multiply(index, stride) if constants else ""
            theirs = [code.splat(code.load("double", code.at(pool, where))) for pool in pools]
            code.store(VECTOR, write(code, ours, theirs), code.at(target, place))
            return []

        code.loop("%low", "%high", each)

    return body


def _product(code: Assembly, d: Names, c: Names) -> str:
    """(x + dx)(y + dy) − xy = dx·(y + dy) + x·dy."""
    left = code.arithmetic("fmul", d[0], code.arithmetic("fadd", c[1], d[1]))
    return code.arithmetic("fadd", left, code.arithmetic("fmul", c[0], d[1]))


def _quotient(code: Assembly, d: Names, c: Names) -> str:
    """(x + dx)/(y + dy) − q = (dx − q·dy)/(y + dy)."""
    above = code.arithmetic("fsub", d[0], code.arithmetic("fmul", c[0], d[1]))
    return code.arithmetic("fdiv", above, code.arithmetic("fadd", c[1], d[1]))


def _polynomial(code: Assembly, d: Names, c: Names) -> str:
    total = c[-1]
    for constant in reversed(c[:-1]):
        total = code.arithmetic("fadd", constant, code.arithmetic("fmul", d[0], total))
    return code.arithmetic("fmul", d[0], total)


def _series(terms: int) -> Callable[[Assembly], None]:
    """A polynomial that holds only near θ: copies farther away are refused."""

    def body(code: Assembly) -> None:
        fields = Instruction(code)
        target, operand = fields.difference(Field.TARGET), fields.difference(Field.A)
        nearness, stride = fields.constant(Field.B), fields.field(Field.STRIDE)
        nearness_stride = fields.field(Field.NEARNESS_STRIDE)
        pools = [fields.constant(Field.CONSTANT + k) for k in range(terms)]
        bits = fields.field(Field.REACH)
        reach = code.splat(code.emit(f"bitcast i64 {bits} to double"))

        def each(index: str, carried: Names) -> Names:
            place, where = code.multiply(index, BYTES), code.multiply(index, stride)
            d = code.load(VECTOR, code.at(operand, place))
            c = [code.splat(code.load("double", code.at(pool, where))) for pool in pools]
            near = code.at(nearness, code.multiply(index, nearness_stride))
            scale = code.splat(code.load("double", near))
            code.store(VECTOR, _polynomial(code, [d], c), code.at(target, place))
            far = code.beyond(code.arithmetic("fmul", d, scale), reach)
            return [code.emit(f"or {MASK} {carried[0]}, {far}")]

        _, (refused,) = code.loop("%low", "%high", each, [(MASK, "zeroinitializer")])
        refuse(code, refused)

    return body


def _within(code: Assembly) -> None:
    fields = Instruction(code)
    operand, bounds = fields.difference(Field.A), fields.constant(Field.CONSTANT)
    stride = fields.field(Field.STRIDE)

    def each(index: str, carried: Names) -> Names:
        d = code.load(VECTOR, code.at(operand, code.multiply(index, BYTES)))
        bound = code.load("double", code.at(bounds, code.multiply(index, stride)))
        far = code.beyond(d, code.splat(bound))
        return [code.emit(f"or {MASK} {carried[0]}, {far}")]

    _, (refused,) = code.loop("%low", "%high", each, [(MASK, "zeroinitializer")])
    refuse(code, refused)


BODIES: dict[Op, Callable[[Assembly], None]] = {
    Op.COPY: _formula(1, 0, lambda code, d, c: d[0]),
    Op.ZERO: _formula(0, 0, lambda code, d, c: "zeroinitializer"),
    Op.ADD: _formula(2, 0, lambda code, d, c: code.arithmetic("fadd", *d)),
    Op.SUBTRACT: _formula(2, 0, lambda code, d, c: code.arithmetic("fsub", *d)),
    Op.SCALE: _formula(1, 1, lambda code, d, c: code.arithmetic("fmul", *d, *c)),
    Op.PRODUCT: _formula(2, 2, _product),
    Op.QUOTIENT: _formula(2, 2, _quotient),
    Op.SHIFT: _formula(1, 1, lambda code, d, c: code.arithmetic("fadd", *d, *c)),
    Op.QUADRATIC: _formula(1, 2, _polynomial),
    Op.CUBIC: _formula(1, 3, _polynomial),
    Op.SERIES_2: _series(2),
    Op.SERIES_4: _series(4),
    Op.WITHIN: _within,
}
