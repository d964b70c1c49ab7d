"""Which of the machine codes that Numba made of a function a call takes, and where it lies."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


class Unusable(Exception):  # noqa: N818  # a state of the user's code, not a mistake
    """The compiled function cannot be called from a compiled loop; the text says why."""


class Overload:
    """What Numba compiled for the types of one call.

    Parameters
    ----------
    dispatcher : numba.core.registry.CPUDispatcher
        The user's function.
    arguments : tuple
        As `folded` gives them.

    Attributes
    ----------
    compiled : object
        Numba's result of compiling, with its signature and target.
    types, returns : tuple, object
        Numba's types of the arguments and of the result.
    address : int
        Where the machine code lies.

    Raises
    ------
    Unusable
        There is no such code, or it takes or returns what a loop cannot handle.
    """

    def __init__(self, dispatcher: Any, arguments: tuple[Any, ...]) -> None:
        self.dispatcher = dispatcher
        given = tuple(_type_of(argument) for argument in arguments)
        self.compiled = _chosen(dispatcher, given)
        self.types: tuple[Any, ...] = tuple(self.compiled.signature.args)
        self.returns = self.compiled.signature.return_type
        types = numba_itself().types
        if not isinstance(self.returns, types.Integer | types.Float):
            raise Unusable(f"it returns {self.returns} there, not one real number")
        description = self.compiled.fndesc
        library = self.compiled.library
        self.address = int(library.get_pointer_to_function(description.llvm_func_name))
        if not self.address:
            raise Unusable("its machine code cannot be found")

    @property
    def is_single(self) -> bool:
        """Whether it returns float32 or less, which Python sees as a float."""
        types = numba_itself().types
        return isinstance(self.returns, types.Float) and self.returns.bitwidth < 64


class Default:
    """The default value of an argument that the caller left out."""

    def __init__(self, value: Any) -> None:
        self.value = value


def folded(dispatcher: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Return the arguments of a call by place, as Numba orders them; defaults as `Default`."""
    signature = dispatcher._compiler.pysig
    found: tuple[Any, ...] = of_numba("core.typing.templates").fold_arguments(
        signature,
        args,
        kwargs,
        lambda index, parameter, value: value,
        lambda index, parameter, value: Default(value),
        lambda index, parameter, values: tuple(values),
    )
    return found


def numba_itself() -> Any:
    """Return the module, which the user has imported."""
    return sys.modules["numba"]


def of_numba(module: str) -> Any:
    """Return one of its modules."""
    return import_module(f"numba.{module}")


def _type_of(argument: Any) -> Any:
    numba = numba_itself()
    if isinstance(argument, Default):
        return numba.types.Omitted(argument.value)
    try:
        return numba.typeof(argument)
    except Exception as why:
        raise Unusable(f"it takes a {type(argument).__name__}") from why


def _chosen(dispatcher: Any, given: tuple[Any, ...]) -> Any:
    """Return the code that Numba runs for arguments of the given types."""
    exact = dispatcher.overloads.get(given)
    if exact is not None:
        return exact
    # Explicit signatures take arrays of a narrower type: one only, or Numba's choice is not known.
    others = [
        compiled for types, compiled in dispatcher.overloads.items() if _accepts(types, given)
    ]
    if len(others) != 1:
        kinds = ", ".join(map(str, given))
        raise Unusable(f"no code of it is compiled for arguments of types ({kinds})")
    return others[0]


def _accepts(takes: tuple[Any, ...], given: tuple[Any, ...]) -> bool:
    return len(takes) == len(given) and all(map(_accepts_one, takes, given))


def _accepts_one(takes: Any, given: Any) -> bool:
    """Whether Numba passes a value of one type for another without changing it."""
    types = numba_itself().types
    if takes == given:
        return True
    if isinstance(takes, types.BaseTuple) and type(takes) is type(given):
        return _accepts(tuple(takes), tuple(given))
    if isinstance(given, types.Integer | types.Float) and takes == types.float64:
        return True
    if not (isinstance(takes, types.Array) and isinstance(given, types.Array)):
        return False
    return bool(
        (takes.dtype, takes.ndim) == (given.dtype, given.ndim)
        and takes.layout in ("A", given.layout)
        and (given.mutable or not takes.mutable)
        and (given.aligned or not takes.aligned)
    )
