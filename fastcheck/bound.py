"""A loss together with what it is called with besides the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Bound:
    """``function(params, *arguments)`` as a function of the parameters alone.

    Whoever looks for the user's own code and objects behind a loss looks at `function` and `holds`.

    Parameters
    ----------
    function : callable
        The user's function.
    arguments : tuple
        What it takes after the parameters: a batch.
    before : callable, optional
        Called before each call of `function`: it sets random generators back.
    holds : tuple
        Other objects of the user's that a call may change: these generators.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...] = (),
        before: Callable[[], object] | None = None,
        holds: tuple[Any, ...] = (),
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.before = before
        self.holds = holds

    def __call__(self, params: Any) -> Any:
        """Return the loss."""
        if self.before is not None:
            self.before()
        return self.function(params, *self.arguments)

    def with_parts(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Bound:
        """Return the same around another function and other arguments."""
        return Bound(function, arguments, self.before, self.holds)


def users_function(loss: Any) -> Any:
    """Return the user's own function behind a loss."""
    return loss.function if isinstance(loss, Bound) else loss


def users_objects(loss: Any) -> tuple[Any, ...]:
    """Return all that a loss was made of by the user."""
    return (loss.function, *loss.arguments, *loss.holds) if isinstance(loss, Bound) else (loss,)
