"""Mistakes in one place of a backward pass, found by making them in one that is right."""

from __future__ import annotations

from fastcheck.verdict.diagnosis.backward import NoRuleError
from fastcheck.verdict.diagnosis.evidence import Evidence, Tensors
from fastcheck.verdict.diagnosis.families.activations import activations, paths
from fastcheck.verdict.diagnosis.families.batch import dropped_samples, single_samples
from fastcheck.verdict.diagnosis.families.inputs import inputs
from fastcheck.verdict.diagnosis.right_pass import Found, RightPass


def forward_pass(evidence: Evidence, unexplained: Tensors) -> Found:
    """Return hypotheses on the tensors that nothing simpler explains; none without a trace."""
    found: Found = {facts.name: [] for facts in unexplained}
    if evidence.graph is None or not unexplained:
        return found
    try:
        passed = RightPass(evidence, evidence.graph, unexplained)
        if not passed.is_trusted():
            return found
        for family in (activations, paths, inputs, single_samples, dropped_samples):
            family(passed, found)
    except NoRuleError:
        return found
    except Exception:
        # A trace may hold anything; what is known without it must not be lost for it.
        return {facts.name: [] for facts in unexplained}
    return found
