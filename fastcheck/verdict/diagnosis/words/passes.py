"""Mistakes at one place of the backward pass."""

from __future__ import annotations

from typing import Any

from fastcheck.verdict.diagnosis.cover import Group
from fastcheck.verdict.diagnosis.evidence import Evidence
from fastcheck.verdict.diagnosis.naming import Words, listed, subject_is


def derivative(group: Group, evidence: Evidence) -> Words:
    """Say which derivative is missing or wrong."""
    names, figures = [facts.name for facts in group.facts], group.first.figures
    where = _place(figures)
    if "places" not in figures:
        where = f"{where} behind {listed(figures['after'])}"
    if figures["taken"]:
        return (
            f"{subject_is(names)} what a backward pass gives that takes "
            f"{figures['taken']} for the derivative of {where}.",
            "Put the derivative of that operation in its place, at the values it was given.",
        )
    return (
        f"{subject_is(names)} what a backward pass gives without the derivative of {where}.",
        f"What flows back there must be multiplied by it{_mask(group, figures)}.",
    )


def _mask(group: Group, figures: dict[str, Any]) -> str:
    """Say what the derivative of a mask is: not 1 where it divides by the share that it keeps."""
    value = figures["open"]
    if group.cause != "missing-mask" or value is None:
        return ""
    return f": {value:.4g} where the operation lets its input through, 0 elsewhere"


def path(group: Group, evidence: Evidence) -> Words:
    """Say which way to the loss is left out."""
    names, figures = [facts.name for facts in group.facts], group.first.figures
    where = _place(figures)
    if figures["what"] == "constant":
        return (
            f"{subject_is(names)} what a backward pass gives that takes all that is formed over "
            f"an axis for a constant (a mean and a variance, say), in {where}.",
            "Statistics of the batch or the layer depend on what they are formed of: the ways "
            "through each of them are to be added.",
        )
    if figures["what"] == "truncated":
        count = figures["steps"]
        return (
            f"{subject_is(names)} what a backward pass gives that carries what flows back through "
            f"{where} on for {count} step{'s' if count > 1 else ''} only.",
            "Backpropagation through time is truncated there: the gradient of the loss goes back "
            "through all steps.",
        )
    how = (
        "without the path through"
        if figures["what"] == "missing"
        else "that counts twice the path through"
    )
    return (
        f"{subject_is(names)} what a backward pass gives {how} {where}.",
        "The gradients of all ways to the loss are added up, each once: look for a term left out, "
        "a loop that ends early, or an array taken for a constant.",
    )


def not_transposed(group: Group, evidence: Evidence) -> Words:
    """Say which weights carry back what flows as they carry it forth."""
    names, figures = [facts.name for facts in group.facts], group.first.figures
    return (
        f"{subject_is(names)} what a backward pass gives that multiplies by the weights of "
        f"{_place(figures)}, as they are and not transposed.",
        "What flows back through a product with W is multiplied by Wᵀ: a square W has the same "
        "shape both ways.",
    )


def repeated(group: Group, evidence: Evidence) -> Words:
    """Say where what flows back to equal indices is not added up."""
    names, figures = [facts.name for facts in group.facts], group.first.figures
    return (
        f"{subject_is(names)} what a backward pass gives that keeps, of all that flows back "
        f"through {_place(figures)} to the same place, the last only.",
        "What is taken several times has a gradient that is a sum: `grad[idx] += …` writes each of "
        "equal indices over the one before, and so does `=` in a loop; np.add.at(grad, idx, …) "
        "adds them up.",
    )


def _place(figures: dict[str, Any]) -> str:
    """Return the operation and its line, and how many of them there are."""
    where = f"`{figures['operation']}` ({figures['source']})"
    many = figures.get("places", 1)
    return f"{where}, at each of {many} places" if many > 1 else where


def input_of(group: Group, evidence: Evidence) -> Words:
    """Say what stands in the place of the input of the layer."""
    names, figures = [facts.name for facts in group.facts], group.first.figures
    right = f"`{figures['right']}` ({figures['source']})"
    if figures["taken"] == "slope":
        return (
            f"{subject_is(names)} formed with the derivative of {right} in place of its result.",
            "The result was overwritten in place by its derivative before this product, or the "
            "wrong variable was taken.",
        )
    if figures["taken"] == "data":
        taken = "an array of the data"
    else:
        taken = f"the result of `{figures['taken']}` ({figures['at']})"
    place = "the data that enter the layer"
    if figures["right"] != "constant":
        place = f"the layer's input, the result of {right}"
    return (
        f"{subject_is(names)} formed with {taken} in place of {place}.",
        "Another variable was taken, or the right one was overwritten in place before it was used.",
    )


def epsilon(group: Group, evidence: Evidence) -> Words:
    """Say which small constant the derivative leaves out."""
    names, figures = [facts.name for facts in group.facts], group.first.figures
    share = max(hypothesis.figures["share"] for _, hypothesis in group.members)
    those = f"{'those' if len(names) > 1 else 'that'} of the loss without"
    what = (
        "what a backward pass gives that leaves out, in some places," if figures["way"] else those
    )
    return (
        f"{subject_is(names)} {what} {figures['said']}: up to {share:.1e} from the right ones.",
        "What the constant keeps away from zero is hardly larger than it here, so it counts: take "
        f"it into the derivative{_instead(figures['said'])}.",
    )


def _instead(said: str) -> str:
    """Say how a logarithm of probabilities does without a constant; roots and quotients need it."""
    if "`log" not in said:
        return ""
    return (
        ", or write the loss so that it needs none: log-softmax of the logits in place of the "
        "logarithm of a softmax, say"
    )
