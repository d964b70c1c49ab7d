"""Bugs to plant in the backward pass of `fastcheck.problems.mlp`, each one that people really make.

Each is deterministic and spoils only the tensors that it names; every other gradient stays bit for
bit what the correct backward pass returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from fastcheck.errors import InputError
from fastcheck.problems import mlp
from fastcheck.problems.mlp import Array, Parameters
from fastcheck.problems.problem import Problem


@dataclass(frozen=True, eq=False)
class Context:
    """Where a bug is planted: the parameters, the batch, and the parameters one step earlier."""

    params: Parameters
    X: Array
    Y: Array
    previous: Parameters = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The number of the output layer."""
        return mlp.depth(self.params)

    @property
    def samples(self) -> int:
        """The number of columns in the batch."""
        return len(self.Y.T)

    @cached_property
    def cache(self) -> Parameters:
        """The correct forward pass."""
        return mlp.forward(self.params, self.X)

    @cached_property
    def grads(self) -> Parameters:
        """The correct gradients."""
        return mlp.backward(self.params, self.cache, self.Y)

    @cached_property
    def previous_grads(self) -> Parameters:
        """The correct gradients one step earlier, or where a descent step back would lead."""
        earlier = self.previous or {
            name: value + 0.1 * self.grads[name] for name, value in self.params.items()
        }
        return mlp.gradients(earlier, self.X, self.Y)


Names = tuple[str, ...]


@dataclass(frozen=True)
class Bug:
    """One mistake in a backward pass.

    Parameters
    ----------
    description : str
        What is wrong, in one line.
    breaks : callable
        ``breaks(context)`` names the tensors whose gradients it spoils; none where this network
        or batch leaves it nothing to spoil.
    spoil : callable
        ``spoil(context)`` returns the wrong gradients of just those tensors.
    """

    description: str
    breaks: Callable[[Context], Names]
    spoil: Callable[[Context], Parameters]


def spoilt_gradients(
    params: Parameters,
    X: Array,
    Y: Array,
    bug: str,
    previous: Parameters | None = None,
) -> Parameters:
    """Return the gradients of `mlp.loss` as a backward pass with the named bug computes them.

    Parameters
    ----------
    params, X, Y
        As for `mlp.loss`.
    bug : str
        A key of `BUGS`.
    previous : dict of float arrays, optional
        The parameters one training step earlier, for the bugs that mix up two steps.

    Returns
    -------
    dict of float64 arrays

    Raises
    ------
    InputError
        There is no such bug, or it cannot occur in this network.
    """
    return plant(bug, Context(params, X, Y, previous or {}))


def plant(bug: str, context: Context) -> Parameters:
    """Return the gradients with the named bug; `InputError` where it is unknown or impossible."""
    if bug not in BUGS:
        raise InputError(f"`bug` is {bug!r}; choose one of {', '.join(BUGS)}.")
    if not BUGS[bug].breaks(context):
        possible = [name for name, other in BUGS.items() if other.breaks(context)]
        raise InputError(
            f"`bug` is {bug!r}, which changes nothing in this network of {context.last} layers on "
            f"{context.samples} samples; choose one of {', '.join(possible)}."
        )
    return {**context.grads, **BUGS[bug].spoil(context)}


def spoilt_problem(
    problem: Problem, X: Array, Y: Array, bug: str, previous: Parameters | None = None
) -> Problem:
    """Return the same problem with a bug planted in its gradients."""
    return Problem(
        loss=problem.loss,
        params=problem.params,
        grads=partial(spoilt_gradients, X=X, Y=Y, bug=bug, previous=previous),
        name=f"{problem.name} with {bug}",
        description=f"{problem.description} {BUGS[bug].description}" if bug in BUGS else "",
    )


def _all(context: Context) -> Names:
    return tuple(context.params)


def _all_if_many(context: Context) -> Names:
    return tuple(context.params) if context.samples > 1 else ()


def _first_weights(context: Context) -> Names:
    return ("W1",)


def _last_weights(context: Context) -> Names:
    return (f"W{context.last}",)


def _last_bias_if_many(context: Context) -> Names:
    return (f"b{context.last}",) if context.samples > 1 else ()


def _first_layer_if_hidden(context: Context) -> Names:
    return ("W1", "b1") if context.last > 1 else ()


def _second_weights_if_hidden(context: Context) -> Names:
    return ("W2",) if context.last > 1 else ()


def _first_weights_if_rows(context: Context) -> Names:
    return ("W1",) if len(context.params["W1"]) > 1 else ()


def _square_weights(context: Context) -> Names:
    square = [
        name
        for name, value in context.params.items()
        if name.startswith("W") and value.shape[0] == value.shape[1] > 1
    ]
    return tuple(square[-1:])


def _negate(context: Context) -> Parameters:
    (name,) = _last_weights(context)
    return {name: -context.grads[name]}


def _double(context: Context) -> Parameters:
    return {"W1": 2 * context.grads["W1"]}


def _forget_the_mean(context: Context) -> Parameters:
    return {name: gradient * context.samples for name, gradient in context.grads.items()}


def _transpose(context: Context) -> Parameters:
    (name,) = _square_weights(context)
    return {name: context.grads[name].T.copy()}


def _roll_rows(context: Context) -> Parameters:
    return {"W1": np.roll(context.grads["W1"], 1, axis=0)}


def _forget_the_mask(context: Context) -> Parameters:
    # An all-open mask in the first hidden layer only: the deeper layers keep theirs.
    open_cache = {**context.cache, "Z1": np.ones_like(context.cache["Z1"])}
    return _pick(mlp.backward(context.params, open_cache, context.Y), ("W1", "b1"))


def _take_one_sample(context: Context) -> Parameters:
    last = context.last
    dZ = (context.cache[f"A{last}"] - context.Y) / context.samples
    return {f"b{last}": dZ[:, :1].copy()}


def _raise_one_element(context: Context) -> Parameters:
    spoilt = context.grads["W1"].copy()
    # The largest: its place is certain, while a random one could be a black pixel's exact zero.
    spoilt.flat[np.argmax(np.abs(spoilt))] *= 1.01
    return {"W1": spoilt}


def _overwrite_the_activations(context: Context) -> Parameters:
    # A derivative computed in place turns A1 into its own mask before dW2 is taken from it.
    overwritten = {**context.cache, "A1": (context.cache["A1"] > 0).astype(np.float64)}
    return _pick(mlp.backward(context.params, overwritten, context.Y), ("W2",))


def _keep_the_old_step(context: Context) -> Parameters:
    return context.previous_grads


def _accumulate(context: Context) -> Parameters:
    return {name: context.grads[name] + context.previous_grads[name] for name in context.grads}


def _pick(grads: Parameters, names: Names) -> Parameters:
    return {name: grads[name] for name in names}


BUGS: dict[str, Bug] = {
    "sign": Bug("The last weights' gradient has the wrong sign.", _last_weights, _negate),
    "scale": Bug("The first weights' gradient is twice too large.", _first_weights, _double),
    "missing-mean": Bug(
        "The division by the number of samples was forgotten.", _all_if_many, _forget_the_mean
    ),
    "transpose": Bug(
        "The gradient of the last square weights is transposed.", _square_weights, _transpose
    ),
    "permuted-rows": Bug(
        "The rows of the first weights' gradient are moved down by one.",
        _first_weights_if_rows,
        _roll_rows,
    ),
    "missing-mask": Bug(
        "The ReLU's derivative was forgotten in the first hidden layer.",
        _first_layer_if_hidden,
        _forget_the_mask,
    ),
    "missing-bias-sum": Bug(
        "The last bias's gradient takes one sample instead of the sum over all.",
        _last_bias_if_many,
        _take_one_sample,
    ),
    "one-element": Bug(
        "One element of the first weights' gradient is one percent too large.",
        _first_weights,
        _raise_one_element,
    ),
    "overwritten-buffer": Bug(
        "The ReLU's mask was written over the activations before the second weights' gradient.",
        _second_weights_if_hidden,
        _overwrite_the_activations,
    ),
    "stale": Bug("The gradients are those of the step before.", _all, _keep_the_old_step),
    "accumulated": Bug(
        "The gradients of the step before were not zeroed, so this step's were added to them.",
        _all,
        _accumulate,
    ),
}
"""The bugs by name."""
