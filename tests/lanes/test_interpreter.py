"""The interpreter: each kind of instruction against NumPy, for eight copies at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastcheck.fusion.compiler import compiled_text
from fastcheck.lanes import interpreter, run
from fastcheck.lanes.assembly import BYTES, LANES
from fastcheck.lanes.opcodes import ELEMENTWISE, Field, Op
from fastcheck.lanes.program import Program
from fastcheck.lanes.writer import REACHES, Hoisted, Room, Writer

COPIES = 21  # not a multiple of eight
RNG = np.random.default_rng(0)
MOVES = RNG.normal(size=COPIES)
ELEMENTS = RNG.integers(5, size=COPIES)


class Bench:
    """Writes a program whose input is the step at one of five places, and runs it."""

    def __init__(self, terms: int = 2) -> None:
        self.writer = Writer(terms, Hoisted())
        self.hoisted = self.writer.hoisted

    def input(self, weights: Any) -> tuple[Room, Any]:
        """Return an array of step·weights[element], and what it is for each copy."""
        weights = np.asarray(weights, dtype=np.float64)  # a row for each of the five elements
        size = weights.shape[1]
        room = self.writer.zeros(size)
        self.writer.rows(
            room, np.zeros(5, dtype=np.int64), [(size, 1, 1)], np.arange(5) * size, weights
        )
        return room, MOVES[:, None] * weights[ELEMENTS]

    def output(self, room: Room) -> tuple[Any, Any]:
        """Return every number of an array, and which copies are refused."""
        found = []
        for place in range(room.size):
            code, alive = self.writer.finished()
            loss = (room.offset + place) * BYTES
            program = Program(code, loss, self.writer.vectors, self.writer.work, alive)
            change, refused = run.run(program, ELEMENTS, MOVES)
            found.append(change)
        return np.stack(found, axis=1), refused


def weights(size: int) -> Any:
    return RNG.normal(size=(5, size))


@pytest.mark.parametrize("size", [1, interpreter.TILE, interpreter.TILE + 1, 3 * interpreter.TILE])
def test_elementwise_instructions_run_tile_by_tile(size: int) -> None:
    bench = Bench()
    a, x = bench.input(weights(size))
    b, y = bench.input(weights(size))
    c, d = RNG.normal(size=size), RNG.normal(size=size) + 9.0
    write = bench.writer.elementwise
    total = write(Op.ADD, size, [a, b])
    scaled = write(Op.SCALE, size, [total], c)
    product = write(Op.PRODUCT, size, [scaled, b], c, d)
    quotient = write(Op.QUOTIENT, size, [product, b], c, d)
    end = write(Op.SUBTRACT, size, [quotient, a])
    wanted = (x + y) * c
    wanted = wanted * (d + y) + c * y
    wanted = (wanted - c * y) / (d + y) - x
    found, refused = bench.output(end)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    assert not refused.any()


def test_runs_of_elementwise_instructions_are_put_together() -> None:
    bench = Bench()
    room, _ = bench.input(weights(4))
    for _ in range(3):
        room = bench.writer.elementwise(Op.COPY, 4, [room])
    code, _ = bench.writer.finished()
    assert [Op(row[Field.OP]) for row in code] == [
        Op.ZERO,
        Op.ROWS,
        Op.TILES,
        Op.COPY,
        Op.COPY,
        Op.COPY,
    ]
    assert code[2][Field.COUNT] == 3
    assert code[2][Field.A] == 4


def test_a_series_refuses_copies_that_are_out_of_reach() -> None:
    for terms, reach in REACHES.items():
        bench = Bench(terms)
        sizes = np.array([0.5, 0.99, 1.01, 50.0, 0.1]) * reach
        room, x = bench.input(sizes[:, None])
        one = np.ones(1)
        factors = [np.array([float(k + 1)]) for k in range(4)]
        end = bench.writer.series(room, one, factors)
        found, refused = bench.output(end)
        np.testing.assert_array_equal(refused, np.abs(x[:, 0]) > reach)
        wanted = sum((k + 1) * x ** (k + 1) for k in range(terms))
        np.testing.assert_allclose(found, wanted, rtol=1e-14)


def test_a_series_is_as_near_as_its_constants_say() -> None:
    bench = Bench()
    room, x = bench.input(np.full((5, 3), REACHES[2]))
    nearness = np.array([0.01, 0.01, 1.0])
    bench.writer.series(room, nearness, [np.ones(1)] * 4)
    _, refused = bench.output(room)
    np.testing.assert_array_equal(refused, np.abs(x[:, 2]) > REACHES[2])


def test_copies_beyond_a_bound_and_those_that_are_not_numbers_are_refused() -> None:
    bench = Bench()
    kinds = np.array([[1.0, 1.0], [np.nan, 0.0], [0.0, 2.0], [np.inf, 0.0], [0.0, 0.0]])
    room, x = bench.input(kinds)
    bounds = np.array([0.5, 1.0])
    bench.writer.within(room, bounds)
    _, refused = bench.output(room)
    np.testing.assert_array_equal(refused, ~(np.abs(x) <= bounds).all(axis=1))


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 4, 4, 3), (3, 9, 7, 5), (1, 5, 2, 17)])
@pytest.mark.parametrize("registers", [True, False])
def test_batches_of_matrices(
    sizes: tuple[int, int, int, int], registers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = compiled_text(interpreter.text(registers))
    monkeypatch.setattr(run, "_function", lambda: function)
    batch, rows, columns, inner = sizes
    bench = Bench()
    left, x = bench.input(weights(batch * rows * inner))
    right, y = bench.input(weights(batch * inner * columns))
    constant = RNG.normal(size=(batch, inner, columns))
    target = bench.writer.zeros(batch * rows * columns)
    strides = (
        [rows * columns, 1, rows],  # the result lies in memory the other way round
        [rows * inner, inner, 1],
        [inner * columns, columns, 1],
    )
    bench.writer.matrices(target, left, constant, sizes, strides)
    bench.writer.matrices(target, left, right, sizes, strides)
    found, _ = bench.output(target)
    a = x.reshape(COPIES, batch, rows, inner)
    b = y.reshape(COPIES, batch, inner, columns)
    wanted = (a @ (constant + b)).swapaxes(-1, -2).reshape(COPIES, -1)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_columns_that_are_zero_are_left_out_of_a_product_only_where_all_copies_agree() -> None:
    bench = Bench()
    sparse = np.zeros((5, 6 * 8))
    sparse.reshape(5, 6, 8)[np.arange(5), :, np.arange(5)] = 1.0  # each element moves one column
    sparse.reshape(5, 6, 8)[:, :, 7] = -0.0
    room, x = bench.input(sparse)
    constant = RNG.normal(size=(8, 5))
    target = bench.writer.zeros(30)
    bench.writer.matrices(target, room, constant, (1, 6, 5, 8), ([0, 5, 1], [0, 8, 1], [0, 5, 1]))
    found, _ = bench.output(target)
    np.testing.assert_allclose(found.reshape(-1, 6, 5), x.reshape(-1, 6, 8) @ constant, rtol=1e-12)


def test_numbers_are_looked_up_put_in_place_and_summed() -> None:
    bench = Bench()
    room, x = bench.input(weights(6))
    table = np.array([5, 0, 0, 3])
    gathered = bench.writer.gathered(room, table)
    scattered = bench.writer.zeros(5)
    bench.writer.looked_up(Op.SCATTER, scattered, gathered, np.array([4, 1, 2, 1]))
    bench.writer.looked_up(Op.SCATTER_ADD, scattered, gathered, np.array([4, 4, 0, 0]))
    summed = bench.writer.summed(scattered, np.array([[0, 4], [1, 2]]))
    g = x[:, table]
    wanted = np.zeros((COPIES, 5))
    wanted[:, [4, 2, 1]] = g[:, [0, 2, 3]]  # the last one written counts
    np.add.at(wanted, (slice(None), np.array([4, 4, 0, 0])), g)
    found, _ = bench.output(scattered)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    found, _ = bench.output(summed)
    wanted = np.stack([wanted[:, 0] + wanted[:, 4], wanted[:, 1] + wanted[:, 2]], axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_a_step_is_added_where_a_copy_s_element_stands() -> None:
    bench = Bench()
    places = np.array([2, -1, 0, 7, 4])
    room = bench.writer.zeros(12)
    bench.writer.rows(room, places, [(2, 3, 0)])
    found, _ = bench.output(room)
    wanted = np.zeros((COPIES, 12))
    for copy, (element, move) in enumerate(zip(ELEMENTS, MOVES, strict=True)):
        if places[element] >= 0:
            wanted[copy, [places[element], places[element] + 3]] = move
    np.testing.assert_array_equal(found, wanted)


def test_every_instruction_has_machine_code() -> None:
    text = interpreter.text(True)
    for op in set(Op) - {Op.TILES}:
        assert f"op{int(op)}:" in text
    assert {Op.ADD, Op.SERIES_2, Op.WITHIN} <= ELEMENTWISE
    assert LANES * 8 == BYTES
