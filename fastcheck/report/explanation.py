"""An Explanation as a page of text."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from fastcheck.report.figures import duration

if TYPE_CHECKING:
    from fastcheck.explain import Explanation, NodeLine, TensorPlan

_WIDTH = 100
_MOST_LINES = 60


def render(explanation: Explanation) -> str:
    """Return the page: the graph, then a paragraph for each tensor; no line over 100 columns."""
    parts = [_headline(explanation)]
    if explanation.graph:
        parts.append(_graph(explanation))
    parts += [_tensor(tensor) for tensor in explanation.tensors]
    return "\n\n".join(parts)


def _headline(explanation: Explanation) -> str:
    if explanation.graph:
        what = f"traced into {len(explanation.graph)} operations"
    else:
        what = f"not traced: {explanation.refusal}"
    text = (
        f"loss {explanation.loss:.6g}, {what}; "
        f"about {duration(explanation.seconds)} for the differences of a full check"
    )
    return textwrap.fill(text, _WIDTH)


def _graph(explanation: Explanation) -> str:
    lines = [_line(node) for node in explanation.graph[:_MOST_LINES]]
    rest = len(explanation.graph) - _MOST_LINES
    if rest > 0:
        lines.append(f"  … and {rest} more operations")
    lines += [f"  guard: {guard}"[:_WIDTH] for guard in explanation.guards[:_MOST_LINES]]
    return "\n".join(["graph", *lines])


def _line(node: NodeLine) -> str:
    shape = "×".join(map(str, node.shape)) or "scalar"
    call = f"{node.operation}({', '.join(node.operands)})" if node.operands else node.operation
    source = node.source.rpartition(":")
    where = f"{Path(source[0]).name}:{source[2]}" if source[0] else ""
    text = f"  {f'%{node.number}':>5} = {call}"
    return f"{_short(text, 62):<62} {_short(shape, 14):<14} {_short(where, 21)}".rstrip()


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _tensor(tensor: TensorPlan) -> str:
    shape = "×".join(map(str, tensor.shape)) or "scalar"
    head = f"{_short(tensor.name, 40)}  {shape}  {tensor.engine}: {tensor.reason}"
    lines = textwrap.wrap(head, _WIDTH, subsequent_indent="  ")
    if tensor.engine in ("replay", "fused"):
        numbers = " ".join(f"%{number}" for number in tensor.operations)
        verb = "computes in kernels" if tensor.engine == "fused" else "replays"
        replayed = f"{verb} {len(tensor.operations)} operations: {numbers}"
        lines += textwrap.wrap(
            replayed,
            _WIDTH,
            initial_indent="  ",
            subsequent_indent="    ",
            max_lines=3,
            placeholder=" …",
        )
    if tensor.engine in ("replay", "batched"):
        lines.append(
            f"  {tensor.chunk:,} parameters a chunk, {_megabytes(tensor.bytes_per_chunk)} of stacks"
        )
    lines.append(f"  {choice(tensor)}")
    return "\n".join(lines)


def _about(seconds: float) -> str:
    text = duration(seconds)
    return text if text.startswith("<") else f"about {text}"


def choice(tensor: TensorPlan) -> str:
    """Return the estimated time of a tensor, and those of the engines not chosen."""
    others = [
        f"{engine} {duration(seconds)}"
        for engine, seconds in tensor.estimates.items()
        if engine != tensor.engine
    ]
    text = _about(tensor.seconds)
    if tensor.compiling and tensor.engine in ("fused", "compiled"):
        text += f", of which {duration(tensor.compiling)} to compile"
    if others:
        text += f" (estimated; {', '.join(others)})"
    if tensor.compiling and tensor.engine == "replay":
        text += f"; compiling a kernel would take {duration(tensor.compiling)}"
    return text


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
