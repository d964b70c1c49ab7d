"""A bug of the checker: its copy of the parameters is shallow, so what it moves stays moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.errors import InputError
from fastcheck.params import ParamTree
from fastcheck.planted.backward import Array
from fastcheck.planted.bug import Bug
from fastcheck.planted.scene import Arrays


class ShallowChecker:
    """The loop of a course, with ``params.copy()`` where a deep copy was meant.

    The copied dictionary holds the very same arrays. So the first assignment moves the parameter
    itself to θ + ε, and the second, which starts from it, only takes it back: the quotient is
    (J(θ+ε) − J(θ)) / 2ε, half of the derivative.
    """

    def __init__(self, arrays: Arrays, loss: Callable[[Arrays], Any], epsilon: float) -> None:
        self.params, self.loss, self.epsilon = arrays, loss, epsilon

    def gradient(self) -> Arrays:
        """Return half the numerical gradient."""
        found = {name: np.zeros(value.shape) for name, value in self.params.items()}
        for name, numeric in found.items():
            for index in np.ndindex(numeric.shape):
                plus = self._loss_at(name, index, self.epsilon)
                minus = self._loss_at(name, index, -self.epsilon)
                numeric[index] = (plus - minus) / (2 * self.epsilon)
        return found

    def _loss_at(self, name: str, index: tuple[int, ...], shift: float) -> float:
        moved: dict[str, Array] = self.params.copy()
        moved[name][index] = self.params[name][index] + shift
        return float(self.loss(moved))


class CheckerBug(Bug):
    """A mistake of the checker and not of the gradient: it offers a wrong `numerical_gradient`.

    It spoils no gradients; `applies` says so, and calling it is an error.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcheck.planted import BUGS
    >>> BUGS["shallow-copy"].numerical_gradient(lambda x: np.sum(x**2), np.array([3.0])).round(4)
    array([3.])
    """

    def __call__(self, grads: Any = None, **_: Any) -> Any:
        raise InputError(
            f"'{self.name}' spoils no gradient but the checker: use its "
            "numerical_gradient(loss, params), and skip bugs whose applies(...) is false."
        )

    def spoils(self, grads: Any = None, **_: Any) -> tuple[str, ...]:
        """Return nothing: every gradient stays right."""
        return ()

    def numerical_gradient(
        self, loss: Callable[[Any], Any], params: Any, *, epsilon: float = 1e-6
    ) -> Any:
        """Return the numerical gradient as the faulty checker computes it: half of the right one.

        Parameters
        ----------
        loss, params
            As for `fastcheck.numerical_gradient`. What the checker leaves moved are copies.
        epsilon : float
            The step.

        Returns
        -------
        tree
            float64 arrays in the nesting of `params`.
        """
        tree = ParamTree.from_user(params)
        arrays = {tensor.name: tensor.value.copy() for tensor in tree}
        wrong = ShallowChecker(arrays, lambda moved: loss(tree.build(moved)), epsilon).gradient()
        return tree.build({t.name: wrong[t.name][()] if t.scalar else wrong[t.name] for t in tree})
