"""What cannot be a tree of parameters, said in one message per kind of trouble."""

from __future__ import annotations

from typing import Any

from fastcheck.errors import InputError, InputTypeError
from fastcheck.params.leaves import listed, parameter_flaw
from fastcheck.params.nesting import Path, children, tensor_name


def refuse_unusable(leaves: list[tuple[Path, Any]], argument: str) -> None:
    """Raise unless `leaves` are float arrays with names of their own, at least one not empty."""
    _refuse_cycles(leaves, argument)
    _refuse_flaws(leaves, argument)
    _refuse_same_names(leaves, argument)
    _refuse_emptiness(leaves, argument)


def _refuse_cycles(leaves: list[tuple[Path, Any]], argument: str) -> None:
    cycles = [tensor_name(path) for path, leaf in leaves if children(leaf) is not None]
    if cycles:
        raise InputError(
            f"`{argument}` holds itself at {', '.join(cycles)}; a tree of parameters must end, "
            "take that entry out."
        )


def _refuse_flaws(leaves: list[tuple[Path, Any]], argument: str) -> None:
    flaws = [(path, flaw) for path, leaf in leaves if (flaw := parameter_flaw(leaf)) is not None]
    if not flaws:
        return
    wanted = (
        "float16, float32 or float64 arrays, complex64 or complex128 arrays, or dicts, lists and "
        "tuples of them"
    )
    if flaws[0][0] == ():
        flaw = parameter_flaw(leaves[0][1], remedy="pass float arrays")
        raise InputTypeError(f"`{argument}` is {flaw}. Parameters must be {wanted}.")
    problems = [f"{tensor_name(path)}: {flaw}" for path, flaw in flaws]
    raise InputTypeError(
        f"`{argument}` holds entries that are not float arrays:\n{listed(problems)}\n"
        f"Parameters must be {wanted}."
    )


def _refuse_same_names(leaves: list[tuple[Path, Any]], argument: str) -> None:
    paths: dict[str, list[Path]] = {}
    for path, _ in leaves:
        paths.setdefault(tensor_name(path), []).append(path)
    problems = [
        f"{name}: at {' and at '.join(map(repr, same))}"
        for name, same in paths.items()
        if len(same) > 1
    ]
    if problems:
        raise InputError(
            f"`{argument}` holds arrays whose names cannot be told apart:\n{listed(problems)}\n"
            "Rename the keys so that every array has a name of its own."
        )


def _refuse_emptiness(leaves: list[tuple[Path, Any]], argument: str) -> None:
    if not leaves:
        raise InputError(
            f"`{argument}` holds no arrays; pass the arrays that the loss is differentiated by."
        )
    # Not np.size: what a device array has is read off the array itself.
    if all(getattr(leaf, "size", 1) == 0 for _, leaf in leaves):
        shapes = ", ".join(f"{tensor_name(path)} {leaf.shape}" for path, leaf in leaves)
        raise InputError(
            f"`{argument}` holds no parameters, its arrays are all empty: {shapes}; "
            "pass at least one array with elements."
        )
