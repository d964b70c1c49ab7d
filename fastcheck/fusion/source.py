"""A printed kernel, and what its arguments are; programs of one structure are printed only once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from fastcheck.fusion.dims import Dim, Label, Pin
from fastcheck.fusion.expression import ANY, LOAD, SUM, Expression
from fastcheck.fusion.hoisted import Hoisted, known
from fastcheck.fusion.layout import Layout
from fastcheck.fusion.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Source:
    """A printed kernel and what it expects.

    Attributes
    ----------
    text : str
        The function in the language of its device. It depends neither on names nor on the lengths
        of loops, so that networks of one kind share their kernels.
    schedule : Schedule
    layouts : tuple of Layout
        Its arrays, in order.
    pins : tuple of Pin
        The pins whose positions it reads, in order.
    loops : tuple of Label
        The loops whose lengths it reads, in order.
    weight : Layout or None
        An array that is 1 for every sample and 0 past the last one, if the kernel needs it.
    skipping : Layout or None
        The array whose blocks of zeros are left out.
    operations : float
        About how many vector operations a copy takes.
    """

    text: str
    schedule: Schedule
    layouts: tuple[Layout, ...]
    pins: tuple[Pin, ...]
    loops: tuple[Label, ...]
    weight: Layout | None
    skipping: Layout | None
    operations: float


@dataclass(frozen=True)
class Template:
    """A printed kernel with its constants and dimensions by number; see `Parts`.

    `counts` says how many operations there are in each nest of loops.
    """

    text: str
    arrays: tuple[tuple[int, bool], ...]
    pins: tuple[int, ...]
    loops: tuple[int, ...]
    weighted: bool
    skipping: int | None
    counts: tuple[tuple[tuple[int, ...], int], ...]

    def bound(self, parts: Parts) -> Source:
        """Fill in the constants and dimensions of one program."""
        schedule = parts.schedule
        layouts = {
            load: Layout(parts.constants[load], schedule, zeros) for load, zeros in self.arrays
        }
        labels = [parts.labels[loop] for loop in self.loops]
        trips = [float(schedule.trips(label)) for label in parts.labels]
        return Source(
            text=self.text,
            schedule=schedule,
            layouts=tuple(layouts.values()),
            pins=tuple(parts.pins[pin] for pin in self.pins),
            loops=tuple(labels),
            weight=_weight(schedule) if self.weighted else None,
            skipping=None if self.skipping is None else layouts[self.skipping],
            operations=sum(n * prod(trips[label] for label in nest) for nest, n in self.counts),
        )


def _weight(schedule: Schedule) -> Layout:
    assert schedule.vector is not None
    ones = known(np.ones(schedule.vector.size), (schedule.vector,))
    return Layout(ones, schedule, zeros=True)


class Parts:
    """The constants and dimensions of a program, numbered alike in all of one structure."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        loads = [node.payload for node in schedule.order if node.op == LOAD]
        self.constants: list[Hoisted] = list(dict.fromkeys(loads))
        labels = {dim for load in loads for dim in load.labels}
        labels |= {node.payload for node in schedule.order if node.op in (SUM, ANY)}
        self.labels: list[Label] = sorted(labels, key=_number)
        self.pins: list[Pin] = sorted({pin for load in loads for pin in load.pins}, key=_number)
        self.number: dict[Hoisted | Dim, int] = {}
        kinds: list[Sequence[Hoisted | Dim]] = [self.constants, self.labels, self.pins]
        for parts in kinds:
            self.number.update({part: place for place, part in enumerate(parts)})

    def structure(self) -> Hashable:
        """Return what the printed text depends on."""
        places = {node: place for place, node in enumerate(self.schedule.order)}
        return (
            tuple(self._label(label) for label in self.labels),
            tuple(self._node(node, places) for node in self.schedule.order),
            tuple(None if root is None else places[root] for root in self.schedule.roots),
        )

    def _label(self, label: Label) -> Hashable:
        if label is self.schedule.vector:
            return "vector"
        if label not in self.schedule.loops:
            return label.size
        # What is kept along a loop has a room of its size.
        return "loop" if label not in self.schedule.kept.values() else f"loop of {label.size}"

    def _node(self, node: Expression, places: Mapping[Expression, int]) -> Hashable:
        payload: Hashable = node.payload
        if node.op == LOAD:
            payload = tuple((isinstance(d, Pin), self.number[d]) for d in node.payload.dims)
        elif node.op in (SUM, ANY):
            payload = self.number[node.payload]
        return (node.op, payload, *[places[operand] for operand in node.operands])


def _number(dim: Dim) -> int:
    return dim.number


_printed: dict[Hashable, Template] = {}
_MOST_PRINTED = 256


def printed(schedule: Schedule, language: str, print_it: Callable[[Parts], Template]) -> Source:
    """Return the source of a program, printing it if none of its structure has been."""
    parts = Parts(schedule)
    structure = (language, parts.structure())
    template = _printed.get(structure)
    if template is None:
        if len(_printed) >= _MOST_PRINTED:
            _printed.clear()
        template = _printed[structure] = print_it(parts)
    return template.bound(parts)
