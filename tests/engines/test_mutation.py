# ruff: noqa: E501
"""Random programs that write into arrays: views, buffers and aliases are replayed faithfully.

Each program works on a few arrays by several names, of which some are views of others. What it
leaves in every array counts, each element with a weight of its own. Compared are the loss, and the
differences that the plain loop computes. `FASTCHECK_PROGRAMS=10000` is for a run of the night.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from fastcheck.params import ParamTree
from fastcheck.trace.tape import Untraceable
from fastcheck.trace.tracer import trace

from .test_programs import Program, compare

PROGRAMS = int(os.environ.get("FASTCHECK_PROGRAMS", "300"))
SHAPES = ((3,), (4,), (2, 3), (3, 3), (3, 4), (2, 2, 3))
MOST = 30
LARGEST = 40.0

SLICES = """
0 | -1 | 1: | :-1 | ::2 | ::-1 | 1::2 | :, 0 | ..., -1 | :, 1: | :, ::-1 | None | ..., None | 0:2, :2
..., 1 | 1:, ..., :2 | -2: | :, :: | ::-1, ..., ::2
"""
VIEWS = """
{x}[{i}] | {x}[{i}] | {x}[{i}] | {x}.T | {x}.reshape(-1) | {x}.ravel() | {x}.reshape(2, -1) | {x}.view()
np.swapaxes({x}, 0, -1) | {x}[{i}][{j}] | {x}.T.reshape(-1) | np.squeeze({x}[None]) | {x}.T[{i}]
np.expand_dims({x}, -1) | np.atleast_2d({x}) | np.moveaxis({x}, 0, -1)[{i}] | np.asarray({x}) | {x}
np.split({x}, [1])[1] | np.array_split({x}, 2, axis=-1)[0] | np.flip({x}) | np.rot90({x}) | {x}[...]
np.ravel({x}, order='K') | {x}.reshape(-1, order='F') | np.ascontiguousarray({x}) | np.diagonal({x})
sliding_window_view({x}, 2, axis=0) | as_strided({x}, (2,), {x}.strides[:1]) | np.broadcast_to({x}, (2, *{x}.shape))
as_strided({x}, (2, 2), ({x}.strides[0], {x}.strides[-1])) | {x}.transpose()[::-1] | {x}.flat[1:3]
"""
COPIES = """
{x}.copy() | {x} * 1.0 | np.array({x}) | {x}.flatten() | {x}[[0, 1]] | {x}[{x} > 0.1] | {x}.T.copy()
np.zeros_like({x}) | np.ones({x}.shape) | np.asfortranarray({x}) | {x}.copy('F') | np.full_like({x}, 0.5)
np.copy({x}.T) | {x}[::-1] + 0.0 | np.empty({x}.shape) * 0 | np.concatenate([{x}, {x}]) | np.tanh({y})
"""
WRITES = """
{x} += {v} | {x} -= {v} | {x} *= {v} | {x} += {x} | {x} *= {x} | {x} -= {x}[::-1] | {x} += {x}.T
{x}[{i}] = {v} | {x}[{i}] += {v} | {x}[{i}] *= {v} | {x}[...] = {v} | {x}[:] = {x}[::-1] | {x}[{i}] -= {y}[{i}]
{x}[1:] += {x}[:-1] | {x}[:-1] *= {x}[1:] | {x}[1:] = {x}[:-1] | {x}[::-1] = {x} | {x}[0], {x}[1] = {x}[1], {x}[0]
{x}, {y} = {y}, {x} | {x}[0], {x}[-1] = {x}[-1].copy(), {x}[0].copy() | {x}[{i}], {y} = 0.5, {x}[{i}]
np.add({x}, {v}, out={x}) | np.multiply({x}, {y}, out={y}) | np.subtract({x}[1:], {x}[:-1], out={x}[1:])
np.exp({x} * 0.1, {x}) | np.tanh({x}, out={y}) | np.negative({x}, {x}[::-1]) | np.maximum({x}, 0, out={x})
np.add({x}, {y}, out={x}, where={x} > 0) | np.divide({y}, 2, out={x}, where={y} > {x}) | np.square({x}, out={x}.T)
np.add.at({x}, [0, 0, -1], {v}) | np.add.at({x}, 0, {x}[1]) | np.subtract.at({x}, [1, 1], {v}) | np.multiply.at({x}, [0, 0], 0.5)
np.maximum.at({x}, [0, 1, 0], {v}) | np.add.at({x}.reshape(-1), [0, 2, 0], 1.0) | np.add.at({x}, {x} > 0, 0.5)
np.copyto({x}, {v}) | np.copyto({x}, {y}, where={x} > 0) | np.copyto({x}[1:], {x}[:-1]) | {x}.fill(0.3) | {x}[0].fill(1.5)
{x}[{x} > 0.2] = 0 | {x}[{x} < 0] *= 0.1 | {x}[{y} > 0] = 0.5 | {x}[{x} > {y}] = {y}[{x} > {y}] | {x}[[0, 1]] = {v}
{x}[[0, 0]] += 1.0 | {x}[[1, 0]] = {x}[[0, 1]] | np.put({x}, [0, 2], {v}) | np.place({x}, {x} > 0, 0.25) | np.fill_diagonal({x}, 0.5)
{x}.sort() | {x}.partition(1) | {x}.flat[2] = {v} | {x}.flat[1:3] = [0.1, 0.2] | {x}.shape = (-1,) | {x}.shape = {x}.shape[::-1]
np.sum({x}, axis=0, out={y}) | np.cumsum({x}, 0, None, {x}) | np.mean({x}, 0, None, {y}) | np.clip({x}, -0.5, 0.5, {x}) | np.max({x}, 0, {y})
np.dot({x}, {y}, out={z}) | np.matmul({x}, {x}, out={x}) | np.concatenate([{x}, {y}], out={z}) | {x}.T[...] = {v} | np.take({y}, [0, 0, 1], 0, {x})
{x} @= {x} | {x} **= 2 | {x} //= 0.3 | {x} /= 2 | {x}[{i}][{j}] = {v} | {x}[{i}][{j}] += {x}[{j}] | np.putmask({x}, {x} > 0, {y})
"""
BLOCKS = (
    "old, new = {x}, {x} * 0.5\nfor _ in range(3):\n    new[:] = old * 0.5 + 0.1\n    old, new = new, old\n"
    "{x} = old",
    "for row in {x}:\n    row += np.sum({y})\n    row *= 0.5",
    "for k in range(len({x}) - 1):\n    {x}[k + 1] += 0.5 * {x}[k]",
    "total = {x}[0]\nfor row in {x}[1:]:\n    total += row",
    "h = np.zeros((3, *{x}.shape))\nh[0] = {x}\nfor t in range(2):\n    np.tanh(h[t], out=h[t + 1])\n"
    "    h[t] *= 0.5\n{z} = h[1:]",
    "def step(a, b):\n    a += b\n    return a\n{z} = step({x}, {y})\nstep({z}, {z})",
    "parts = [{x}[0], {x}[-1], {x}]\nparts[0] += 1.0\nparts[2] *= 0.5\n{z} = parts[1]",
    "memory = {{'a': {x}, 'b': {x}.copy()}}\nmemory['a'] += memory['b']\nmemory['b'] -= memory['a']\n"
    "{z} = memory['b']",
)


def _split(text: str) -> list[str]:
    return [part.strip() for line in text.strip().splitlines() for part in line.split(" | ")]


class Mutation(Program):
    """A program whose arrays count element by element."""

    def source(self) -> str:
        body = "\n".join(self.lines).replace("\n", "\n    ")
        names = _names(self.lines)
        total = " + ".join(f"weighed({name}, {k})" for k, name in enumerate(names))
        return f"def loss(p):\n    {body}\n    return {total}\n"

    def loss(self) -> Any:
        space = _space()
        exec(compile(self.source(), "program.py", "exec"), space)  # our own text
        return space["loss"]

    def values(self) -> dict[str, Any] | None:
        space = _space()
        space["p"] = {name: np.array(value) for name, value in self.params.items()}
        try:
            with np.errstate(all="raise", under="ignore"):
                exec("\n".join(self.lines), space)
        except (ValueError, IndexError, TypeError, FloatingPointError, AttributeError):
            return None
        found = {name: np.asarray(space[name]) for name in _names(self.lines)}
        small = all(v.size <= MOST and np.all(abs(v) < LARGEST) for v in found.values())
        return found if small else None


def weighed(array: Any, k: int) -> Any:
    size = int(np.prod(np.shape(array)))
    weights = np.cos(np.arange(1.0 + k, size + 1.0 + k)).reshape(np.shape(array))
    return np.sum(array * weights)


def _space() -> dict[str, Any]:
    helpers = {"as_strided": as_strided, "sliding_window_view": sliding_window_view}
    return {"np": np, "weighed": weighed, **helpers}


def _names(lines: tuple[str, ...]) -> list[str]:
    """The arrays by name; those that a program takes apart and swaps keep theirs."""
    text = "\n".join(lines)
    return [f"v{k}" for k in range(len(lines)) if f"v{k} = " in text]


@st.composite
def mutations(draw: Any, length: int = 8) -> Mutation:
    """Draw a program that runs."""
    numbers = st.sampled_from([-1.1, -0.5, 0.4, 0.9, 1.3, 0.37, -0.83, -1.24, 0.11, -0.29])
    params: dict[str, Any] = {}
    lines: tuple[str, ...] = ()
    for k in range(draw(st.integers(1, 2))):
        shape = draw(st.sampled_from(SHAPES))
        size = int(np.prod(shape))
        flat = draw(st.lists(numbers, min_size=size, max_size=size))
        params[f"p{k}"] = (np.array(flat) + 0.01 * np.sin(np.arange(1, size + 1))).reshape(shape)
        start = draw(st.sampled_from(["p['p{k}']", "p['p{k}'] * 1.0", "p['p{k}'].T.copy().T"]))
        lines += (f"v{k} = {start.format(k=k)}",)
    program = Mutation(lines, params)
    for _ in range(draw(st.integers(2, length))):
        longer = Mutation((*program.lines, draw(_line(program))), params)
        if longer.values() is not None:
            program = longer
    return program


@st.composite
def _line(draw: Any, program: Mutation) -> str:
    names = _names(program.lines)[::-1]
    words = {word: draw(st.sampled_from(names)) for word in "xyz"}
    words |= {word: draw(st.sampled_from(_split(SLICES))) for word in "ij"}
    words["v"] = draw(st.sampled_from(["0.7", "np.sum({x})", *names, "{y}[0]", "{x}[-1]", "{x}.T"]))
    words["v"] = words["v"].format(**words)
    new = f"v{len(program.lines)}"
    kind = draw(st.sampled_from(["view"] * 3 + ["copy"] + ["write"] * 5 + ["block"]))
    if kind == "write":
        return draw(st.sampled_from(_split(WRITES))).format(**words)
    if kind == "block":
        return draw(st.sampled_from(BLOCKS)).format(**{**words, "z": new})
    family = VIEWS if kind == "view" else COPIES
    return f"{new} = {draw(st.sampled_from(_split(family))).format(**words)}"


_SETTINGS = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@settings(_SETTINGS, max_examples=PROGRAMS)
@given(mutations())
def test_what_is_written_is_replayed_faithfully_or_refused(program: Mutation) -> None:
    note(program.source())
    note(str(program.params))
    compare(program)


@dataclass
class _Tally:
    programs: int = 0
    refused: int = 0


def test_most_programs_are_traced() -> None:
    tally = _Tally()

    @settings(_SETTINGS, max_examples=100)
    @given(mutations())
    def count(program: Mutation) -> None:
        tally.programs += 1
        try:
            trace(program.loss(), ParamTree.from_user(program.params))
        except Untraceable:
            tally.refused += 1

    count()
    assert tally.refused <= 0.1 * tally.programs, tally


@pytest.mark.parametrize("line", ["v0 = p['a'] * 1.0\nv1 = v0[1:]\nv1 *= 2"])
def test_a_wrong_replay_would_be_seen(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Views that did not write through fail the comparison."""
    from fastcheck.trace import traced

    program = Mutation(tuple(line.split("\n")), {"a": np.array([0.3, 0.5, -0.2])})
    assert compare(program) == "replayed"
    monkeypatch.setattr(traced, "STRUCTURAL", ())  # every view is a copy
    with pytest.raises(AssertionError):
        compare(program)
