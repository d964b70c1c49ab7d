"""The context manager that puts the user's arrays, attributes and random states back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from types import TracebackType
from typing import Any, Self

from fastcheck.bound import users_objects
from fastcheck.errors import FastcheckError
from fastcheck.keep.arrays import Contents, snapshots_of_array
from fastcheck.keep.bindings import Snapshot
from fastcheck.keep.contents import snapshots_of_contents
from fastcheck.keep.lent import Lent, lendable
from fastcheck.keep.random_states import PutAside, snapshots_of_global_random_states
from fastcheck.keep.reach import find_reach
from fastcheck.params.nesting import tensor_name, walk
from fastcheck.params.places import is_array


def keep(loss: object, params: object, grads: object = None, lend: bool = False) -> Kept:
    """Put back whatever is changed inside the `with` block, however it ends.

    Parameters
    ----------
    loss, grads
        The user's functions (`grads` may be arrays instead). What they can reach and write is
        kept: see `Kept`.
    params
        The user's parameters. Every array in any nesting of dict, list and tuple is kept.
    lend
        Large arrays that the functions reach are made read-only instead of being copied: whoever
        writes to one gets an error, and has to be run again without this.

    Examples
    --------
    >>> W = np.ones(3)
    >>> with keep(loss=None, params={"W": W}) as kept:
    ...     W[0] = np.nan
    ...     kept.changed()
    ['W']
    >>> W
    array([1., 1., 1.])
    """
    return Kept(loss, params, grads, lend)


class Kept:
    """What was on entry, and how to get back to it.

    Kept bit for bit: the contents of all arrays in `params` and `grads`, and of the arrays that
    the functions reach. Kept by identity: attributes of objects and of the user's classes,
    closure variables, module globals that the functions name, also as `module.name`, and the
    entries of dicts, lists, sets and deques found there. The states of NumPy's, CuPy's and
    Python's global random numbers, and of generators found on the way, are kept too.

    There are limits: 16 levels deep, 100,000 objects (plain numbers and strings do not count),
    and 256 MiB of arrays other than `params` and `grads`, the smallest first.

    Not kept: what library code holds for itself, positions of files and iterators.

    Attributes
    ----------
    left_out
        What the limits left out, in words, such as "the contents of 1 array of 376 MB"; empty
        if nothing was.
    """

    left_out: tuple[str, ...] = ()

    def __init__(
        self, loss: object, params: object, grads: object = None, lend: bool = False
    ) -> None:
        self._lend = lend
        self._loss = loss
        self._params = params
        self._grads = grads
        self._parameters: list[tuple[str, Contents]] = []
        self._snapshots: list[Snapshot] = []

    def __enter__(self) -> Self:
        params = _arrays_of(self._params)
        gradients = [] if callable(self._grads) else _arrays_of(self._grads)
        arrays = [array for _, array in (*params, *gradients)]
        roots = [*users_objects(self._loss), self._grads, self._params]
        contents = [snapshots_of_array(array) for array in arrays]
        # Those of the parameters come first, and of each the array's own come last.
        self._parameters = [
            (name, own) for (name, _), (*_, own) in zip(params, contents, strict=False)
        ]
        reach = find_reach(roots)
        copied = {id(array) for array in arrays}
        others = [array for array in reach.arrays if id(array) not in copied]
        lent, others = lendable(others, arrays) if self._lend else ([], others)
        buffers, too_large = snapshots_of_contents(others, [array for _, array in params])
        self.left_out = (*too_large, *reach.left_out)
        # Random states last: nothing that is put back before them may draw from them.
        self._snapshots = [
            *chain.from_iterable(contents),
            *buffers,
            *reach.snapshots,
            *snapshots_of_global_random_states(),
            *lent,
        ]
        self._put_aside()
        return self

    def _put_aside(self) -> None:
        """Take away what can be neither read nor written, so that nobody changes it."""
        try:
            for snapshot in self._snapshots:
                if isinstance(snapshot, PutAside | Lent):
                    snapshot.put_aside()
        except BaseException:
            self._restore()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            failures = self._restore()
        except KeyboardInterrupt:
            # Interrupted while putting things back: that is idempotent, so begin again.
            self._restore()
            raise
        self._parameters, self._snapshots = [], []
        if failures:
            _say(failures, error)

    def changed(self) -> list[str]:
        """The names of the tensors of `params` whose bits differ now from those on entry."""
        return [name for name, contents in self._parameters if contents.changed()]

    def _restore(self) -> list[Exception]:
        return [failure for snapshot in self._snapshots if (failure := _try(snapshot.restore))]


def _arrays_of(nesting: Any) -> list[tuple[str, Any]]:
    return [(tensor_name(path), leaf) for path, leaf in walk(nesting) if is_array(leaf)]


def _try(restore: Callable[[], None]) -> Exception | None:
    """One thing that cannot be put back must not keep the others from it."""
    try:
        restore()
    except Exception as failure:
        return failure
    return None


def _say(failures: list[Exception], error: BaseException | None) -> None:
    reasons = "; ".join(f"{type(failure).__name__}: {failure}" for failure in failures)
    message = (
        f"`loss` or `grads` changed {len(failures)} object(s) that could not be put back "
        f"({reasons}); make them again before you go on."
    )
    if error is None:
        raise FastcheckError(message)
    error.add_note(message)
