"""Finding what the user's functions can reach and write: attributes, closures, globals."""

from __future__ import annotations

import inspect
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import numpy as np

from fastcheck.keep.bindings import (
    ClassAttributes,
    ClosureVariable,
    DictItems,
    Elements,
    GlobalVariable,
    InstanceDict,
    ModuleAttributes,
    Slot,
    Snapshot,
)
from fastcheck.keep.libraries import is_library, is_machinery, top_package
from fastcheck.keep.random_states import snapshot_of_generator
from fastcheck.params.places import is_device_array

_DEEPEST = 16
_MOST_OBJECTS = 100_000
_LONG = 1000
"""The elements of longer containers come last: rows of data must not crowd out the layers."""

_ATOMS = (
    *(int, float, complex, str, bytes, type(None), range, slice),
    *(np.generic, np.dtype, np.ufunc, CodeType, BuiltinFunctionType),
)
_BARE = frozenset((dict, list, set, tuple, frozenset, deque, np.ndarray))  # without attributes
_CODE = (FunctionType, MethodType, partial, staticmethod, classmethod, property, type)
_NOT_DATA = (*_CODE, ModuleType)


@dataclass(frozen=True)
class Reach:
    """All that can be reached and written, and in words what the limits left out."""

    snapshots: list[Snapshot]
    arrays: list[Any]
    left_out: tuple[str, ...]


def find_reach(roots: Sequence[object]) -> Reach:
    """Search what can be reached from the user's functions and containers, nearest first."""
    return _Search({_package_of_code(root) for root in roots} - {None}).run(roots)


class _Search:
    """A breadth-first walk over objects. Functions cost no depth, what they hold does."""

    def __init__(self, packages: set[str | None]) -> None:
        self._packages = packages
        self._library: dict[str, bool] = {}
        self._seen: dict[int, object] = {}  # The objects too, so that no id is used again.
        self._globals: set[tuple[int, str]] = set()
        self._snapshots: list[Snapshot] = []
        self._arrays: list[Any] = []
        self._near: deque[tuple[Any, int]] = deque()
        self._last: deque[tuple[Any, int]] = deque()
        self._too_deep: dict[int, object] = {}
        self._too_many = False

    def run(self, roots: Sequence[object]) -> Reach:
        self._queue(roots, depth=-1)
        while waiting := self._near or self._last:
            value, depth = waiting.popleft()
            if id(value) in self._seen:
                continue
            if len(self._seen) >= _MOST_OBJECTS:
                self._too_many = True
                break
            self._seen[id(value)] = value
            self._queue(self._visit(value), depth)
        return Reach(self._snapshots, self._arrays, self._left_out())

    def _queue(self, found: Iterable[Any], depth: int) -> None:
        """Put off what was found at `depth`; numbers and strings hold nothing to look at."""
        objects = [each for each in found if not isinstance(each, _ATOMS)]
        if len(objects) > _MOST_OBJECTS:
            self._too_many = True
            del objects[_MOST_OBJECTS:]
        waiting = self._last if len(objects) > _LONG else self._near
        for each in objects:
            if isinstance(each, _CODE):
                self._near.appendleft((each, max(depth, 0)))
            elif depth < _DEEPEST:
                waiting.append((each, depth + 1))
            else:
                self._too_deep[id(each)] = each

    def _left_out(self) -> tuple[str, ...]:
        words = []
        if self._too_many:
            words.append(f"what lies beyond the first {_MOST_OBJECTS:,} objects")
        if self._too_deep.keys() - self._seen.keys():
            words.append(f"what lies more than {_DEEPEST} levels deep")
        return tuple(words)

    def _visit(self, value: Any) -> Iterable[Any]:
        """Take the snapshots that `value` needs; return what to look at next."""
        if isinstance(value, np.ndarray):
            return self._visit_array(value)
        if is_device_array(value):
            self._arrays.append(value)
            return ()
        if isinstance(value, _CODE):
            return self._visit_code(value)
        if isinstance(value, ModuleType):
            return self._visit_module(value)
        if isinstance(value, dict):
            self._snapshots.append(DictItems(value))
            return [*dict.values(value), *self._visit_instance(value)]
        if isinstance(value, list | set | deque):
            self._snapshots.append(Elements(value))
            return [*value, *self._visit_instance(value)]
        if isinstance(value, tuple | frozenset):
            return [*value, *self._visit_instance(value)]
        if (state := snapshot_of_generator(value)) is not None:
            self._snapshots.append(state)
            return ()
        return self._visit_instance(value)

    def _visit_array(self, array: np.ndarray[Any, Any]) -> Iterable[Any]:
        self._arrays.append(array)
        elements = array.flat if array.dtype == object else ()
        return [*elements, *self._visit_instance(array)]

    def _visit_code(self, code: Any) -> Iterable[Any]:
        if isinstance(code, FunctionType):
            return self._visit_function(code)
        if isinstance(code, MethodType):
            return [code.__func__, code.__self__]
        if isinstance(code, partial):
            return [code.func, *code.args, *self._values_of(code.keywords)]
        if isinstance(code, type):
            return self._visit_class(code)
        if isinstance(code, property):
            return [code.fget, code.fset]
        return [code.__func__]

    def _visit_class(self, owner: type) -> Iterable[Any]:
        if self._is_library(owner.__module__):
            return ()
        self._snapshots.append(ClassAttributes(owner))
        return [*vars(owner).values(), *owner.__bases__]

    def _visit_function(self, function: FunctionType) -> Iterable[Any]:
        cells = [ClosureVariable(cell) for cell in function.__closure__ or ()]
        if self._is_library(function.__globals__.get("__name__")):
            # A library's decorator: the user's function is in its closure.
            return [cell.value for cell in cells if isinstance(cell.value, _CODE)]
        names = [GlobalVariable(*key) for key in self._new_globals(function)]
        held = [cell.value for cell in cells] + [name.value for name in names]
        for module in (*held, *_imported_by(function)):
            held += [module, *self._named_in(module, function)]
        self._snapshots += [*cells, *names]
        by_name = self._values_of(function.__kwdefaults__ or {})
        defaults = [*(function.__defaults__ or ()), *by_name, *self._values_of(vars(function))]
        return [*held, *defaults]

    def _visit_module(self, module: ModuleType) -> Iterable[Any]:
        """Take a snapshot of a module: whoever is handed it may write to its data."""
        if self._is_library(module.__name__):
            return ()
        self._snapshots.append(ModuleAttributes(module))
        return [each for each in vars(module).values() if not isinstance(each, _NOT_DATA)]

    def _named_in(self, module: Any, function: FunctionType) -> list[Any]:
        """Return what a function may mean by `module.name` or `package.module.name`."""
        if not isinstance(module, ModuleType) or self._is_library(module.__name__):
            return []
        found: list[Any] = []
        for namespace, name in self._new_names(vars(module), _names_in(function.__code__)):
            named = namespace.get(name)
            found += [named, *self._named_in(named, function)]
        return found

    def _values_of(self, bindings: dict[str, Any]) -> list[Any]:
        """The values of a dict that is a part of a function, and as such costs no depth."""
        self._snapshots.append(DictItems(bindings))
        return list(bindings.values())

    def _new_globals(self, function: FunctionType) -> Iterator[tuple[dict[str, Any], str]]:
        return self._new_names(function.__globals__, _names_in(function.__code__))

    def _new_names(
        self, namespace: dict[str, Any], names: set[str]
    ) -> Iterator[tuple[dict[str, Any], str]]:
        for name in names:
            if (id(namespace), name) not in self._globals:
                self._globals.add((id(namespace), name))
                yield namespace, name

    def _visit_instance(self, value: Any) -> Iterable[Any]:
        kind = type(value)
        if kind in _BARE:
            return ()
        if kind is not SimpleNamespace and self._is_library(kind.__module__):
            return _wrapped_functions(value) if callable(value) else ()
        found: list[Any] = []
        for slot in self._slots(value):
            self._snapshots.append(slot)
            found.append(slot.value)
        if (attributes := _instance_dict(value)) is not None:
            self._snapshots.append(InstanceDict(value))
            found += list(attributes.values())
        return [*found, kind]

    def _slots(self, value: object) -> Iterator[Slot]:
        classes = (kind for kind in type(value).__mro__ if not self._is_library(kind.__module__))
        for member in (member for kind in classes for member in vars(kind).values()):
            if isinstance(member, MemberDescriptorType):
                yield Slot(value, member)

    def _is_library(self, module: str | None) -> bool:
        if is_machinery(module):
            return True
        package = top_package(module)
        if package in self._packages:
            return False
        if package not in self._library:
            self._library[package] = is_library(package)
        return self._library[package]


def _instance_dict(value: object) -> dict[str, Any] | None:
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return attributes if isinstance(attributes, dict) else None


def _wrapped_functions(value: object) -> list[Any]:
    """The Python function inside a library's callable: a compiled or memoised one."""
    found = [inspect.getattr_static(value, name, None) for name in ("__wrapped__", "py_func")]
    return [function for function in found if isinstance(function, _CODE)]


def _names_in(code: CodeType) -> set[str]:
    """All names that `code` and the functions defined in it use, the globals among them."""
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return set(code.co_names).union(*(_names_in(each) for each in inner))


def _imported_by(function: FunctionType) -> list[ModuleType]:
    """The modules that a function may import for itself."""
    found = (sys.modules.get(name) for name in _names_in(function.__code__))
    return [module for module in found if module is not None]


def _package_of_code(root: Any) -> str | None:
    """The package of a root written in Python: its own objects count as the user's."""
    while isinstance(root, partial | MethodType):
        root = root.func if isinstance(root, partial) else root.__func__
    function = root if isinstance(root, FunctionType) else vars(type(root)).get("__call__")
    if not isinstance(function, FunctionType):
        return None
    return top_package(function.__globals__.get("__name__"))
