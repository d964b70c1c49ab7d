"""Stand-ins for `numpy`, `cupy` and parts of `scipy` in the user's modules during a trace.

Names are replaced in the namespaces of the user's modules, never in the libraries: what those and
compiled code look up is what it always was.
"""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastcheck.bound import users_function
from fastcheck.params.places import imported_cupy
from fastcheck.trace.array_api import compatibility_packages, lookups, numpy_of
from fastcheck.trace.device_calls import (
    array_module,
    device_functions,
    functions_of,
    special_functions,
)
from fastcheck.trace.functions.convolution import image_functions, signal_functions
from fastcheck.trace.functions.iteration import stand_in_of
from fastcheck.trace.functions.making import makers
from fastcheck.trace.functions.softmax import softmax_family
from fastcheck.trace.functions.strided import stride_tricks
from fastcheck.trace.holders import attributes_of_objects
from fastcheck.trace.source import is_library
from fastcheck.trace.tape import Tape
from fastcheck.trace.undoing import Steps, take_back

Space = dict[str, Any]
_replacing = threading.RLock()  # a loss may itself check a gradient
_MOST_CELLS = 1000
_OF_SCIPY = {"special": softmax_family, "signal": signal_functions, "ndimage": image_functions}


class _StandIn(types.ModuleType):
    """A module with some names replaced."""

    def __init__(self, original: types.ModuleType, replacements: Space) -> None:
        super().__init__(original.__name__, original.__doc__)
        vars(self).update(vars(original))
        vars(self).update(replacements)
        vars(self)["_original"] = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)  # names that a module makes on demand


@contextmanager
def replaced_in_user_modules(loss: Callable[..., Any], tape: Tape) -> Iterator[None]:
    """Let the user's modules see functions of traced arrays in place of the libraries'."""
    swaps = _swaps_of_numpy(tape)
    tape.numpy = swaps[id(np)]
    if imported_cupy() is not None:
        swaps |= _swaps_of_cupy(tape, swaps[id(np)])
        tape.cupy = swaps[id(imported_cupy())]
    swaps |= _swaps_of_scipy()
    undo: Steps = []
    with _replacing:
        try:
            for space in (*_spaces(loss), *_attributes(loss)):
                _swap_names(space, swaps, undo)
            for cell in _cells(loss):
                _swap_cell(cell, swaps, undo)
            yield
        finally:
            take_back(undo)


def _swaps(module: types.ModuleType, replacements: Space) -> dict[int, Any]:
    """Return what takes the place of a module and of objects in it, by their identity."""
    swaps = {id(getattr(module, name)): new for name, new in replacements.items()}
    swaps[id(module)] = _StandIn(module, replacements)
    return swaps


def _swaps_of_numpy(tape: Tape) -> dict[int, Any]:
    tricks = _swaps(np.lib.stride_tricks, stride_tricks())
    lib = _swaps(np.lib, {"stride_tricks": tricks[id(np.lib.stride_tricks)]})
    made = makers(tape)
    swaps = tricks | lib | _swaps(np, made | {"lib": lib[id(np.lib)]})
    for package in compatibility_packages():
        parts = lookups(package, tape, swaps)
        if (numpy := numpy_of(package)) is not None:
            here = {name: new for name, new in made.items() if hasattr(numpy, name)}
            swaps |= {key: new for key, new in _swaps(numpy, here).items() if key not in swaps}
            parts["numpy"] = swaps[id(numpy)]
        swaps |= _swaps(package, parts)
    return swaps


def _swaps_of_scipy() -> dict[int, Any]:
    """The modules of SciPy that the user has imported, whose functions convert their arguments."""
    swaps: dict[int, Any] = {}
    parts: Space = {}
    for name, stand_ins in _OF_SCIPY.items():
        module = sys.modules.get(f"scipy.{name}")
        if module is not None:
            swaps |= _swaps(module, stand_ins(module))
            parts[name] = swaps[id(module)]
    return swaps | _swaps(sys.modules["scipy"], parts) if parts else {}


def _swaps_of_cupy(tape: Tape, numpy: Any) -> dict[int, Any]:
    cupy = imported_cupy()
    replacements = device_functions(tape)
    swaps: dict[int, Any] = {}
    for name in ("linalg", "fft"):
        if isinstance(module := vars(cupy).get(name), types.ModuleType):
            swaps |= _swaps(module, functions_of(module, getattr(np, name), tape))
            replacements[name] = swaps[id(module)]
    stand_in = _StandIn(cupy, replacements)
    choose = array_module(cupy.get_array_module, stand_in, numpy)
    replacements["get_array_module"] = vars(stand_in)["get_array_module"] = choose
    swaps |= {id(vars(cupy)[name]): new for name, new in replacements.items()}
    swaps[id(cupy)] = stand_in
    return swaps | _swaps_of_cupyx(tape)


def _swaps_of_cupyx(tape: Tape) -> dict[int, Any]:
    """`cupyx.scipy.special`, under all the names that lead to it."""
    name = "cupyx.scipy.special"
    if name not in sys.modules:
        return {}
    swaps = _swaps(sys.modules[name], special_functions(sys.modules[name], tape))
    while "." in name:
        parent, _, child = name.rpartition(".")
        if not hasattr(sys.modules[parent], child):
            break
        swaps |= _swaps(sys.modules[parent], {child: swaps[id(sys.modules[name])]})
        name = parent
    return swaps


def _swap_names(space: Space, swaps: dict[int, Any], undo: Steps) -> None:
    for name, value in list(space.items()):
        new = swaps.get(id(value)) or stand_in_of(value)
        if new is not None:
            undo.append(_put_back(space, name, value, new))
            space[name] = new


def _put_back(space: Space, name: str, value: Any, new: Any) -> Callable[[], None]:
    def restore() -> None:
        if space.get(name) is new:  # unless the loss itself has bound the name anew
            space[name] = value

    return restore


def _swap_cell(cell: types.CellType, swaps: dict[int, Any], undo: Steps) -> None:
    value = cell.cell_contents
    new = swaps.get(id(value)) or stand_in_of(value)
    if new is not None:
        undo.append(lambda: setattr(cell, "cell_contents", value))
        cell.cell_contents = new


def _spaces(loss: Callable[..., Any]) -> list[Space]:
    """Return the namespaces of all user modules, and those that the loss itself is defined in."""
    found: dict[int, Space] = {}
    packages = set()
    for function in _functions(loss):
        found[id(function.__globals__)] = function.__globals__
        packages.add((function.__module__ or "").partition(".")[0])
    for name, module in list(sys.modules.items()):
        if isinstance(module, types.ModuleType) and _is_the_users(name, module, packages):
            found[id(vars(module))] = vars(module)
    return list(found.values())


def _attributes(loss: Any) -> list[Space]:
    """Return the attributes of the user's objects that the loss can reach."""
    loss = users_function(loss)
    loss = getattr(loss, "func", loss)  # functools.partial
    return attributes_of_objects(_functions(loss), loss, getattr(loss, "__self__", None))


def _is_the_users(name: str, module: types.ModuleType, packages: set[str]) -> bool:
    package = name.partition(".")[0]
    if package in ("numpy", "scipy", "numba", "cupy", "cupyx"):
        return False
    if package == "fastcheck":
        return name.startswith("fastcheck.problems")
    file = getattr(module, "__file__", None)
    if file is None:
        return name == "__main__" or package in packages
    return file.endswith(".py") and (package in packages or not is_library(file))


def _functions(loss: Any) -> list[types.FunctionType]:
    """Return the Python functions that a callable is made of: its own, or those of its class."""
    loss = users_function(loss)
    loss = getattr(loss, "func", loss)  # functools.partial
    owner = getattr(loss, "__self__", None)
    candidates = [loss, getattr(loss, "__func__", None), getattr(loss, "__wrapped__", None)]
    for one in (owner, loss):
        if one is not None and not isinstance(one, (types.FunctionType, types.ModuleType)):
            candidates += [value for base in type(one).__mro__ for value in vars(base).values()]
    return [one for one in candidates if isinstance(one, types.FunctionType)]


def _cells(loss: Any) -> list[types.CellType]:
    """Return the closure cells of the loss and of functions that it closes over."""
    cells: dict[int, types.CellType] = {}
    waiting = _functions(loss)
    while waiting and len(cells) < _MOST_CELLS:
        for cell in waiting.pop().__closure__ or ():
            if id(cell) in cells or not _filled(cell):
                continue
            cells[id(cell)] = cell
            if isinstance(cell.cell_contents, types.FunctionType):
                waiting.append(cell.cell_contents)
    return list(cells.values())


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # a variable that is not assigned yet raises
    except ValueError:
        return False
    return True
