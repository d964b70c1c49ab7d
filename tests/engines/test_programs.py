"""Random NumPy programs: replayed differences equal those of the plain loop.

A program is drawn line by line. A line is kept if the program still runs and its values stay
finite and of moderate size, so that rounding cannot blur the comparison.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from fastcheck.engines.base import Differences
from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.replay import ReplayEngine
from fastcheck.engines.tracing import escaped_number
from fastcheck.fusion.dims import NotFusable
from fastcheck.params import ParamTree
from fastcheck.trace.simplify import simplify
from fastcheck.trace.tape import Untraceable
from fastcheck.trace.tracer import trace

STEPS = (0.3007, 0.0103)
SHAPES = ((), (1,), (3,), (4,), (2, 3), (3, 4), (3, 3), (4, 1), (1, 3), (2, 3, 4), (2, 1, 2))
DATA = {f"C{n}": np.cos(np.arange(1.0, n + 1)) for n in (2, 3, 4)}
DATA |= {"M33": np.sin(np.arange(9.0)).reshape(3, 3), "M34": np.cos(np.arange(12.0)).reshape(3, 4)}
LARGEST, WIDEST = 60.0, 80

UNARY = """
np.tanh({x}) | np.exp(np.tanh({x})) | 1 / (1 + np.exp(-{x})) | np.log({x} ** 2 + 1.5)
np.sqrt({x} * {x} + 0.5) | np.square({x}) | {x} ** 3 | abs({x}) | np.maximum({x}, 0)
np.maximum(0.1 * {x}, {x}) | np.sin({x}) | np.cos({x}) | np.arctan({x}) | np.log1p({x} ** 2)
np.expm1(0.3 * np.tanh({x})) | np.clip({x}, -0.4, 0.7) | np.where({x} > 0, {x}, 0.1 * {x})
{x} * ({x} > 0) | -{x} | np.sign({x}) * {x} | np.floor({x}) | np.minimum({x}, 0.3)
np.logaddexp(0, {x}) | np.cbrt({x}) | np.power(np.abs({x}) + 0.5, 1.7) | np.arcsinh({x})
np.hypot({x}, 1.0) | ({x} > 0.1).astype(float) | np.remainder({x}, 0.7) | {x}.copy()
np.reciprocal({x} ** 2 + 1.0) | np.round({x}, 1) | 2 ** np.tanh({x}) | {x} ** -1 | {x} ** 0.5
({x} >= 0) & ({x} < 1) | ~({x} > 0) | ({x} == 0) * 1.5 | np.zeros_like({x}) + {x} | {x} * 1.0
np.nan_to_num({x}) | np.exp({x} - np.max({x})) / np.sum(np.exp({x} - np.max({x})))
np.log(np.sum(np.exp({x}))) | {x} - np.log(np.sum(np.exp({x}), axis=-1, keepdims=True))
np.exp({x}) / np.sum(np.exp({x}), axis=0) | np.log(np.exp({x}) / np.sum(np.exp({x}), axis=0))
np.tril({x}) | np.triu({x}, 1) | np.sort({x}) | np.abs({x}) ** 1.5
np.select([{x} > 0.5, {x} > 0], [{x}, {x} ** 2], -{x}) | np.heaviside({x}, 0.5) * {x}
"""
BINARY = """
{x} + {y} | {x} - {y} | {x} * {y} | {x} / ({y} ** 2 + 0.5) | np.maximum({x}, {y})
np.minimum({x}, {y}) | np.where({x} > {y}, {x}, {y}) | np.hypot({x}, {y}) | np.logaddexp({x}, {y})
np.power(np.abs({x}) + 0.5, np.tanh({y})) | np.arctan2({x}, {y} ** 2 + 0.1) | ({x} < {y}) * {x}
{x} % (abs({y}) + 0.3) | np.where(({x} > 0)|({y} > 0), {x}, 2.0) | ({x} > 0) == ({y} > 0)
{x} @ {y} | {x} @ {x}.T | np.dot({x}, {y}) | {y}.dot({x}) | np.outer({x}, {y}) | np.inner({x}, {y})
np.tensordot({x}, {y}, axes=1) | np.tensordot({x}, {y}, axes=0) | np.matmul({x}.T, {y})
np.einsum('ij,jk->ik', {x}, {y}) | np.einsum('ij,kj->ik', {x}, {y}) | np.einsum('i,i', {x}, {y})
np.einsum('...i,i->...', {x}, {y}) | np.einsum('ij,ij->j', {x}, {y}) | np.einsum('ij->ji', {x})
np.einsum('ijk,jl->ikl', {x}, {y}) | np.einsum('ii->i', {x} @ {x}.T)
np.einsum('ij,j,i->', {x}, {y}, {y})
np.concatenate([{x}, {y}]) | np.concatenate([{x}, {y}], axis=-1) | np.stack([{x}, {y}], axis=-1)
np.hstack([{x}, {y}]) | np.vstack([{x}, {y}]) | np.array([np.sum({x}), np.mean({y}), 0.5])
np.append({x}, {y}) | np.array([{x}, {y}]) | sum([{x}, {y}]) | np.column_stack([{x}, {y}])
{x}[{y} > 0] | {x}[np.argmax({y}) % len({x})] | {x}[np.argsort({y})] | ({x} > {y}).sum() * {x}
{x} * ({y} > 0) | {x} if {y}.sum() > 0.1 else -{x} | {x} * int(np.sum({y})) | {x} * len({y})
np.take({x}, [0, -1, 0], axis=0) + {y} | np.add.outer({x}, {y}) | np.block([[{x}, {y}]])
"""
SHAPING = """
{x}.T | {x}.ravel() | {x}.reshape(-1, 1) | {x}[None] | {x}[..., None] | np.expand_dims({x}, 0)
{x}.reshape(-1) | {x}.reshape(2, -1) | {x}.reshape(-1, 2) | {x}.reshape(3, -1) | np.squeeze({x})
np.swapaxes({x}, 0, -1) | np.moveaxis({x}, 0, -1) | {x}.reshape(-1, order='F') | np.flip({x})
np.roll({x}, 1) | np.roll({x}, 1, axis=0) | np.tile({x}, 2) | np.repeat({x}, 2, axis=0)
np.pad({x}, 1) | np.broadcast_to({x}, (2, *{x}.shape)) | np.pad({x}, 1, mode='edge') | {x}.flatten()
np.atleast_2d({x}) | np.diff({x}, axis=0) | np.split({x}, 2)[1] | np.diag({x}) | np.trace({x})
{x}.reshape(2, 3, -1) | {x}.reshape(4, -1).T | np.rot90({x}) | np.array_split({x}, 2)[0]
"""
REDUCING = """
np.sum({x}{k}) | np.mean({x}{k}) | np.max({x}{k}) | np.min({x}{k}) | np.prod({x}{k})
np.var({x}{k}) | np.std({x}{k}) + 0.0 | {x}.sum({a}) | {x}.mean({a}) | {x}.max({a})
np.cumsum({x}, axis={a}) | np.argmax({x}, axis={a}) * 0.5 | ({x} > 0).any(axis={a}) * 1.0
{x} - np.max({x}, axis={a}, keepdims=True) | np.linalg.norm({x}, axis={a}) | np.any({x} > 0) * {x}
{x} / np.sum(np.abs({x}) + 0.1, axis={a}, keepdims=True) | ({x} > 0).sum(axis={a}) | np.ptp({x}{k})
np.median({x}, axis={a}) | np.count_nonzero({x} > 0, axis={a}) | ({x} > 0).mean(axis={a})
np.cumprod({x}, axis={a}) | np.take_along_axis({x}, np.argsort({x}, axis={a}), axis={a})
"""
INDICES = """
0 | -1 | 1 | 1: | :-1 | ::2 | ::-1 | :, 0 | ..., 0 | :, 1: | 0, ::-1 | :, None | ..., -1:
[0, 1, 0] | [-1, 0] | :, [0, 0] | [0, 1], [1, 0] | [[0], [1]], [0, 1] | [0, 1], :, [1, 0]
np.arange({x}.shape[0]) % 2 == 0 | np.arange(len({x})), 0 | 0, :, [1, 0] | [[0, 1], [1, 0]]
:, np.arange({x}.shape[1]) > 0 | np.ones({x}.shape, dtype=bool) | {x} > 0.2 | {x}.argmax(0)
np.arange(len({x})), {x}.argmax(-1) | 2:0:-1 | 1:1 | None, ..., [0] | np.array(1) | [1], None
:, :, 1 | 0, 1 | np.newaxis, 0 | [True, False, True] | 0, [1, 0] | [0], 1: | ..., [0, 1], 0
"""
WRITING = """
{x}[{i}] = {v} | {x}[{i}] += {v} | {x}[{i}] *= {v} | {x} += {v} | {x} *= {v} | {x} -= 0.1 * {v}
{x}[{x} < 0] = 0 | {x}[{x} < 0] *= 0.1 | {x}[{v} > 0] = 0.5 | np.add({x}, {v}, out={x})
np.add.at({x}, [0, 0, -1], 1.5) | np.multiply({x}, 0.5, out={x}) | {x}[:] = {v} | {x}[...] = {v}
np.copyto({x}, {v}) | {x} /= 2 | np.maximum({x}, 0, out={x}) | {x}[0], {x}[1] = {x}[1], {x}[0]
{x}[{i}] = {x}[{i}] * {v} | {x}.fill(0.3) | {x}[{x} > 0] = {x}[{x} > 0] ** 2 | {x}.sort()
np.subtract.at({x}, [0, 0], np.sum({v})) | {x}[{v} > 0] += {v}[{v} > 0] | np.fill_diagonal({x}, 0.5)
"""
BLOCKS = (
    "{z} = np.zeros((3, *np.shape({x})))\nfor t in range(3):\n    {z}[t] = np.tanh({x} * t + {y})",
    "{z} = []\nfor row in {x}:\n    {z}.append(row * {y})\n{z} = np.array({z})",
    "{z} = np.zeros(3)\n{z}[0] = np.sum({x})\nfor t in range(2):\n    {z}[t + 1] = {z}[t] / 2 + 1",
    "if np.mean({x}) > 0.05 and np.sum({y}) < 1:\n    {z} = {x} * 2\nelse:\n    {z} = {x} - 1",
    "{z} = {x}.copy()\nwhile np.abs({z}).sum() > 2:\n    {z} = 0.5 * {z}",
    "{z} = {x}.copy()\nw = {z}.reshape(-1)\nw[0] = np.sum({y})\nw[1:] *= 2",
    "{z} = np.empty_like({x})\n{z}[0] = {x}[-1]\n{z}[1:] = {x}[:-1] * {y}",
    "{z} = {x}.T.copy()\nw = {z}.ravel()\nw += 0.5\n{z} = {z} * 1.0",
    "{z} = np.full(np.shape({x}), 0.5)\n{z} += {y}\n{z}[{x} > 0] = -1",
    "{z} = np.ones(4)\nfor i, w in enumerate(np.ravel({x})[:4]):\n    {z}[i] = w * {z}[i - 1]",
)


def _split(text: str) -> list[str]:
    return [part.strip() for line in text.strip().splitlines() for part in line.split(" | ")]


@dataclass(frozen=True)
class Program:
    """Source lines of a loss, and the parameters θ."""

    lines: tuple[str, ...]
    params: dict[str, Any]

    def source(self) -> str:
        body = "\n".join(self.lines).replace("\n", "\n    ")
        names = sorted(_names(self.lines))
        total = " + ".join(f"{0.5 + 0.1 * k:.1f} * np.sum({name})" for k, name in enumerate(names))
        return f"def loss(p):\n    {body}\n    return {total}\n"

    def loss(self) -> Any:
        space: dict[str, Any] = {"np": np, **DATA}
        exec(compile(self.source(), "program.py", "exec"), space)  # our own text
        return space["loss"]

    def values(self) -> dict[str, Any] | None:
        """Return all variables at θ; None if the program fails or leaves its bounds."""
        space: dict[str, Any] = {"np": np, **DATA}
        space["p"] = {name: np.array(value) for name, value in self.params.items()}
        try:
            with np.errstate(all="raise", under="ignore"):
                exec("\n".join(self.lines), space)
        except (ValueError, IndexError, TypeError, FloatingPointError, AttributeError):
            return None
        except np.linalg.LinAlgError:
            return None
        found = {name: space[name] for name in _names(self.lines)}
        sound = all(np.size(v) <= WIDEST and _moderate(v) for v in found.values())
        # A mask ** 0.5 is float16 in NumPy, whose rounding no difference can follow.
        sound = sound and all(np.asarray(v).dtype != np.float16 for v in found.values())
        return found if sound else None


def _moderate(value: Any) -> bool:
    return bool(np.all(np.abs(np.asarray(value, dtype=float)) < LARGEST))


def _names(lines: tuple[str, ...]) -> set[str]:
    return set(re.findall(r"^ *(v\d+) = ", "\n".join(lines), re.MULTILINE))


@st.composite
def programs(draw: Any, length: int = 9) -> Program:
    """Draw a program that runs."""
    numbers = st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0, 0.37, -0.83, 1.61, -1.24, 0.11, -0.29])
    params: dict[str, Any] = {}
    lines: tuple[str, ...] = ()
    for k in range(draw(st.integers(1, 3))):
        shape = draw(st.sampled_from(SHAPES))
        size = int(np.prod(shape))
        flat = draw(st.lists(numbers, min_size=size, max_size=size))
        jitter = draw(st.booleans()) * 0.01 * np.sin(np.arange(1, size + 1) * (k + 1))
        params[f"p{k}"] = (np.array(flat) + jitter).reshape(shape)
        tail = draw(st.sampled_from(["", ".copy()", " * 1.0"]))
        lines += (f"v{k} = p['p{k}']{tail}",)
    program = Program(lines, params)
    for k in range(draw(st.integers(1, length))):
        longer = Program((*program.lines, draw(_line(program, len(params) + k))), params)
        if longer.values() is not None:
            program = longer
    return program


@st.composite
def _line(draw: Any, program: Program, number: int) -> str:
    names = sorted(_names(program.lines), key=lambda name: int(name[1:]))
    words = {
        "x": draw(st.sampled_from(names[::-1])),
        "y": draw(st.sampled_from(names[::-1] + list(DATA))),
        "v": draw(st.sampled_from(["0", "1.5", "np.sum({x})", *names, "C3"])),
        "k": draw(st.sampled_from(["", ", axis=0", ", axis=-1", ", axis=1, keepdims=True"])),
        "a": draw(st.sampled_from(["0", "-1", "1", "None"])),
    }
    words["v"] = words["v"].format(**words)
    words["i"] = draw(st.sampled_from(_split(INDICES))).format(**words)
    words["z"] = f"v{number}"
    kind = draw(st.sampled_from(["expression"] * 6 + ["index", "write", "write", "block"]))
    if kind == "expression":
        family = draw(st.sampled_from([UNARY, BINARY, BINARY, SHAPING, REDUCING]))
        return f"v{number} = {draw(st.sampled_from(_split(family))).format(**words)}"
    if kind == "index":
        return f"v{number} = {words['x']}[{words['i']}]"
    if kind == "write":
        return draw(st.sampled_from(_split(WRITING))).format(**words)
    return draw(st.sampled_from(BLOCKS)).format(**words)


# Derandomised: where a branch that flips gives an exact tie, rounding may break it differently.
@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(programs())
def test_replayed_differences_equal_the_loop_s(program: Program) -> None:
    note(program.source())
    note(str(program.params))
    compare(program)


def compare(program: Program) -> str:
    """Assert that both engines agree for every element; say how far the replay got."""
    tree = ParamTree.from_user(program.params)
    loss = LossFunction(program.loss(), tree)
    loop = LoopEngine(loss, tree)
    try:
        graph = simplify(trace(loss.function, tree))
    except Untraceable as refusal:
        return f"refused: {refusal}"
    assert graph.output is not None
    np.testing.assert_allclose(float(graph.output.value), loop.loss, rtol=1e-12, atol=1e-12)
    replayed = 0
    for tensor in tree:
        if escaped_number(graph, tensor.name) is not None:
            continue
        replayed += 1

        def fallback(indices: Any, moves: Any, name: str = tensor.name) -> Any:
            return loop.differences(name, indices, moves, central=False).plus

        replay = ReplayEngine(graph, tensor, loop.loss, 2**26, fallback)
        indices = np.arange(tensor.size)
        for step in STEPS:
            steps = np.full(tensor.size, step)
            with np.errstate(all="ignore"):
                try:
                    slow = loop.differences(tensor.name, indices, steps)
                except (ValueError, IndexError):  # shapes that depend on the data
                    return "raises"
                fast = replay.differences(tensor.name, indices, steps)
            for one, other in ((fast.plus, slow.plus), (fast.minus, slow.minus)):
                finite = np.isfinite(other)
                np.testing.assert_allclose(one[finite], other[finite], rtol=1e-9, atol=1e-10)
    return "replayed" if replayed == len(tree) else "escaped"


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(programs())
def test_whatever_has_a_kernel_equals_the_replay(program: Program) -> None:
    note(program.source())
    note(str(program.params))
    compare_kernels(program)


def compare_kernels(program: Program) -> int:
    """Assert that kernels agree with the replay; return how many tensors have one."""
    tree = ParamTree.from_user(program.params)
    loss = LossFunction(program.loss(), tree)
    loop = LoopEngine(loss, tree)
    try:
        graph = simplify(trace(loss.function, tree))
    except Untraceable:
        return 0
    found = 0
    for tensor in tree:
        if escaped_number(graph, tensor.name) is not None:
            continue

        def fallback(indices: Any, moves: Any, name: str = tensor.name) -> Any:
            return loop.differences(name, indices, moves, central=False).plus

        replay = ReplayEngine(graph, tensor, loop.loss, 2**26, fallback)
        try:
            fused = FusedEngine(replay, tensor, 2**26)
        except NotFusable:
            continue
        found += 1
        for exponent in (-31, -11):
            steps = np.full(tensor.size, 2.0**exponent)
            ours = fused.differences(tensor.name, np.arange(tensor.size), steps)
            other = replay.differences(tensor.name, np.arange(tensor.size), steps)
            assert_as_replayed(ours, other, 1e-13 * 2.0**exponent * max(1.0, replay.magnitude))
    return found


def assert_as_replayed(ours: Differences, other: Differences, rounding: float) -> None:
    size = max(np.nanmax(np.abs(other.plus)), np.nanmax(np.abs(other.minus)))
    for one, wanted in ((ours.plus, other.plus), (ours.minus, other.minus)):
        finite = np.isfinite(wanted)
        np.testing.assert_allclose(
            one[finite], wanted[finite], rtol=1e-9, atol=1e-11 * size + rounding
        )
    np.testing.assert_array_equal(ours.kinked, other.kinked)
