"""What a constant factor between two gradients says about the code."""

from __future__ import annotations

import numpy as np

from fastcheck.verdict.diagnosis.cover import Group
from fastcheck.verdict.diagnosis.evidence import Evidence, TensorFacts
from fastcheck.verdict.diagnosis.factors import Factor
from fastcheck.verdict.diagnosis.naming import listed, subject_is

_EQUAL = 1e-12
_COMMON = 4
"""So few samples are no more telling than a factor of as much."""
_FACTOR = " Or it is a plain factor of {}."
_ROUND, _LARGE = 2, 10
"""Constants that people write have no more digits than this: 0.8 need not be 4 of 5 samples."""


def factor_evidence(group: Group, factor: Factor) -> str:
    """Say by what the gradient is too large, and how sure that is."""
    names = [facts.name for facts in group.facts]
    seen = f"{subject_is(names)} {_digits(factor)} × the numerical one in every element"
    spared = [facts.name for facts, hypothesis in group.members if "spared" in hypothesis.figures]
    if spared:
        return f"{seen}, but for what penalties on {listed(spared)} add, which is right."
    cosine = min(_cosine(facts) for facts in group.facts)
    return f"{seen} (cosine {cosine:.6f})."


def _digits(factor: Factor) -> str:
    """Return four digits, or as many as tell the factor from 1."""
    apart = abs(abs(factor.value) - 1)
    more = int(np.ceil(-np.log10(apart))) if 0 < apart < 1e-3 and not factor.named else 0
    return f"{factor.value:#.{4 + more}g}"


def _cosine(facts: TensorFacts) -> float:
    g, n = facts.both()
    sizes = facts.sizes
    return float((g / sizes[0]) @ (n / sizes[1])) if all(sizes) else 1.0


def factor_explanation(group: Group, factor: Factor, evidence: Evidence, biases: bool) -> str:
    """Say what the factor comes from."""
    alive = [facts for facts in evidence.tensors if facts.alive]
    everywhere = len(group.facts) == len(alive)
    label = factor.label
    if label == "-1":
        return _sign(everywhere)
    if label in ("2", "1/2"):
        return f"{_two(label, everywhere, evidence)}{_two_samples(label, biases, evidence)}"
    if label in ("-2", "-1/2"):
        return f"The sign is wrong, and {_lower(_two(label[1:], False, evidence))}"
    if factor.count and (label.lstrip("-") not in ("N", "1/N") or evidence.may_count(factor.count)):
        return _samples(factor, biases, evidence)
    return (
        f"A constant factor of {factor.value:.6g} does not belong there: look for a learning "
        "rate, the 1/keep of dropout, or a weight of the loss."
    )


def _sign(everywhere: bool) -> str:
    if everywhere:
        return (
            "The sign of the loss's derivative is the wrong way round (Y − A for A − Y), or what "
            "is differentiated is the negative loss."
        )
    return "A minus sign is missing, or one too many, where it is computed."


def _two(label: str, everywhere: bool, evidence: Evidence) -> str:
    if label == "2":
        why = "A factor ½ is missing, or this gradient is added twice"
        if not everywhere:
            return f"{why}."
        if evidence.previous is None:
            why = (
                f"{why} (with one of an equal step before that was not zeroed, say: "
                "`previous_grads` would tell)"
            )
        return (
            f"{why}; if it comes from a numerical routine of your own, that divides by h in place "
            "of 2h."
        )
    why = "A factor 2 is missing (that of a square's derivative, say), or a ½ is applied twice"
    if not everywhere:
        return f"{why}."
    return (
        f"{why}; if it comes from a numerical routine of your own, its copy of the parameters is "
        "shallow, and the perturbation is not undone before the second loss."
    )


def _two_samples(label: str, biases: bool, evidence: Evidence) -> str:
    """Say that 2 may be the number of samples."""
    if not evidence.may_be_two or (label == "1/2" and not biases):
        return ""
    if label == "2":
        return " Or, as likely: the sum over the 2 samples stands where the loss takes their mean."
    return " Or, as likely: the mean over the 2 samples stands where their sum belongs."


def also(group: Group, evidence: Evidence) -> tuple[str, ...]:
    """Return other causes that a factor may have, all of which the sentences name."""
    factor = group.first.figures.get("factor")
    if not (group.first.plain and isinstance(factor, Factor)):
        return ()
    if factor.label == "2" and evidence.may_be_two:
        return ("missing-mean",)
    if factor.label == "1/2" and evidence.may_be_two and only_biases(group, evidence):
        return ("missing-bias-sum",)
    return ("scale",) if _is_common(factor) else ()


def _is_common(factor: Factor) -> bool:
    """Whether a number of samples may as well be another number."""
    if factor.label in ("M", "M/2"):
        return factor.value <= _COMMON
    return factor.label in ("N", "1/N")


def _plain(factor: Factor) -> str:
    """Say that it may be a constant that has nothing to do with the samples, where it is one."""
    size = abs(factor.value)
    digits = 1 if size >= _LARGE else _ROUND
    is_round = abs(float(f"{size:.{digits - 1}e}") - size) <= _EQUAL * size
    return _FACTOR.format(f"{size:.6g}") if is_round or _is_common(factor) else ""


def _samples(factor: Factor, biases: bool, evidence: Evidence) -> str:
    count, label = factor.count, factor.label.lstrip("-")
    sign = "The sign is wrong, and t" if factor.value < 0 else "T"
    if label in ("N", "1/N"):
        return sign + _unnamed(count, label, biases, evidence)
    if label == "M":
        return (
            f"{sign}he sum over the {count} samples stands where the loss takes their mean: divide "
            f"by M = {count}." + (_plain(factor) if _is_common(factor) else "")
        )
    if label == "1/M" and biases:
        return (
            f"{sign}he mean over the {count} samples stands where their sum belongs: np.sum in "
            "place of np.mean, where the division by M was done before."
        )
    if label == "1/M":
        return (
            f"{sign}he gradient is divided by M = {count} once too often, or the loss is a sum and "
            f"not a mean.{_plain(factor)}"
        )
    if label in ("M/(M-1)", "(M-1)/M"):
        return (
            f"{sign}he number of samples is off by one where M = {count} is divided "
            f"by.{_plain(factor)}"
        )
    return (
        f"{sign}he factor is {label} with M = {count} samples: the mean over the samples and a "
        f"factor 2 or ½ do not match those of the loss.{_plain(factor)}"
    )


def _unnamed(count: int, label: str, biases: bool, evidence: Evidence) -> str:
    known = count in evidence.data_lengths
    if label == "N":
        if evidence.averages(count):
            return (
                f"he loss divides by {count}, as the mean over so many does: the sum stands where "
                f"it takes the mean; divide by {count}.{_FACTOR.format(count)}"
            )
        return (
            f"his would be a mean over {count} samples taken as a sum, if there are as many; else "
            f"look for a factor of {count}. (`batch_size` would tell.)"
        )
    where = f"the data have an axis of length {count}" if known else f"if there are {count} samples"
    if biases:
        return f"his is np.mean in place of np.sum over the samples ({where})."
    return f"he gradient is divided by {count} once too often ({where}: the mean taken twice)."


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def means_samples(group: Group, factor: Factor, evidence: Evidence) -> bool:
    """Whether a division of the biases alone may be a mean over the samples."""
    return only_biases(group, evidence) and evidence.may_count(factor.count)


def only_biases(group: Group, evidence: Evidence) -> bool:
    """Whether the biases are wrong and the weights right."""
    return all(f.is_bias for f in group.facts) and any(not f.is_bias for f in evidence.right)
