"""Run the user's loss once on traced parameters and keep the graph."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from fastcheck.params import ParamTree
from fastcheck.params.places import on_host
from fastcheck.trace import dispatch as dispatch  # before any of NumPy is patched
from fastcheck.trace import operators as operators  # gives Traced its methods
from fastcheck.trace.graph import Graph, Node
from fastcheck.trace.logged import bounded, same, trials
from fastcheck.trace.namespace import replaced_in_user_modules
from fastcheck.trace.primitives import RESHAPE
from fastcheck.trace.rebinding import with_traced_data
from fastcheck.trace.source import line_of
from fastcheck.trace.tape import DEVICE_REMEDY, Converted, Tape, Untraceable
from fastcheck.trace.traced import Traced, wrap


def trace(
    loss: Callable[[Any], Any],
    tree: ParamTree,
    on_call: Callable[[], None] = lambda: None,
    keeping: Callable[[], AbstractContextManager[Any]] = nullcontext,
    insist: bool = True,
) -> Graph:
    """Trace `loss` at the parameters of `tree`.

    Parameters
    ----------
    loss : callable
        The user's function of one parameter tree.
    tree : ParamTree
        The parameters; their float64 values become the inputs of the graph.
    on_call : callable, optional
        Called before each call of `loss`: one, or up to seven where attempts are given up.
    keeping : callable, optional
        Gives a context manager that puts back what the call inside it changes.
    insist : bool, optional
        Try other ways, too, where a number leaves the trace.

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
    if tree.has_complex:
        raise Untraceable("complex parameters are computed by calling `loss`")

    def attempt(kinds: str | None, handed: Callable[[float], float] | None = None) -> Graph:
        with keeping():
            return _traced(loss, tree, on_call, kinds, handed)

    first: Untraceable | None = None
    best: Graph | None = None
    for kinds in _ATTEMPTS:
        try:
            graph = attempt(kinds)
        except Converted as refusal:
            first = first or refusal
        except Untraceable as refusal:
            if kinds is None:
                raise
            first = first or refusal
        else:
            if not (insist and escapes(graph)):
                return graph
            if best is None or escapes(graph) <= escapes(best):
                best, found = graph, kinds
    if best is None:
        assert first is not None
        raise first
    return bounded(best) if _is_only_logged(best, lambda handed: attempt(found, handed)) else best


def _is_only_logged(
    graph: Graph, traced_again: Callable[[Callable[[float], float]], Graph]
) -> bool:
    """Whether the graph would be the same if the numbers that left it had been others."""
    try:
        return all(same(graph, traced_again(handed)) for handed in trials())
    except Untraceable:
        return False


_ATTEMPTS = (None, "f", "fiub")
"""Of which kinds the arrays are that the loss finds outside itself and that are traced, too.

None at first: most losses need none of it. Masks and labels come last, as they are often used in
ways that only plain ones can be.
"""


def escapes(graph: Graph) -> int:
    """Return how many numbers that are not discrete have left the trace, and may have come back."""
    return sum(not guard.discrete for guard in graph.guards)


def _traced(
    loss: Callable[[Any], Any],
    tree: ParamTree,
    on_call: Callable[[], None],
    kinds: str | None,
    handed: Callable[[float], float] | None = None,
) -> Graph:
    """Trace once; of `kinds` are the arrays that the loss finds and that are traced constants."""
    tape = Tape(next((tensor.place for tensor in tree if tensor.place is not None), None), handed)
    tape.makes_all = kinds == _ATTEMPTS[-1]
    leaves = {
        tensor.name: _parameter(tape, tensor.name, tensor.value, tensor.scalar) for tensor in tree
    }
    try:
        with (
            replaced_in_user_modules(loss, tape),
            np.errstate(all="ignore"),
            nullcontext(loss) if kinds is None else with_traced_data(loss, tape, kinds) as function,
        ):
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
