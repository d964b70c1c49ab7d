"""The user's functions, with every call of theirs passing through `calls` while they are traced.

A function is rewritten by its source: the whole file is compiled twice, as it is and rewritten. If
the first has the very code of the function, the source is the function's, and the second takes the
code's place until the trace is over. Closures, lines, and what names mean stay as they are. Without
the source (code that was typed in, or made of a string) a function stays as it is.
"""

from __future__ import annotations

import ast
import linecache
import types
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from fastcheck.trace.calls import Calls
from fastcheck.trace.tape import Tape
from fastcheck.trace.undoing import Steps

_NAMES = {name: f"__fastcheck_{name}__" for name in ("callee", "method", "result", "shown")}
_METHODS = frozenset(name for name in dir(np.ndarray) if not name.startswith("_"))
_MOST_FILES = 64


def rewritten(functions: list[types.FunctionType], tape: Tape, undo: Steps) -> None:
    """Rewrite the functions; the steps that take it back are added to `undo`."""
    calls = Calls(tape)
    spaces: set[int] = set()
    for function in functions:
        new = _rewritten_code(function.__code__)
        if new is None:
            continue
        if id(function.__globals__) not in spaces:
            spaces.add(id(function.__globals__))
            for name, inside in _NAMES.items():
                _define(function.__globals__, inside, getattr(calls, name), undo)
        undo.append(_put_back(function, new))
        function.__code__ = new


def _put_back(function: types.FunctionType, new: types.CodeType) -> Callable[[], None]:
    old = function.__code__

    def restore() -> None:
        if function.__code__ is new:
            function.__code__ = old

    return restore


def _define(space: dict[str, Any], name: str, value: Any, undo: Steps) -> None:
    """Define a variable of a module; one that an outer trace has defined comes back later."""
    outer = space.get(name)

    def restore() -> None:
        if outer is None:
            space.pop(name, None)
        else:
            space[name] = outer

    undo.append(restore)
    space[name] = value


def _rewritten_code(code: types.CodeType) -> types.CodeType | None:
    lines = tuple(linecache.getlines(code.co_filename))
    return _codes_of(code.co_filename, lines).get(code) if lines else None


@lru_cache(_MOST_FILES)
def _codes_of(file: str, lines: tuple[str, ...]) -> dict[types.CodeType, types.CodeType]:
    """Return the rewritten code of each function of a file, by the code as it was."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were given when the file was first compiled
            tree = ast.parse("".join(lines), file)
            before = _compiled(tree, file)
            after = _compiled(ast.fix_missing_locations(_Rewriter().visit(tree)), file)
    except (SyntaxError, ValueError, RecursionError):
        return {}
    found: dict[types.CodeType, types.CodeType] = {}
    _match(before, after, found)
    return found


def _compiled(tree: ast.AST, file: str) -> types.CodeType:
    code: types.CodeType = compile(tree, file, "exec", dont_inherit=True)  # type: ignore[call-overload]
    return code


def _match(
    before: types.CodeType, after: types.CodeType, found: dict[types.CodeType, types.CodeType]
) -> None:
    """Pair the functions inside two compiled files, which are in the same order in both."""
    old, new = _inside(before), _inside(after)
    if [_label(code) for code in old] != [_label(code) for code in new]:
        return
    for one, other in zip(old, new, strict=True):
        found[one] = other
        _match(one, other, found)


def _inside(code: types.CodeType) -> list[types.CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]


def _label(code: types.CodeType) -> tuple[Any, ...]:
    return code.co_qualname, code.co_firstlineno, code.co_varnames, code.co_freevars


class _Rewriter(ast.NodeTransformer):
    """Leads calls through the functions of `calls`, each on the line where it stands."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr in _METHODS:
            name = ast.copy_location(ast.Constant(function.attr), function)
            node.func = _call("method", function, function.value, name)
        else:
            node.func = _call("callee", function, function)
        return _call("result", node, node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        text = isinstance(node.left, ast.JoinedStr) or (
            isinstance(node.left, ast.Constant) and isinstance(node.left.value, str)
        )
        if isinstance(node.op, ast.Mod) and text:
            node.right = _call("shown", node.right, node.right)
        return node


def _call(name: str, at: ast.AST, *args: ast.expr) -> ast.Call:
    function = ast.copy_location(ast.Name(_NAMES[name], ast.Load()), at)
    return ast.copy_location(ast.Call(function, list(args), []), at)
