"""Products of matrices, a few rows and columns at a time: their sums stay in registers.

A weight that is perturbed moves one unit, so the differences of a layer are zero in most columns at
first. Those that are zero in all eight copies are looked for, and left out of the sums.
"""

from __future__ import annotations

from collections.abc import Callable

from fastcheck.lanes.assembly import BITS, LANES, VECTOR, Assembly
from fastcheck.lanes.elementwise import Instruction, Names
from fastcheck.lanes.opcodes import Field, Op

_WORTH_A_LOOK = 4


def _product(moving: bool, rows: int, columns: int) -> Callable[[Assembly], None]:
    """t[i, j] += Σ a[i, k]·b[k, j], where `moving` says whether b is a difference too."""

    def body(code: Assembly) -> None:
        fields = Instruction(code)
        target, left = fields.difference(Field.TARGET), fields.difference(Field.A)
        right = fields.difference(Field.B) if moving else fields.constant(Field.BASE)
        listed = fields.difference(Field.LIST)
        batch, height, width, inner = (fields.field(Field.SIZES + k) for k in range(4))
        to = [fields.field(Field.TARGET_STRIDES + k) for k in range(3)]
        of_left = [fields.field(Field.A_STRIDES + k) for k in range(3)]
        of_right = [fields.field(Field.B_STRIDES + k) for k in range(3)]

        def tile(corner: Names, i: str, j: str, size: tuple[int, int]) -> None:
            """Add up one block of the target."""
            into, ours, theirs, count = corner
            spots = [
                code.at(into, code.add(row, column))
                for row in _steps(code, i, to[1], size[0])
                for column in _steps(code, j, to[2], size[1])
            ]
            lines = [code.at(ours, row) for row in _steps(code, i, of_left[1], size[0])]
            beams = [code.at(theirs, column) for column in _steps(code, j, of_right[2], size[1])]
            sums = [(VECTOR, code.load(VECTOR, spot)) for spot in spots]

            def add(place: str, totals: Names) -> Names:
                k = _entry(code, listed, place)
                along, across = code.multiply(k, of_left[2]), code.multiply(k, of_right[1])
                a = [code.load(VECTOR, code.at(line, along)) for line in lines]
                if moving:
                    b = [code.load(VECTOR, code.at(beam, across)) for beam in beams]
                else:
                    numbers = [code.load("double", code.at(beam, across)) for beam in beams]
                    b = [code.splat(number) for number in numbers]
                pairs = [(x, y) for x in a for y in b]
                return [
                    code.arithmetic("fadd", total, code.arithmetic("fmul", *pair))
                    for total, pair in zip(totals, pairs, strict=True)
                ]

            _, ends = code.loop("0", count, add, sums)
            for spot, end in zip(spots, ends, strict=True):
                code.store(VECTOR, end, spot)

        def band(corner: Names, i: str, height_of_band: int) -> None:
            def wide(j: str, _: Names) -> Names:
                tile(corner, i, j, (height_of_band, columns))
                return []

            def narrow(j: str, _: Names) -> Names:
                tile(corner, i, j, (height_of_band, 1))
                return []

            after, _ = code.loop("0", width, wide, step=columns)
            code.loop(after, width, narrow)

        def matrix(index: str, _: Names) -> Names:
            corner = [
                code.at(pointer, code.multiply(index, stride))
                for pointer, stride in ((target, to[0]), (left, of_left[0]), (right, of_right[0]))
            ]

            corner.append(_nonzero(code, listed, corner[1], (height, width, inner), of_left))

            def high(i: str, _: Names) -> Names:
                band(corner, i, rows)
                return []

            def low(i: str, _: Names) -> Names:
                band(corner, i, 1)
                return []

            after, _ = code.loop("0", height, high, step=rows)
            code.loop(after, height, low)
            return []

        code.loop("0", batch, matrix)

    return body


def _entry(code: Assembly, listed: str, place: str) -> str:
    return code.load("i64", code.emit(f"getelementptr i64, ptr {listed}, i64 {place}"))


def _nonzero(
    code: Assembly, listed: str, left: str, sizes: tuple[str, str, str], strides: Names
) -> str:
    """List the columns of a matrix that are not zero everywhere; return how many there are.

    For a product of few columns looking costs more than it may save: all are listed then.
    """
    height, width, inner = sizes
    few = code.emit(f"icmp slt i64 {width}, {_WORTH_A_LOOK}")
    looked_at = code.emit(f"select i1 {few}, i64 0, i64 {height}")

    def column(k: str, found: Names) -> Names:
        beam = code.at(left, code.multiply(k, strides[2]))

        def row(i: str, seen: Names) -> Names:
            bits = code.load(BITS, code.at(beam, code.multiply(i, strides[1])))
            return [code.emit(f"or {BITS} {seen[0]}, {bits}")]

        _, (seen,) = code.loop("0", looked_at, row, [(BITS, "zeroinitializer")])
        together = code.emit(f"call i64 @llvm.vector.reduce.or.v{LANES}i64({BITS} {seen})")
        # Without the sign: −0 is zero.
        size = code.emit(f"shl i64 {together}, 1")
        some = code.emit(f"or i1 {few}, {code.emit(f'icmp ne i64 {size}, 0')}")
        at = code.emit(f"getelementptr i64, ptr {listed}, i64 {found[0]}")
        code.store("i64", k, at)
        return [code.add(found[0], code.emit(f"zext i1 {some} to i64"))]

    _, (count,) = code.loop("0", inner, column, [("i64", "0")])
    return count


def _steps(code: Assembly, first: str, stride: str, count: int) -> Names:
    """Return the offsets of some rows or columns next to each other."""
    offsets = [code.multiply(first, stride)]
    for _ in range(count - 1):
        offsets.append(code.add(offsets[-1], stride))
    return offsets


def bodies(rows: int, columns: int) -> dict[Op, Callable[[Assembly], None]]:
    """Return the products, for blocks of so many rows and columns."""
    return {
        Op.MATRIX: _product(False, rows, columns),
        Op.MATRICES: _product(True, rows, columns),
    }
