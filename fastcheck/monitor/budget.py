"""Time spent on training and on checking it, and what may be spent next."""

from __future__ import annotations

import math
from time import perf_counter


class Budget:
    """A stopwatch for the training, and one for the checks in between.

    Parameters
    ----------
    share : float or None
        What all checks together may take, relative to the training's time; None for no limit.

    Attributes
    ----------
    spent : float
        Seconds of checks.
    """

    def __init__(self, share: float | None) -> None:
        self.spent = 0.0
        self._share = share
        self._start: float | None = None
        self._paused = 0.0

    @property
    def training(self) -> float:
        """Seconds of training so far: all since the first pause, but for the checks."""
        return 0.0 if self._start is None else self._paused - self._start - self.spent

    @property
    def allowance(self) -> float:
        """Seconds that may be spent now."""
        return math.inf if self._share is None else self._share * self.training - self.spent

    def allowance_soon(self, steps: int) -> float:
        """Return what the allowance will be after one more step like the `steps` before."""
        if self._share is None:
            return math.inf
        return self.allowance - self.lapse() + self._share * self.training / max(steps, 1)

    def pause(self) -> None:
        """The training stops, and the monitor begins."""
        self._paused = perf_counter()
        if self._start is None:
            self._start = self._paused

    def resume(self) -> None:
        """The training goes on."""
        self.spent += self.lapse()

    def lapse(self) -> float:
        """Return the seconds since the pause began."""
        return perf_counter() - self._paused

    def steps_until(self, seconds: float, steps: int) -> float:
        """Return in how many training steps so much can be afforded, if all take what `steps` did.

        0 means now; infinity that nothing is known of steps yet.
        """
        missing = seconds - self.allowance
        if self._share is None or (missing <= 0 and steps):
            return 0
        gained = self._share * self.training / steps if steps else 0.0
        return missing / gained if gained > 0 else math.inf
