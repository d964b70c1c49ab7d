"""A strict stand-in for CuPy: NumPy arrays underneath, CuPy's manners outside.

It is there so that code for the GPU can be run, and its mistakes found, where there is no GPU. It
refuses what CuPy refuses (NumPy arrays among its operands, keyword arguments that CuPy's functions
do not take, conversions that nobody asked for), returns arrays where CuPy does, and counts what is
slow on a GPU: synchronisations, uploads and kernel launches. Where CuPy's behaviour depends on the
path taken (``cupy.sum`` of a NumPy array works by accident), it is the stricter of the two.

What CuPy offers at all, with which parameters and loops, is data recorded from the real one: see
`record.py`. A name that CuPy has and the stand-in lacks raises `NotImplementedError`.
"""

from .arrays import ndarray
from .machine import Machine, OutOfMemoryError
from .machine import machine as current
from .module import install, make_cupy

__all__ = ["Machine", "OutOfMemoryError", "current", "install", "make_cupy", "ndarray"]
