"""Terminal colours, on request."""

from __future__ import annotations

from fastcheck.report.data import Verdict

_RESET = "\x1b[0m"
_BOLD = "1"
_DIM = "2"
_VERDICTS = {Verdict.PASS: "1;32", Verdict.FAIL: "1;31", Verdict.INCONCLUSIVE: "1;33"}


class Paint:
    """Wraps text in ANSI colours, or leaves it alone. The caller decides; nothing is sniffed.

    Parameters
    ----------
    colour : bool
        Whether to colour at all.
    """

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def bold(self, text: str) -> str:
        return self._styled(text, _BOLD)

    def dim(self, text: str) -> str:
        return self._styled(text, _DIM)

    def verdict(self, text: str, verdict: Verdict) -> str:
        return self._styled(text, _VERDICTS[verdict])

    def _styled(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}{_RESET}" if self._colour and text else text
