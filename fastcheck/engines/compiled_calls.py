"""Which function compiled by Numba a loss is, or calls, and what becomes of the parameters before.

The user's loss runs twice under observation: once with traced parameters, which shows what of a
call's arguments depends on which tensor; and once with plain ones in memory that is known, which
shows where in it these arguments lie. Meanwhile Numba's dispatchers report how they are called.
"""

from __future__ import annotations

import dis
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.engines.compiled_overload import Unusable, folded
from fastcheck.engines.loss import LossFunction
from fastcheck.errors import oneline
from fastcheck.keep import keep
from fastcheck.params import ParamTree
from fastcheck.trace.graph import Graph, Guard, Node, Primitive
from fastcheck.trace.primitives import CAST, ELEMENTWISE, INDEX, RESHAPE
from fastcheck.trace.tape import Tape, Untraceable
from fastcheck.trace.traced import Traced, wrap
from fastcheck.trace.tracer import trace

Answer = Callable[[Any, tuple[Any, ...], dict[str, Any], Callable[[], Any]], Any]
"""What to do about a call: of the dispatcher, with these arguments, or as it would have been."""


class NotCalled(Unusable):
    """The loss calls no function compiled by Numba."""


def has_numba() -> bool:
    """Whether Numba is loaded: before that, nothing can be compiled by it."""
    return hasattr(sys.modules.get("numba.core.registry"), "CPUDispatcher")


@contextmanager
def refused_by_traces() -> Iterator[list[str]]:
    """Keep traces out of functions compiled by Numba; yields the names of those it met.

    Where one is NumPy written in a row, without loops, the Python function that it was compiled
    from is traced in its place; the cross-check holds that against what was compiled.
    """
    met: list[str] = []

    def answer(dispatcher: Any, args: Any, kwargs: Any, original: Callable[[], Any]) -> Any:
        tape = next((leaf.tape for leaf in _traced_leaves((args, kwargs))), None)
        if tape is not None:
            met.append(_name(dispatcher))
            function = getattr(dispatcher, "py_func", None)
            if isinstance(function, FunctionType) and not _loops(function.__code__):
                return function(*args, **kwargs)
            tape.refuse(f"`{met[-1]}` is compiled by Numba", "NumPy code could be traced")
        return original()

    if not has_numba():
        yield met
        return
    with _watching(answer, nested=True):
        yield met


def _loops(code: CodeType) -> bool:
    """Whether there is a loop in it: over elements, that would take ages as Python."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    names = [instruction.opname for instruction in dis.get_instructions(code)]
    here = any(name == "FOR_ITER" or "BACKWARD" in name for name in names)
    return here or any(map(_loops, inner))


@dataclass(frozen=True)
class Observed:
    """The one call that computes the loss.

    Attributes
    ----------
    dispatcher : numba.core.registry.CPUDispatcher
        The user's compiled function.
    number : int
        Which of the calls of compiled functions it is, counted from 0.
    calls : int
        How many there are.
    arguments : tuple
        In Numba's order, as `folded` gives them, with traced arrays.
    guards : tuple of Guard
        Where Python acted on values that depend on parameters.
    result : Node
        What it returns.
    after : tuple of Node
        What Python makes of that: operations on single numbers, the last one is the loss.
    """

    dispatcher: Any
    number: int
    calls: int
    arguments: tuple[Any, ...]
    guards: tuple[Guard, ...]
    result: Node
    after: tuple[Node, ...]

    @property
    def name(self) -> str:
        """The name of the user's compiled function."""
        return _name(self.dispatcher)

    def obstacle(self, tensor: str) -> str | None:
        """Say why a tensor cannot be moved in the call's arguments alone, if so."""
        for guard in self.guards:
            if tensor in guard.node.tensors:
                return f"Python looks at {tensor} before that ({guard.action}, {guard.source})"
        known = {self.result, *self.after}
        beside = [o for node in self.after for o in node.operands if o not in known]
        if any(tensor in node.tensors for node in beside):
            return f"{tensor} also takes another way to the loss, in Python"
        if not any(tensor in leaf.node.tensors for leaf in _traced_leaves(self.arguments)):
            return f"{tensor} does not reach it"
        return None

    def losses(self, results: FloatArray) -> FloatArray:
        """Return what Python makes of what the function returns, for many results at a time."""
        values: dict[Node, Any] = {self.result: results}
        for node in self.after:
            operands = [values.get(o, _number(o)) for o in node.operands]
            same = node.primitive in _SAME_NUMBER
            values[node] = (
                operands[0] if same else node.primitive.evaluate(*operands, **node.params)
            )
        found = values[self.after[-1]] if self.after else results
        return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True)
class Captured:
    """The same call with plain arrays.

    Attributes
    ----------
    arguments : tuple
        In Numba's order; those that view the memory of the parameters do so still.
    before : dict of int to array
        Copies of the other arrays as they were before the call, by `id`.
    owner : array
        A copy of the parameters' memory as it was before the call.
    """

    arguments: tuple[Any, ...]
    before: dict[int, np.ndarray[Any, Any]]
    owner: np.ndarray[Any, Any]


def observe(loss: LossFunction, tree: ParamTree) -> Observed:
    """Find the call of a compiled function that gives the loss.

    Raises
    ------
    Unusable
        There is none, or something happens to its result.
    """
    calls: list[_Call] = []
    results = _results(loss, tree)

    def answer(dispatcher: Any, args: Any, kwargs: Any, original: Callable[[], Any]) -> Any:
        tape = next((leaf.tape for leaf in _traced_leaves((args, kwargs))), None)
        call = _Call(dispatcher, args, kwargs)
        calls.append(call)
        if tape is None:
            return original()
        if len(calls) > len(results) or results[len(calls) - 1][0] is not dispatcher:
            tape.refuse(f"`{_name(dispatcher)}` is called out of turn", "call it always or never")
        return call.on_traced(tape, results[len(calls) - 1][1])

    def begin() -> None:
        calls.clear()  # of an attempt that was given up
        loss.count()

    try:
        with keep(loss.function, None), _watching(answer):
            graph = trace(loss.single, tree, begin, insist=False)
    except Untraceable as refusal:
        raise Unusable(_of_the_trace(calls, refusal)) from None
    return _the_call(calls, graph)


def _results(loss: LossFunction, tree: ParamTree) -> list[tuple[Any, Any]]:
    """Return the functions that a plain run of the loss calls, and what they return.

    Nothing is called during the trace: NumPy is not as Numba, compiling, would expect it.
    """
    results: list[tuple[Any, Any]] = []

    def record(dispatcher: Any, args: Any, kwargs: Any, original: Callable[[], Any]) -> Any:
        result = original()
        kept = result.copy() if isinstance(result, np.ndarray) else result
        results.append((dispatcher, kept))
        return result

    with keep(loss.function, None), _watching(record):
        loss(tree.copies())
    return results


def capture(
    loss: LossFunction, params: Any, observed: Observed, owner: np.ndarray[Any, Any]
) -> Captured:
    """Run the loss on plain parameters, which view `owner`, and return the arguments of the call.

    Raises
    ------
    Unusable
        It went another way than under the trace.
    """
    found: list[Captured] = []
    count = 0

    def answer(dispatcher: Any, args: Any, kwargs: Any, original: Callable[[], Any]) -> Any:
        nonlocal count
        if count == observed.number and dispatcher is observed.dispatcher:
            arguments = folded(dispatcher, args, kwargs)
            others = [a for a in arrays_in(arguments) if not np.may_share_memory(a, owner)]
            before = {id(array): array.copy(order="K") for array in others}
            found.append(Captured(arguments, before, owner.copy()))
        count += 1
        return original()

    with _watching(answer):
        loss(params)
    if not found or count != observed.calls:
        raise Unusable("it is called in another way the next time")
    try_after(loss, params, observed, float(observed.result.value))
    return found[0]


def try_after(loss: LossFunction, params: Any, observed: Observed, result: float) -> None:
    """Compare what Python makes of other results with what the trace says.

    The trace does not see a branch on a number that has left it: ``x if x < 100.0 else 100.0``.

    Raises
    ------
    Unusable
        The two differ.
    """
    for other in (result * (1 + 2.0**-8), -result, 0.0, 1e300, -1e300, np.inf, -np.inf, np.nan):
        count = 0

        def answer(
            dispatcher: Any,
            args: Any,
            kwargs: Any,
            original: Callable[[], Any],
            instead: float = float(other),
        ) -> Any:
            nonlocal count
            count += 1
            return instead if count == observed.number + 1 else original()

        try:
            with _watching(answer), np.errstate(all="ignore"):
                found = loss.evaluate(params)
                expected = observed.losses(np.array([other]))
        except Exception as error:
            raise Unusable(f"Python does not take every result of it ({oneline(error)})") from None
        if not np.array_equal([found], expected, equal_nan=True):
            raise Unusable("Python makes something else of some of its results")


def arrays_in(arguments: tuple[Any, ...]) -> list[np.ndarray[Any, Any]]:
    """Return the arrays among arguments and in their tuples, each once."""
    found: dict[int, np.ndarray[Any, Any]] = {}
    for leaf in leaves_of(arguments):
        if isinstance(leaf, np.ndarray):
            found[id(leaf)] = leaf
    return list(found.values())


def leaves_of(value: Any) -> Iterator[Any]:
    """Yield what is in nested tuples."""
    if isinstance(value, tuple):
        for entry in value:
            yield from leaves_of(entry)
    else:
        yield value


class _Call:
    """A call of a dispatcher while the loss is traced."""

    def __init__(self, dispatcher: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.dispatcher, self.args, self.kwargs = dispatcher, args, kwargs
        self.result: Node | None = None

    @property
    def depends(self) -> bool:
        """Whether a parameter takes part."""
        return any(leaf.node.tensors for leaf in _traced_leaves((self.args, self.kwargs)))

    def on_traced(self, tape: Tape, value: Any) -> Any:
        """Return the result `value` as an array that depends on what the arguments depend on."""
        name = _name(self.dispatcher)
        if not isinstance(value, float | int | np.ndarray) or isinstance(value, bool):
            tape.refuse(
                f"`{name}`, compiled by Numba, returns a {type(value).__name__}",
                "call one compiled function that returns the loss",
            )
        operands = tuple(leaf.node for leaf in _traced_leaves((self.args, self.kwargs)))
        kept = np.float64(value) if isinstance(value, float | int) else value
        primitive = Primitive(name, _never_evaluated)
        self.result = tape.record(primitive, operands, {}, kept)  # type: ignore[arg-type]
        return wrap(tape, self.result)


def _never_evaluated(*_: Any, **__: Any) -> Any:
    raise TypeError("a compiled function is not evaluated through a graph")


def _the_call(calls: list[_Call], graph: Graph) -> Observed:
    """Return the call whose result is the loss, if there is one and no other takes part."""
    if not calls:
        raise NotCalled("no function compiled by Numba is called")
    depending = [(number, call) for number, call in enumerate(calls) if call.depends]
    if not depending:
        raise Unusable("the parameters do not reach the function compiled by Numba")
    if len(depending) > 1:
        names = " and ".join(dict.fromkeys(f"`{_name(call.dispatcher)}`" for _, call in depending))
        raise Unusable(f"{len(depending)} calls of compiled functions take part ({names})")
    number, call = depending[0]
    assert call.result is not None
    after = _between(graph, call.result)
    if after is None:
        raise Unusable(
            f"Python computes more than a number of what `{_name(call.dispatcher)}` returns"
        )
    arguments = folded(call.dispatcher, call.args, call.kwargs)
    guards = tuple(graph.guards)
    return Observed(call.dispatcher, number, len(calls), arguments, guards, call.result, after)


_SAME_NUMBER = (RESHAPE, INDEX)
_ON_NUMBERS = {*ELEMENTWISE.values(), CAST, *_SAME_NUMBER}


def _between(graph: Graph, result: Node) -> tuple[Node, ...] | None:
    """Return the operations between a result and the loss; None if some are not on numbers."""
    behind = {result}
    for node in graph:
        if any(operand in behind for operand in node.operands):
            behind.add(node)
    if graph.output not in behind:
        return None
    wanted, found = {graph.output}, []
    for node in reversed(graph.nodes):
        if node in wanted and node in behind and node is not result:
            wanted.update(node.operands)
            found.append(node)
            numbers = all(each.value.size == 1 for each in (node, *node.operands))
            if node.primitive not in _ON_NUMBERS or not numbers:
                return None
    return tuple(reversed(found))


def _number(node: Node) -> Any:
    return node.value.reshape(())[()]


def _of_the_trace(calls: list[_Call], refusal: Untraceable) -> str:
    return (
        f"besides the call of `{_name(calls[-1].dispatcher)}`, {refusal}" if calls else str(refusal)
    )


def _name(dispatcher: Any) -> str:
    return str(getattr(dispatcher.py_func, "__name__", "a function"))


def _traced_leaves(value: Any) -> Iterator[Traced]:
    if type(value) is Traced:
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _traced_leaves(entry)
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from _traced_leaves(entry)


@contextmanager
def _watching(answer: Answer, nested: bool = False) -> Iterator[None]:
    """Let `answer` decide what calls of dispatchers from this thread do.

    It is asked of the outermost ones only, unless `nested` asks for those inside these too.

    Nothing of the user's is replaced: for a moment Numba's own class gets a method, through which
    calls of other threads go unanswered.
    """
    kind = sys.modules["numba.core.registry"].CPUDispatcher
    original, thread = kind.__call__, threading.get_ident()
    answering = False

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal answering
        if (answering and not nested) or threading.get_ident() != thread:
            return original(self, *args, **kwargs)
        answering = True
        try:
            return answer(self, args, kwargs, functools.partial(original, self, *args, **kwargs))
        finally:
            answering = False

    own = vars(kind).get("__call__")
    kind.__call__ = call
    try:
        yield
    finally:
        if own is None:
            del kind.__call__
        else:
            kind.__call__ = own
