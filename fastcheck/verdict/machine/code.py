"""The two sweeps, written down: the formulae of `Reading` and of `Comparison`, side by side."""

from __future__ import annotations

from functools import cache

from fastcheck.fusion.code import FUNCTION
from fastcheck.lanes.assembly import BITS, MASK, VECTOR
from fastcheck.verdict.machine.vectors import DECLARED, OCTETS, ZEROS, Vectors, constant

READ, SUM = 0, 1
NOTHING = (VECTOR, ZEROS)
NO_KINK = (OCTETS, ZEROS)
READ_ARRAYS = "plus minus step_plus step_minus kinked theta indices out numbers".split()
SUM_ARRAYS = "g n bar noise numbers unused1 unused2 unused3 unused4".split()
# What is given at the beginning of `numbers`, and what is answered there, in order.
READ_GIVEN = ("scale", "factor", "flat", "elements of theta")
READ_ANSWER = ("top", "odd", "kinked", "square", "peak", "bent")
SUM_GIVEN = ("roundoff", "truncation", "rtol", "gamma", "floor")
SUM_ANSWER = (
    "odd top_g top_n outside furthest largest_difference largest_bar "
    "square_g square_n square_difference square_bar square_coarse product random systematic"
).split()


@cache
def text() -> str:
    """Return both in one function, called as kernels are; its tenth argument says which."""
    pointers = ", ".join(f"ptr %p{k}" for k in range(9))
    return "\n".join(
        [
            *_function("read", READ_ARRAYS, _read()),
            *_function("sum", SUM_ARRAYS, _sum()),
            f"define void @{FUNCTION}({pointers}, i64 %which, i64 %count) {{",
            "entry:",
            f"  %first = icmp eq i64 %which, {READ}",
            "  br i1 %first, label %a, label %b",
            "a:",
            f"  call void @read({pointers}, i64 %count)",
            "  ret void",
            "b:",
            f"  call void @sum({pointers}, i64 %count)",
            "  ret void",
            "}",
            *DECLARED,
            "",
        ]
    )


def _function(name: str, arrays: list[str], code: Vectors) -> list[str]:
    pointers = ", ".join(f"ptr noalias %{array}" for array in arrays)
    head = f"define internal void @{name}({pointers}, i64 %count) {{"
    return [head, "entry:", *code.lines, "  ret void", "}"]


def _read() -> Vectors:
    """Write n, the bends and the gradient noise of each element into the rows of `out`."""
    code = Vectors()
    bytes_a_row = code.multiply("%count", 8)
    rows = ["%out"]
    for _ in range(2):
        rows.append(code.at(rows[-1], bytes_a_row))
    scale, factor, flat, elements = (
        code.given("%numbers", place) for place in range(len(READ_GIVEN))
    )
    least, size = (
        code.splat(scale),
        code.splat(code.emit(f"fptoui double {elements} to i64"), "i64"),
    )
    one, half, two = constant(1.0), constant(0.5), constant(2.0)

    def derivatives(carried: list[str]) -> list[str]:
        top, odd, kinked, square, peak = carried
        plus, minus = code.take("%plus"), code.take("%minus")
        ahead, behind = code.take("%step_plus", one), code.take("%step_minus", one)
        n = code.over(code.plus(plus, minus), code.plus(ahead, behind))
        apart = code.minus(code.over(plus, ahead), code.over(minus, behind))
        gap = code.times(code.size(apart), half)
        bar = code.root(code.over(code.times(gap, two), ahead))
        theta, outside = code.gather("%theta", code.integers("%indices"), size)
        term = code.times(code.larger(code.size(theta), least), bar)
        # The gap is divided when the largest n is known, the root multiplied with their mean.
        for row, vector in zip(rows, (n, gap, bar), strict=True):
            code.put(vector, row)
        # x − x is zero, but for NaN and Inf.
        odd = code.plus(odd, code.plus(code.minus(n, n), code.minus(gap, gap)))
        return [
            code.larger(code.size(n), top),
            odd,
            code.both(kinked, code.both(code.octets("%kinked"), outside)),
            code.add_square(square, term),
            code.larger(term, peak),
        ]

    top, odd, kinked, square, peak = code.sweep(
        derivatives, [NOTHING, NOTHING, NO_KINK, NOTHING, NOTHING]
    )
    top, square = code.largest(top), code.total(square)
    share = code.splat(code.scalar("fmul", flat, top))
    mean = code.scalar("fdiv", square, code.emit("sitofp i64 %count to double"))
    rms = code.emit(f"call double @llvm.sqrt.f64(double {mean})")
    scaled = code.splat(code.scalar("fmul", factor, rms))
    endless = constant(float("inf"))

    def relative(carried: list[str]) -> list[str]:
        n, gap, bar = (code.take(row) for row in rows)
        bend = code.over(gap, code.plus(code.size(n), share))
        known = code.emit(f"fcmp olt {VECTOR} {bend}, {endless}")
        bend = code.where(known, bend, ZEROS)
        code.put(bend, rows[1])
        code.put(code.times(bar, scaled), rows[2])
        return [code.larger(bend, carried[0])]

    (most,) = code.sweep(relative, [NOTHING])
    finding = [top, code.total(odd), code.any_of(kinked), square, code.largest(peak)]
    code.answer("%numbers", [*finding, code.least(most)])
    return code


def _sum() -> Vectors:
    """Write the sums of a comparison into `numbers`."""
    code = Vectors()
    arrays = [f"%{name}" for name in SUM_ARRAYS[:4]]
    roundoff, truncation, rtol, gamma, floor = (
        code.given("%numbers", place) for place in range(len(SUM_GIVEN))
    )

    def tops(carried: list[str]) -> list[str]:
        odd, *tops = carried
        g, n, *others = (code.take(array) for array in arrays)
        for vector in (g, n, *others):
            odd = code.plus(odd, code.minus(vector, vector))
        return [odd, *(code.larger(code.size(a), b) for a, b in zip((g, n), tops, strict=True))]

    odd, top_g, top_n = code.sweep(tops, [NOTHING] * 3)
    top_n = code.largest(top_n)
    everywhere = code.splat(code.scalar("fmul", gamma, top_n))
    relative, floors, least = code.splat(rtol), code.splat(floor), constant(1e-300)
    roundoff, truncation = code.splat(roundoff), code.splat(truncation)

    def compare(carried: list[str]) -> list[str]:
        outside, ratio, furthest, largest_difference, largest_bar, *sums = carried
        g, n, bar, noise = (code.take(array) for array in arrays)
        difference = code.size(code.minus(g, n))
        size_g = code.size(g)
        allowed = code.times(code.larger(size_g, code.size(n)), relative)
        allowed = code.plus(code.plus(allowed, everywhere), bar)
        beyond = code.exceeds(difference, allowed)
        outside = code.emit(f"or {MASK} {outside}, {beyond}")
        here = code.over(difference, code.larger(allowed, least))
        further = code.exceeds(here, ratio)
        furthest = code.where(further, code.indices(), furthest, BITS)
        ratio = code.where(further, here, ratio)
        square_g = code.times(g, g)
        fixed = code.times(code.plus(code.plus(truncation, noise), floors), size_g)
        buried = code.where(code.exceeds(roundoff, size_g), square_g, ZEROS)
        coarse, random = code.present(code.plus(bar, floors)), code.times(g, roundoff)
        summands = [
            square_g,
            code.times(n, n),
            code.times(difference, difference),
            code.times(bar, bar),
            code.times(coarse, coarse),
            code.times(g, n),
            code.times(random, random),
            code.plus(fixed, buried),
        ]
        totals = [code.plus(a, b) for a, b in zip(sums, summands, strict=True)]
        return [
            outside,
            ratio,
            furthest,
            code.larger(difference, largest_difference),
            code.larger(bar, largest_bar),
            *totals,
        ]

    start = [(MASK, ZEROS), (VECTOR, constant(-1.0)), (BITS, ZEROS)]
    outside, ratios, furthest, *peaks_and_sums = code.sweep(compare, [*start, *[NOTHING] * 10])
    ratio = code.largest(ratios)
    code.answer(
        "%numbers",
        [
            code.total(odd),
            code.largest(top_g),
            top_n,
            code.any_of(code.octets_of(outside)),
            code.first_of(ratios, ratio, furthest),
            *[code.largest(peak) for peak in peaks_and_sums[:2]],
            *[code.total(sum_) for sum_ in peaks_and_sums[2:]],
        ],
    )
    return code
