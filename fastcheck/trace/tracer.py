"""Run the user's loss once on traced parameters and keep the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.params import ParamTree
from fastcheck.params.places import on_host
from fastcheck.trace import dispatch as dispatch  # before any of NumPy is patched
from fastcheck.trace import operators as operators  # gives Traced its methods
from fastcheck.trace.graph import Graph, Node
from fastcheck.trace.namespace import replaced_in_user_modules
from fastcheck.trace.primitives import RESHAPE
from fastcheck.trace.rebinding import with_traced_data
from fastcheck.trace.source import line_of
from fastcheck.trace.tape import DEVICE_REMEDY, Converted, Tape, Untraceable
from fastcheck.trace.traced import Traced, wrap


def trace(
    loss: Callable[[Any], Any], tree: ParamTree, on_call: Callable[[], None] = lambda: None
) -> Graph:
    """Trace `loss` at the parameters of `tree`.

    Parameters
    ----------
    loss : callable
        The user's function of one parameter tree.
    tree : ParamTree
        The parameters; their float64 values become the inputs of the graph.
    on_call : callable, optional
        Called before each call of `loss`: one, or two where the first attempt has to be given up.

    Returns
    -------
    Graph
        Every operation between the parameters and the loss, and its value at θ.

    Raises
    ------
    Untraceable
        When anything on the way cannot be traced faithfully: which function, on which line of the
        user's code, and what to write instead.
    """
    try:
        return _traced(loss, tree, on_call)
    except Converted as refusal:
        try:
            return _traced(loss, tree, on_call, data=True)
        except Untraceable:
            raise refusal from None


def _traced(
    loss: Callable[[Any], Any],
    tree: ParamTree,
    on_call: Callable[[], None],
    data: bool = False,
) -> Graph:
    """Trace once; with `data`, the plain arrays that the loss reaches are traced constants."""
    tape = Tape(next((tensor.place for tensor in tree if tensor.place is not None), None))
    leaves = {
        tensor.name: _parameter(tape, tensor.name, tensor.value, tensor.scalar) for tensor in tree
    }
    try:
        with replaced_in_user_modules(loss, tape), np.errstate(all="ignore"):
            function = with_traced_data(loss, tape) if data else loss
            on_call()
            tape.graph.output = _output(tape, function(tree.build(leaves)))
    except Untraceable:
        raise
    except Exception as error:
        raise tape.refusal or _failure(tape, error) from error
    finally:
        tape.closed = True
    if tape.refusal is not None:
        raise tape.refusal
    return tape.graph


def _parameter(tape: Tape, name: str, value: Any, scalar: bool) -> Traced:
    return wrap(tape, tape.parameter(name, value[()] if scalar else value.copy(order="K")))


def _output(tape: Tape, result: Any) -> Node:
    """Find the node of what the loss returned."""
    read_out = tape.settle(result)
    if isinstance(result, Traced):
        result.tape.refuse_if_closed()
        read_out = result.node
    if read_out is None:
        # A plain number: every parameter has been left behind, or was never used.
        return tape.constant(np.asarray(on_host(result), dtype=np.float64))
    if read_out.value.size != 1:
        raise Untraceable(f"the loss has shape {read_out.shape}, not one number")
    return read_out if read_out.ndim == 0 else tape.apply(RESHAPE, read_out, shape=())


def _failure(tape: Tape, error: Exception) -> Untraceable:
    """Say what went wrong on the way, where it was no refusal of fastcheck's own."""
    what = f"the forward pass cannot run on traced arrays: {_oneline(error)}"
    if tape.place is None and not tape.downloads and "cupy" not in str(error):
        return Untraceable(what)
    # CuPy's compiled functions and methods (`X.dot(W)`) take nothing but its own arrays.
    return Converted(f"{what} ({line_of(error)}); {DEVICE_REMEDY}")


def _oneline(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
