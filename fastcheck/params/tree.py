"""The user's parameters as named float64 tensors in a nesting that can be rebuilt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcheck.errors import InputError, InputTypeError, NotFiniteError
from fastcheck.params.complex_parts import element_place, joined, parts_of
from fastcheck.params.leaves import listed
from fastcheck.params.nesting import Branch, Path, outline, rebuild, tensor_name, walk
from fastcheck.params.places import Place, addresses, is_array, is_device_array, on_host
from fastcheck.params.refusals import refuse_unusable
from fastcheck.params.sharing import overlapping


@dataclass(frozen=True, eq=False)
class Tensor:
    """One array of the parameter tree.

    A complex array is held as its real and imaginary parts, which are parameters each: the last
    axis of `value`, of length 2. All that counts elements or numbers them counts these.

    Attributes
    ----------
    name
        Dict keys and field names joined by ".", places in a list or tuple as "[i]":
        ``layers[0].W``. A single bare array is named ``params``.
    path
        The same as a tuple: a str for each key or field, an int for each place.
    value
        The values at θ, float64, in memory of its own. The memory layout (C or Fortran order)
        is that of the user's array.
    dtype
        The user's dtype, in native byte order: float16, float32, float64, complex64 or complex128.
    scalar
        The user gave a Python or NumPy scalar rather than an array. `value` is 0-d, or (2,).
    place
        Where the user's array is, if that is a CUDA device (a CuPy array). `value` is in main
        memory all the same.
    """

    name: str
    path: Path
    value: NDArray[np.float64]
    dtype: np.dtype[Any]
    scalar: bool = False
    place: Place | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of `value`."""
        return self.value.shape

    @property
    def size(self) -> int:
        """The number of real parameters: 2 for each element of a complex array."""
        return self.value.size

    @property
    def is_complex(self) -> bool:
        """Whether the user's array is complex."""
        return self.dtype.kind == "c"

    @property
    def user_shape(self) -> tuple[int, ...]:
        """The shape of the user's array."""
        return self.shape[:-1] if self.is_complex else self.shape

    @property
    def elements(self) -> int:
        """The number of elements of the user's array."""
        return self.size // 2 if self.is_complex else self.size

    def name_of(self, number: int) -> str:
        """One parameter by its number in C order: ``W[3, 17]``, or ``W[3, 17].imag``."""
        index, part = element_place(self.user_shape, number, self.is_complex)
        place = f"[{', '.join(map(str, index))}]" if index else ""
        return f"{self.name}{place}{'.' if part else ''}{part}"

    @cached_property
    def peak(self) -> float:
        """The largest |θ|; 0 without elements."""
        return float(np.max(np.abs(self.value), initial=0.0))

    @cached_property
    def rms(self) -> float:
        """The root mean square of θ, also where squares leave the range of floats."""
        if self.peak == 0:
            return 0.0
        return self.peak * math.sqrt(float(np.mean((self.value / self.peak) ** 2)))


class ParamTree:
    """The parameters θ: named tensors, and the nesting that the user's loss expects.

    The values are copies. Two places that hold the same array, or views of
    the same memory, are two tensors, and each is perturbed alone; `shared` names such pairs.

    Attributes
    ----------
    tensors
        In the tree's order: that of the dicts' insertion and of the lists, depth first.
    names
        Their names, all different.
    size
        How many real parameters there are in all; a complex element has two.
    elements
        How many elements the user's arrays have in all.
    has_complex
        Whether some of the tensors are complex.
    shared
        Pairs of names whose arrays shared memory in the user's tree.
    """

    def __init__(
        self,
        root: Branch | int,
        tensors: tuple[Tensor, ...],
        shared: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.root = root
        self.tensors = tensors
        self.shared = shared
        self.names = tuple(tensor.name for tensor in tensors)
        self.size = sum(tensor.size for tensor in tensors)
        self.elements = sum(tensor.elements for tensor in tensors)
        self.has_complex = any(tensor.is_complex for tensor in tensors)
        self._by_name = {tensor.name: tensor for tensor in tensors}

    @classmethod
    def from_user(cls, params: object, argument: str = "params") -> ParamTree:
        """Read the user's parameters.

        Parameters
        ----------
        params
            A float array of NumPy or CuPy, a complex array of NumPy, a float or complex number, or
            any nesting of dict, list and tuple (subclasses and namedtuples included) of them.
            float16, float32, float64, complex64 and complex128 are accepted.
        argument
            What the error messages call it.

        Raises
        ------
        InputTypeError
            If an entry is no such array. All such entries are named.
        InputError
            If there are no parameters, some are NaN or infinite, two have the same name,
            or a container holds itself.
        """
        leaves = list(walk(params))
        refuse_unusable(leaves, argument)
        tensors = tuple(_tensor(path, leaf) for path, leaf in leaves)
        _refuse_non_finite(tensors, argument)
        tree = cls(
            outline(params, count()), tensors, _shared([leaf for _, leaf in leaves], tensors)
        )
        _refuse_unfaithful_containers(tree, params, argument)
        return tree

    def __len__(self) -> int:
        return len(self.tensors)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Tensor:
        return self._by_name[name]

    def __repr__(self) -> str:
        shapes = ", ".join(f"{tensor.name} {tensor.user_shape}" for tensor in self.tensors)
        return f"<ParamTree of {self.size} parameters: {shapes}>"

    def build(self, leaves: Mapping[str, Any]) -> Any:
        """The user's nesting, in new containers of the same types, holding `leaves`.

        Parameters
        ----------
        leaves
            An object for every name of the tree. They are put in as they are, not copied; but a
            NumPy array in the place of a CuPy array is taken to that one's device, and parts in the
            place of a complex array become that array, over the same memory.
        """
        return rebuild(self.root, [_placed(tensor, leaves[tensor.name]) for tensor in self.tensors])

    def copies(self) -> Any:
        """The parameters as the user's loss takes them, in fresh float64 or complex128 memory.

        Arrays are arrays, on the device where the user's are. A Python or NumPy scalar is a
        `numpy.float64` or `numpy.complex128`, which cannot be written: what perturbs parameters in
        place must `build` with 0-d arrays instead.
        """
        return self.build({tensor.name: _copy(tensor) for tensor in self.tensors})

    def ravel(self, leaves: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        """All of `leaves`, one after the other in the tree's order, each in C order: (size,)."""
        parts = [self._flat(tensor, leaves[tensor.name]) for tensor in self.tensors]
        return np.concatenate(parts)

    def unravel(self, vector: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """The inverse of `ravel`: each tensor's part of `vector`, in its shape, in new memory.

        Raises
        ------
        InputError
            If `vector` does not hold one value for each parameter.
        """
        flat = np.array(vector, dtype=np.float64).reshape(-1)
        if flat.size != self.size:
            raise InputError(
                f"`vector` holds {flat.size} values, but there are {self.size} parameters; "
                "pass one value for each."
            )
        ends = np.cumsum([tensor.size for tensor in self.tensors])
        parts = np.split(flat, ends[:-1])
        return {
            tensor.name: part.reshape(tensor.shape)
            for tensor, part in zip(self.tensors, parts, strict=True)
        }

    @staticmethod
    def _flat(tensor: Tensor, leaf: ArrayLike) -> NDArray[np.float64]:
        array = np.asarray(leaf, dtype=np.float64)
        if array.shape != tensor.shape:
            raise InputError(
                f"`leaves` holds shape {array.shape} for {tensor.name}, which has shape "
                f"{tensor.shape}; pass arrays of the parameters' shapes."
            )
        return array.reshape(-1)


def _tensor(path: Path, leaf: Any) -> Tensor:
    array = np.asarray(on_host(leaf))
    dtype = array.dtype.newbyteorder("=")
    value = values_of(array)
    return Tensor(tensor_name(path), path, value, dtype, not is_array(leaf), Place.of(leaf))


def values_of(array: NDArray[Any]) -> NDArray[np.float64]:
    """The float64 values of a parameter in new memory of the same layout; see `Tensor.value`."""
    if array.dtype.kind == "c":
        return parts_of(np.array(array, dtype=np.complex128, order="K", copy=True, subok=False))
    return np.array(array, dtype=np.float64, order="K", copy=True, subok=False)


def _copy(tensor: Tensor) -> Any:
    if tensor.place is not None:
        return tensor.place.array(tensor.value)
    return tensor.value[()] if tensor.scalar else tensor.value.copy(order="K")


def _placed(tensor: Tensor, leaf: Any) -> Any:
    if type(leaf) is not np.ndarray:
        return leaf
    if tensor.is_complex and leaf.dtype.kind != "c":
        whole = joined(leaf)
        return whole[()] if tensor.scalar else whole
    return leaf if tensor.place is None else tensor.place.array(leaf)


def _shared(leaves: list[Any], tensors: tuple[Tensor, ...]) -> tuple[tuple[str, str], ...]:
    # A scalar has no memory that a loss could write to: an empty array stands in for it.
    nothing = np.empty(0)
    device = [addresses(leaf) if is_device_array(leaf) else nothing for leaf in leaves]
    host = [leaf if isinstance(leaf, np.ndarray) else nothing for leaf in leaves]
    pairs = sorted(overlapping(host) + overlapping(device))
    return tuple((tensors[i].name, tensors[j].name) for i, j in pairs)


def _refuse_non_finite(tensors: tuple[Tensor, ...], argument: str) -> None:
    problems = []
    for tensor in tensors:
        bad = ~np.isfinite(tensor.value)
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            index, part = element_place(tensor.user_shape, first, tensor.is_complex)
            where = f"index {index}" + (f", {part}" if part else "")
            problems.append(
                f"{tensor.name}: {int(bad.sum())} of {tensor.size} values, the first "
                f"{tensor.value.flat[first]} at {where}"
            )
    if problems:
        raise NotFiniteError(
            f"`{argument}` holds NaN or infinite values:\n{listed(problems)}\n"
            "A gradient exists only at finite parameters: check before training diverges, "
            "or lower the learning rate."
        )


def _refuse_unfaithful_containers(tree: ParamTree, params: object, argument: str) -> None:
    """Containers with a constructor of their own may not come out as they went in."""
    try:
        rebuilt = list(walk(rebuild(tree.root, [tensor.value for tensor in tree.tensors])))
        faithful = len(rebuilt) == len(tree) and all(
            path == tensor.path and leaf is tensor.value
            for (path, leaf), tensor in zip(rebuilt, tree.tensors, strict=True)
        )
    except Exception:
        faithful = False
    if not faithful:
        kinds = ", ".join(sorted(_unusual_kinds(tree.root)))
        raise InputTypeError(
            f"`{argument}` holds containers that cannot be rebuilt with new arrays ({kinds}); "
            "convert them to dict, list or tuple."
        )


def _unusual_kinds(node: Branch | int) -> set[str]:
    if isinstance(node, int):
        return set()
    own = set() if node.kind in (dict, list, tuple) else {node.kind.__name__}
    return own.union(*(_unusual_kinds(child) for child in node.children))
