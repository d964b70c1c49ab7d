"""A private copy of the parameters that is perturbed in place, and watched for foreign writes."""

from __future__ import annotations

from typing import Any

from fastcheck.params import ParamTree, Tensor
from fastcheck.params.complex_parts import joined
from fastcheck.params.places import Elements


class WorkingTree:
    """Copies of θ in the user's own containers, with a handle on every array.

    Attributes
    ----------
    tree : object
        What is handed to the user's loss.
    """

    def __init__(self, params: ParamTree) -> None:
        # A Python float or NumPy scalar is handed over by value: there is nothing to perturb.
        arrays = [t for t in params if not t.scalar]
        # Complex arrays are perturbed through their parts, which share their memory.
        memory = {t.name: _copy(t) for t in arrays}
        self._arrays = {t.name: _given(t, memory[t.name]) for t in arrays}
        # What is on a device is compared there.
        self._values = {t.name: _given(t, t.value) if t.place is None else _copy(t) for t in arrays}
        self._places = {t.name: t.place for t in arrays if t.place is not None}
        self._leaves: dict[str, Any] = {t.name: _given(t, t.value)[()] for t in params if t.scalar}
        self._leaves.update(self._arrays)
        self._flats = {
            name: Elements(array, self._places[name]) if name in self._places else array.flat
            for name, array in memory.items()
        }
        self._containers: list[tuple[Any, list[tuple[Any, Any]]]] = []
        self.tree = params.build(self._leaves)
        self._remember(self.tree)

    def flat(self, name: str) -> Any:
        """Return the writable elements of a tensor in C order; None if it is handed by value."""
        return self._flats.get(name)

    def altered(self) -> tuple[str, ...] | None:
        """Return the names of tensors written into or replaced; None if all is as it was.

        An empty tuple means that only the containers changed, such as a key added to a dict.
        """
        written = [name for name in self._arrays if self._is_written(name)]
        replaced = self._replaced()
        if replaced is None and not written:
            return None
        return tuple(dict.fromkeys((*written, *(replaced or ()))))

    def _is_written(self, name: str) -> bool:
        array, value = self._arrays[name], self._values[name]
        if array.shape != value.shape:
            return True
        if name not in self._places:
            return bool((array != value).any())
        with self._places[name].active():
            return bool((array != value).any())

    def _replaced(self) -> tuple[str, ...] | None:
        """Return the names of leaves no longer where they were; None if no container changed."""
        names: list[str] = []
        changed = False
        for container, items in self._containers:
            now = dict(_items(container))
            lost = [child for key, child in items if key not in now or now[key] is not child]
            if lost or len(now) != len(items):
                changed = True
                names += [n for n, leaf in self._leaves.items() if any(leaf is c for c in lost)]
        return tuple(names) if changed else None

    def _remember(self, node: Any) -> None:
        """Note what every container that can be written to holds."""
        items = _items(node)
        if isinstance(node, (dict, list)):
            self._containers.append((node, items))
        for _, child in items:
            self._remember(child)


def _copy(tensor: Tensor) -> Any:
    value = tensor.value
    return value.copy(order="K") if tensor.place is None else tensor.place.array(value)


def _given(tensor: Tensor, value: Any) -> Any:
    """Return an array of the tensor's values as the loss takes it, over the same memory."""
    return joined(value) if tensor.is_complex else value


def _items(node: Any) -> list[tuple[Any, Any]]:
    """Return the (key, child) pairs of a container; none for anything else."""
    if isinstance(node, dict):
        return list(node.items())
    if isinstance(node, (list, tuple)):
        return list(enumerate(node))
    return []
