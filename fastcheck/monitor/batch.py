"""The batch of a step, as the second argument of the user's loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from fastcheck.errors import InputTypeError

NO_BATCH: Any = object()
"""The loss takes the parameters alone."""


def arguments_of(loss: Callable[..., Any], batch: Any) -> tuple[Any, ...]:
    """Return what `loss` is called with after the parameters.

    Parameters
    ----------
    loss : callable
        ``loss(params, batch)``, or ``loss(params)``.
    batch : object
        What the training handed over, or `NO_BATCH`.

    Raises
    ------
    InputTypeError
        `loss` takes a batch and there is none, or the reverse; or the batch is an iterator, which
        the first forward pass would use up.
    """
    arguments = () if batch is NO_BATCH else (batch,)
    if isinstance(batch, Iterator):
        raise InputTypeError(
            f"`batch` is a {type(batch).__name__}, which gives its samples once, and a check takes "
            "many forward passes: hand over the arrays that this step was computed with."
        )
    if _takes(loss, arguments) is False:
        if arguments:
            remedy = "leave `batch` out, or let `loss` take it: loss(params, batch)"
            said = "`batch` was given, but `loss` does not take"
        else:
            remedy = "hand it over, monitor(params, grads, batch=...)"
            said = "`batch` was not given, but `loss` takes more than"
        one = "a second argument" if arguments else "the parameters"
        raise InputTypeError(f"{said} {one}: {remedy}.")
    return arguments


def _takes(loss: Callable[..., Any], arguments: tuple[Any, ...]) -> bool | None:
    """Whether a call with the parameters and these fits the signature; None if there is none."""
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):  # built-in functions need not tell
        return None
    try:
        signature.bind(None, *arguments)
    except TypeError:
        return False
    return True
