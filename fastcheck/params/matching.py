"""Matching the user's analytic gradients to the parameters that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.errors import FastcheckError, InputError, InputTypeError
from fastcheck.params.complex_parts import parts_of
from fastcheck.params.leaves import gradient_flaw, is_number, listed
from fastcheck.params.names import match_names
from fastcheck.params.nesting import Branch, children, is_namedtuple, key_name
from fastcheck.params.places import is_array, on_host
from fastcheck.params.tree import ParamTree, Tensor

_MOST_SHOWN = 20
_Way = Callable[[ParamTree, Any], "_Attempt"]


@dataclass
class _Attempt:
    """What one way of reading `grads` comes to: a gradient or a problem for each tensor."""

    gradients: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    wrong_types: int = 0

    def add(self, tensor: Tensor, leaf: Any) -> None:
        """Take `leaf` as the gradient of `tensor`, if it can be that."""
        leaf = _array_of_numbers(leaf)
        if leaf is None:
            self.problems.append(f"{tensor.name}: None; where the loss ignores it, give zeros")
            return
        if (flaw := gradient_flaw(leaf, tensor.is_complex)) is not None:
            self.wrong_types += 1
            self.problems.append(f"{tensor.name}: {flaw}")
            return
        dtype: Any = np.complex128 if tensor.is_complex else np.float64
        with np.errstate(over="ignore"):  # A long double may be too large: then it is infinite.
            gradient = np.array(on_host(leaf), dtype=dtype, copy=True, subok=False)
        # One derivative is one derivative: `np.sum(dz)` is a fine gradient of a (1, 1) bias.
        if gradient.shape != tensor.user_shape and not gradient.size == tensor.elements == 1:
            self.problems.append(_shape_problem(tensor, gradient.shape))
            return
        parts = parts_of(gradient) if tensor.is_complex else gradient
        self.gradients[tensor.name] = parts.reshape(tensor.shape)


def match_gradients(
    tree: ParamTree, grads: object, argument: str = "grads"
) -> dict[str, NDArray[np.float64]]:
    """Find the gradient of every tensor in what the user's backward pass returns.

    Parameters
    ----------
    tree
        The parameters.
    grads
        One of: the same nesting as the parameters; dicts whose names differ from the parameters'
        by the usual prefix, suffix or case (`W1` ↔ `dW1`, `dw1`, `grad_W1`, `W1_grad`, `dJ_dW1`)
        and that may hold more entries; a list or tuple in the tree's order; one vector of all
        derivatives in the tree's order, of shape (N,), (N, 1) or (1, N). Integers are converted.
        The gradient of a complex array is complex, ∂J/∂Re + i·∂J/∂Im; it is one value of a vector.
    argument
        What the error messages call it.

    Returns
    -------
    dict
        Tensor name → float64 gradient of the tensor's shape, in new memory; of a complex array its
        parts (`Tensor`). NaN and infinite values are kept: a wrong gradient is for the verdict to
        name.

    Raises
    ------
    InputError
        If gradients are missing, have other shapes, or cannot be told apart. All are named.
    InputTypeError
        If that is so because gradients are no numbers (objects, None), or complex ones of real
        parameters.
    """
    attempts = []
    for way in _ways(tree, grads):
        attempt = way(tree, grads)
        if not attempt.problems:
            return {name: attempt.gradients[name] for name in tree.names}
        attempts.append(attempt)
    if not attempts:
        flaw = gradient_flaw(grads, tree.has_complex)
        raise InputTypeError(f"`{argument}` is {flaw}. {_what_is_expected(tree)}")
    raise _error(attempts[0], tree, grads, argument)


def _ways(tree: ParamTree, grads: Any) -> list[_Way]:
    """The ways to read `grads`; the first is the one that an error is about."""
    if isinstance(grads, Mapping):
        return [_by_name]
    if not isinstance(grads, list | tuple):
        return [_as_vector, _by_name] if gradient_flaw(grads, tree.has_complex) is None else []
    same_kind = isinstance(tree.root, Branch) and (tree.root.is_sequence or is_namedtuple(grads))
    by_position: list[_Way] = [_by_order, _by_items]
    ways = [_by_name, *by_position] if same_kind else [*by_position, _by_name]
    return [*ways, _as_vector] if _holds_only_numbers(grads) else ways


def _by_name(tree: ParamTree, grads: Any) -> _Attempt:
    """The same nesting, with names that may differ by prefix, suffix and case."""
    found: dict[int, Any] = {}
    doubts: dict[int, str] = {}
    if isinstance(tree.root, int):
        _find_only_gradient(grads, found, doubts)
    else:
        _pair(tree.root, grads, found, doubts)
    attempt = _Attempt()
    for number, tensor in enumerate(tree):
        if number in found:
            attempt.add(tensor, found[number])
        else:
            attempt.problems.append(f"{tensor.name}: {doubts.get(number, 'no gradient found')}")
    return attempt


def _pair(node: Branch | int, grads: Any, found: dict[int, Any], doubts: dict[int, str]) -> None:
    """Go down `node` and `grads` together, and note which leaf is found or cannot be told."""
    if isinstance(node, int):
        found[node] = grads
        return
    entries = _entries(node, grads)
    if node.is_sequence and entries and len(entries) != len(node.names):
        # No guess at which ones are meant: (dX, dW, db) for (W, b) is an easy slip.
        doubt = f"{len(entries)} entries stand where the parameters have {len(node.names)}"
        doubts.update(dict.fromkeys(_leaf_numbers(node), doubt))
        return
    matches, ambiguous = match_names(node.names, [name for name, _ in entries])
    for place, child in enumerate(node.children):
        if place in matches:
            _pair(child, entries[matches[place]][1], found, doubts)
        elif place in ambiguous:
            rivals = " and ".join(f"`{entries[rival][0]}`" for rival in ambiguous[place])
            doubt = f"{rivals} could be its gradient just as well; keep one, or use the exact name"
            doubts.update(dict.fromkeys(_leaf_numbers(child), doubt))


def _entries(node: Branch, grads: Any) -> list[tuple[str | int, Any]]:
    """The named entries of `grads`, if it is a container like `node`; none otherwise."""
    if isinstance(grads, Mapping):
        return [] if node.is_sequence else [(key_name(key), grads[key]) for key in grads]
    if is_array(grads) and grads.ndim and len(grads) == len(node.names):
        return list(enumerate(grads)) if node.is_sequence else []
    if not isinstance(grads, list | tuple):
        return []
    if node.is_sequence:
        return list(enumerate(grads))
    if is_namedtuple(grads):
        return children(grads) or []
    fields_in_order = node.is_namedtuple and len(grads) == len(node.names)
    return list(zip(node.names, grads, strict=True)) if fields_in_order else []


def _leaf_numbers(node: Branch | int) -> list[int]:
    if isinstance(node, int):
        return [node]
    return [number for child in node.children for number in _leaf_numbers(child)]


def _find_only_gradient(grads: Any, found: dict[int, Any], doubts: dict[int, str]) -> None:
    """The parameters are one bare array, so that the only entry can be no other's gradient."""
    if not isinstance(grads, Mapping):
        found[0] = grads
        return
    names = [key_name(key) for key in grads]
    entries = list(grads.values())
    matches, _ = match_names(["params"], names)
    if matches or len(entries) == 1:
        found[0] = entries[matches.get(0, 0)]
    elif entries:
        doubts[0] = f"any of {len(entries)} entries could be its gradient; pass that array alone"


def _by_order(tree: ParamTree, grads: Any) -> _Attempt:
    """Nested lists and tuples of arrays, in the tree's order."""
    return _in_order(tree, _flattened(grads))


def _by_items(tree: ParamTree, grads: Any) -> _Attempt:
    """A list in the tree's order whose arrays are lists of numbers themselves."""
    return _in_order(tree, list(grads))


def _in_order(tree: ParamTree, leaves: list[Any]) -> _Attempt:
    attempt = _Attempt()
    if len(leaves) != len(tree):
        attempt.problems.append(
            f"arrays in the list: {len(leaves)}, but parameter arrays: {len(tree)}"
        )
        return attempt
    for tensor, leaf in zip(tree, leaves, strict=True):
        attempt.add(tensor, leaf)
    return attempt


def _as_vector(tree: ParamTree, grads: Any) -> _Attempt:
    """One array: that of the only tensor, or all derivatives in the tree's order."""
    array = np.asarray(on_host(_array_of_numbers(grads)))
    only, size = tree.tensors[0], tree.elements
    attempt = _Attempt()
    if len(tree) == 1 and array.shape == only.user_shape:
        attempt.add(only, array)
    elif array.shape in ((size,), (size, 1), (1, size)) or array.size == size == 1:
        _add_each(attempt, tree, array.reshape(-1))
    elif len(tree) == 1:
        attempt.problems.append(_shape_problem(only, array.shape))
    else:
        attempt.problems.append(
            f"it is one array of shape {array.shape} for {len(tree)} parameter arrays of "
            f"{size} values in all"
        )
    return attempt


def _add_each(attempt: _Attempt, tree: ParamTree, vector: NDArray[Any]) -> None:
    """Cut a vector up. One complex tensor makes all of it complex, real derivatives as well."""
    ends = np.cumsum([tensor.elements for tensor in tree])
    for tensor, part in zip(tree, np.split(vector, ends[:-1]), strict=True):
        real = not tensor.is_complex and part.dtype.kind == "c" and not part.imag.any()
        attempt.add(tensor, (part.real if real else part).reshape(tensor.user_shape))


def _flattened(grads: Any, above: tuple[int, ...] = ()) -> list[Any]:
    if not isinstance(grads, list | tuple) or id(grads) in above:
        return [grads]
    return [leaf for entry in grads for leaf in _flattened(entry, (*above, id(grads)))]


def _holds_only_numbers(grads: Any) -> bool:
    leaves = _flattened(grads)
    return (
        bool(leaves)
        and all(map(is_number, leaves))
        and not isinstance(_array_of_numbers(grads), list | tuple)
    )


def _array_of_numbers(leaf: Any) -> Any:
    """An array for a (nested) list of numbers; anything else as it is."""
    if not isinstance(leaf, list | tuple) or not all(map(is_number, _flattened(leaf))):
        return leaf
    dtype = np.complex128 if any(map(_is_complex_number, _flattened(leaf))) else np.float64
    try:
        return np.asarray(leaf, dtype=dtype)
    except (ValueError, TypeError):
        return leaf  # Ragged.


def _is_complex_number(leaf: object) -> bool:
    return isinstance(leaf, complex | np.complexfloating)


def _shape_problem(tensor: Tensor, shape: tuple[int, ...]) -> str:
    wanted = tensor.user_shape
    turned = " (transposed?)" if shape == wanted[::-1] else ""
    return f"{tensor.name}: shape {shape}, but the parameter has shape {wanted}{turned}"


def _error(attempt: _Attempt, tree: ParamTree, grads: Any, argument: str) -> FastcheckError:
    kind: type[FastcheckError]
    kind = InputTypeError if attempt.wrong_types == len(attempt.problems) else InputError
    return kind(
        f"`{argument}` does not match the parameters:\n{listed(attempt.problems)}\n"
        f"{_what_it_holds(grads)}{_what_is_expected(tree)}"
    )


def _what_it_holds(grads: Any) -> str:
    if not isinstance(grads, Mapping):
        return ""
    shown = [_entry_text(key_name(key), grads[key]) for key in grads]
    more = f" and {len(shown) - _MOST_SHOWN} more" if len(shown) > _MOST_SHOWN else ""
    return f"It holds {', '.join(shown[:_MOST_SHOWN]) or 'nothing'}{more}.\n"


def _entry_text(name: str, entry: Any) -> str:
    return f"{name} {entry.shape}" if is_array(entry) else f"{name}"


def _what_is_expected(tree: ParamTree) -> str:
    shown = [f"{tensor.name} {tensor.user_shape}" for tensor in tree.tensors[:_MOST_SHOWN]]
    more = f" and {len(tree) - _MOST_SHOWN} more" if len(tree) > _MOST_SHOWN else ""
    return (
        f"Give a gradient of the same shape for each of {', '.join(shown)}{more}: in the same "
        "nesting, under the same names or with the usual prefix (dW1 for W1), or as one vector "
        f"of {tree.elements} values in this order."
    )
