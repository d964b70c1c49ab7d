"""NumPy's surface: every function and ufunc that NumPy lets a type override, in its family.

`python -m fastcheck.trace.surface` prints the table of the README for the installed NumPy.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcheck.trace import operators as operators  # whose import registers every rule
from fastcheck.trace.primitives import ELEMENTWISE
from fastcheck.trace.registry import CONSTANT_ONLY, REFUSED, TRACED

# NumPy loads some of its modules on demand, and their functions count from then on.
_MODULES = (
    "char",
    "fft",
    "lib.recfunctions",
    "lib.scimath",
    "lib.stride_tricks",
    "linalg",
    "polynomial",
    "strings",
)


@dataclass(frozen=True)
class Surface:
    """The functions that NumPy lets a type override, by family; `unplaced` has to be empty."""

    traced: frozenset[Callable[..., Any]]
    constant_only: frozenset[Callable[..., Any]]
    refused: frozenset[Callable[..., Any]]
    unplaced: frozenset[Callable[..., Any]]

    def families(self) -> dict[str, frozenset[Callable[..., Any]]]:
        """Return the three families under the names that the README gives them."""
        return {
            "traced": self.traced,
            "constant-only": self.constant_only,
            "refused": self.refused,
        }


def surface() -> Surface:
    """Return every overridable function and ufunc of the installed NumPy in its family."""
    found: dict[str, set[Callable[..., Any]]] = {}
    for function in overridable():
        found.setdefault(_family(function), set()).add(function)
    names = ("traced", "constant-only", "refused", "unplaced")
    return Surface(*(frozenset(found.get(name, ())) for name in names))


def overridable() -> set[Callable[..., Any]]:
    """Return what NumPy itself says that a type may override."""
    for name in _MODULES:
        try:
            importlib.import_module(f"numpy.{name}")
        except ImportError:  # came with NumPy 2
            continue
    from numpy.testing import overrides  # takes a while to load

    functions: set[Callable[..., Any]] = set(overrides.get_overridable_numpy_array_functions())
    return functions | set(overrides.get_overridable_numpy_ufuncs())


def dotted(function: Callable[..., Any]) -> str:
    """Return a function's name inside `numpy`; "ufunc name" for those that are not public.

    Examples
    --------
    >>> dotted(np.linalg.norm), dotted(np.add)
    ('linalg.norm', 'add')
    """
    name = function.__name__
    if isinstance(function, np.ufunc):
        return name if getattr(np, name, None) is function else f"ufunc {name}"
    module = getattr(function, "__module__", None) or "numpy"
    return f"{module}.{name}".removeprefix("numpy.")


def _family(function: Callable[..., Any]) -> str:
    # With `like=`, NumPy calls copies of its makers that share nothing with them but the name.
    name = dotted(function)
    public = _public(name)
    if function in TRACED or function in ELEMENTWISE or public in TRACED:
        return "traced"
    if function in REFUSED or public in REFUSED:
        return "refused"
    return "constant-only" if name in CONSTANT_ONLY else "unplaced"


def _public(name: str) -> Any:
    value: Any = np
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def table() -> str:
    """Return the README's table: how many functions and ufuncs are in each family."""
    lines = [
        f"| NumPy {version()} | functions | ufuncs | for example |",
        "|---|---|---|---|",
    ]
    families = surface().families()
    for family, members in families.items():
        lines.append(f"| {family} | {_counts(members)} | {_examples(family)} |")
    everything = frozenset().union(*families.values())
    return "\n".join([*lines, f"| all that a type may override | {_counts(everything)} | |"])


def version() -> str:
    """Return the installed NumPy's version without what only mends it: "2.4"."""
    return ".".join(np.__version__.split(".")[:2])


def _counts(members: frozenset[Callable[..., Any]]) -> str:
    ufuncs = sum(isinstance(member, np.ufunc) for member in members)
    return f"{len(members) - ufuncs} | {ufuncs}"


_EXAMPLES = {
    "traced": "`np.einsum`, `np.where`, `np.linalg.solve`, `np.quantile`, `np.exp`",
    "constant-only": "`np.loadtxt`, `np.is_busday`, `np.packbits`, `np.gcd`, the text functions",
    "refused": "`np.fft.fft` (complex), `np.unique` (its size depends on the values), `np.savez`",
}


def _examples(family: str) -> str:
    return _EXAMPLES[family]


if __name__ == "__main__":
    print(table())
