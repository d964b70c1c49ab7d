"""Lines of LLVM's language, in scopes: names, small operations, constants."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from fastcheck.fusion.dims import Label
from fastcheck.fusion.schedule import WIDTH


@dataclass(eq=False)
class Scope:
    """Code at one depth of loops.

    Attributes
    ----------
    label : Label or None
        The loop that it is the body of.
    block : str
        The basic block in which its last line stands.
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


class Code:
    """The code of a function under construction.

    Attributes
    ----------
    entry, copy : Scope
        What runs once, and once for each copy.
    stack : list of Scope
        The open loops, outermost first; the first is `copy`.
    number, mask : str
        The types of a number and of a condition: vectors, if samples are vectorised.
    counts : Counter
        How many operations there are in each nest of loops.
    """

    def __init__(self, vectorised: bool) -> None:
        self.entry = Scope(None, "entry", ())
        self.copy = Scope(None, "copy", ())
        self.stack = [self.copy]
        self.vectorised = vectorised
        self.number = f"<{WIDTH} x double>" if vectorised else "double"
        self.mask = f"<{WIDTH} x i1>" if vectorised else "i1"
        self.suffix = f"v{WIDTH}f64" if vectorised else "f64"
        self.counts: Counter[tuple[Label, ...]] = Counter()
        self._names = 0

    def name(self, what: str) -> str:
        """Return a new name, without its %."""
        self._names += 1
        return f"{what}{self._names}"

    def emit(self, scope: Scope, code: str) -> str:
        """Add a line that computes something; return its name."""
        name = "%" + self.name("v")
        scope.lines.append(f"  {name} = {code}")
        if scope is not self.entry:
            self.counts[scope.nest] += 1
        return name

    def once(self, scope: Scope, key: Any, code: str) -> str:
        """Add a line, unless the scope has it already under this key."""
        if key not in scope.known:
            scope.known[key] = self.emit(scope, code)
        return str(scope.known[key])

    def element(self, scope: Scope, kind: str, pointer: str, index: str | int) -> str:
        """Load one element of an array of numbers, integers or pointers."""
        at = self.once(
            scope, ("at", pointer, index), f"getelementptr {kind}, ptr {pointer}, i64 {index}"
        )
        return self.once(scope, ("loaded", kind, at), f"load {kind}, ptr {at}, align 8")

    def splat(self, scope: Scope, name: str, kind: str = "double") -> str:
        """Fill a vector with one number."""
        if not self.vectorised:
            return name
        vector = f"<{WIDTH} x {kind}>"
        one = self.once(
            scope, ("one", name), f"insertelement {vector} poison, {kind} {name}, i32 0"
        )
        return self.once(
            scope,
            ("splat", name),
            f"shufflevector {vector} {one}, {vector} poison, <{WIDTH} x i32> zeroinitializer",
        )

    def across(self, scope: Scope, name: str) -> str:
        """Add up the lanes of a vector."""
        total = self.emit(
            scope,
            f"call reassoc double @llvm.vector.reduce.fadd.{self.suffix}"
            f"(double 0.0, {self.number} {name})",
        )
        return self.splat(scope, total)

    def anywhere(self, scope: Scope, name: str) -> str:
        """Return whether a condition holds in any lane."""
        call = f"call i1 @llvm.vector.reduce.or.v{WIDTH}i1({self.mask} {name})"
        return self.splat(scope, self.emit(scope, call), "i1")

    def lane(self, kind: str, name: str) -> str:
        """Return one number of a vector whose lanes are all alike."""
        if not self.vectorised:
            return name
        return self.emit(self.copy, f"extractelement {kind} {name}, i32 0")

    def constant(self, value: float) -> str:
        """Write a number, exactly."""
        bits = f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
        return bits if not self.vectorised else f"<{', '.join([f'double {bits}'] * WIDTH)}>"

    def zero(self, kind: str) -> str:
        """Write the zero of a type."""
        return {"double": "0.0", "i1": "false"}.get(kind, "zeroinitializer")

    def declarations(self) -> list[str]:
        """Return the declarations of LLVM's own functions."""
        lines = [
            f"declare {self.number} @llvm.{name}.{self.suffix}({self.number})"
            for name in ("fabs", "sqrt")
        ]
        if self.vectorised:
            lines += [
                f"declare double @llvm.vector.reduce.fadd.{self.suffix}(double, {self.number})",
                f"declare i1 @llvm.vector.reduce.or.v{WIDTH}i1({self.mask})",
            ]
        return lines
