"""Taking back what was done to the user's namespaces and objects for the time of a trace."""

from __future__ import annotations

from collections.abc import Callable

Steps = list[Callable[[], None]]
"""Each takes one thing back, and does no harm if it is taken twice."""


def take_back(steps: Steps) -> None:
    """Take the steps, the last first: all of them, even where one fails or Ctrl-C is pressed."""
    failure: BaseException | None = None
    while steps:
        try:
            steps[-1]()
        except KeyboardInterrupt as interrupt:
            failure = interrupt
            continue  # this step again
        except Exception as error:
            failure = failure or error
        steps.pop()
    if failure is not None:
        raise failure
