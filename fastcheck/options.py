"""The keywords that `check` and `numerical_gradient` share, validated at the door."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.devices import Device, parse_memory, resolve_devices
from fastcheck.engines.plan import ENGINES
from fastcheck.errors import FastcheckError, InputError, InputTypeError
from fastcheck.params import ParamTree, match_gradients
from fastcheck.params.places import is_array
from fastcheck.verdict.steps import Step, validate_step

METHODS = ("central", "forward")
PRECISIONS = ("float64", "float32")


@dataclass(frozen=True)
class Options:
    """Validated keywords."""

    method: str
    step: Step
    engine: str
    devices: tuple[Device, ...]
    choose_device: bool
    precision: str
    batched: bool
    memory: int | None
    progress: bool | None
    seed: int

    @classmethod
    def validated(
        cls,
        tree: ParamTree,
        *,
        method: str,
        step: Any,
        engine: str,
        device: str,
        precision: str,
        batched: Any,
        memory: Any,
        progress: bool | None,
        seed: Any,
    ) -> Options:
        """Check every keyword.

        Raises
        ------
        InputError, InputTypeError
            Naming the keyword, what was given, and what may be given.
        """
        return cls(
            method=_one_of("method", method, METHODS),
            step=validate_step(step, tree),
            engine=_one_of("engine", engine, ENGINES),
            devices=resolve_devices(device),
            choose_device=device == "auto",
            precision=_one_of("precision", precision, PRECISIONS),
            batched=_batched(batched),
            memory=None if memory is None else parse_memory(memory),
            progress=_flag(progress),
            seed=_seed(seed),
        )


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        choices = ", ".join(f"'{choice}'" for choice in allowed)
        raise InputError(f"`{name}` is {value!r}: give one of {choices}.")
    return value


def _flag(progress: object) -> bool | None:
    if progress is None or isinstance(progress, bool):
        return progress
    raise InputTypeError(
        f"`progress` is a {type(progress).__name__}: give True, False, or None for a bar on "
        "terminals only."
    )


def _batched(batched: object) -> bool:
    if isinstance(batched, bool):
        return batched
    raise InputTypeError(
        f"`batched` is a {type(batched).__name__}: give True if `loss` takes stacked parameters "
        "and returns one loss for each copy, or False."
    )


def _seed(seed: object) -> int:
    try:
        value = operator.index(seed)  # type: ignore[arg-type]
    except TypeError:
        value = -1
    if value < 0 or isinstance(seed, bool):
        raise InputTypeError(f"`seed` is {seed!r}: give an integer of at least 0, such as 0.")
    return value


Gradients = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Known:
    """What the user knows besides: it decides nothing, but tells one mistake from another.

    Attributes
    ----------
    batch_size : int or None
        M, the number of samples.
    previous : dict or None
        The gradient of the step before, by tensor name.
    samples : dict or None
        Each sample's own gradient, (M, *shape).
    """

    batch_size: int | None = None
    previous: Gradients | None = None
    samples: Gradients | None = None

    @classmethod
    def validated(
        cls, tree: ParamTree, grads: Any, batch_size: Any, previous_grads: Any, sample_grads: Any
    ) -> Known:
        """Check the keywords of `check` that a diagnosis uses.

        Raises
        ------
        InputError, InputTypeError
            Naming the keyword, what was given, and what may be given.
        """
        samples = None if sample_grads is None else _samples(tree, sample_grads, batch_size)
        count = None if batch_size is None else _batch_size(batch_size)
        if count is None and samples:
            count = len(next(iter(samples.values())))
        return cls(count, _previous(tree, grads, previous_grads), samples)


def _batch_size(value: object) -> int:
    try:
        count = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        count = 0
    if count < 1 or isinstance(value, bool):
        raise InputTypeError(
            f"`batch_size` is {value!r}: give the number of samples, an integer of at least 1, "
            "or leave it out."
        )
    return count


def _previous(tree: ParamTree, grads: Any, previous: Any) -> Gradients | None:
    if previous is None:
        return None
    mine = [array for array in _arrays(previous) if isinstance(array, np.ndarray)]
    now = [array for array in _arrays(grads) if isinstance(array, np.ndarray)]
    if any(np.may_share_memory(a, b) for a in now for b in mine):
        raise InputError(
            "`previous_grads` shares memory with `grads`, so it is no longer the gradient of the "
            "step before: keep a copy of each array before the next backward pass."
        )
    return match_gradients(tree, previous, argument="previous_grads")


def _samples(tree: ParamTree, given: Any, batch_size: Any) -> Gradients:
    lengths = Counter(len(array) for array in _arrays(given) if array.ndim)
    if batch_size is not None:
        count = _batch_size(batch_size)
    elif lengths:
        count = lengths.most_common(1)[0][0]
    else:
        count = 1
    stacked = [
        replace(t, value=np.broadcast_to(t.value, (count, *t.shape)), scalar=False) for t in tree
    ]
    try:
        return match_gradients(ParamTree(tree.root, tuple(stacked)), given, argument="sample_grads")
    except FastcheckError as error:
        raise type(error)(
            f"{error}\n`sample_grads` holds each sample's own gradient: every array has a leading "
            f"axis of M = {count} samples before the parameter's own axes."
        ) from None


def _arrays(given: Any) -> Iterator[Any]:
    """Yield the arrays in a nesting of dicts, lists and tuples."""
    if is_array(given):
        yield given
    elif isinstance(given, Mapping | list | tuple):
        for entry in given.values() if isinstance(given, Mapping) else given:
            yield from _arrays(entry)
