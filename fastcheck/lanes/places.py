"""Instructions that look numbers up at places, and those that add a copy's own step somewhere."""

from __future__ import annotations

from collections.abc import Callable

from fastcheck.lanes.assembly import BYTES, LANES, VECTOR, Assembly
from fastcheck.lanes.elementwise import Instruction, Names
from fastcheck.lanes.opcodes import Field, Op


def _moved(write: Callable[[Assembly, Instruction, str, str], None]) -> Callable[[Assembly], None]:
    """Return what writes a loop over a table: `write` is given an index and the table's entry."""

    def body(code: Assembly) -> None:
        fields = Instruction(code)
        table, count = fields.constant(Field.TABLE), fields.field(Field.COUNT)
        cached = _Once(fields)

        def each(index: str, _: Names) -> Names:
            at = code.emit(f"getelementptr i64, ptr {table}, i64 {index}")
            entry = code.multiply(code.load("i64", at), BYTES)
            write(code, cached, code.multiply(index, BYTES), entry)
            return []

        cached.difference(Field.TARGET)
        cached.difference(Field.A)
        code.loop("0", count, each)

    return body


class _Once(Instruction):
    """Fields that are read before a loop."""

    def __init__(self, fields: Instruction) -> None:
        super().__init__(fields.code)
        self._read: dict[int, str] = {}

    def difference(self, place: int) -> str:
        if place not in self._read:
            self._read[place] = super().difference(place)
        return self._read[place]


def _gather(code: Assembly, fields: Instruction, index: str, entry: str) -> None:
    value = code.load(VECTOR, code.at(fields.difference(Field.A), entry))
    code.store(VECTOR, value, code.at(fields.difference(Field.TARGET), index))


def _scatter(code: Assembly, fields: Instruction, index: str, entry: str) -> None:
    value = code.load(VECTOR, code.at(fields.difference(Field.A), index))
    code.store(VECTOR, value, code.at(fields.difference(Field.TARGET), entry))


def _clear(code: Assembly, fields: Instruction, index: str, entry: str) -> None:
    code.store(VECTOR, "zeroinitializer", code.at(fields.difference(Field.TARGET), entry))


def _scatter_add(code: Assembly, fields: Instruction, index: str, entry: str) -> None:
    target = code.at(fields.difference(Field.TARGET), entry)
    value = code.load(VECTOR, code.at(fields.difference(Field.A), index))
    code.store(VECTOR, code.arithmetic("fadd", code.load(VECTOR, target), value), target)


def _sum(code: Assembly) -> None:
    fields = Instruction(code)
    target, operand = fields.difference(Field.TARGET), fields.difference(Field.A)
    table, count = fields.constant(Field.TABLE), fields.field(Field.COUNT)
    summands = fields.field(Field.SIZES)

    def each(index: str, _: Names) -> Names:
        first = code.multiply(index, summands)

        def summand(place: str, total: Names) -> Names:
            at = code.emit(f"getelementptr i64, ptr {table}, i64 {code.add(first, place)}")
            entry = code.multiply(code.load("i64", at), BYTES)
            return [code.arithmetic("fadd", total[0], code.load(VECTOR, code.at(operand, entry)))]

        _end, (total,) = code.loop("0", summands, summand, [(VECTOR, "zeroinitializer")])
        code.store(VECTOR, total, code.at(target, code.multiply(index, BYTES)))
        return []

    code.loop("0", count, each)


def _rows(constants: bool, differences: bool) -> Callable[[Assembly], None]:
    """Each copy has its own place, so these go lane by lane.

    TABLE says where the target's numbers begin for an element, or −1; OTHER_TABLE where those that
    the step is multiplied with begin. There are two loops over them, with strides in numbers.
    """

    def body(code: Assembly) -> None:
        fields = Instruction(code)
        target = fields.difference(Field.TARGET)
        table = fields.constant(Field.TABLE)
        other = fields.constant(Field.OTHER_TABLE) if constants else ""
        base = fields.constant(Field.BASE) if constants else ""
        moved = fields.difference(Field.A) if differences else ""
        counts = [fields.field(Field.SIZES + k) for k in range(2)]
        to = [fields.field(Field.TARGET_STRIDES + k) for k in range(2)]
        of = [fields.field(Field.A_STRIDES + k) for k in range(2)] if constants else []

        def lane(index: str, _: Names) -> Names:
            place = code.load("i64", code.emit(f"getelementptr i64, ptr %places, i64 {index}"))
            start = code.load("i64", code.emit(f"getelementptr i64, ptr {table}, i64 {place}"))
            there = code.emit(f"icmp sge i64 {start}, 0")
            code.when(there, lambda: _lane(index, place, start))
            return []

        def _lane(index: str, place: str, start: str) -> None:
            step = code.load("double", code.emit(f"getelementptr double, ptr %steps, i64 {index}"))
            source = "0"
            if constants:
                at = code.emit(f"getelementptr i64, ptr {other}, i64 {place}")
                source = code.load("i64", at)
            shift = code.multiply(index, 8)

            def outer(row: str, _: Names) -> Names:
                first = code.add(start, code.multiply(row, to[0]))
                from_ = code.add(source, code.multiply(row, of[0])) if constants else ""

                def inner(column: str, _: Names) -> Names:
                    spot = code.add(first, code.multiply(column, to[1]))
                    at = code.at(target, code.add(code.multiply(spot, BYTES), shift))
                    value = step
                    if constants:
                        where = code.add(from_, code.multiply(column, of[1]))
                        factor = code.load("double", code.at(base, code.multiply(where, 8)))
                        if differences:
                            near = code.add(code.multiply(where, BYTES), shift)
                            change = code.load("double", code.at(moved, near))
                            factor = code.arithmetic("fadd", factor, change, "double")
                        value = code.arithmetic("fmul", step, factor, "double")
                    before = code.load("double", at)
                    code.store("double", code.arithmetic("fadd", before, value, "double"), at)
                    return []

                code.loop("0", counts[1], inner)
                return []

            code.loop("0", counts[0], outer)

        code.loop("0", str(LANES), lane)

    return body


BODIES: dict[Op, Callable[[Assembly], None]] = {
    Op.GATHER: _moved(_gather),
    Op.SCATTER: _moved(_scatter),
    Op.CLEAR: _moved(_clear),
    Op.SCATTER_ADD: _moved(_scatter_add),
    Op.SUM: _sum,
    Op.SEED: _rows(constants=False, differences=False),
    Op.ROWS: _rows(constants=True, differences=False),
    Op.MOVED_ROWS: _rows(constants=True, differences=True),
}
