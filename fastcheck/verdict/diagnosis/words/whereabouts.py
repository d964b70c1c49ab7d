"""Gradients that are right, but in another place, of another tensor, step or batch."""

from __future__ import annotations

from typing import Any

import numpy as np

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
    is_sample = _counts_samples(figures, evidence)
    what, where = ("sample", "the batch") if is_sample else ("place", "that axis")
    one = _which(group, is_sample)
    if group.cause == "sample-dropped":
        rest = f", and divided by one {what} fewer" if figures.get("mean") else ""
        verb, seen = "leaves out", f"{one}{rest}"
        why = f"A loop or slice over {where} misses it: look for range(…) and [:-1]."
    else:
        verb, seen = "counts", f"{one} twice"
        why = f"A loop or slice over {where} takes it twice: look at its limits."
    if len(names) > 1:
        verb = verb.replace("leaves", "leave").replace("counts", "count")
    return f"{subject(names)} {verb} {seen}.", f"{why}{_unsaid(group, is_sample, evidence)}"


def _which(group: Group, is_sample: bool, alone: str = "") -> str:
    """Return which sample it is, or which ones it may be, or which place along which axis."""
    figures = group.first.figures
    numbers = sorted({figures["sample"], *(other.first.figures["sample"] for other in group.alike)})
    lengths = figures.get("lengths", (figures["of"],))
    places = [_index(number, lengths) for number in numbers]
    what, of = ("sample" if is_sample else "place"), " × ".join(map(str, lengths))
    one = f"{what} {places[0]} of {of}{alone}"
    if len(places) > 1:
        one = f"one of the {what}s {listed(places)} of {of} (which add the same here){alone}"
    if is_sample:
        return one
    if len(group.facts) > 1:
        return f"{one} along an axis"
    axes = figures["axes"]
    of_axes = f"ax{'e' if len(axes) > 1 else 'i'}s {listed([str(axis) for axis in axes])}"
    return f"{one} along {of_axes} of the result of {figures['operation']}"


def _index(number: int, lengths: tuple[int, ...]) -> str:
    index = np.unravel_index(number, lengths)
    return str(number) if len(lengths) == 1 else f"({', '.join(str(int(i)) for i in index)})"


def _counts_samples(figures: dict[str, Any], evidence: Evidence) -> bool:
    """Whether what is counted is samples for certain; else it may be windows or steps."""
    if "axes" not in figures:  # each sample's own gradient was given
        return True
    if evidence.batch_size is not None and figures["of"] != evidence.batch_size:
        return False
    return bool(figures["batch"] or (evidence.batch_size is not None and figures["only"]))


def _unsaid(group: Group, is_sample: bool, evidence: Evidence) -> str:
    if is_sample or evidence.batch_size is not None or len(group.first.figures["axes"]) > 1:
        return ""
    return " (Whether that is the axis of the batch, `batch_size` would tell.)"


def one_sample(group: Group, evidence: Evidence) -> Words:
    """Say which sample stands for all."""
    names, figures = [facts.name for facts in group.facts], group.first.figures
    is_sample = _counts_samples(figures, evidence)
    one = _which(group, is_sample, " alone")
    if not is_sample:
        return (
            f"{subject_is(names)} what {one} adds to the numerical one.",
            "A sum is missing: what all places along an axis share in the forward pass has a "
            f"gradient that is summed over them.{_unsaid(group, is_sample, evidence)}",
        )
    return (
        f"{subject_is(names)} that of {one}.",
        "The sum over the samples is missing: np.sum over the axis of the batch.",
    )


def _times(group: Group) -> str:
    factor = group.first.figures["factor"]
    return "" if factor.value == 1 else f", times {factor.value:.4g}"
