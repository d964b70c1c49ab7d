"""What a loss can reach: the places where it may find arrays, and its functions.

A place is an entry of a dict or list, an attribute, a variable of a closure or a module, a default
argument: whatever an array can be taken out of, and something else put into, until it is put back.
"""

from __future__ import annotations

import gc
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from fastcheck.bound import Bound
from fastcheck.params.places import is_device_array
from fastcheck.trace.holders import names_in
from fastcheck.trace.source import of_the_user
from fastcheck.trace.traced import Traced
from fastcheck.trace.undoing import Steps

_MOST_OBJECTS = 100_000
_DEEPEST_FOREIGN = 4
_MOST_FOREIGN = 10_000
"""How far arrays are looked for inside objects of libraries."""
_ATOMS = (
    *(int, float, complex, str, bytes, type(None), range, slice),
    *(np.generic, np.dtype, np.ufunc, types.CodeType),
)
_LIKE_USERS = (("types", "SimpleNamespace"), ("argparse", "Namespace"))
"""Classes of the standard library whose objects hold nothing but what users put there."""
_ABSENT = object()


class Place:
    """Where a value is found: how to look there again, and how to put something else there."""

    def __init__(self, value: Any, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self.value = value
        self.read = read
        self.write = write

    def put(self, new: Any, undo: Steps) -> None:
        """Put `new` there; the step that puts the value back is added to `undo` first."""
        undo.append(lambda: self.put_back(new))
        self.write(new)

    def put_back(self, new: Any) -> None:
        """Put the value where `new` still is: the loss itself may have put something else there."""
        if self.read() is new:
            self.write(self.value)


@dataclass
class Reach:
    """The places, arrays and functions that a loss leads to.

    `hidden` are arrays in places that nothing else can be put into, such as an object of a library.
    `whole` tells whether everything was looked at.
    """

    places: list[Place] = field(default_factory=list)
    arrays: list[Any] = field(default_factory=list)
    hidden: list[Any] = field(default_factory=list)
    functions: list[types.FunctionType] = field(default_factory=list)
    whole: bool = True


def reach_of(*roots: Any) -> Reach:
    """Return what the user's functions and objects lead to."""
    search = _Search()
    search.run(roots)
    return search.reach


class _Search:
    """A breadth-first walk."""

    def __init__(self) -> None:
        self.reach = Reach()
        # The objects too: an id is only good while its object lives.
        self._seen: dict[int, Any] = {}
        self._waiting: deque[Any] = deque()
        self._libraries: set[int] = set()
        self._variables: set[tuple[int, str]] = set()
        self._modules: dict[int, types.ModuleType] = {}
        self._names: set[str] = set()

    def run(self, roots: Iterable[Any]) -> None:
        self._waiting.extend(roots)
        while self._waiting or self._look_into_modules():
            if not self._waiting:
                continue
            value = self._waiting.popleft()
            if isinstance(value, _ATOMS) or id(value) in self._seen:
                continue
            if len(self._seen) >= _MOST_OBJECTS:
                self.reach.whole = False
                return
            self._seen[id(value)] = value
            self._visit(value)

    def _visit(self, value: Any) -> None:
        if type(value) is Traced:
            return  # what an attempt to trace has left behind, which no other can use
        if isinstance(value, np.ndarray) or is_device_array(value):
            self.reach.arrays.append(value)
            if value.dtype == object:
                self._hide(list(value.flat))
        elif isinstance(value, types.FunctionType):
            self._visit_function(value)
        elif isinstance(value, types.MethodType):
            self._waiting += [value.__func__, value.__self__]
        elif can_be_rebuilt(value):
            self._waiting += parts_of(value)
        elif isinstance(value, types.BuiltinFunctionType):
            if isinstance(value.__self__, np.ndarray):  # `times = X.dot`
                self._hide([value.__self__])
        elif isinstance(value, property):
            self._waiting += [value.fget, value.fset]
        elif isinstance(value, (staticmethod, classmethod)):
            self._waiting.append(value.__func__)
        elif isinstance(value, type):
            self._visit_class(value)
        elif isinstance(value, types.ModuleType):
            self._add_module(value)
        else:
            self._visit_object(value)

    def _add(self, places: Iterable[Place]) -> None:
        for place in places:
            if not isinstance(place.value, _ATOMS):
                self.reach.places.append(place)
                self._waiting.append(place.value)

    # -- code -------------------------------------------------------------------------------------

    def _visit_function(self, function: types.FunctionType) -> None:
        if not of_the_user(function.__code__.co_filename):
            # The user's function may be inside a library's decorator.
            self._waiting += [_content(cell) for cell in function.__closure__ or ()]
            return
        if id(function) not in self._libraries:
            self.reach.functions.append(function)
        self._add(_of_attribute(function, "__defaults__"))
        self._add(_of_dict(function.__kwdefaults__ or {}))
        self._add(_of_dict(vars(function)))
        self._add(place for cell in function.__closure__ or () for place in _of_cell(cell))
        names = names_in(function.__code__)
        self._visit_names(function.__globals__, names)
        for name in names - self._names:  # an import inside the function
            self._add_module(sys.modules.get(name))
        self._names |= names

    def _visit_names(self, space: dict[str, Any], names: set[str]) -> None:
        for name in names:
            if name in space and (id(space), name) not in self._variables:
                self._variables.add((id(space), name))
                self._add(_of_dict(space, name))

    def _add_module(self, module: Any) -> None:
        file = getattr(module, "__file__", None)
        if isinstance(module, types.ModuleType) and file is not None and of_the_user(file):
            self._modules[id(module)] = module

    def _look_into_modules(self) -> bool:
        """Visit the variables of the user's modules that any function names; False if all were."""
        before = len(self._variables)
        for module in list(self._modules.values()):
            self._visit_names(vars(module), self._names)
        return len(self._variables) > before

    # -- objects ----------------------------------------------------------------------------------

    def _visit_class(self, owner: type) -> None:
        if not _is_the_users(owner):
            return
        for name, value in list(vars(owner).items()):
            if not (
                name.startswith("__") and isinstance(value, (*_ATOMS, types.GetSetDescriptorType))
            ):
                self._add(_of_class(owner, name, value))
        self._waiting += owner.__bases__

    def _visit_object(self, value: Any) -> None:
        kind = type(value)
        mine = _is_the_users(kind)
        if isinstance(value, dict):
            self._add(_of_dict(value))
        elif isinstance(value, (list, deque)):
            self._add(_of_list(value))
        elif isinstance(value, (set, frozenset)):
            self._waiting.extend(value)
        elif not mine or isinstance(value, (tuple, partial)):
            self._hide([value])
        if mine:
            self._add(_of_slots(value))
            self._add(_of_dict(_attributes(value)))
            self._waiting.append(kind)

    def _visit_inside(self, functions: list[types.FunctionType]) -> None:
        """Visit functions that a library has made something of: their code is not to be touched."""
        self._libraries.update(map(id, functions))
        self._waiting += functions

    def _hide(self, values: list[Any]) -> None:
        """Note the arrays inside what nothing can be put into."""
        seen: dict[int, Any] = {}
        for _ in range(_DEEPEST_FOREIGN):
            new = {id(one): one for one in values if id(one) not in seen}
            seen |= new
            self.reach.hidden += [one for one in new.values() if isinstance(one, np.ndarray)]
            self._visit_inside([one for one in new.values() if _is_function(one)])
            if len(seen) > _MOST_FOREIGN:
                self.reach.whole = False
                return
            inner = gc.get_referents(*[one for one in new.values() if not _is_code(one)])
            values = [one for one in inner if not isinstance(one, _ATOMS)]


def _is_function(value: Any) -> bool:
    return isinstance(value, types.FunctionType) and of_the_user(value.__code__.co_filename)


def can_be_rebuilt(value: Any) -> bool:
    """Whether `value` cannot be changed, but made again of other parts."""
    return type(value) in (tuple, partial, Bound) or (
        isinstance(value, tuple) and hasattr(type(value), "_make")
    )


def parts_of(value: Any) -> list[Any]:
    """Return what a tuple, a partial function, or a loss with its arguments is made of."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Bound):
        return [value.function, *value.arguments, *value.holds]
    return [value.func, *value.args, *value.keywords.values()]


def rebuilt(value: Any, replaced: Callable[[Any], Any]) -> Any:
    """Return it made again of replaced parts; `value` itself if none is replaced."""
    if all(replaced(part) is part for part in parts_of(value)):
        return value
    if isinstance(value, tuple):
        parts = map(replaced, value)
        return tuple(parts) if type(value) is tuple else type(value)._make(parts)  # type: ignore[attr-defined]
    if isinstance(value, Bound):
        return value.with_parts(replaced(value.function), tuple(map(replaced, value.arguments)))
    named = {name: replaced(arg) for name, arg in value.keywords.items()}
    return partial(replaced(value.func), *map(replaced, value.args), **named)


def _is_code(value: Any) -> bool:
    return isinstance(value, (type, types.ModuleType, types.FunctionType, np.ndarray))


def _is_the_users(kind: type) -> bool:
    if (kind.__module__, kind.__name__) in _LIKE_USERS:
        return True
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return kind.__module__ != "builtins" and (
        kind.__module__ == "__main__" if file is None else of_the_user(file)
    )


def _attributes(value: Any) -> dict[str, Any]:
    try:
        space = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return space if isinstance(space, dict) else {}


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that is not assigned yet
        return _ABSENT


# -- places ----------------------------------------------------------------------------------------
# The base classes' own methods: a subclass may do more than store and look up.


def _of_dict(space: dict[Any, Any], *names: str) -> Iterator[Place]:
    for key in names or list(dict.keys(space)):
        value = dict.get(space, key)
        if isinstance(value, _ATOMS):  # many are, and nothing is found in them
            continue
        yield Place(value, partial(dict.get, space, key), partial(dict.__setitem__, space, key))


def _of_list(values: Any) -> Iterator[Place]:
    held = enumerate(list(values))
    return (_Element(one, values, at) for at, one in held if not isinstance(one, _ATOMS))


class _Element(Place):
    """An element of a list or deque, which the loss may move."""

    def __init__(self, value: Any, values: Any, place: int) -> None:
        base: Any = list if isinstance(values, list) else deque
        self._values = values
        self._set = partial(base.__setitem__, values)
        super().__init__(value, partial(_element, values, place), partial(self._set, place))

    def put_back(self, new: Any) -> None:
        if self.read() is new:
            self.write(self.value)
            return
        for place, value in enumerate(list(self._values)):
            if value is new:
                self._set(place, self.value)


def _element(values: Any, place: int) -> Any:
    return values[place] if place < len(values) else _ABSENT


def _of_attribute(owner: Any, name: str) -> Iterator[Place]:
    read = partial(getattr, owner, name, _ABSENT)
    if (value := read()) is not None:
        yield Place(value, read, partial(setattr, owner, name))


def _of_cell(cell: types.CellType) -> Iterator[Place]:
    if (value := _content(cell)) is not _ABSENT:
        yield Place(value, partial(_content, cell), partial(setattr, cell, "cell_contents"))


def _of_class(owner: type, name: str, value: Any) -> Iterator[Place]:
    read = partial(vars(owner).get, name)
    yield Place(value, read, partial(type.__setattr__, owner, name))


def _of_slots(value: Any) -> Iterator[Place]:
    for kind in type(value).__mro__:
        for member in list(vars(kind).values()):
            if isinstance(member, types.MemberDescriptorType) and _is_the_users(kind):
                read = partial(_slot, member, value)
                if (held := read()) is not _ABSENT:
                    yield Place(held, read, partial(member.__set__, value))


def _slot(member: types.MemberDescriptorType, owner: Any) -> Any:
    try:
        return member.__get__(owner, type(owner))
    except AttributeError:
        return _ABSENT
