"""Names of tensors and of their parts, as sentences need them."""

from __future__ import annotations

import linecache
from collections.abc import Sequence

from fastcheck.trace.graph import Node

_MOST = 6
_STANDS_FOR = {"logaddexp": "log", "log_softmax": "log", "logsumexp": "log"}
"""What rewriting makes of a logarithm, by name: see `fastcheck.trace.simplify`."""

Words = tuple[str, str]
"""Evidence and explanation."""


def listed(names: Sequence[str]) -> str:
    """Return ``W1``, ``W1 and b1``, ``W1, b1 and W2``; of many the first."""
    if len(names) > _MOST:
        return f"{', '.join(names[: _MOST - 1])} and {len(names) - _MOST + 1} more"
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def gradient_of(names: Sequence[str]) -> str:
    """Return ``the gradient of W1``, or ``the gradients of W1 and b1``."""
    return f"the gradient{'s' if len(names) > 1 else ''} of {listed(names)}"


def is_are(names: Sequence[str]) -> str:
    """Return the verb that goes with `gradient_of`."""
    return "are" if len(names) > 1 else "is"


def axis_word(shape: tuple[int, ...], axis: int) -> str:
    """Return what a slice along an axis is called: a row, a column, an element."""
    if sum(length > 1 for length in shape) == 1:
        return "element"
    if len(shape) == 2:
        return ("row", "column")[axis]
    return f"slice along axis {axis}"


def axis_words(shape: tuple[int, ...], axes: Sequence[int]) -> str:
    """Return what all the slices along some axes are called: ``rows and columns``."""
    if len(shape) > 2 and sum(length > 1 for length in shape) > 1:
        of_axes = listed([str(axis) for axis in axes])
        return f"slices along ax{'e' if len(axes) > 1 else 'i'}s {of_axes}"
    return listed([f"{axis_word(shape, axis)}s" for axis in axes])


def subject(names: Sequence[str]) -> str:
    """Return `gradient_of` as a sentence begins."""
    text = gradient_of(names)
    return text[0].upper() + text[1:]


def subject_is(names: Sequence[str]) -> str:
    """Return how a sentence on the gradients of tensors begins: subject and verb."""
    return f"{subject(names)} {is_are(names)}"


def operation(node: Node) -> str:
    """Return what an operation is called where it is written, if it was rewritten since.

    ``np.log`` of a sigmoid is computed as `logaddexp`, which nobody finds in the line. That fits
    where a way through it is meant; its input is another one.
    """
    name, source = node.primitive.name, node.source
    plain = _STANDS_FOR.get(name)
    if plain is None or not source.line:
        return name
    line = linecache.getline(source.file, source.line)
    return plain if plain in line and name not in line else name
