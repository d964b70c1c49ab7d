"""Loading a problem from the user's file, and showing the user's own line when it raises."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from fastcheck.errors import FastcheckError, InputError
from fastcheck.problems import Problem

_DEFAULT_NAME = "problem"
_WANTED = "a function without arguments that returns fastcheck.Problem(loss, params, grads)"


class UserCodeError(FastcheckError):
    """The user's own code raised; the message ends with their part of the traceback."""


def split_target(target: str) -> tuple[Path, str]:
    """Split ``FILE.py:problem`` into the file and the name; the name is ``problem`` by default."""
    file, colon, name = target.rpartition(":")
    # A Windows drive ("C:\\net.py") is no separator.
    if not colon or "\\" in name or "/" in name:
        return Path(target), _DEFAULT_NAME
    if not name.isidentifier():
        raise InputError(
            f"`{target}`: {name!r} is not the name of a function; write FILE.py:problem."
        )
    return Path(file), name


def load_problem(target: str) -> Problem:
    """Import ``FILE.py:problem`` and return the problem.

    Raises
    ------
    InputError
        If there is no such file or name, or it is neither a Problem nor a function returning one.
    UserCodeError
        If the file, or the function, raises.
    """
    path, name = split_target(target)
    if not path.is_file():
        raise InputError(f"`{target}`: there is no file {path}; give the path of a Python file.")
    with user_code(path):
        module = _import(path)
    found = _lookup(module, name, path)
    if isinstance(found, Problem):
        return found
    _require_no_arguments(found, name, path)
    with user_code(path):
        problem = found()
    if not isinstance(problem, Problem):
        kind = type(problem).__name__
        raise InputError(f"`{name}` in {path} returned a {kind}: it must be {_WANTED}.")
    return problem


@contextmanager
def user_code(path: Path) -> Iterator[None]:
    """Turn what the user's file raises into a UserCodeError that shows the user's own lines.

    An exception that never passed through the file or its folder is left alone: it is not theirs.
    """
    try:
        yield
    except FastcheckError as error:
        own = _own_traceback(error.__cause__, path)
        if own is None:
            raise
        raise UserCodeError(f"{error}\n\n{own}") from error
    except SystemExit as error:
        raise UserCodeError(
            f"{path} ended the program (sys.exit) while it was being used; put what should not run "
            'on import under `if __name__ == "__main__":`.'
        ) from error
    except Exception as error:
        own = _own_traceback(error, path)
        if own is None:
            raise
        raise UserCodeError(f"{path} raised {type(error).__name__}:\n\n{own}") from error


def _import(path: Path) -> ModuleType:
    # A name of its own: a file called numpy.py must not take the place of the imported NumPy.
    name = f"_fastcheck_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise InputError(f"`{path}` is not a Python file; give a file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up here
    # As Python does for a script: the file's neighbours can be imported.
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec.loader.exec_module(module)
    return module


def _lookup(module: ModuleType, name: str, path: Path) -> Any:
    try:
        return getattr(module, name)
    except AttributeError:
        pass
    known = [key for key, value in vars(module).items() if _could_be_meant(key, value, module)]
    hint = f"; it defines {', '.join(known[:8])}" if known else ""
    raise InputError(f"`{name}` is not defined in {path}{hint}. It must be {_WANTED}.")


def _could_be_meant(key: str, value: Any, module: ModuleType) -> bool:
    if key.startswith("_"):
        return False
    here = getattr(value, "__module__", None) == module.__name__
    return isinstance(value, Problem) or (inspect.isfunction(value) and here)


def _require_no_arguments(found: Any, name: str, path: Path) -> None:
    if not callable(found):
        kind = type(found).__name__
        raise InputError(f"`{name}` in {path} is a {kind}: it must be {_WANTED}.")
    try:
        inspect.signature(found).bind()
    except TypeError:
        raise InputError(f"`{name}` in {path} takes arguments: it must be {_WANTED}.") from None
    except ValueError:  # no signature to look at
        pass


def _own_traceback(error: BaseException | None, path: Path) -> str | None:
    """Format the traceback from the first line in the user's folder on; None if there is none."""
    if error is None:
        return None
    whole = traceback.TracebackException.from_exception(error)
    folder = str(path.resolve().parent)
    first = next((i for i, f in enumerate(whole.stack) if _inside(f.filename, folder)), None)
    if first is None:
        if not isinstance(error, SyntaxError) or not _inside(error.filename or "", folder):
            return None
        first = len(whole.stack)  # the message itself names the line
    whole.stack = traceback.StackSummary.from_list(whole.stack[first:])
    return "".join(whole.format(chain=False)).rstrip()


_PACKAGE = str(Path(__file__).resolve().parents[1])


def _inside(filename: str, folder: str) -> bool:
    file = Path(filename)
    return file.is_relative_to(folder) and not file.is_relative_to(_PACKAGE)
