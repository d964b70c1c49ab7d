"""What a traced array does not have of ndarray's attributes, and what to write instead.

The names that start and end with two underscores are how libraries reach an array's memory; Python
code that asks whether they exist is told that they do not.
"""

from __future__ import annotations

_MEMORY = "it hands out memory that cannot be followed: hand on plain data"
_FILES = "keep files and bytes out of the loss"
_BYTES = "use x.astype(dtype), which converts the values"

ALTERNATIVES: dict[str, str] = {
    "__array_finalize__": "it is for subclasses of ndarray: compute with plain arrays",
    "__array_interface__": _MEMORY,
    "__array_struct__": _MEMORY,
    "__array_wrap__": "it is for subclasses of ndarray: compute with plain arrays",
    "__class_getitem__": "it is for type hints: write np.ndarray[...]",
    "__delitem__": "arrays have a fixed size: write np.delete(x, i)",
    "__dlpack__": _MEMORY,
    "__dlpack_device__": _MEMORY,
    "__setstate__": "keep pickling out of the loss",
    "byteswap": _BYTES,
    "ctypes": _MEMORY,
    "data": "use x itself, or x.copy()",
    "dump": _FILES,
    "dumps": _FILES,
    "getfield": _BYTES,
    "resize": "write x = np.resize(x, shape)",
    "setfield": "write x[...] = value",
    "setflags": "leave the flags of arrays inside the loss alone",
    "tofile": _FILES,
}


def alternative(name: str) -> str:
    """Return what to write instead of an attribute of ndarray that cannot be traced."""
    return ALTERNATIVES.get(name, "use a NumPy function of the array instead")
