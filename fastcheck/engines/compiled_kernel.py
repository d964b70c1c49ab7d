"""Machine code that calls a function compiled by Numba in a loop over perturbed copies.

The function is the one that Numba made for the user's own call: its address is called as Numba's
code calls it, with arguments in Numba's own layout. Nothing of it is compiled again, so the losses
are the user's to the last bit, and the loop around it is made in some 20 ms.
"""

from __future__ import annotations

import ctypes
import weakref
from time import perf_counter
from typing import Any

import numpy as np

from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.engines.compiled_code import RAISED, WROTE, Run, make_loop
from fastcheck.engines.compiled_overload import Overload, Unusable, numba_itself, of_numba

__all__ = ["RAISED", "WROTE", "Loop", "Table", "loop_around", "seconds_to_make"]

_MOST_KEPT = 64

_loops: dict[Any, tuple[Run, Any]] = {}
_around: weakref.WeakSet[Any] = weakref.WeakSet()
"""Functions that a loop has been made around."""
_price = 0.05
"""Seconds that making a loop takes: what the latest one took."""


def loop_around(overload: Overload) -> Loop:
    """Return the loop around an overload, made now if none of its signature has been made."""
    key = (overload.types, overload.returns, type(overload.compiled.target_context))
    if key not in _loops:
        start = perf_counter()
        with of_numba("core.compiler_lock").global_compiler_lock:
            made = make_loop(overload.compiled)
        global _price
        _price = perf_counter() - start
        if len(_loops) >= _MOST_KEPT:
            del _loops[next(iter(_loops))]
        _loops[key] = made
    _around.add(overload.dispatcher)
    return Loop(*_loops[key], overload)


def seconds_to_make(dispatcher: Any) -> float:
    """Estimate how long a loop around a function takes to make; nothing, if there has been one."""
    return 0.0 if dispatcher in _around else _price


class Loop:
    """Calls an overload for one copy after the other."""

    def __init__(self, run: Run, library: Any, overload: Overload) -> None:
        self._run = run
        self._alive = (library, overload)  # machine code lives as long as these
        self._address = overload.address

    def __call__(
        self,
        arena: FloatArray,
        base: FloatArray | None,
        table: Table,
        positions: IndexArray,
        values: FloatArray,
        losses: FloatArray,
    ) -> tuple[int, int]:
        """Fill `losses` with one element of `arena` after the other at its value.

        Parameters
        ----------
        arena : float64 array
            The memory that the arguments view. Every element is put back.
        base : float64 array, optional
            Copied over the arena before every call.
        table : Table
            The arguments.
        positions, values : arrays
            Which element of the arena takes which value.
        losses : float64 array
            Is filled.

        Returns
        -------
        tuple of int
            How many were done, and why it stopped there: 0, `RAISED` or `WROTE`.
        """
        stop = ctypes.c_int64(0)
        try:
            done = self._run(
                self._address,
                arena.ctypes.data,
                arena.ctypes.data if base is None else base.ctypes.data,
                0 if base is None else arena.nbytes,
                positions.ctypes.data,
                values.ctypes.data,
                losses.ctypes.data,
                len(positions),
                table.address,
                ctypes.addressof(stop),
            )
        except SystemError:  # Python code that it calls has raised
            return 0, RAISED
        return done, stop.value


class Table:
    """Arguments in memory, as a loop reads them: a block for each array and number.

    Parameters
    ----------
    types : tuple
        Numba's types of the arguments.
    arguments : tuple
        Arrays, numbers, None, and tuples of these.

    Raises
    ------
    Unusable
        An argument is something else.
    """

    def __init__(self, types: tuple[Any, ...], arguments: tuple[Any, ...]) -> None:
        self._alive = arguments
        self._blocks: list[np.ndarray[Any, Any]] = []
        for kind, argument in zip(types, arguments, strict=True):
            self._add(kind, argument)
        addresses = [block.ctypes.data for block in self._blocks]
        self._table = np.array(addresses or [0], dtype=np.int64)
        self.address = int(self._table.ctypes.data)

    def _add(self, kind: Any, argument: Any) -> None:
        numba = numba_itself()
        types = numba.types
        if isinstance(kind, types.BaseTuple):
            for part, entry in zip(kind, argument, strict=True):
                self._add(part, entry)
        elif isinstance(kind, types.Array):
            layout = [argument.ctypes.data, *argument.shape, *argument.strides]
            self._blocks.append(np.array(layout, dtype=np.int64))
        elif isinstance(kind, types.Boolean | types.Number):
            self._blocks.append(np.array(argument, dtype=_dtype_of(kind)))
        elif not isinstance(kind, types.NoneType | types.Omitted):
            raise Unusable(f"it takes an argument of Numba's type {kind}")


def _dtype_of(kind: Any) -> np.dtype[Any]:
    found: np.dtype[Any] = of_numba("np.numpy_support").as_dtype(kind)
    return found
