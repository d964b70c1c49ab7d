"""Where a direction went wrong: halving, from tensors to blocks to elements.

A wrong element shows in one half of its block and not in the other, so that two forward passes
halve what is left to suspect. Errors all over a tensor show in both halves; these are not followed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.monitor.directions import Along, Lines, Moves, only

_MOST_BLOCKS = 8


@dataclass(frozen=True)
class Suspect:
    """A tensor whose derivative along a direction is wrong.

    Attributes
    ----------
    name : str
    elements : (k,) int64 or None
        Flat indices among which the wrong ones are; None where they are all over it.
    """

    name: str
    elements: IndexArray | None


def localise(lines: Lines, moves: Moves, step: float) -> list[Suspect]:
    """Return the tensors that make a direction suspicious, and where in them.

    Parameters
    ----------
    lines : Lines
        The loss along directions.
    moves : mapping
        The direction, in which several tensors may move.
    step : float
        The step with which it was suspicious.
    """
    whole = lines.along(moves, step)
    if not whole.suspicious:
        return []
    if not whole.known:
        return [Suspect(name, None) for name in moves]
    found = []
    for name, one in _wrong_tensors(lines, moves, list(moves), whole, step):
        found.append(Suspect(name, _elements(lines, name, moves[name], one, step)))
    return found


def _wrong_tensors(
    lines: Lines, moves: Moves, names: list[str], whole: Along, step: float
) -> list[tuple[str, Along]]:
    """Return the tensors that are suspicious by themselves, and what each shows."""
    if not whole.suspicious:
        return []
    if len(names) == 1:
        return [(names[0], whole)]
    first, second = names[: len(names) // 2], names[len(names) // 2 :]
    one = lines.along({name: moves[name] for name in first}, step)
    return [
        *_wrong_tensors(lines, moves, first, one, step),
        *_wrong_tensors(lines, moves, second, whole.less(one), step),
    ]


def _elements(
    lines: Lines, name: str, move: FloatArray, whole: Along, step: float
) -> IndexArray | None:
    """Return the flat indices of the blocks that are suspicious; None if these are many."""
    blocks = [(np.arange(move.size, dtype=np.int64), whole)]
    while any(len(places) > 1 for places, _ in blocks):
        halves: list[tuple[IndexArray, Along]] = []
        for places, both in blocks:
            if len(places) == 1:
                halves.append((places, both))
                continue
            first, second = np.array_split(places, 2)
            one = lines.along({name: only(move, first)}, step)
            halves += [
                (half, seen)
                for half, seen in ((first, one), (second, both.less(one)))
                if seen.suspicious
            ]
        if not halves or len(halves) > _MOST_BLOCKS:
            return None
        blocks = halves
    return np.concatenate([places for places, _ in blocks])
