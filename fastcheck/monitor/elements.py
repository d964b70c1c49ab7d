"""A check of elements inside a training loop: `fastcheck.check`, which remembers what it trusts."""

from __future__ import annotations

import numpy as np

from fastcheck.check import checked
from fastcheck.engines.base import IndexArray
from fastcheck.engines.trust import Trust
from fastcheck.monitor.along import planted_size
from fastcheck.monitor.localise import Suspect
from fastcheck.monitor.moment import Moment
from fastcheck.monitor.settings import Settings
from fastcheck.options import Options
from fastcheck.params import ParamTree
from fastcheck.report.data import Report, Verdict
from fastcheck.run import Stopwatch

_CANARIES = 4


class Elements:
    """Checks elements; slices that have been cross-checked once are not again.

    Parameters
    ----------
    settings : Settings

    Attributes
    ----------
    trusting : bool
        Whether the next check may take something on trust.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._trust = Trust()
        self.trusting = False

    def check(self, moment: Moment, selected: dict[str, IndexArray]) -> Report:
        """Check the selected elements. What fails is checked again with nothing taken on trust."""
        report = self._once(moment, selected)
        if report.verdict is Verdict.FAIL and self.trusting:
            self.distrust()
            report = self._once(moment, selected)
        self.trusting = True
        return report

    def _once(self, moment: Moment, selected: dict[str, IndexArray]) -> Report:
        return checked(
            moment.loss,
            moment.params,
            moment.tree.build(dict(moment.gradients)),
            moment.tree,
            moment.tolerance,
            self._options(moment.tree),
            selected,
            moment.known,
            Stopwatch(),
            self._trust,
        )

    def distrust(self) -> None:
        """Forget what has been cross-checked: the next check is a first one again."""
        self._trust.clear()
        self.trusting = False

    def canary(self, moment: Moment) -> tuple[str, ...]:
        """Return the tensors in which a planted error of one percent does not fail."""
        gradients = moment.gradients
        planted, selected = dict(gradients), {}
        for tensor in moment.tree:
            values = np.array(gradients[tensor.name], dtype=np.float64)
            sizes = np.abs(values).ravel()
            largest = np.argsort(sizes)[::-1][:_CANARIES]
            selected[tensor.name] = np.sort(largest).astype(np.int64)
            if tensor.size and sizes[largest[0]] > 0:
                values.flat[largest[0]] *= 1 + planted_size(moment.tolerance)
            planted[tensor.name] = values
        report = self._once(moment.with_gradients(planted), selected)
        return tuple(
            name
            for name, one in report.tensors.items()
            if np.any(gradients[name]) and one.verdict is not Verdict.FAIL
        )

    def _options(self, tree: ParamTree) -> Options:
        return Options.validated(
            tree,
            method="central",
            step="auto",
            precision="float64",
            batched=False,
            progress=False,
            seed=self._settings.seed,
            **self._settings.keywords,
        )


def everything(tree: ParamTree) -> dict[str, IndexArray]:
    """Return the indices of all elements."""
    return {tensor.name: np.arange(tensor.size, dtype=np.int64) for tensor in tree}


def around(
    tree: ParamTree, suspects: list[Suspect], most: int, rng: np.random.Generator
) -> dict[str, IndexArray]:
    """Return the elements that are suspected, and at most so many others of every tensor."""
    found = {suspect.name: suspect.elements for suspect in suspects}
    selected = {}
    for tensor in tree:
        if tensor.size <= most:
            selected[tensor.name] = np.arange(tensor.size, dtype=np.int64)
            continue
        some = rng.choice(tensor.size, most, replace=False)
        chosen = found.get(tensor.name)
        selected[tensor.name] = np.unique(some if chosen is None else np.append(some, chosen))
    return selected
