"""Gradients that are right, but in another place, of another tensor, step or batch."""

from __future__ import annotations

from fastcheck.verdict.diagnosis.cover import Group
from fastcheck.verdict.diagnosis.evidence import Evidence
from fastcheck.verdict.diagnosis.families.layout import describe_order
from fastcheck.verdict.diagnosis.naming import Words, axis_words, listed, subject, subject_is

_LEAST_PLAIN = 0.01


def transpose(group: Group, evidence: Evidence) -> Words:
    """Say that it is transposed."""
    names = [facts.name for facts in group.facts]
    reshaped = group.first.figures.get("reshaped", False)
    seen = f"{subject_is(names)} the numerical one transposed"
    if reshaped:
        return f"{seen} and read out in the old shape{_times(group)}.", (
            "The factors of the product are the wrong way round, and a reshape hides it; or "
            "ravel and reshape take different orders."
        )
    return (
        f"{seen}{_times(group)}.",
        "The factors of the product are the wrong way round: dZ·Aᵀ and A·dZᵀ differ by that.",
    )


def permuted(group: Group, evidence: Evidence) -> Words:
    """Say how rows or columns were moved."""
    names = [facts.name for facts in group.facts]
    facts, figures = group.facts[0], group.first.figures
    if "axes" in figures:
        what = f"its {axis_words(facts.shape, figures['axes'])} in reverse order"
    else:
        lines = axis_words(facts.shape, [figures["axis"]])
        what = f"its {lines} in another order: {describe_order(figures['order'])}"
    return (
        f"{subject_is(names)} the numerical one with {what}{_times(group)}.",
        "The values are right and stand in the wrong places: look at how it is indexed, rolled, "
        "flipped or put together.",
    )


def of_another(group: Group, evidence: Evidence) -> Words:
    """Say whose gradient it is."""
    other = group.first.figures["other"]
    name = group.facts[0].name
    if group.cause == "swapped" and len(group.facts) == 2:
        return (
            f"The gradients of {name} and {other} are exchanged: each is the numerical gradient of "
            "the other.",
            "They are returned or stored under each other's name.",
        )
    if group.cause == "aliased-buffer":
        return (
            f"The gradients of {name} and {other} are the same to the last bit, and that is the "
            f"gradient of {other}.",
            "Both are one array, or one was written over the other: give each its own.",
        )
    return (
        f"The gradient of {name} is the numerical gradient of {other}.",
        "The wrong array is returned under its name.",
    )


def tied(group: Group, evidence: Evidence) -> Words:
    """Say that two tensors are one, and their gradients two parts of one."""
    names = [facts.name for facts in group.facts]
    return (
        f"The gradients of {listed(names)} are two parts of one: these tensors hold the same "
        "values, and the sum of both gradients is the numerical one.",
        "Weights that are tied are one tensor, whose gradient is the sum over all its uses: list "
        "them once, with that sum.",
    )


def parameters(group: Group, evidence: Evidence) -> Words:
    """Say that it is the parameters themselves."""
    names = [facts.name for facts in group.facts]
    return (
        f"{subject_is(names)} equal to the parameters themselves.",
        "The parameters are returned in place of their gradient.",
    )


def stale(group: Group, evidence: Evidence) -> Words:
    """Say that it is the step before."""
    names = [facts.name for facts in group.facts]
    return (
        f"{subject_is(names)} `previous_grads` in every element.",
        "It is the gradient of the step before: run forward and backward pass again after the "
        "parameters have changed.",
    )


def accumulated(group: Group, evidence: Evidence) -> Words:
    """Say that the step before is in it."""
    names = [facts.name for facts in group.facts]
    factor: float | None = group.first.figures.get("times")
    if factor is not None:
        times = f"{factor:.3f}" if abs(factor) >= _LEAST_PLAIN else f"{factor:.3g}"
        return (
            f"{subject_is(names)} the numerical one plus {times} × `previous_grads`.",
            f"{times} × the gradient of the step before was added: it was not zeroed, or a "
            "momentum buffer shares its memory.",
        )
    return (
        f"{subject_is(names)} the numerical one plus `previous_grads`.",
        "The gradient of the step before was not set to zero before this one was added to it.",
    )


def sample(group: Group, evidence: Evidence) -> Words:
    """Say which sample is missing or in it twice."""
    names, figures = [facts.name for facts in group.facts], group.first.figures
    sample, count = figures["sample"], figures["of"]
    what, where = ("sample", "the batch") if _is_batch(count, evidence) else ("place", "an axis")
    one = f"{what} {sample} of {count}" + ("" if what == "sample" else f" along {where}")
    if group.cause == "sample-dropped":
        rest = f", and divided by one {what} fewer" if figures.get("mean") else ""
        seen = f"leaves out {one}{rest}"
        why = f"A loop or slice over {where} misses it: look for range(…) and [:-1]."
    else:
        seen = f"counts {one} twice"
        why = f"A loop or slice over {where} takes it twice: look at its limits."
    verb = seen if len(names) == 1 else seen.replace("leaves", "leave").replace("counts", "count")
    return f"{subject(names)} {verb}.", why


def _is_batch(count: int, evidence: Evidence) -> bool:
    """Whether there are so many samples, or may be; else it is windows or steps that are many."""
    if evidence.samples is not None:
        return True
    if evidence.batch_size is not None:
        return count == evidence.batch_size
    return evidence.may_count(count)


def one_sample(group: Group, evidence: Evidence) -> Words:
    """Say which sample stands for all."""
    names, figures = [facts.name for facts in group.facts], group.first.figures
    count = figures["of"]
    if not _is_batch(count, evidence):
        return (
            f"{subject_is(names)} what place {figures['sample']} of {count} alone along an axis "
            "adds to the numerical one.",
            "A sum is missing: what all places along an axis share in the forward pass has a "
            "gradient that is summed over them.",
        )
    return (
        f"{subject_is(names)} that of sample {figures['sample']} alone, of {count}.",
        "The sum over the samples is missing: np.sum over the axis of the batch."
        + (
            ""
            if evidence.samples is not None or evidence.batch_size is not None
            else f" (If there are {count}; else over what has as many places.)"
        ),
    )


def _times(group: Group) -> str:
    factor = group.first.figures["factor"]
    return "" if factor.value == 1 else f", times {factor.value:.4g}"
