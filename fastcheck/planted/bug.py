"""A bug to plant, and a list of such bugs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from fastcheck.errors import InputError
from fastcheck.planted.backward import BackwardPass
from fastcheck.planted.scene import Arrays, Scene

Options = Mapping[str, Any]
Plant = Callable[[Scene, Options], Arrays]

_MEANINGS = {
    "params": "the parameters",
    "previous": "the gradients of the training step before",
    "batch_size": "the number of samples M",
    "decay": "λ of the loss's L2 term λ/2·‖W‖²",
    "backward": "a `BackwardPass` of the network",
}


@dataclass(frozen=True, eq=False, repr=False)
class Bug:
    """One mistake in a gradient, to be planted in a right one.

    Call it with right gradients to have them spoilt. The result is new and float64, in the nesting
    of `params` where these are given, otherwise in that of `grads`; it is the same each time, and
    what was given stays as it is.

    Attributes
    ----------
    name : str
        Its key in `fastcheck.planted.BUGS`.
    description : str
        What is wrong, in one line.
    needs : tuple of str
        The keywords without which it cannot be planted.
    plant : callable
        From what is known of the gradients and the options to those that change.
    options : mapping
        Its settings, which `but` changes.
    usual : tuple of mappings
        The options of its `variants`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcheck.planted import BUGS
    >>> grads = {"dW": np.array([[1.0, 2.0], [3.0, 4.0]]), "db": np.array([5.0, 6.0])}
    >>> BUGS["transpose"](grads)["dW"]
    array([[1., 3.],
           [2., 4.]])
    >>> BUGS["missing-mean"].applies(grads), BUGS["missing-mean"].applies(grads, batch_size=8)
    (False, True)
    >>> BUGS["one-element"].but(factor=0, tensors="db")(grads)["db"]
    array([5., 0.])
    """

    name: str
    description: str
    plant: Plant
    needs: tuple[str, ...] = ()
    options: Options = field(default_factory=dict)
    usual: tuple[Options, ...] = ({},)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))

    def __call__(
        self,
        grads: Any = None,
        *,
        params: Any = None,
        previous: Any = None,
        batch_size: int | None = None,
        decay: float | None = None,
        backward: BackwardPass | None = None,
    ) -> Any:
        """Return the gradients with this bug in them.

        Parameters
        ----------
        grads : tree or flat vector, as for `fastcheck.check`
            The right gradients; those of `backward` where left out.
        params : tree, optional
            The parameters.
        previous : tree, optional
            The right gradients one training step earlier.
        batch_size : int, optional
            The number of samples M over which the loss is a mean.
        decay : float, optional
            λ of an L2 term λ/2·‖W‖² in the loss.
        backward : BackwardPass, optional
            The parts of the backward pass, for bugs that sit inside it.

        Raises
        ------
        InputError
            Something that the bug needs was not given, or it changes nothing in these gradients.
        """
        scene = Scene.of(grads, params, previous, batch_size, decay, backward)
        for need in self.needs:
            if getattr(scene, need) is None:
                raise InputError(
                    f"`{need}` is missing: '{self.name}' needs {_MEANINGS[need]}; give {need}=..., "
                    f"or ask applies(...) first."
                )
        spoilt = self._changes(scene)
        if not spoilt:
            raise InputError(
                f"'{self.name}' changes nothing in these gradients, so nothing would be planted: "
                "ask applies(...) first, or change its options with but(...)."
            )
        return scene.tree.build({**scene.grads, **spoilt})

    def spoils(
        self,
        grads: Any = None,
        *,
        params: Any = None,
        previous: Any = None,
        batch_size: int | None = None,
        decay: float | None = None,
        backward: BackwardPass | None = None,
    ) -> tuple[str, ...]:
        """Return the names of the tensors whose gradients it changes; none if it cannot be planted.

        The parameters are those of a call.
        """
        scene = Scene.of(grads, params, previous, batch_size, decay, backward)
        if any(getattr(scene, need) is None for need in self.needs):
            return ()
        changed = self._changes(scene)
        return tuple(name for name in scene.tree.names if name in changed)

    def applies(
        self,
        grads: Any = None,
        *,
        params: Any = None,
        previous: Any = None,
        batch_size: int | None = None,
        decay: float | None = None,
        backward: BackwardPass | None = None,
    ) -> bool:
        """Return whether it can be planted here and changes anything.

        The parameters are those of a call.
        """
        return bool(
            self.spoils(
                grads,
                params=params,
                previous=previous,
                batch_size=batch_size,
                decay=decay,
                backward=backward,
            )
        )

    def but(self, **options: Any) -> Bug:
        """Return the same bug with other options: another factor, layer, sample or tensor.

        Raises
        ------
        InputError
            It has no such option.
        """
        for option in options:
            if option not in self.options:
                known = ", ".join(self.options) or "none"
                raise InputError(
                    f"`{option}` is no option of '{self.name}', which has these: {known}."
                )
        return replace(self, options={**self.options, **options})

    @property
    def variants(self) -> tuple[Bug, ...]:
        """The bug with each of its usual options: ×2, ×½ and ×1.0001 of ``scale``, for example."""
        return tuple(self.but(**options) for options in self.usual)

    @property
    def label(self) -> str:
        """Its name with the options that are set: ``"scale (factor=2)"``."""
        given = ", ".join(f"{k}={v}" for k, v in self.options.items() if v is not None)
        return f"{self.name} ({given})" if given else self.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.label}: {self.description}>"

    def _changes(self, scene: Scene) -> Arrays:
        """Return the wrong gradients of just those tensors that come out changed."""
        spoilt = self.plant(scene, self.options)
        right = scene.grads
        if self.needs == ("backward",) and scene.backward is not None:
            # The user's own gradients may differ from those of the pass in their last digits.
            right = scene.backward.gradients()
        return {n: g for n, g in spoilt.items() if not np.array_equal(g, right[n])}


class Bugs(Sequence[Bug]):
    """Bugs in order, also by name: ``BUGS["sign"]``, ``"sign" in BUGS``, ``for bug in BUGS``."""

    def __init__(self, bugs: Sequence[Bug]) -> None:
        self._bugs = {bug.name: bug for bug in bugs}

    @property
    def names(self) -> tuple[str, ...]:
        """The names in order."""
        return tuple(self._bugs)

    def __getitem__(self, key: Any) -> Any:
        """Return the bug of that name or at that place, or a tuple of those in a slice.

        Raises
        ------
        InputError
            There is no bug of that name.
        """
        if not isinstance(key, str):
            return tuple(self._bugs.values())[key]
        if key not in self._bugs:
            raise InputError(f"there is no bug called {key!r}; choose one of {self._listed}.")
        return self._bugs[key]

    def __contains__(self, key: object) -> bool:
        return key in self._bugs or key in self._bugs.values()

    def __iter__(self) -> Iterator[Bug]:
        return iter(self._bugs.values())

    def __len__(self) -> int:
        return len(self._bugs)

    def __repr__(self) -> str:
        width = max(map(len, self._bugs), default=0)
        return "\n".join(f"{bug.name.ljust(width)}  {bug.description}" for bug in self)

    @property
    def _listed(self) -> str:
        return ", ".join(self._bugs)
