"""One step of a training loop as a `with` block."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fastcheck.report.data import Report

if TYPE_CHECKING:
    from fastcheck.monitor.monitor import Monitor


class Step:
    """What ``with monitor.step() as step`` gives.

    Parameters
    ----------
    monitor : Monitor
    given : tuple or None
        Parameters, gradient and batch, if these are known on entry.

    Attributes
    ----------
    report : Report or None
        What the check of this step said; None if there was none.
    """

    def __init__(self, monitor: Monitor, given: tuple[Any, Any, Any] | None) -> None:
        self._monitor = monitor
        self._given = given
        self.report: Report | None = None

    def __enter__(self) -> Self:
        if self._given is None:
            self._monitor.begin()
        else:
            self.report = self._monitor(*self._given)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def check(self, params: Any, grads: Any, *batch: Any, **named: Any) -> Report | None:
        """Count this step and check its gradient if that is due; as `Monitor` itself does."""
        self.report = self._monitor(params, grads, *batch, **named)
        return self.report
