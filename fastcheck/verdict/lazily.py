"""Attributes that are computed when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

_Value = TypeVar("_Value")


class lazily(Generic[_Value]):  # noqa: N801 - used like `property`
    """`functools.cached_property` without the lock that makes it slow before Python 3.12."""

    def __init__(self, compute: Callable[[Any], _Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, one: None, owner: type) -> lazily[_Value]: ...

    @overload
    def __get__(self, one: object, owner: type) -> _Value: ...

    def __get__(self, one: object | None, owner: type) -> _Value | lazily[_Value]:
        if one is None:
            return self
        value = one.__dict__[self._name] = self._compute(one)
        return value
