"""Nestings of dict, list and tuple: walking them, naming their leaves, and rebuilding them."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]
"""Where a leaf is: a str for a dict key or a field name, an int for a place in a list or tuple."""


def is_namedtuple(value: object) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields") and hasattr(value, "_make")


def key_name(key: object) -> str:
    """The part of a tensor's name that stands for a dict key."""
    # str.__str__, because an enumeration that inherits from str prints its class as well.
    return str.__str__(key) if isinstance(key, str) else repr(key)


def children(value: Any) -> list[tuple[str | int, Any]] | None:
    """The named entries of a container in order; None if `value` is a leaf."""
    if isinstance(value, dict):
        return [(key_name(key), entry) for key, entry in value.items()]
    if is_namedtuple(value):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    return None


def tensor_name(path: Path) -> str:
    """`layers[0].W` for ("layers", 0, "W"); `params` for a leaf that stands alone."""
    name = ""
    for part in path:
        if isinstance(part, int):
            name += f"[{part}]"
        else:
            name += f".{part}" if name else part
    return name or "params"


def walk(value: Any, path: Path = (), above: tuple[int, ...] = ()) -> Iterator[tuple[Path, Any]]:
    """Every leaf with its path, depth first, in the order of the containers.

    A container that is met again inside itself is yielded as if it were a leaf.
    """
    entries = children(value)
    if entries is None or id(value) in above:
        yield path, value
        return
    for part, entry in entries:
        yield from walk(entry, (*path, part), (*above, id(value)))


@dataclass(frozen=True, slots=True)
class Branch:
    """One container without its leaves. A child that is an int is the number of a leaf."""

    kind: type
    names: tuple[str | int, ...]
    keys: tuple[Any, ...]
    children: tuple[Branch | int, ...]
    template: Any = None
    """A dict of an unusual type: where its attributes and its default factory come from."""

    @property
    def is_namedtuple(self) -> bool:
        return issubclass(self.kind, tuple) and hasattr(self.kind, "_make")

    @property
    def is_sequence(self) -> bool:
        """A list or tuple whose entries have places only."""
        return issubclass(self.kind, list | tuple) and not self.is_namedtuple


def outline(value: Any, numbers: Iterator[int]) -> Branch | int:
    """The nesting of `value`, whose leaves take their numbers from `numbers`."""
    entries = children(value)
    if entries is None:
        return next(numbers)
    return Branch(
        kind=type(value),
        names=tuple(name for name, _ in entries),
        keys=tuple(value) if isinstance(value, dict) else (),
        children=tuple(outline(entry, numbers) for _, entry in entries),
        template=value if isinstance(value, dict) and type(value) is not dict else None,
    )


def rebuild(node: Branch | int, leaves: Sequence[Any]) -> Any:
    """New containers of the outlined types, holding `leaves`."""
    if isinstance(node, int):
        return leaves[node]
    values = [rebuild(child, leaves) for child in node.children]
    if issubclass(node.kind, dict):
        items = dict(zip(node.keys, values, strict=True))
        return items if node.template is None else _dict_like(node.template, items)
    kind: Any = node.kind
    return kind._make(values) if node.is_namedtuple else kind(values)


def _dict_like(template: dict[Any, Any], items: dict[Any, Any]) -> dict[Any, Any]:
    if isinstance(template, defaultdict):
        return _refilled_copy(template, items)
    try:
        # The constructor before a copy: a dict whose attributes are its items
        # (`self.__dict__ = self`) would keep the old arrays as attributes of a copy.
        new = type(template)(items)
    except Exception:
        return _refilled_copy(template, items)
    if hasattr(new, "__dict__"):
        for name, attribute in vars(template).items():
            vars(new).setdefault(name, attribute)
    return new


def _refilled_copy(template: dict[Any, Any], items: dict[Any, Any]) -> dict[Any, Any]:
    new = copy.copy(template)
    for key in set(new) - set(items):
        del new[key]  # The user's own dict may have grown since it was outlined.
    new.update(items)
    return new
