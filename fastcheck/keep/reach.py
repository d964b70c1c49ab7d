"""Finding what the user's functions can reach and write: attributes, closures, globals."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from types import (
    CodeType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import numpy as np

from fastcheck.keep.arrays import snapshots_of_array
from fastcheck.keep.bindings import (
    ClassAttributes,
    ClosureVariable,
    DictItems,
    Elements,
    GlobalVariable,
    InstanceDict,
    Slot,
    Snapshot,
)
from fastcheck.keep.libraries import is_library, top_package
from fastcheck.keep.random_states import snapshot_of_generator

_DEEPEST = 4
_MOST_OBJECTS = 10_000
_ATOMS = (int, float, complex, str, bytes, type(None), np.generic, CodeType, ModuleType)
_CODE = (FunctionType, MethodType, partial, staticmethod, classmethod, property)


def snapshots_of_reach(
    roots: Sequence[object], parameters: Sequence[np.ndarray[Any, Any]]
) -> list[Snapshot]:
    """Snapshots of all that can be reached from `roots` and written, nearest first.

    Parameters
    ----------
    roots
        The user's functions and containers.
    parameters
        The contents of arrays are kept only where they share memory with one of these.
    """
    search = _Search(parameters, {_package_of_code(root) for root in roots} - {None})
    return search.run(roots)


class _Search:
    """A breadth-first walk over objects. Functions cost no depth, what they hold does."""

    def __init__(
        self, parameters: Sequence[np.ndarray[Any, Any]], packages: set[str | None]
    ) -> None:
        self._parameters = parameters
        self._packages = packages
        self._library: dict[str, bool] = {}
        self._seen: dict[int, object] = {}  # The objects too, so that no id is used again.
        self._globals: set[tuple[int, str]] = set()
        self._snapshots: list[Snapshot] = []

    def run(self, roots: Sequence[object]) -> list[Snapshot]:
        queue: deque[tuple[Any, int]] = deque((root, 0) for root in roots)
        while queue and len(self._seen) < _MOST_OBJECTS:
            value, depth = queue.popleft()
            if isinstance(value, _ATOMS) or id(value) in self._seen:
                continue
            self._seen[id(value)] = value
            for found in self._visit(value):
                if isinstance(found, _CODE):
                    queue.appendleft((found, depth))
                elif depth < _DEEPEST:
                    queue.append((found, depth + 1))
        return self._snapshots

    def _visit(self, value: Any) -> Iterable[Any]:
        """Take the snapshots that `value` needs; return what to look at next."""
        if (state := snapshot_of_generator(value)) is not None:
            self._snapshots.append(state)
            return ()
        if isinstance(value, np.ndarray):
            return self._visit_array(value)
        if isinstance(value, _CODE):
            return self._visit_code(value)
        if isinstance(value, dict):
            self._snapshots.append(DictItems(value))
            return [*islice(dict.values(value), _MOST_OBJECTS), *self._visit_instance(value)]
        if isinstance(value, list | set | deque):
            self._snapshots.append(Elements(value))
            return [*islice(value, _MOST_OBJECTS), *self._visit_instance(value)]
        if isinstance(value, tuple | frozenset):
            return list(islice(value, _MOST_OBJECTS))
        return self._visit_instance(value)

    def _visit_array(self, array: np.ndarray[Any, Any]) -> Iterable[Any]:
        if any(np.may_share_memory(array, parameter) for parameter in self._parameters):
            self._snapshots.extend(snapshots_of_array(array))
        return ()

    def _visit_code(self, code: Any) -> Iterable[Any]:
        if isinstance(code, FunctionType):
            return self._visit_function(code)
        if isinstance(code, MethodType):
            return [code.__func__, *self._visit_bound(code.__self__)]
        if isinstance(code, partial):
            return [code.func, *code.args, *self._values_of(code.keywords)]
        if isinstance(code, property):
            return [code.fget, code.fset]
        return [code.__func__]

    def _visit_bound(self, owner: Any) -> Iterable[Any]:
        if not isinstance(owner, type):
            return [owner]
        self._snapshots.append(ClassAttributes(owner))
        return list(vars(owner).values())

    def _visit_function(self, function: FunctionType) -> Iterable[Any]:
        cells = [ClosureVariable(cell) for cell in function.__closure__ or ()]
        if self._is_library(function.__globals__.get("__name__")):
            # A library's decorator: the user's function is in its closure.
            return [cell.value for cell in cells if isinstance(cell.value, _CODE)]
        names = [GlobalVariable(*key) for key in self._new_globals(function)]
        self._snapshots += [*cells, *names]
        by_name = self._values_of(function.__kwdefaults__ or {})
        defaults = [*(function.__defaults__ or ()), *by_name, *self._values_of(vars(function))]
        held = [cell.value for cell in cells] + [name.value for name in names]
        return [*held, *defaults]

    def _values_of(self, bindings: dict[str, Any]) -> list[Any]:
        """The values of a dict that is a part of a function, and as such costs no depth."""
        self._snapshots.append(DictItems(bindings))
        return list(bindings.values())

    def _new_globals(self, function: FunctionType) -> Iterator[tuple[dict[str, Any], str]]:
        namespace = function.__globals__
        for name in _names_in(function.__code__):
            if (id(namespace), name) not in self._globals:
                self._globals.add((id(namespace), name))
                yield namespace, name

    def _visit_instance(self, value: Any) -> Iterable[Any]:
        kind = type(value)
        if isinstance(value, type):
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
        return [*found, *self._methods(kind)]

    def _slots(self, value: object) -> Iterator[Slot]:
        for member in self._members_of_classes(type(value)):
            if isinstance(member, MemberDescriptorType):
                yield Slot(value, member)

    def _methods(self, kind: type) -> list[Any]:
        return [member for member in self._members_of_classes(kind) if isinstance(member, _CODE)]

    def _members_of_classes(self, kind: type) -> Iterator[Any]:
        for base in kind.__mro__:
            if not self._is_library(base.__module__):
                yield from vars(base).values()

    def _is_library(self, module: str | None) -> bool:
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


def _package_of_code(root: Any) -> str | None:
    """The package of a root written in Python: its own objects count as the user's."""
    while isinstance(root, partial | MethodType):
        root = root.func if isinstance(root, partial) else root.__func__
    function = root if isinstance(root, FunctionType) else vars(type(root)).get("__call__")
    if not isinstance(function, FunctionType):
        return None
    return top_package(function.__globals__.get("__name__"))
