"""What the real CuPy offers: names, signatures and loops, as plain data.

``python tests/standin/record.py > tests/standin/recorded.json`` with CuPy installed (no GPU is
needed) writes it anew; a test compares it with the CuPy that is installed, where one is.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from typing import Any

Parameters = list[list[Any]]
"""Name, kind and whether there is a default, of each parameter."""

_POSITIONAL_OR_KEYWORD = int(inspect.Parameter.POSITIONAL_OR_KEYWORD)


def recorded(cupy: Any) -> dict[str, Any]:
    """Return what a CuPy module offers."""
    names = sorted(name for name in dir(cupy) if not name.startswith("_"))
    offered = {name: getattr(cupy, name) for name in names}
    return {
        "version": cupy.__version__,
        "names": names,
        "ufuncs": {
            name: list(thing.types)
            for name, thing in offered.items()
            if isinstance(thing, cupy.ufunc)
        },
        "functions": {
            name: _parameters(inspect.signature(thing))
            for name, thing in offered.items()
            if inspect.isfunction(thing) or name == "matmul"
        },
        "members": sorted(dir(cupy.ndarray)),
        "methods": {
            name: found
            for name in dir(cupy.ndarray)
            if not name.startswith("_") and (found := _documented(getattr(cupy.ndarray, name)))
        },
        "at": sorted(name for name, thing in offered.items() if _has_at(cupy, thing)),
    }


def _parameters(signature: inspect.Signature) -> Parameters:
    return [
        [one.name, int(one.kind), one.default is not inspect.Parameter.empty]
        for one in signature.parameters.values()
    ]


def _documented(method: Any) -> Parameters:
    """Read the signature that Cython writes into the first line of a method's documentation."""
    first = (getattr(method, "__doc__", None) or "").split("\n")[0]
    match = re.match(r"_ndarray_base\.\w+\((self.*?)\)(?: -> .*)?$", first)
    if not match:
        return []
    found: Parameters = []
    kind = _POSITIONAL_OR_KEYWORD
    for text in match.group(1).split(", "):
        if text == "*":
            kind = int(inspect.Parameter.KEYWORD_ONLY)
            continue
        name, _, default = text.partition("=")
        name = name.split()[-1]
        if name.startswith("*"):
            found.append([name[1:], int(inspect.Parameter.VAR_POSITIONAL), False])
            kind = int(inspect.Parameter.KEYWORD_ONLY)
        else:
            found.append([name, kind, bool(default)])
    return found


def _has_at(cupy: Any, thing: Any) -> bool:
    """Whether a ufunc's `at` does anything but refuse."""
    if not isinstance(thing, cupy.ufunc):
        return False
    try:
        thing.at(None, None, None)
    except NotImplementedError:
        return False
    except Exception:
        return True
    return True


if __name__ == "__main__":
    import cupy

    json.dump(recorded(cupy), sys.stdout, indent=None, separators=(",", ":"), sort_keys=True)
    sys.stdout.write("\n")
