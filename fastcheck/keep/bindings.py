"""Snapshots of names and places: which object is bound where, by identity."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from operator import is_
from types import CellType, MemberDescriptorType, ModuleType
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
        if self._is_as_saved():
            return
        self._base.clear(self._target)
        for key, value in self._saved:
            self._base.__setitem__(self._target, key, value)

    def _is_as_saved(self) -> bool:
        keys, values = self._base.keys(self._target), self._base.values(self._target)
        saved_keys = [key for key, _ in self._saved]
        saved_values = [value for _, value in self._saved]
        return _identical(keys, saved_keys) and _identical(values, saved_values)


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
    """The plain data among the attributes of a class: `Net.calls += 1` binds a new number."""

    def __init__(self, owner: type) -> None:
        self._owner = owner
        self._saved = dict(vars(owner))

    def restore(self) -> None:
        now = dict(vars(self._owner))
        for name in self._saved | now:
            if not _is_dunder(name):
                self._restore(name, now.get(name, _ABSENT), self._saved.get(name, _ABSENT))

    def _restore(self, name: str, now: Any, saved: Any) -> None:
        # Methods and descriptors that give way to each other are code, not state.
        if now is saved or not (_is_plain(now) or _is_plain(saved)):
            return
        # The base class's own methods: a metaclass may do more than bind a name.
        if saved is _ABSENT:
            type.__delattr__(self._owner, name)
        else:
            type.__setattr__(self._owner, name, saved)


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


class ModuleAttributes:
    """The attributes of a module; submodules that were imported meanwhile stay."""

    def __init__(self, module: ModuleType) -> None:
        self._namespace = vars(module)
        self._saved = dict(self._namespace)

    def restore(self) -> None:
        for name in self._saved | self._namespace:
            now = self._namespace.get(name, _ABSENT)
            saved = self._saved.get(name, _ABSENT)
            if now is saved or _is_dunder(name):
                continue
            if saved is not _ABSENT:
                self._namespace[name] = saved
            elif not isinstance(now, ModuleType):
                del self._namespace[name]


def _is_dunder(name: str) -> bool:
    """Python's own, such as `__dict__`, or its caches, such as `__slotnames__`."""
    return name.startswith("__") and name.endswith("__")


def _is_plain(value: Any) -> bool:
    return value is not _ABSENT and not hasattr(type(value), "__get__")


def _identical(now: Iterable[Any], saved: list[Any]) -> bool:
    now = list(now)
    return len(now) == len(saved) and all(map(is_, now, saved))
