"""The keywords that `check` and `numerical_gradient` share, validated at the door."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

from fastcheck.devices import Device, parse_memory, resolve_devices
from fastcheck.engines.plan import ENGINES
from fastcheck.errors import InputError, InputTypeError
from fastcheck.params import ParamTree
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
