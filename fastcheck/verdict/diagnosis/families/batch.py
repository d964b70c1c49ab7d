"""One sample in place of the sum over all, or a sum that one sample is missing from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.trace.primitives import CONTRACT, TRANSPOSE
from fastcheck.verdict.diagnosis.backward import slopes
from fastcheck.verdict.diagnosis.evidence import TensorFacts
from fastcheck.verdict.diagnosis.hypothesis import Hypothesis, fit
from fastcheck.verdict.diagnosis.right_pass import Found, RightPass, changed, given, use_of


def single_samples(passed: RightPass, found: Found) -> None:
    """The gradient of a bias is one sample's, in place of the sum over all."""
    for facts in passed.unexplained:
        each = _bias_samples(passed, facts)
        if each is None:
            continue
        apart = np.linalg.norm(each - facts.analytic, axis=1)
        sample = int(np.argmin(apart))
        hypothesis = Hypothesis(
            "missing-bias-sum",
            ("missing-bias-sum", sample),
            0.9,
            given(facts, each[sample]),
            figures={"sample": sample, "of": len(each)},
        )
        if fit(facts, hypothesis).exact:
            found[facts.name].append(hypothesis)


def _bias_samples(passed: RightPass, facts: TensorFacts) -> FloatArray | None:
    """Return what each sample adds to the gradient of a bias, (M, k); None if it is no bias."""
    use = use_of(passed, facts.name)
    if use is None or use.node.primitive.name not in ("add", "subtract") or not facts.complete:
        return None
    operand = use.node.operands[use.place]
    gradient = np.broadcast_to(passed.gradients[use.node], use.node.shape)
    shape = (1,) * (gradient.ndim - operand.ndim) + operand.shape
    summed = [i for i, n in enumerate(shape) if n == 1 and gradient.shape[i] > 1]
    kept = [i for i in range(gradient.ndim) if i not in summed]
    if not summed:
        return None
    slope = slopes(use.node)[use.place]
    moved = np.transpose(gradient * slope, [*summed, *kept])
    each = moved.reshape(-1, operand.value.size)
    if operand.value.size != facts.size or (
        use.chain and any(n.primitive is TRANSPOSE for n in use.chain)
    ):
        return None
    return each


def dropped_samples(passed: RightPass, found: Found) -> None:
    """One sample is missing, or in it twice."""
    for facts in passed.unexplained:
        rest = facts.analytic - facts.numeric
        for sample, count, alone in _candidates(passed, facts, rest):
            for times, cause in ((-1.0, "sample-dropped"), (1.0, "sample-repeated")):
                figures = {"sample": sample, "of": count}
                hypothesis = Hypothesis(
                    cause, (cause, sample), 0.9, changed(facts, times * alone), figures=figures
                )
                if fit(facts, hypothesis).exact:
                    found[facts.name].append(hypothesis)


def _candidates(
    passed: RightPass, facts: TensorFacts, rest: FloatArray
) -> Iterator[tuple[int, int, FloatArray]]:
    """Yield the sample whose own gradient is most like `rest`: its number, M, and that gradient."""
    each = _bias_samples(passed, facts)
    if each is not None:
        sample = _nearest(each @ rest, np.linalg.norm(each, axis=1))
        yield sample, len(each), each[sample]
        return
    use = use_of(passed, facts.name)
    if use is None or use.node.primitive is not CONTRACT or not facts.complete or use.chain:
        return
    *labels, out = use.node.params["labels"]
    mine, others = labels[use.place], labels[1 - use.place]
    batch = [label for label in others if label in out and label not in mine]
    if len(batch) != 1 or any(label not in mine for label in others if label != batch[0]):
        return
    other = np.asarray(use.node.operands[1 - use.place].value)
    gradient = passed.gradients[use.node]
    across = np.moveaxis(gradient, out.index(batch[0]), -1)
    input_of = np.moveaxis(other, others.index(batch[0]), -1)
    if across.ndim != 2 or input_of.ndim != 2:
        return
    # ⟨rest, the gradient of sample s⟩ for all s, with no more work than one product.
    rows = tuple(label for label in out if label != batch[0])
    table = rest.reshape(facts.shape) if mine[0] in rows else rest.reshape(facts.shape).T
    scores = np.einsum("is,is->s", across, table @ input_of)
    lengths = np.linalg.norm(across, axis=0) * np.linalg.norm(input_of, axis=0)
    sample = _nearest(scores, lengths)
    alone = np.outer(across[:, sample], input_of[:, sample])
    alone = alone if mine[0] in rows else alone.T
    yield sample, across.shape[1], alone.reshape(-1)


def _nearest(products: FloatArray, lengths: FloatArray) -> int:
    """Return which vector, up to its sign, is nearest to one that has these products with them."""
    return int(np.argmin(lengths**2 - 2 * np.abs(products)))
