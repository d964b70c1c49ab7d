"""Where a kernel finds its constants: pointers, strides and positions, each computed only once.

Pointers move from the outside in: to the copy's position along the pins, to the iteration of each
loop, and last by an offset that is known when the kernel is made.
"""

from __future__ import annotations

from fastcheck.fusion.code import Code, Scope
from fastcheck.fusion.dims import Label, NotFusable, Pin
from fastcheck.fusion.hoisted import Hoisted
from fastcheck.fusion.layout import Layout
from fastcheck.fusion.schedule import Schedule

MOST_DIMS = 8
"""How many strides an array has room for."""


def strided(layout: Layout) -> list[Label | Pin]:
    """Return the dimensions of a layout that have a stride, outermost first."""
    vector = layout.schedule.vector
    along: list[Label | Pin] = [vector] if layout.vectorised and vector is not None else []
    return [*layout.pins, *along, *layout.looped]


class Memory:
    """The arrays and tables of one kernel.

    Attributes
    ----------
    layouts : dict of Hoisted to Layout
        The arrays, in order.
    pins, loops : dict
        The pins whose positions and the loops whose lengths are read, numbered.
    """

    def __init__(self, code: Code, schedule: Schedule, padded: set[Hoisted]) -> None:
        self._code = code
        self._schedule = schedule
        self._padded = padded
        self.layouts: dict[Hoisted, Layout] = {}
        self.pins: dict[Pin, int] = {}
        self.loops: dict[Label, int] = {}

    def load(self, hoisted: Hoisted, places: dict[Label, int], scope: Scope) -> str:
        """Load an element of a constant, or one for each sample of the block."""
        layout = self.layout(hoisted)
        pointer = self._base(layout)
        for outer in self._code.stack:
            if outer.label is not None and outer.label in hoisted.labels:
                stride = self._stride(layout, outer.label)
                pointer = self._code.moved(outer, pointer, str(outer.known["place"]), stride)
        return self._code.load(scope, pointer, layout.offset(places), layout.vectorised)

    def layout(self, hoisted: Hoisted) -> Layout:
        """Return the layout of a constant, making room for it in the table of arrays."""
        if hoisted not in self.layouts:
            layout = Layout(hoisted, self._schedule, hoisted in self._padded)
            if len(strided(layout)) > MOST_DIMS:
                raise NotFusable("an array has too many dimensions")
            self.layouts[hoisted] = layout
        return self.layouts[hoisted]

    def blocks(self, number: int) -> str:
        """Return one of the lists of blocks: where each one starts (0), or the blocks (1)."""
        return self._code.pointer("blocks", number, integers=True)

    def position(self, pin: Pin) -> str:
        """Return where the copy is perturbed along a pin."""
        return self._code.position(self.pins.setdefault(pin, len(self.pins)))

    def length(self, label: Label) -> str:
        """Return how many iterations a loop has."""
        return self._code.length(self.loops.setdefault(label, len(self.loops)))

    def _base(self, layout: Layout) -> str:
        """Return the pointer to what a copy needs of an array."""
        pointer = self._code.pointer("arrays", list(self.layouts).index(layout.hoisted))
        for pin in layout.pins:
            stride = self._stride(layout, pin)
            pointer = self._code.moved(self._code.copy, pointer, self.position(pin), stride)
        return pointer

    def _stride(self, layout: Layout, dim: Label | Pin) -> str:
        """Return by how many elements one step along a pin or a loop moves on."""
        place = strided(layout).index(dim)
        if isinstance(dim, Label) and place == len(strided(layout)) - 1:
            return str(layout.inner)
        number = list(self.layouts).index(layout.hoisted)
        return self._code.stride(MOST_DIMS * number + place)
