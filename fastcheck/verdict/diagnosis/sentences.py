"""Findings in words: what was seen, with figures; what it comes from; what to look for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fastcheck.report.data import Finding
from fastcheck.verdict.diagnosis.cover import Group, tied
from fastcheck.verdict.diagnosis.evidence import Evidence, in_report
from fastcheck.verdict.diagnosis.factor_sentences import also, means_samples
from fastcheck.verdict.diagnosis.factors import Factor
from fastcheck.verdict.diagnosis.naming import Words, gradient_of
from fastcheck.verdict.diagnosis.words import amounts, conventions, few, passes, whereabouts

_ROUNDED = 1e-6


def exact_finding(group: Group, evidence: Evidence) -> Finding:
    """Return the finding of a mistake that fits exactly."""
    seen, why = words(group, evidence)
    own = _cause(group, evidence)
    for other in group.alternatives:
        if _cause(other, evidence) == own:
            continue
        likely = "as likely" if tied(group, other) else "less simply"
        why = f"{why} Or, {likely}: {' '.join(words(other, evidence))}"
    return Finding(
        cause=own,
        certainty="exact",
        tensors=in_report(group.facts),
        evidence=seen,
        explanation=why,
        alternatives=_others(group, evidence),
    )


def doubtful_finding(group: Group, evidence: Evidence) -> Finding:
    """Return the hint that a mistake fits that may only follow from what nothing explains."""
    found = exact_finding(group, evidence)
    doubt = "It may as well follow from what is wrong nearer to the loss, which nothing explains."
    return replace(found, certainty="partly", explanation=f"{found.explanation} {doubt}")


def partly_finding(group: Group, left: float, evidence: Evidence) -> Finding:
    """Return the hint that a mistake explains most of an error, but not all."""
    names = [facts.name for facts in group.facts]
    _, why = words(group, evidence)
    return Finding(
        cause=_cause(group, evidence),
        certainty="partly",
        tensors=in_report(group.facts),
        evidence=(
            f"No known mistake explains {gradient_of(names)} to the last digits; one explains all "
            f"but {100 * left:.2g}% of what is wrong:"
        ),
        explanation=f"{why[0].lower()}{why[1:].rstrip('.')}. The rest has another cause.",
    )


def _others(group: Group, evidence: Evidence) -> tuple[str, ...]:
    """Return the causes that fit as well, each once."""
    own = _cause(group, evidence)
    others = [*also(group, evidence), *(_cause(other, evidence) for other in group.alternatives)]
    if own == "unused" and not group.first.figures["traced"]:
        others.append("missing-mask")
    return tuple(cause for cause in dict.fromkeys(others) if cause != own)


def _cause(group: Group, evidence: Evidence) -> str:
    factor = group.first.figures.get("factor")
    if group.cause == "constant-left-out":
        slope, count = group.first.figures["slope"], evidence.batch_size
        lengths = evidence.data_lengths if count is None else {count}
        is_count = any(abs(slope * length - 1) < _ROUNDED for length in lengths)
        return "missing-mean" if is_count else "scale"
    if group.cause == "scale" and isinstance(factor, Factor) and factor.label in ("1/M", "1/N"):
        return "missing-bias-sum" if means_samples(group, factor, evidence) else "scale"
    if group.cause == "missing-mean" and isinstance(factor, Factor) and factor.label == "N":
        return "missing-mean" if evidence.averages(factor.count) else "scale"
    return group.cause


def words(group: Group, evidence: Evidence) -> Words:
    """Return what was seen and what it comes from."""
    return _WORDS[group.cause](group, evidence)


_WORDS: dict[str, Callable[[Group, Evidence], Words]] = {
    "scale": amounts.scale,
    "sign": amounts.scale,
    "missing-mean": amounts.scale,
    "clipped": amounts.clipped,
    "conjugate": conventions.conjugate,
    "zero": amounts.zero,
    "unused": amounts.unused,
    "perturbation-lost": amounts.lost,
    **dict.fromkeys(("missing-l2", "extra-l2", "missing-l1", "extra-l1"), amounts.penalty),
    "transpose": whereabouts.transpose,
    **dict.fromkeys(("permuted", "permuted-rows", "permuted-columns"), whereabouts.permuted),
    **dict.fromkeys(("swapped", "aliased-buffer", "other-tensor"), whereabouts.of_another),
    "tied-weights": whereabouts.tied,
    "parameters": whereabouts.parameters,
    "stale": whereabouts.stale,
    "accumulated": whereabouts.accumulated,
    "sample-dropped": whereabouts.sample,
    "sample-repeated": whereabouts.sample,
    "one-sample": whereabouts.one_sample,
    "missing-bias-sum": whereabouts.one_sample,
    "one-element": few.elements,
    "one-row": few.lines,
    "missing-mask": passes.derivative,
    "constant-left-out": passes.derivative,
    "activation-derivative": passes.derivative,
    "epsilon": passes.epsilon,
    "missing-path": passes.path,
    "path-twice": passes.path,
    "repeated-index": passes.repeated,
    "weights-not-transposed": passes.not_transposed,
    "wrong-input": passes.input_of,
    "overwritten-buffer": passes.input_of,
}
