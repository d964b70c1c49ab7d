"""Code under construction, in whatever language: scopes, names, and what a language has to say.

A printer walks a program and asks for sums, loads and loops; a `Code` writes them down in its
language, as lines of nested scopes. Names are text of that language.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fastcheck.fusion.dims import Label

FUNCTION = "differences"
"""What a kernel is called."""
ARGUMENTS = "arrays strides positions lengths blocks steps plus minus refused".split()
"""What a kernel is given, in every language: tables of pointers, and plain arrays."""


@dataclass(eq=False)
class Scope:
    """Code at one depth of loops.

    Attributes
    ----------
    label : Label or None
        The loop that it is the body of.
    header, block : str
        The basic blocks in which its first and its last line stand, where a language has such.
    nest : tuple of Label
        The loops around it and its own.
    known : dict
        What has been computed in it, by a key.
    """

    label: Label | None
    block: str
    nest: tuple[Label, ...]
    lines: list[str] = field(default_factory=list)
    known: dict[Any, Any] = field(default_factory=dict)
    header: str = field(init=False)

    def __post_init__(self) -> None:
        self.header = self.block


@dataclass(frozen=True)
class Running:
    """A sum that a loop adds up: the names of the sum so far and of an iteration's summand.

    `any` is for conditions, which are joined by "or" instead.
    """

    so_far: str
    summand: str
    any: bool


class Code(ABC):
    """The code of a kernel under construction.

    Attributes
    ----------
    entry, copy : Scope
        What runs once, and once for each copy.
    stack : list of Scope
        The open loops, outermost first; the first is `copy`.
    vectorised : bool
        Whether samples run along vectors (or lanes): a number is then one for each of them.
    counts : Counter
        How many operations there are in each nest of loops.
    """

    language: ClassVar[str]

    def __init__(self, vectorised: bool) -> None:
        self.entry = Scope(None, "entry", ())
        self.copy = Scope(None, "copy", ())
        self.stack = [self.copy]
        self.vectorised = vectorised
        self.counts: Counter[tuple[Label, ...]] = Counter()
        self._names = 0

    def name(self, what: str) -> str:
        """Return a new name."""
        self._names += 1
        return f"{what}{self._names}"

    def around(self, scope: Scope) -> list[Scope]:
        """Return the scopes whose names can be used in one: itself, and those that enclose it."""
        if scope not in self.stack:
            return [scope]
        return self.stack[: self.stack.index(scope) + 1]

    def once(self, scope: Scope, key: Any, make: Callable[[], str]) -> str:
        """Return what `make` writes into the scope, unless the scope has it already."""
        if key not in scope.known:
            scope.known[key] = make()
        return str(scope.known[key])

    def count(self, scope: Scope) -> None:
        """Count an operation."""
        if scope is not self.entry:
            self.counts[scope.nest] += 1

    # -- numbers and conditions -------------------------------------------------------------------

    @abstractmethod
    def constant(self, value: float) -> str:
        """Write a number, exactly."""

    @abstractmethod
    def arithmetic(self, scope: Scope, op: str, *names: str) -> str:
        """Write fadd, fsub, fmul, fdiv, sqrt or fneg; a product may be fused with a sum."""

    @abstractmethod
    def exceeds(self, scope: Scope, number: str, bound: str) -> str:
        """Write the condition |number| > bound, which also holds for NaN."""

    @abstractmethod
    def either(self, scope: Scope, one: str, other: str) -> str:
        """Write the condition that one or the other holds."""

    @property
    @abstractmethod
    def never(self) -> str:
        """The condition that does not hold."""

    @abstractmethod
    def total(self, scope: Scope, number: str) -> str:
        """Add up the lanes of a vector; every lane has the sum."""

    @abstractmethod
    def anywhere(self, scope: Scope, condition: str) -> str:
        """Write the condition that it holds in any lane."""

    # -- memory -----------------------------------------------------------------------------------

    @abstractmethod
    def step(self) -> str:
        """Load the copy's step."""

    @abstractmethod
    def pointer(self, table: str, number: int, integers: bool = False) -> str:
        """Load a pointer from a table, once: to numbers, or to integers."""

    @abstractmethod
    def length(self, number: int) -> str:
        """Load how many iterations a loop has, once."""

    @abstractmethod
    def stride(self, number: int) -> str:
        """Load a stride, once."""

    @abstractmethod
    def position(self, number: int) -> str:
        """Load where the copy is perturbed along a pin, once."""

    @abstractmethod
    def integer(self, scope: Scope, pointer: str, index: str) -> str:
        """Load an integer of an array, once in a scope."""

    @abstractmethod
    def following(self, integer: str) -> str:
        """Return an integer of the copy, plus one."""

    @abstractmethod
    def moved(self, scope: Scope, pointer: str, place: str, stride: str) -> str:
        """Return a pointer to numbers moved on by `place` strides, once in a scope."""

    @abstractmethod
    def load(self, scope: Scope, pointer: str, offset: int, lanes: bool) -> str:
        """Load a number behind a pointer: one for each lane, or the same for all."""

    @abstractmethod
    def weight(self, scope: Scope, place: str) -> str:
        """Load 1 for every lane of a block of samples that is one, and 0 past the last."""

    @abstractmethod
    def room(self, elements: int) -> str:
        """Make room for some numbers, to be kept along a loop."""

    @abstractmethod
    def keep(self, scope: Scope, room: str, index: str, number: str) -> None:
        """Keep an iteration's number."""

    @abstractmethod
    def kept(self, scope: Scope, room: str, index: str) -> str:
        """Load what was kept of an iteration."""

    # -- loops and the whole ----------------------------------------------------------------------

    @abstractmethod
    def index(self) -> str:
        """Return a new name for the index of a loop."""

    @abstractmethod
    def running(self, summand: str, any: bool) -> Running:
        """Name the sum of an iteration's summand."""

    @abstractmethod
    def loop(
        self,
        scope: Scope,
        body: Scope,
        index: str,
        span: tuple[str, str],
        sums: list[Running],
        spread: bool,
    ) -> list[str]:
        """Put a loop where its scope has come to; return the names of the sums after it.

        It may have no iteration at all. `spread` says that it is over blocks of samples: threads
        may share them, and each has sums of its own then, until `total` or `anywhere`.
        """

    @abstractmethod
    def function(self, plus: str, minus: str, refused: str, odd: bool) -> str:
        """Return the whole text; `odd` says that the change at −h is the negative one."""
