"""Where a bug is planted: right gradients, and what else is known of the step that made them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastcheck.errors import InputError, InputTypeError
from fastcheck.params import ParamTree, match_gradients
from fastcheck.planted.backward import Array, BackwardPass

Arrays = dict[str, Array]


@dataclass(frozen=True, eq=False)
class Scene:
    """Right gradients by name, and beside them whatever was given.

    Attributes
    ----------
    tree : ParamTree
        Names and nesting: of the parameters if these are known, otherwise of the gradients.
    grads : dict of float64 arrays
    params, previous : dict of float64 arrays or None
        The parameters, and the gradients one training step earlier.
    batch_size : int or None
    decay : float or None
        λ of an L2 term λ/2·‖W‖² in the loss.
    backward : BackwardPass or None
    """

    tree: ParamTree
    grads: Arrays
    params: Arrays | None = None
    previous: Arrays | None = None
    batch_size: int | None = None
    decay: float | None = None
    backward: BackwardPass | None = None

    @classmethod
    def of(
        cls,
        grads: Any,
        params: Any,
        previous: Any,
        batch_size: int | None,
        decay: float | None,
        backward: BackwardPass | None,
    ) -> Scene:
        """Read what the user gave; copies of all arrays, so that theirs stay as they are."""
        tree = _tree(grads, params, backward)
        if tree.has_complex:
            raise InputTypeError(
                f"{', '.join(t.name for t in tree if t.is_complex)}: complex arrays, in which bugs "
                "are not planted; give real ones, such as .real and .imag."
            )
        if batch_size is not None and (isinstance(batch_size, bool) or batch_size < 1):
            raise InputError(f"`batch_size` is {batch_size!r}: give the number of samples.")
        right = backward.gradients() if backward is not None and grads is None else None
        return cls(
            tree,
            match_gradients(tree, grads) if right is None else right,
            None if params is None else {t.name: t.value for t in tree},
            None if previous is None else match_gradients(tree, previous, "previous"),
            batch_size,
            backward.decay if decay is None and backward is not None else decay,
            backward,
        )

    @property
    def weights(self) -> tuple[str, ...]:
        """The tensors with two axes longer than 1; all of them where there are none."""
        wide = [t.name for t in self.tree if sum(length > 1 for length in t.shape) > 1]
        return tuple(wide) or self.tree.names

    def chosen(self, tensors: Any, usual: Iterable[str]) -> tuple[str, ...]:
        """Return the names that the option `tensors` means: None is `usual`, "all" is all."""
        if tensors is None:
            return tuple(usual)
        if isinstance(tensors, str) and tensors == "all":
            return self.tree.names
        names = (tensors,) if isinstance(tensors, str) else tuple(tensors)
        for name in names:
            if name not in self.tree:
                raise InputError(
                    f"`tensors` names {name!r}, which is not there; choose among "
                    f"{', '.join(self.tree.names)}, or 'all'."
                )
        return names


def _tree(grads: Any, params: Any, backward: BackwardPass | None) -> ParamTree:
    if params is not None:
        return ParamTree.from_user(params)
    if backward is not None:
        return backward.tree
    if grads is None:
        raise InputTypeError("`grads` is None: give the right gradients, or `backward`.")
    return ParamTree.from_user(grads, "grads")
