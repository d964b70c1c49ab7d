"""What the real CuPy offers, as `record.py` has written it down."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

RECORDED: dict[str, Any] = json.loads(
    Path(__file__).with_name("recorded.json").read_text(encoding="utf-8")
)


def signature(parameters: list[list[Any]]) -> inspect.Signature:
    """Turn recorded parameters into a signature that arguments can be bound to."""
    return inspect.Signature(
        [
            inspect.Parameter(
                name,
                inspect._ParameterKind(kind),
                default=None if has_default else inspect.Parameter.empty,
            )
            for name, kind, has_default in parameters
        ]
    )


def bound(name: str, form: inspect.Signature, args: Any, kwargs: Any) -> inspect.BoundArguments:
    """Bind arguments, refusing those that CuPy's function does not take."""
    try:
        return form.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}() {error}") from None
