"""The stand-in for CuPy behaves as CuPy does: compared with the real one where that is installed.

No GPU is needed: arrays over made-up memory go through CuPy's own checks, and what would start a
kernel is left out.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import standin
from standin import functions, record, ufuncs
from standin.arrays import ndarray
from standin.recorded import RECORDED


def real_cupy() -> Any:
    """Return the CuPy that is installed; the test is skipped where there is none."""
    return pytest.importorskip("cupy")


def test_what_is_recorded_is_what_cupy_offers() -> None:
    cupy = real_cupy()
    if cupy.__version__ != RECORDED["version"]:
        pytest.skip(f"recorded from CuPy {RECORDED['version']}, not {cupy.__version__}")
    assert json.loads(json.dumps(record.recorded(cupy))) == RECORDED


def test_the_stand_in_has_nothing_that_cupy_has_not() -> None:
    module = standin.make_cupy()
    assert {name for name in vars(module) if not name.startswith("_")} <= set(RECORDED["names"])
    own = {name for name in dir(ndarray) if not name.startswith("__")}
    assert own - {"_host", "_memory", "_scatter"} <= set(RECORDED["members"])
    assert set(functions.FUNCTIONS) <= set(RECORDED["functions"])
    assert set(ufuncs.UFUNCS) <= set(RECORDED["ufuncs"])


def test_what_the_stand_in_lacks_is_said_and_what_cupy_lacks_is_not_there(standin_cupy) -> None:
    standin_cupy()
    cupy = importlib.import_module("cupy")
    with pytest.raises(NotImplementedError, match=r"lacks cupy\.polyfit: add it"):
        _ = cupy.polyfit
    assert not hasattr(cupy, "errstate")
    assert not hasattr(cupy, "spacing")


class Foreign:
    """Something that CuPy knows nothing of."""


class Ufunc:
    """Something that wants NumPy's ufuncs for itself."""

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> str:
        return f"{ufunc.__name__} {method}"


class Kernel:
    """Something that wants CuPy's ufuncs for itself."""

    def __cupy_override_elementwise_kernel__(self, *args: Any, **kwargs: Any) -> str:
        return "overridden"


class Prior:
    """Something that comes before arrays in operators."""

    __array_priority__ = 1000

    def __radd__(self, other: Any) -> str:
        return "radd"


# An expression of an array a (2, 2), a mask b, integers i (2,), a float32 array f and a NumPy array
# n, and what comes of it: a value, or the error's type and the beginning of its text.
IMPLICIT = "TypeError: Implicit conversion to a NumPy array is not allowed."
EXPECTED = (
    "TypeError: Argument '{}' has incorrect type (expected cupy._core.core._ndarray_base, got {})"
)
SAME = {
    "type(a).__module__": "cupy",
    "a.__array_priority__": 100,
    "isinstance(a, np.ndarray)": False,
    "np.asarray(a)": IMPLICIT,
    "np.array(a)": IMPLICIT,
    "np.array([a, a])": IMPLICIT,
    "np.float64(a)": IMPLICIT,
    "a @ n": EXPECTED.format("b", "numpy.ndarray"),
    "n @ a": EXPECTED.format("a", "numpy.ndarray"),
    "np.matmul(a, n)": EXPECTED.format("b", "numpy.ndarray"),
    "np.dot(a, n)": EXPECTED.format("b", "numpy.ndarray"),
    "cupy.dot(a, n)": EXPECTED.format("b", "numpy.ndarray"),
    "cupy.matmul(a, a, out=n)": "TypeError: `out` must be a tuple or `cupy.ndarray`",
    "cupy.stack([n, n])": EXPECTED.format("a", "numpy.ndarray"),
    "cupy.broadcast_to(n, (2, 2))": EXPECTED.format("array", "numpy.ndarray"),
    "cupy.moveaxis(n, 0, 1)": EXPECTED.format("a", "numpy.ndarray"),
    "cupy.expand_dims(n, 0)": EXPECTED.format("a", "numpy.ndarray"),
    "cupy.ascontiguousarray(n)": EXPECTED.format("a", "numpy.ndarray"),
    "cupy.cumsum(n)": EXPECTED.format("a", "numpy.ndarray"),
    "cupy.moveaxis(a, [0, 1], range(2)).shape": (2, 2),
    "cupy.expand_dims(a, (0, 1)).shape": (1, 1, 2, 2),
    "cupy.expand_dims(a, [0, 1])": "TypeError: Argument 'axis' has incorrect type (expected tuple",
    "cupy.transpose(a, [1, 0]).shape": (2, 2),
    "a.reshape([4]).shape": (4,),
    "a.reshape(4, 1).shape": (4, 1),
    "a[0].shape": (2,),
    "a[0, 0].shape": (),
    "a[np.int64(0)].shape": (2,),
    "a[None, ..., 0].shape": (1, 2),
    "a[5]": "IndexError: ",
    "a.__setitem__((0,), n[0])": "ValueError: non-scalar numpy.ndarray cannot be used for fill",
    "a.fill(n)": "ValueError: non-scalar",
    "a + Ufunc()": "add __call__",
    "a + Prior()": "radd",
    "cupy.add(a, Kernel())": "overridden",
    "np.copyto(a, n)": "ValueError: non-scalar numpy.ndarray cannot be used for copyto",
    "cupy.add(a, a, order='C')": "TypeError: Wrong arguments {'order': 'C'}",
    "cupy.sum(a, where=b)": "TypeError: sum() got an unexpected keyword argument 'where'",
    "cupy.max(a, initial=0)": "TypeError: ",
    "a.sum(where=b)": "TypeError: sum() got an unexpected keyword argument 'where'",
    "a.max(initial=0)": "TypeError: max() got an unexpected keyword argument 'initial'",
    "a.any(where=b)": "TypeError: any() got an unexpected keyword argument 'where'",
    "cupy.may_share_memory(a, a)": True,
    "a.base is None": True,
    "a[0].base is a": True,
    "a[0][0].base is a": True,
    "a.reshape(-1).base is a": True,
    "a.astype('f8', copy=False) is a": True,
    "a.view('i8').dtype": np.dtype("i8"),
    "a.flags.writeable": "AttributeError: 'Flags' object has no attribute 'writeable'",
    "a.setflags": "AttributeError: 'ndarray' object has no attribute 'setflags'",
    "a.__array_wrap__": "AttributeError: ",
    "a.__index__": "AttributeError: ",
    "a.ctypes": "AttributeError: ",
    "len(a)": 2,
    "len(a[0, 0])": "TypeError: len() of unsized object",
    "iter(a[0, 0])": "TypeError: iteration over a 0-d array",
    "bool(a)": "ValueError: The truth value of an array with more than one element is ambiguous.",
    "operator.index(i[0])": "TypeError: 'ndarray' object cannot be interpreted as an integer",
    "hash(a)": "TypeError: unhashable type: 'ndarray'",
    "a.item()": "ValueError: can only convert an array of size 1 to a Python scalar",
    "a.set(a)": "TypeError: Only numpy.ndarray can be set to cupy.ndarray",
    "cupy.multiply.at(a, i, 1.0)": "NotImplementedError: `cupy_multiply.at` is not supported yet",
    "cupy.maximum.reduce(a)": "NotImplementedError: `cupy_maximum.reduce` is not supported yet",
    "cupy.zeros_like(1.0)": "AttributeError: 'float' object has no attribute 'dtype'",
    "cupy.where(b, 1.0)": "ValueError: Must provide both 'x' and 'y' or neither.",
    "cupy.take_along_axis(a, i, 0)": "ValueError: `indices` and `a` must have the same number",
    "cupy.take_along_axis(a, a, 0)": "IndexError: `indices` must be an integer array",
    "cupy.einsum(a, [0, 1], out=a)": "TypeError: Did not understand the following kwargs: ['out']",
    "cupy.result_type(f, 1.0)": np.dtype("f4"),
    "cupy.get_array_module(a, n) is cupy": True,
    "cupy.get_array_module(n) is np": True,
    "np.shape(a), np.ndim(a), np.size(a)": ((2, 2), 2, 4),
    "a.squeeze(0)": "ValueError: cannot select an axis to squeeze out",
    "a.T.shape, a.nbytes, a.strides": ((2, 2), 32, (16, 8)),
    "cupy.float64 is np.float64": True,
    "cupy.asnumpy(n) is n": True,
}


def outcome(expression: str, names: dict[str, Any]) -> Any:
    try:
        return eval(expression, names)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def agrees(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) and ": " in wanted:
        return isinstance(found, str) and found.startswith(wanted)
    return type(found) is type(wanted) and found == wanted


def named(cupy: Any, a: Any, b: Any, i: Any, f: Any) -> dict[str, Any]:
    import operator

    classes = {"Foreign": Foreign, "Ufunc": Ufunc, "Kernel": Kernel, "Prior": Prior}
    arrays = {"a": a, "b": b, "i": i, "f": f, "n": np.ones((2, 2))}
    return {"cupy": cupy, "np": np, "operator": operator, **classes, **arrays}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("expression", SAME)
def test_the_stand_in_does_what_is_expected_of_cupy(standin_cupy, expression) -> None:
    standin_cupy()
    cupy = importlib.import_module("cupy")
    arrays = (
        cupy.ones((2, 2)),
        cupy.ones((2, 2), dtype=bool),
        cupy.arange(2),
        cupy.ones(2, dtype="f4"),
    )
    assert agrees(outcome(expression, named(cupy, *arrays)), SAME[expression])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("expression", SAME)
def test_cupy_does_what_is_expected_of_it(expression) -> None:
    cupy = real_cupy()

    def over_nothing(shape: tuple[int, ...], dtype: str) -> Any:
        memory = cupy.cuda.memory.UnownedMemory(1 << 40, 4096, None, 0)
        return cupy.ndarray(shape, dtype, cupy.cuda.MemoryPointer(memory, 0))

    arrays = (
        over_nothing((2, 2), "f8"),
        over_nothing((2, 2), "?"),
        over_nothing((2,), "i8"),
        over_nothing((2,), "f4"),
    )
    found = outcome(expression, named(cupy, *arrays))
    if "CUDARuntimeError" in str(found):
        pytest.skip("CuPy asks for the device first")
    assert agrees(found, SAME[expression])


# What only a GPU shows, and CuPy's documentation and source say.


@pytest.fixture
def machine(standin_cupy: Any) -> Any:
    return standin_cupy(devices=2)


@pytest.fixture
def cupy(machine: Any) -> Any:
    return importlib.import_module("cupy")


REFUSED = """
a + n; n + a; np.add(n, a); a == n; a * [1, 2]; a += n; a + Foreign(); a + 'x'
cupy.maximum(a, n); cupy.exp(n); cupy.where(b, n, a); cupy.sum(n)
"""


@pytest.mark.parametrize("expression", REFUSED.strip().replace("\n", "; ").split("; "))
def test_what_is_no_array_of_the_device_is_refused(cupy, expression) -> None:
    names = named(cupy, cupy.ones((2, 2)), cupy.ones((2, 2)) > 0, cupy.arange(2), None)
    with pytest.raises(TypeError):
        exec(expression, names)


@pytest.mark.parametrize("read", [float, int, bool, complex, repr, lambda x: x.item()])
def test_reading_a_number_waits_for_the_device(cupy, machine, read) -> None:
    number = cupy.ones(3).sum()
    assert number.shape == ()
    machine.counts.clear()
    assert read(number) == read(np.float64(3.0) if read is not repr else np.array(3.0))
    assert machine.counts["synchronisations"] == 1


def test_masks_and_nonzero_wait_too(cupy, machine) -> None:
    array = cupy.arange(4)
    mask = array > 1
    assert machine.counts["synchronisations"] == 0
    assert array[mask].shape == (2,)
    array[mask] = 0
    mask.nonzero()
    assert machine.counts["synchronisations"] == 3


@pytest.mark.parametrize(
    ("expression", "dtype"),
    [
        ("f * 2.0", "f4"),
        ("2 * f", "f4"),
        ("f * np.float32(2)", "f4"),
        ("f * np.float64(2)", "f8"),
        ("f + a[0]", "f8"),
        ("f + i", "f8"),
        ("i * 0.5", "f8"),
        ("b * 1.0", "f8"),
        ("b + b", "?"),
        ("i / i", "f8"),
        ("f ** 2", "f4"),
        ("cupy.exp(i)", "f8"),
        ("cupy.where(f > 0, f, 0.0)", "f4"),
        ("cupy.where(f > 0, 1.0, 0.0)", "f8"),
        ("cupy.maximum(f, 0)", "f4"),
        ("cupy.add(a, a, dtype='f4')", "f4"),
        ("b.sum()", "i8"),
        ("f.mean()", "f4"),
        ("f @ f", "f4"),
    ],
)
def test_types_are_promoted_as_cupy_promotes_them(cupy, expression, dtype) -> None:
    arrays = (cupy.ones((2, 2)), cupy.ones(2) > 0, cupy.arange(2) + 1, cupy.ones(2, dtype="f4"))
    assert eval(expression, named(cupy, *arrays)).dtype == np.dtype(dtype)


def test_out_has_to_fit(cupy) -> None:
    a, narrow = cupy.ones(3), cupy.ones(3, dtype="f4")
    assert cupy.add(a, a, out=narrow) is narrow
    with pytest.raises(TypeError, match="according to the rule 'same_kind'"):
        cupy.add(a, a, out=cupy.arange(3))
    assert cupy.add(a, a, out=cupy.ones((2, 3))).tolist() == [[2.0] * 3] * 2
    with pytest.raises(ValueError, match="Out shape is mismatched"):
        cupy.add(cupy.ones((2, 3)), a, out=a)
    with pytest.raises(TypeError):
        cupy.add(a, a, out=np.ones(3))


def test_broadcast_arrays_can_be_written_to(cupy) -> None:
    one = cupy.zeros(1)
    cupy.broadcast_to(one, (3,))[0] = 5.0
    assert float(one[0]) == 5.0


def test_an_array_is_used_on_its_own_device_only(cupy, machine) -> None:
    with cupy.cuda.Device(1):
        there = cupy.ones(3)
    assert there.device == cupy.cuda.Device(1)
    with pytest.raises(ValueError, match=r"resides \(1\) is different from the current device"):
        there + 1
    assert machine.used[1] == 512
    del there
    assert machine.used[1] == 0


def test_memory_runs_out_at_the_limit(cupy, machine) -> None:
    machine.limit = 4096
    pool = cupy.get_default_memory_pool()
    kept = cupy.ones(256)
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError, match="Out of memory allocating 4,096"):
        cupy.ones(512)
    assert isinstance(cupy.cuda.memory.OutOfMemoryError(1, 1), MemoryError)
    assert (pool.used_bytes(), pool.free_bytes()) == (2048, 0)
    del kept
    assert (pool.used_bytes(), pool.free_bytes(), pool.total_bytes()) == (0, 2048, 2048)
    pool.free_all_blocks()
    assert pool.total_bytes() == 0
    assert cupy.cuda.runtime.memGetInfo() == (4096, 4096)


def test_two_writes_to_one_place_are_refused(cupy) -> None:
    array = cupy.zeros(3)
    with pytest.raises(ValueError, match="which comes last is undefined"):
        array[cupy.asarray([0, 0])] = cupy.ones(2)
    cupy.add.at(array, cupy.asarray([0, 0]), 1.0)
    assert array.tolist() == [2.0, 0.0, 0.0]


def test_events_measure_time(cupy) -> None:
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        start.record()
        end.record(stream)
    end.synchronize()
    assert cupy.cuda.get_elapsed_time(start, end) >= 0


def test_recorded_data_is_read_from_the_folder() -> None:
    folder = Path(standin.__file__).parent
    assert json.loads((folder / "recorded.json").read_text(encoding="utf-8")) == RECORDED
