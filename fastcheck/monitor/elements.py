"""A check of elements inside a training loop: `fastcheck.check`, which remembers what it trusts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcheck.bound import Bound
from fastcheck.check import checked
from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.engines.trust import Trust
from fastcheck.monitor.localise import Suspect
from fastcheck.monitor.settings import Settings
from fastcheck.options import Known, Options
from fastcheck.params import ParamTree
from fastcheck.report.data import Report, Verdict
from fastcheck.run import Stopwatch
from fastcheck.verdict.tolerances import Tolerance

_CANARIES = 4
_CANARY = 0.01
_BESIDES = 64


class Elements:
    """Checks elements; slices that have been cross-checked once are not again.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._trust = Trust()
        self._trusting = False

    def check(
        self,
        loss: Bound,
        params: Any,
        gradients: Mapping[str, FloatArray],
        tree: ParamTree,
        tolerance: Tolerance,
        selected: dict[str, IndexArray],
        known: Known,
    ) -> Report:
        """Check the selected elements. What fails is checked again with nothing taken on trust."""

        def once(trust: Trust) -> Report:
            options = self._options(tree)
            return checked(
                loss,
                params,
                tree.build(dict(gradients)),
                tree,
                tolerance,
                options,
                selected,
                known,
                Stopwatch(),
                trust,
            )

        report = once(self._trust)
        if report.verdict is Verdict.FAIL and self._trusting:
            self._trust = Trust()
            report = once(self._trust)
        self._trusting = True
        return report

    def canary(
        self,
        loss: Bound,
        params: Any,
        gradients: Mapping[str, FloatArray],
        tree: ParamTree,
        tolerance: Tolerance,
    ) -> tuple[str, ...]:
        """Return the tensors in which a planted error of one percent does not fail."""
        planted, selected = dict(gradients), {}
        for tensor in tree:
            values = np.array(gradients[tensor.name], dtype=np.float64)
            sizes = np.abs(values).ravel()
            largest = np.argsort(sizes)[::-1][:_CANARIES]
            selected[tensor.name] = np.sort(largest).astype(np.int64)
            if tensor.size and sizes[largest[0]] > 0:
                values.flat[largest[0]] *= 1 + _CANARY
            planted[tensor.name] = values
        report = self.check(loss, params, planted, tree, tolerance, selected, Known())
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
    tree: ParamTree, suspects: list[Suspect], rng: np.random.Generator
) -> dict[str, IndexArray]:
    """Return the elements that are suspected, and some of every tensor to compare with."""
    found = {suspect.name: suspect.elements for suspect in suspects}
    selected = {}
    for tensor in tree:
        some = rng.choice(tensor.size, min(_BESIDES, tensor.size), replace=False)
        chosen = found.get(tensor.name)
        selected[tensor.name] = np.unique(some if chosen is None else np.append(some, chosen))
    return selected


def seconds_of_all(report: Report) -> float:
    """Estimate what a check of all elements takes from one of some of them; at most that."""
    return sum(one.seconds * one.size / max(one.checked, 1) for one in report.tensors.values())
