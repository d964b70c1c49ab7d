"""The finding that nothing fits, and where to look."""

from __future__ import annotations

from collections.abc import Sequence

from fastcheck.report.data import Finding
from fastcheck.trace.graph import Node
from fastcheck.verdict.diagnosis.cleared import Cleared
from fastcheck.verdict.diagnosis.evidence import Evidence, TensorFacts, in_report
from fastcheck.verdict.diagnosis.naming import is_are, listed, operation, subject_is
from fastcheck.verdict.diagnosis.where import Place, place_of, telling


def where_finding(evidence: Evidence, wrong: tuple[TensorFacts, ...]) -> Finding:
    """Return which layer goes wrong first, seen from the loss, and where to look."""
    found = place_of(evidence, wrong)
    names = [facts.name for facts in found.first]
    seen = f"{subject_is(names)} wrong in a way that no known mistake explains"
    if found.nearer:
        nearer = listed([facts.name for facts in found.nearer])
        seen = f"{seen}, while all that is nearer to the loss is right ({nearer})"
    return Finding(
        cause="unknown",
        certainty="where",
        tensors=in_report(wrong),
        evidence=f"{seen}.",
        explanation=" ".join(_advice(found, evidence)),
    )


def _advice(found: Place, evidence: Evidence) -> list[str]:
    if found.cleared is not None:
        said = [_of_cleared(found.cleared, found.first)]
    elif found.nearer or not found.next_to_loss:
        named = _derivatives(found) or "what flows back from there, and the sums and products"
        said = [f"Look between this layer and the next: {named}."]
    else:
        named = _derivatives(found) or "the derivative of the loss"
        # What no product divides from it may be nearer to the loss all the same.
        said = [
            f"Look at {named}."
            if found.beside
            else f"It is the layer next to the loss: look at {named}."
        ]
    if still := [f.name for f in found.first if f.sizes[1] == 0]:
        said.append(
            f"The loss does not change with {listed(still)} here, so nothing should flow back: "
            "through dead units, say, a mask of zeros, or a mean that is subtracted."
        )
    if found.behind:
        said.append(f"{listed([f.name for f in found.behind])} behind it may follow from that.")
    if len(found.first + found.behind) == sum(f.alive for f in evidence.tensors) > 1:
        said += _questions(evidence)
    if not evidence.certain_depths and (found.nearer or found.behind):
        said.append("(The order of the layers is that of `params`, as the loss was not traced.)")
    return said


def _of_cleared(shown: Cleared, wrong: tuple[TensorFacts, ...]) -> str:
    """Say how far back all is right, and what is left."""
    names = [facts.name for facts in shown.by]
    far = f"right as far as {listed(names)} can show, which {is_are(names)} right"
    if not shown.direct:
        named = _named(telling(shown.between)) or "the operations there"
        return (
            f"What flows back to where {listed(names)} go{'' if len(names) > 1 else 'es'} in is "
            f"{far}. Look between there and this layer, at {named}, and at the products."
        )
    if not all(facts.is_bias for facts in wrong):
        look = "at the product that forms it, and at the layer's input and the order of samples"
    elif all(facts.is_bias for facts in shown.by):
        # A vector may be a bias, or weights of one unit where the others of the layer are biases.
        look = "at how it is formed from that: the layer's input, the sum over the samples"
    else:
        look = "at the sum over the samples"
    return f"What flows back to this layer is {far}: look {look} there."


def _derivatives(found: Place) -> str:
    return _named(found.operations)


def _named(operations: Sequence[Node]) -> str:
    if not operations:
        return ""
    named = [f"`{operation(node)}` ({node.source})" for node in operations]
    return f"the derivative{'s' if len(named) > 1 else ''} of {listed(named)}"


def _questions(evidence: Evidence) -> list[str]:
    """What would show whether the whole gradient is another step's, or lacks a sample."""
    unasked = [
        name
        for name, known in (
            ("previous_grads", evidence.previous),
            ("sample_grads", evidence.samples),
        )
        if known is None
    ]
    if not unasked:
        return []
    names = " and ".join(f"`{name}`" for name in unasked)
    return [f"If it may be that of other parameters or samples, {names} would tell."]
