"""Bugs of `fastcheck.planted` in the backward pass of `fastcheck.problems.mlp`.

Each is deterministic and spoils only the tensors that it names; every other gradient stays bit for
bit what the correct backward pass returns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from fastcheck import planted
from fastcheck.errors import InputError
from fastcheck.planted import passes
from fastcheck.problems import mlp
from fastcheck.problems.mlp import Array, Parameters
from fastcheck.problems.problem import Problem

_NAMES = """
    sign scale missing-mean transpose permuted-rows missing-mask missing-bias-sum one-element
    overwritten-buffer stale accumulated sample-dropped aliased-buffer one-row swapped
""".split()


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
    def grads(self) -> Parameters:
        """The correct gradients."""
        return mlp.gradients(self.params, self.X, self.Y)

    @cached_property
    def previous_grads(self) -> Parameters:
        """The correct gradients one step earlier, or where a descent step back would lead."""
        earlier = self.previous or {
            name: value + 0.1 * self.grads[name] for name, value in self.params.items()
        }
        return mlp.gradients(earlier, self.X, self.Y)

    @cached_property
    def known(self) -> dict[str, Any]:
        """What `fastcheck.planted` takes beside the gradients."""
        return {
            "params": self.params,
            "previous": self.previous_grads,
            "batch_size": self.samples,
            "backward": passes.of_mlp(self.params, self.X, self.Y),
        }


Names = tuple[str, ...]


@dataclass(frozen=True)
class Bug:
    """One mistake in this network's backward pass: a bug of `fastcheck.planted`."""

    planted: planted.Bug

    @property
    def description(self) -> str:
        """What is wrong, in one line."""
        return self.planted.description

    def breaks(self, context: Context) -> Names:
        """Name the tensors that it spoils; none where the network or batch leaves it nothing."""
        return self.planted.spoils(context.grads, **context.known)

    def spoil(self, context: Context) -> Parameters:
        """Return all gradients, those tensors' wrong."""
        wrong: Parameters = self.planted(context.grads, **context.known)
        return wrong


BUGS: dict[str, Bug] = {name: Bug(planted.BUGS[name]) for name in _NAMES}
"""The bugs by name."""


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
    return BUGS[bug].spoil(context)


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
