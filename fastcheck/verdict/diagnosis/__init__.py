"""Diagnosis: from a wrong gradient to the mistake that made it, where the figures prove which.

`diagnose` takes the evidence (both gradients, error bars, context) and returns findings in words.
Hypotheses come in families, one a module; `hypothesis.fit` says whether one holds to the last
digit, `cover` chooses the fewest and simplest that explain everything.
"""

from fastcheck.verdict.diagnosis.diagnose import diagnose
from fastcheck.verdict.diagnosis.gather import gather

__all__ = ["diagnose", "gather"]
