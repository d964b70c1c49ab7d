"""The interpreter: a function of LLVM's that runs a list of instructions for groups of copies."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from fastcheck.fusion.code import ARGUMENTS, FUNCTION
from fastcheck.lanes import elementwise, places, products
from fastcheck.lanes.assembly import BITS, BYTES, LANES, VECTOR, Assembly
from fastcheck.lanes.opcodes import FIELDS, Field, Op

TILE = 32
"""Numbers that a run of elementwise instructions computes at a time: they stay in the cache."""
RESERVED = 1
"""Vectors at the beginning of the workspace: which copies are refused."""
_STEP = "define internal void @step(ptr %instruction, ptr %workspace, ptr %places, ptr %steps, "


@cache
def text(many_registers: bool) -> str:
    """Return the interpreter; with 32 registers of eight numbers there is room for more sums."""
    rows, columns = (4, 4) if many_registers else (2, 2)
    bodies = {**elementwise.BODIES, **places.BODIES, **products.bodies(rows, columns)}
    declared = [
        f"declare {VECTOR} @llvm.fabs.v{LANES}f64({VECTOR})",
        f"declare i64 @llvm.vector.reduce.or.v{LANES}i64({BITS})",
    ]
    return "\n".join([*_step(bodies), *_run(), *declared, ""])


def _step(bodies: dict[Op, Callable[[Assembly], None]]) -> list[str]:
    """Write the function that runs one instruction, over a range of numbers."""
    code = Assembly("entry")
    place = code.load("i64", "%instruction")
    cases = " ".join(f"i64 {int(op)}, label %op{int(op)}" for op in bodies)
    code.do(f"switch i64 {place}, label %end [ {cases} ]")
    for op, body in bodies.items():
        code.label(f"op{int(op)}")
        body(code)
        code.do("br label %end")
    code.label("end")
    code.do("ret void")
    return [f"{_STEP}i64 %low, i64 %high) {{", "entry:", *code.lines, "}"]


def _run() -> list[str]:
    """Write the function that runs all instructions for some groups of copies.

    Its arguments are named as those of a generated kernel: `arrays` is the list of instructions,
    `strides` says how many there are and where the loss stands, `blocks` is the workspace,
    `positions` are the elements.
    """
    code = Assembly("entry")
    count = code.load("i64", "%strides")
    loss = code.load("i64", code.at("%strides", "8"))

    def group(index: str, _: list[str]) -> list[str]:
        first = code.multiply(index, BYTES)
        elements, steps = code.at("%positions", first), code.at("%steps", first)
        code.store(BITS, "zeroinitializer", "%blocks")
        rest = f"ptr %blocks, ptr {elements}, ptr {steps}"

        def each(place: str, _: list[str]) -> list[str]:
            here = code.at("%arrays", code.multiply(place, 8 * FIELDS))
            fields = [
                code.load("i64", code.emit(f"getelementptr i64, ptr {here}, i64 {int(field)}"))
                for field in (Field.OP, Field.COUNT, Field.A)
            ]
            return [_one_or_tiles(code, here, fields, rest)]

        skipped = ("i64", "0")
        code.loop("0", count, lambda place, left: _unless(code, place, left, each), [skipped])
        for name, kind in (("plus", VECTOR), ("refused", BITS)):
            at = "%blocks" if name == "refused" else code.at("%blocks", loss)
            code.store(kind, code.load(kind, at), code.at(f"%{name}", first))
        return []

    code.loop("%first", "%last", group)
    code.do("ret void")
    arguments = ", ".join(f"ptr noalias %{name}" for name in ARGUMENTS)
    head = f"define void @{FUNCTION}({arguments}, i64 %first, i64 %last) {{"
    return [head, "entry:", *code.lines, "}"]


def _unless(
    code: Assembly,
    place: str,
    left: list[str],
    body: Callable[[str, list[str]], list[str]],
) -> list[str]:
    """Skip what a run of tiles has done already; `left` counts how much that still is."""
    skip = code.emit(f"icmp sgt i64 {left[0]}, 0")
    name = code.name("skip")
    code.do(f"br i1 {skip}, label %{name}.over, label %{name}.run")
    code.label(f"{name}.over")
    fewer = code.add(left[0], -1)
    code.do(f"br label %{name}.done")
    code.label(f"{name}.run")
    (more,) = body(place, left)
    last = code.block
    code.do(f"br label %{name}.done")
    code.label(f"{name}.done")
    return [code.emit(f"phi i64 [ {fewer}, %{name}.over ], [ {more}, %{last} ]")]


def _one_or_tiles(code: Assembly, here: str, fields: list[str], rest: str) -> str:
    """Run an instruction, or those after it tile by tile; return how many these are."""
    op, count, numbers = fields
    name = code.name("tiles")
    is_run = code.emit(f"icmp eq i64 {op}, {int(Op.TILES)}")
    code.do(f"br i1 {is_run}, label %{name}.run, label %{name}.one")
    code.label(f"{name}.one")
    code.do(f"call void @step(ptr {here}, {rest}, i64 0, i64 {count})")
    code.do(f"br label %{name}.done")
    code.label(f"{name}.run")

    def tile(low: str, _: list[str]) -> list[str]:
        end = code.add(low, TILE)
        past = code.emit(f"icmp sgt i64 {end}, {numbers}")
        high = code.emit(f"select i1 {past}, i64 {numbers}, i64 {end}")

        def instruction(k: str, _: list[str]) -> list[str]:
            following = code.multiply(code.add(k, 1), 8 * FIELDS)
            one = code.at(here, following)
            code.do(f"call void @step(ptr {one}, {rest}, i64 {low}, i64 {high})")
            return []

        code.loop("0", count, instruction)
        return []

    # The last tile may be short of numbers.
    code.loop("0", code.add(numbers, TILE - 1), tile, step=TILE)
    last = code.block
    code.do(f"br label %{name}.done")
    code.label(f"{name}.done")
    return code.emit(f"phi i64 [ 0, %{name}.one ], [ {count}, %{last} ]")
