"""What each way of checking has cost so far, and which of them fits into a budget."""

from __future__ import annotations

from dataclasses import dataclass

# Three passes and what goes with them, in steps of the training that take two passes and more.
_STEPS_OF_A_JOINT = 6
_PASSES_OF_A_TRACE = 60
_SECONDS_OF_A_TRACE = 0.05
_GROWTH = 4
"""A sample is at most so many times as large as the largest one whose cost is known."""
_SMOOTHING = 0.3


@dataclass(frozen=True)
class Choice:
    """What to do at a step that can be afforded.

    Attributes
    ----------
    mode : {"joint", "directions", "sample"}
        One direction through all tensors; one in each; elements.
    count : int
        How many elements.
    """

    mode: str
    count: int = 0


class Prices:
    """Seconds by way of checking: guessed from a training step, then measured.

    Parameters
    ----------
    sample : int
        The smallest sample of elements.
    """

    def __init__(self, sample: int) -> None:
        self._sample = sample
        self._known: dict[str, float] = {}
        self._samples: dict[int, float] = {}

    def learn(self, choice: Choice, seconds: float) -> None:
        """Remember what a check took."""
        if choice.mode == "sample":
            self._samples[choice.count] = _mixed(self._samples.get(choice.count), seconds)
        else:
            self._known[choice.mode] = _mixed(self._known.get(choice.mode), seconds)

    def choose(self, allowance: float, a_step: float, tensors: int, parameters: int) -> Choice:
        """Return the most that fits into `allowance` seconds.

        Parameters
        ----------
        allowance : float
            Seconds.
        a_step : float
            Seconds of a training step, which is a forward pass and more.
        tensors, parameters : int
            How many there are.
        """
        count = self._elements(allowance, a_step, parameters)
        if count:
            return Choice("sample", count)
        joint = self.least(a_step)
        # A pass and what goes with it, three of them in a joint direction.
        each = self._known.get("directions", joint / 3 * (2 * tensors + 1))
        if tensors > 1 and each <= allowance:
            return Choice("directions")
        return Choice("joint")

    def least(self, a_step: float) -> float:
        """Return the seconds of the cheapest check."""
        return self._known.get("joint", _STEPS_OF_A_JOINT * a_step)

    def _elements(self, allowance: float, a_step: float, parameters: int) -> int:
        smallest = min(self._sample, parameters)
        if not self._samples:
            guess = _SECONDS_OF_A_TRACE + (_PASSES_OF_A_TRACE + 2 * smallest) * a_step
            return smallest if guess <= allowance else 0
        least, most = min(self._samples), max(self._samples)
        slope = self._samples[most] / most
        if most > least:
            slope = max((self._samples[most] - self._samples[least]) / (most - least), 0.0)
        fixed = max(self._samples[most] - slope * most, 0.0)
        if fixed + slope * smallest > allowance:
            return 0
        count = parameters if slope == 0 else int((allowance - fixed) / slope)
        return max(smallest, min(count, _GROWTH * most, parameters))


def _mixed(before: float | None, now: float) -> float:
    # The first one of a kind pays for what is imported and compiled.
    return now if before is None or now < before else before + _SMOOTHING * (now - before)
