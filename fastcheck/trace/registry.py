"""The register of NumPy functions, keyed by function object.

Every function and ufunc that NumPy lets a type override is in exactly one family:

`TRACED`         a rule made of primitives, called with the arguments of the NumPy function; ufuncs
                 that are primitives themselves need none;
`REFUSED`        cannot be traced once a parameter reaches it, with the reason and the remedy;
`CONSTANT_ONLY`  has nothing to do with derivatives: text, dates, files, bits, records. It runs as
                 it is while no parameter reaches its arguments, and is refused otherwise.

What is refused runs on constants too. A function that this register does not know, of a newer NumPy
for one, is treated as constant-only: nothing is run in the hope that it might work.
`fastcheck.trace.surface` counts the families, and a test holds them against the installed NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

Rule = TypeVar("Rule", bound=Callable[..., Any])

TRACED: dict[Any, Callable[..., Any]] = {}


def traced(*functions: Any) -> Callable[[Rule], Rule]:
    """Register a rule for NumPy functions that share one meaning (`np.max`, `np.amax`)."""

    def register(rule: Rule) -> Rule:
        for function in functions:
            TRACED[function] = rule
        return rule

    return register


def named(*names: str) -> list[Any]:
    """Return NumPy's functions of these names, without those that the installed NumPy lacks.

    Examples
    --------
    >>> named("sum", "linalg.norm", "no_such_function") == [np.sum, np.linalg.norm]
    True
    """
    return [found for name in names if (found := _looked_up(name)) is not None]


def _looked_up(name: str) -> Any:
    value: Any = np
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


_FILES = "keep files out of the loss"
_JUMPS = "it moves in jumps and has no useful derivative; keep it out of the loss"
_UNIQUE = "how many values are unique depends on the parameters; take them of plain data"
_COMPLEX = "its result is complex in general; "
_ROOTS = _COMPLEX + "write the formula of the root that you want"
_REASONS: dict[str, str] = {
    "frexp": "write np.log2 and np.exp2",
    "geomspace": "write np.exp(np.linspace(np.log(start), np.log(stop), num))",
    "histogram": _JUMPS,
    "histogram2d": _JUMPS,
    "histogram_bin_edges": "give the edges of the bins as plain data",
    "histogramdd": _JUMPS,
    "intersect1d": _UNIQUE,
    "linalg.eig": _COMPLEX + "write np.linalg.eigh of a symmetric matrix",
    "linalg.eigvals": _COMPLEX + "write np.linalg.eigvalsh of a symmetric matrix",
    "nanmedian": "write np.median of the elements that are numbers",
    "nanpercentile": "write np.percentile of the elements that are numbers",
    "nanquantile": "write np.quantile of the elements that are numbers",
    "nextafter": _JUMPS,
    "poly": "multiply the factors with np.convolve",
    "polydiv": "write np.linalg.solve of the coefficients",
    "polyfit": "write np.linalg.lstsq(np.vander(x, degree + 1), y)[0]",
    "polynomial.polynomial.polygrid2d": "write np.einsum of np.vander",
    "polynomial.polynomial.polyval2d": "write np.einsum of np.vander",
    "roots": _ROOTS,
    "save": _FILES,
    "savetxt": _FILES,
    "savez": _FILES,
    "savez_compressed": _FILES,
    "setdiff1d": _UNIQUE,
    "setxor1d": _UNIQUE,
    "sort_complex": "write np.sort",
    "spacing": _JUMPS,
    "union1d": _UNIQUE,
    "unique": _UNIQUE,
    "unique_all": _UNIQUE,
    "unique_counts": _UNIQUE,
    "unique_inverse": _UNIQUE,
    "unique_values": _UNIQUE,
    **{
        f"lib.scimath.{name}": _COMPLEX + f"write np.{name.replace('logn', 'log')}"
        for name in "arccos arcsin arctanh log log10 log2 logn power sqrt".split()
    },
    **{
        f"fft.{name}": _COMPLEX + "write products with matrices of cosines and sines"
        for name in """
            fft fft2 fftn hfft ifft ifft2 ifftn ihfft irfft irfft2 irfftn rfft rfft2 rfftn
        """.split()
    },
}

REFUSED: dict[Any, str] = {
    function: reason for name, reason in _REASONS.items() for function in named(name)
}

_WITHOUT_DERIVATIVES = """
    busday_count busday_offset is_busday datetime_as_string isnat
    frombuffer fromfile fromfunction fromiter fromstring genfromtxt loadtxt
    bitwise_count gcd lcm packbits unpackbits min_scalar_type require
"""
_TEXT = """
    center count decode encode endswith expandtabs find index isalnum isalpha isdecimal isdigit
    islower isnumeric isspace istitle isupper ljust lstrip partition replace rfind rindex rjust
    rpartition rstrip slice startswith str_len strip zfill translate
    _center _expandtabs _expandtabs_length _ljust _lstrip_chars _lstrip_whitespace _partition
    _partition_index _replace _rjust _rpartition _rpartition_index _rstrip_chars _rstrip_whitespace
    _slice _strip_chars _strip_whitespace _zfill
"""
_RECORDS = """
    append_fields apply_along_fields assign_fields_by_name drop_fields find_duplicates join_by
    merge_arrays rec_append_fields rec_drop_fields rec_join recursive_fill_fields rename_fields
    repack_fields require_fields stack_arrays structured_to_unstructured
    unstructured_to_structured get_names get_names_flat get_fieldstructure flatten_descr
"""
_TEXT_FUNCTIONS = """
    _join _rsplit _split _splitlines
    add capitalize center count decode encode endswith equal expandtabs find greater greater_equal
    index isalnum isalpha isdecimal isdigit islower isnumeric isspace istitle isupper join less
    less_equal ljust lower lstrip mod multiply not_equal partition replace rfind rindex rjust
    rpartition rsplit rstrip slice split splitlines startswith str_len strip swapcase title
    translate upper zfill
"""

CONSTANT_ONLY: frozenset[str] = frozenset(
    [
        *_WITHOUT_DERIVATIVES.split(),
        *(f"lib.recfunctions.{name}" for name in _RECORDS.split()),
        *(
            f"{module}.{name}"
            for module in ("char", "strings", "core.defchararray")
            for name in _TEXT_FUNCTIONS.split()
        ),
        *(f"ufunc {name}" for name in _TEXT.split()),
    ]
)
"""Dotted names inside `numpy`; `ufunc name` for those that NumPy keeps to itself."""
