"""The user's loss where it takes stacks of copies (``batched=True``), wrapped like any other.

A call with plain parameters is a stack of one, so that everything that knows nothing of stacks
(J(θ), its noise, the loop engine) works unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.stack_size import too_large_alone
from fastcheck.errors import FastcheckError, InputError, InputTypeError
from fastcheck.params.nesting import walk
from fastcheck.params.places import is_array, on_host

_AXES = "sum or average over all axes but the first, e.g. .sum(axis=(1, 2))"


class StackedLoss(LossFunction):
    """A callable ``tree -> float``, and ``losses`` of a whole stack, around the user's ``loss``.

    Parameters
    ----------
    function : callable
        The user's ``loss(params)``: takes the tree with a leading axis of B copies in every array,
        returns B losses, shape (B,).
    tree : ParamTree
        The parameters θ.

    Raises
    ------
    InputTypeError
        If `function` is not callable.
    """

    @property
    def single(self) -> Callable[[Any], Any]:
        """The user's function of a stack of one, as it can be traced."""

        def of_one(params: Any) -> Any:
            leaves = (leaf[None] for _, leaf in walk(params))
            return self.function(self.tree.build(dict(zip(self.tree.names, leaves, strict=True))))[
                0
            ]

        return of_one

    def evaluate(self, params: Any) -> float:
        """Return the loss at plain `params`, from a stack of one; NaN and Inf are let through."""
        try:
            return float(self.losses(self._stack_of_one(params), 1)[0])
        except MemoryError as error:  # CuPy's is one, too
            raise too_large_alone(error) from error

    def losses(self, stack: Any, copies: int) -> FloatArray:
        """Return the losses of a stack, in memory of their own; NaN and Inf are let through.

        Parameters
        ----------
        stack : tree of arrays
            Every array of shape (copies, *shape).
        copies : int
            B.

        Returns
        -------
        (copies,) float64

        Raises
        ------
        InputError, InputTypeError
            If the user's function returns anything but one real number for each copy.
        """
        start = perf_counter()
        try:
            result = on_host(self._called(stack))  # waits for the device
        except Exception as error:
            if not isinstance(error, FastcheckError):
                error.add_note(
                    f"`loss` was called with a stack of {_counted(copies)}: every array of "
                    f"`params` has a leading axis of length {copies} (batched=True)."
                )
            raise
        took = perf_counter() - start
        self.seconds += took
        self.fastest = min(self.fastest, took)
        self.calls += 1
        return self._converted(result, copies)

    def _stack_of_one(self, params: Any) -> Any:
        # A view, so that the owner of the arrays notices a loss that writes into them.
        arrays = (leaf if is_array(leaf) else np.asarray(leaf) for _, leaf in walk(params))
        leaves = (array[None] for array in arrays)
        return self.tree.build(dict(zip(self.tree.names, leaves, strict=True)))

    def _converted(self, result: Any, copies: int) -> FloatArray:
        array = _as_array(result)
        if array is None or array.dtype.kind not in "fiu" or array.shape != (copies,):
            raise _not_losses(result, array, copies)
        if array.dtype.kind == "f":
            self.unit_roundoff = max(self.unit_roundoff, float(np.finfo(array.dtype).eps) / 2)
        # A copy: it may be a part of the stack, which is about to change.
        return np.array(array, dtype=np.float64)


def _as_array(result: Any) -> np.ndarray[Any, Any] | None:
    """Return a result as a NumPy array; None if it is no array and no number."""
    if isinstance(result, (int, float, complex, np.generic)):
        return np.asarray(result)
    if not hasattr(result, "shape"):
        return None
    try:
        return np.asarray(result)
    except Exception:  # an array of a library that does not let go of it
        return None


def _not_losses(
    result: Any, array: np.ndarray[Any, Any] | None, copies: int
) -> InputError | InputTypeError:
    """Say what `loss` returned for a stack, and what to write instead."""
    what, remedy = _describe(result, array, copies)
    message = (
        f"`loss` returned {what} for a stack of {_counted(copies)}: with batched=True it must "
        f"return one loss for each copy, an array of shape ({copies},); {remedy}."
    )
    real = array is not None and array.dtype.kind in "fiu"
    return InputError(message) if real else InputTypeError(message)


def _describe(result: Any, array: np.ndarray[Any, Any] | None, copies: int) -> tuple[str, str]:
    if result is None:
        return "None", "end the function with `return` and the losses"
    if isinstance(result, tuple):
        return f"a tuple of {len(result)}", "return only the losses, e.g. loss=lambda p: f(p)[0]"
    if isinstance(result, list):
        return f"a list of {len(result)}", "make an array of it with np.array(...)"
    if array is None or array.dtype.kind in "OSUVMm":
        kind = type(result)
        name = (
            kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
        )
        return f"an object of type {name}", "return an array like those of `params`"
    if array.dtype.kind == "c":
        return "complex values", "return their real part or modulus"
    if array.dtype.kind == "b":
        return "booleans", "return the losses themselves, not a comparison of them"
    if not array.shape:
        return "one number", _AXES
    if array.shape[0] == copies and array.size == copies:
        return f"an array of shape {array.shape}", "drop the other axes, e.g. with .reshape(-1)"
    return f"an array of shape {array.shape}", _AXES


def _counted(copies: int) -> str:
    return f"{copies} {'copy' if copies == 1 else 'copies'}"
