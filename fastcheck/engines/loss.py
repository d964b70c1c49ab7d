"""The user's loss function, wrapped: every result is checked, every call counted and timed."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from fastcheck.engines.arithmetic import as_the_user_has_it
from fastcheck.errors import InputError, InputTypeError, NotFiniteError
from fastcheck.params import ParamTree
from fastcheck.params.places import Place, on_host


class LossFunction:
    """A callable ``tree -> float`` around the user's ``loss``.

    Parameters
    ----------
    function : callable
        The user's ``loss(params)``: takes a tree like the user's, returns a real scalar.
    tree : ParamTree
        The parameters θ.

    Attributes
    ----------
    calls : int
        How often the user's function has been called.
    seconds, fastest : float
        The time spent inside it, and that of its fastest call, in seconds.
    unit_roundoff : float
        u of the coarsest floating-point type the loss has been returned in: 2⁻⁵³ for float64.

    Raises
    ------
    InputTypeError
        If `function` is not callable.
    """

    def __init__(self, function: Callable[[Any], Any], tree: ParamTree) -> None:
        if not callable(function):
            raise InputTypeError(
                f"`loss` must be callable, but it is a {type(function).__name__}: pass the "
                "function itself, e.g. loss=compute_cost, not its result compute_cost(params)."
            )
        self.function = function
        self.tree = tree
        self._called = as_the_user_has_it(_on_the_users_device(function, tree))
        self.calls = 0
        self.seconds = 0.0
        self.fastest = math.inf
        self.unit_roundoff = 2.0**-53

    def __call__(self, params: Any) -> float:
        """Return the loss at `params`, which must be a finite real scalar.

        Raises
        ------
        InputTypeError
            If the loss is not a real scalar (a tuple, None, complex, text, ...).
        InputError
            If it is an array of more than one element, or NaN or infinite.
        """
        value = self.evaluate(params)
        if not math.isfinite(value):
            raise NotFiniteError(
                f"`loss` is {value} at the given parameters, so it has no gradient there: look "
                "for log(0), 0/0 or an overflow in the forward pass, or check at other parameters."
            )
        return value

    def evaluate(self, params: Any) -> float:
        """Return the loss at `params`; NaN and Inf are let through, as a step may lead there."""
        start = perf_counter()
        result = self._called(params)
        known = type(result) is np.float64 or type(result) is float
        if not known:
            result = on_host(result)  # waits for the device, which is part of what a call takes
        took = perf_counter() - start
        self.seconds += took
        self.fastest = min(self.fastest, took)
        self.calls += 1
        return float(result) if known else self._scalar(result)

    @property
    def single(self) -> Callable[[Any], Any]:
        """The user's function of one set of parameters, as it can be traced."""
        return self.function

    def count(self) -> None:
        """Count a call of the user's function that was made around this wrapper."""
        self.calls += 1

    def base(self) -> float:
        """Return J(θ), from fresh copies of the parameters."""
        return self(self.tree.copies())

    def repeatability(self, first: float | None = None) -> float:
        """Return |J − J| of two calls on equal copies of the parameters: 0 if deterministic.

        One call is enough where `first`, J(θ) from an earlier call, is known.
        """
        first = self.base() if first is None else first
        return abs(self.base() - first)

    def _scalar(self, result: Any) -> float:
        """Convert any acceptable result to a Python float."""
        value = _single_element(result)
        if isinstance(value, np.floating):
            self.unit_roundoff = max(self.unit_roundoff, float(np.finfo(value.dtype).eps) / 2)
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise _not_a_scalar(result) from error


def _on_the_users_device(function: Callable[[Any], Any], tree: ParamTree) -> Callable[[Any], Any]:
    """Return `function` as it is to be called wherever fastcheck itself is computing."""
    if all(tensor.place is None for tensor in tree):
        return function
    home = Place.here()

    def call(params: Any) -> Any:
        with home.active():
            return function(params)

    return call


def _single_element(result: Any) -> Any:
    """Return the one number in `result`, or raise the error that fits what it is instead."""
    if isinstance(result, (bool, np.bool_, str, bytes, bytearray, complex, np.complexfloating)):
        raise _not_a_scalar(result)
    if isinstance(result, (int, float, np.floating, np.integer)):
        return result
    if result is None or isinstance(result, (tuple, list, dict, set)):
        raise _not_a_scalar(result)
    size = getattr(result, "size", 1)
    if isinstance(size, int) and size != 1:
        raise _not_a_scalar(result)
    if isinstance(result, np.ndarray):
        if result.dtype.kind not in "fiu":
            raise _not_a_scalar(result)
        return result.reshape(())[()]
    if not hasattr(result, "__float__"):
        raise _not_a_scalar(result)
    return result


def _not_a_scalar(result: Any) -> InputError | InputTypeError:
    """Say what `loss` returned and what to write instead."""
    what, remedy = _describe(result)
    message = f"`loss` must return one real number, but it returned {what}: {remedy}."
    if isinstance(result, np.ndarray) and result.dtype.kind in "fiu":
        return InputError(message)
    return InputTypeError(message)


def _describe(result: Any) -> tuple[str, str]:
    if result is None:
        return "None", "end the function with `return` and the loss"
    if isinstance(result, (tuple, list)):
        return (
            f"a {type(result).__name__} of {len(result)}",
            "return only the loss, e.g. pass loss=lambda p: f(p)[0]",
        )
    if isinstance(result, (complex, np.complexfloating)) or (
        isinstance(result, np.ndarray) and result.dtype.kind == "c"
    ):
        return "a complex value", "return its real part or its modulus"
    if isinstance(result, np.ndarray) and result.dtype.kind == "b":
        return "a boolean array", "return the loss itself, not a comparison of it"
    if isinstance(result, np.ndarray) and result.size == 0:
        return f"an empty array of shape {result.shape}", "reduce it over at least one sample"
    if isinstance(result, np.ndarray) and result.dtype.kind in "fiu":
        return f"an array of shape {result.shape}", "reduce it with .sum() or .mean()"
    if isinstance(result, np.ndarray):
        return f"an array of dtype {result.dtype}", "convert it with .astype(float)"
    if isinstance(result, (bool, np.bool_)):
        return "a bool", "return the loss itself, not a comparison of it"
    shape = getattr(result, "shape", None)
    if shape is not None:
        return f"a {type(result).__name__} of shape {tuple(shape)}", "return its sum or mean"
    return f"an object of type {type(result).__name__}", "return a float"
