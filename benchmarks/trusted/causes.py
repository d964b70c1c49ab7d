"""Whether a report names the cause of a planted bug."""

from __future__ import annotations

import fastcheck
from fastcheck.planted import Bug

# The same thing by another name: a ReLU's derivative is its mask; a row may have one element that
# is not zero.
SAME: dict[str, tuple[str, ...]] = {
    "activation-derivative": ("missing-mask",),
    "missing-mask": ("activation-derivative",),
    "one-row": ("one-element",),
}


def named(report: fastcheck.Report, bug: Bug) -> str:
    """Return "right" or "wrong" where the diagnosis is certain of a cause, else "none"."""
    certain = certain_causes(report)
    if not certain:
        return "none"
    return "right" if {bug.name, *SAME.get(bug.name, ())} & set(certain) else "wrong"


def certain_causes(report: fastcheck.Report) -> tuple[str, ...]:
    """Return all causes of which the diagnosis is certain, and those that it says fit as well."""
    diagnosis = getattr(report, "diagnosis", None)
    exact = [f for f in getattr(diagnosis, "findings", ()) if f.certainty == "exact"]
    return tuple(cause for finding in exact for cause in (finding.cause, *finding.alternatives))
