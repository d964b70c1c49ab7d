"""The keywords of a monitor, validated at the door."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from fastcheck.errors import InputError, InputTypeError
from fastcheck.options import Known, Options
from fastcheck.params import ParamTree
from fastcheck.verdict.tolerances import tolerance_for

MODES = ("full", "sample", "directions")
ACTIONS = ("raise", "warn", "record")


@dataclass(frozen=True)
class Settings:
    """Validated keywords.

    Attributes
    ----------
    every, start : int
    mode : str
        Empty where a budget chooses.
    budget : float or None
    sample : int
    on_fail : str or callable
    tolerance : float or None
    batch_size : int or None
    seed : int
    keywords : dict
        What goes to each check as it is: engine, device, memory.
    """

    every: int
    start: int
    mode: str
    budget: float | None
    sample: int
    on_fail: str | Callable[[Any], object]
    tolerance: float | None
    batch_size: int | None
    seed: int
    keywords: dict[str, Any]

    @classmethod
    def validated(cls, *, mode: Any, budget: Any, on_fail: Any, **others: Any) -> Settings:
        """Check every keyword.

        Raises
        ------
        InputError, InputTypeError
            Naming the keyword, what was given, and what may be given.
        """
        _as_for_a_check(**others)
        return cls(
            every=_count("every", others["every"], 1, "check at every n-th step"),
            start=_count("start", others["start"], 0, "the first step that may be checked"),
            mode=_mode(mode, budget),
            budget=None if budget is None else _share(budget),
            sample=_count("sample", others["sample"], 1, "elements to check at a time"),
            on_fail=_action(on_fail),
            tolerance=others["tolerance"],
            batch_size=others["batch_size"],
            seed=others["seed"],
            keywords={name: others[name] for name in ("engine", "device", "memory")},
        )


def _as_for_a_check(
    *, tolerance: Any, batch_size: Any, seed: Any, engine: Any, device: Any, memory: Any, **_: Any
) -> None:
    """Refuse now, and not at the first check, what a check would refuse whatever it checks."""
    tree = ParamTree.from_user(np.zeros(1))
    tolerance_for([], tolerance)
    Known.validated(tree, None, batch_size, None, None)
    Options.validated(
        tree,
        method="central",
        step="auto",
        engine=engine,
        device=device,
        precision="float64",
        batched=False,
        memory=memory,
        progress=False,
        seed=seed,
    )


def _count(name: str, value: Any, least: int, what: str) -> int:
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise InputTypeError(f"`{name}` is {value!r}: give an integer of at least {least}, {what}.")
    return number


def _mode(mode: Any, budget: Any) -> str:
    if mode is None:
        return "full" if budget is None else ""
    if not isinstance(mode, str) or mode not in MODES:
        choices = ", ".join(f"'{choice}'" for choice in MODES)
        raise InputError(f"`mode` is {mode!r}: give one of {choices}, or a `budget`.")
    if budget is not None:
        raise InputError(
            f"`mode` is '{mode}' and `budget` is {budget!r}, but a budget chooses what is checked: "
            "give one of the two."
        )
    return mode


def _share(budget: Any) -> float:
    if isinstance(budget, bool) or not isinstance(budget, Real):
        raise InputTypeError(
            f"`budget` is a {type(budget).__name__}: give the share of the training's time that "
            "checks may take, such as 0.01."
        )
    share = float(budget)
    if not 0 < share <= 1:
        raise InputError(
            f"`budget` is {share:g}: give the share of the training's time that checks may take, "
            "above 0 and at most 1, such as 0.01."
        )
    return share


def _action(action: Any) -> str | Callable[[Any], object]:
    if callable(action):
        called: Callable[[Any], object] = action
        return called
    if isinstance(action, str) and action in ACTIONS:
        return action
    choices = ", ".join(f"'{choice}'" for choice in ACTIONS)
    raise InputError(
        f"`on_fail` is {action!r}: give one of {choices}, or a function of the report."
    )
