"""Snapshots of names and places: which object is bound where, by identity."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from types import CellType, MemberDescriptorType
from typing import Any, Protocol

_ABSENT: Any = object()


class Snapshot(Protocol):
    """Something that was, and can be made so again. Restoring twice does no harm."""

    def restore(self) -> None: ...


class DictItems:
    """The keys and values of a dict, in order."""

    def __init__(self, target: dict[Any, Any]) -> None:
        self._target = target
        # The base class's own methods: a subclass may do more than store and look up.
        self._base: Any = OrderedDict if isinstance(target, OrderedDict) else dict
        self._saved = list(self._base.items(target))

    def restore(self) -> None:
        now = list(self._base.items(self._target))
        if _identical([part for item in now for part in item], self._parts()):
            return
        self._base.clear(self._target)
        for key, value in self._saved:
            self._base.__setitem__(self._target, key, value)

    def _parts(self) -> list[Any]:
        return [part for item in self._saved for part in item]


class Elements:
    """The elements of a list, deque or set."""

    def __init__(self, target: list[Any] | deque[Any] | set[Any]) -> None:
        self._target = target
        self._saved = list(target)

    def restore(self) -> None:
        if _identical(list(self._target), self._saved):
            return
        self._target.clear()
        if isinstance(self._target, set):
            self._target.update(self._saved)
        else:
            self._target.extend(self._saved)


class InstanceDict:
    """The attributes that an object holds in its `__dict__`."""

    def __init__(self, owner: object) -> None:
        self._owner = owner
        self._dict: dict[str, Any] = object.__getattribute__(owner, "__dict__")
        self._items = DictItems(self._dict)

    def restore(self) -> None:
        if object.__getattribute__(self._owner, "__dict__") is not self._dict:
            object.__setattr__(self._owner, "__dict__", self._dict)
        self._items.restore()


class ClassAttributes:
    """The attributes of a class, for a loss that is a class method."""

    def __init__(self, owner: type) -> None:
        self._owner = owner
        self._saved = dict(vars(owner))

    def restore(self) -> None:
        now = dict(vars(self._owner))
        for name in now.keys() - self._saved.keys():
            type.__delattr__(self._owner, name)
        for name, value in self._saved.items():
            if now.get(name, _ABSENT) is not value:
                type.__setattr__(self._owner, name, value)


class Slot:
    """One attribute that a class declares in `__slots__`."""

    def __init__(self, owner: object, member: MemberDescriptorType) -> None:
        self._owner = owner
        self._member = member
        self._saved = self._get()

    @property
    def value(self) -> Any:
        return None if self._saved is _ABSENT else self._saved

    def restore(self) -> None:
        if self._get() is self._saved:
            return
        if self._saved is _ABSENT:
            self._member.__delete__(self._owner)
        else:
            self._member.__set__(self._owner, self._saved)

    def _get(self) -> Any:
        try:
            return self._member.__get__(self._owner, type(self._owner))
        except AttributeError:
            return _ABSENT


class ClosureVariable:
    """A variable of an enclosing function."""

    def __init__(self, cell: CellType) -> None:
        self._cell = cell
        self._saved = self._get()

    @property
    def value(self) -> Any:
        return None if self._saved is _ABSENT else self._saved

    def restore(self) -> None:
        if self._get() is self._saved:
            return
        if self._saved is _ABSENT:
            del self._cell.cell_contents
        else:
            self._cell.cell_contents = self._saved

    def _get(self) -> Any:
        try:
            return self._cell.cell_contents
        except ValueError:  # Empty: the enclosing function has not assigned it yet.
            return _ABSENT


class GlobalVariable:
    """A global that a function names. It may not exist yet."""

    def __init__(self, namespace: dict[str, Any], name: str) -> None:
        self._namespace = namespace
        self._name = name
        self._saved = namespace.get(name, _ABSENT)

    @property
    def value(self) -> Any:
        return None if self._saved is _ABSENT else self._saved

    def restore(self) -> None:
        if self._namespace.get(self._name, _ABSENT) is self._saved:
            return
        if self._saved is _ABSENT:
            del self._namespace[self._name]
        else:
            self._namespace[self._name] = self._saved


def _identical(now: Iterable[Any], saved: list[Any]) -> bool:
    now = list(now)
    return len(now) == len(saved) and all(a is b for a, b in zip(now, saved, strict=True))
