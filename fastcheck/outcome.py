"""From judgements to a Report: the notes, the diagnosis, and every tensor's entry."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np

from fastcheck.engines.assignment import Assignment
from fastcheck.engines.base import U64, Engine
from fastcheck.errors import oneline
from fastcheck.fusion import compiler
from fastcheck.options import Known, Options
from fastcheck.params import ParamTree, Tensor
from fastcheck.report.data import Diagnosis, Report, TensorReport, Verdict
from fastcheck.run import Run, Stopwatch
from fastcheck.trace.graph import Node
from fastcheck.verdict.judge import Judgement, overall, relative_error, revise
from fastcheck.verdict.silent import silent_elements
from fastcheck.version import __version__

_MOST_PLACES = 3
_SECONDS_OF_A_DIAGNOSIS = 3.0
"""What is always allowed for it, however quick the check was."""
_COARSE = ("float16", "float32", "complex64")

Judged = list[tuple[Judgement, Assignment, float]]
"""Per tensor: the judgement, the engine and why that one, and the seconds it took."""


def check_notes(
    tree: ParamTree, run: Run, written: list[str], left_out: tuple[str, ...]
) -> tuple[str, ...]:
    """Say what a reader should know about the whole check."""
    notes = []
    coarse = sorted({tensor.dtype.name for tensor in tree if tensor.dtype.name in _COARSE})
    if coarse:
        parts = " (complex128)" if "complex64" in coarse else ""
        notes.append(
            f"The parameters are {' and '.join(coarse)}; the numerical gradient was computed in "
            f"float64{parts} from the same values."
        )
    if run.coarsest is not None:
        notes.append(
            f"`loss` computes in {run.coarsest.value.dtype.name} on the way "
            f"({run.coarsest.source}), so that is how closely a gradient may be expected to agree."
        )
    low = [name for name, assigned in run.plan.assignments.items() if _in_float32(assigned.engine)]
    if low:
        notes.append(
            f"The differences of {', '.join(low)} were computed in float32, as asked for; the "
            "error bars are wider, and what looked wrong was computed again in float64."
        )
    failures = {name: assigned.failure() for name, assigned in run.plan.assignments.items()}
    missed = [name for name, why in failures.items() if why]
    if missed:
        others = "" if len(missed) == 1 else f" ({missed[0]}; the others likewise)"
        notes.append(f"{', '.join(missed)} computed on the CPU: {failures[missed[0]]}{others}.")
    doubts = {name: assigned.doubt() for name, assigned in run.plan.assignments.items()}
    notes += [
        f"{name}: machine code was given up for the replay engine, because {why}."
        for name, why in doubts.items()
        if why
    ]
    for one, other in tree.shared:
        notes.append(f"{one} and {other} share memory; each was perturbed alone.")
    callers = [run.plan.loop, run.plan.batched]
    argument = {name for caller in callers if caller for name in caller.writes_params}
    if argument:
        names = ", ".join(name for name in tree.names if name in argument)
        notes.append(f"`loss` writes into its argument ({names}); it was given copies.")
    if written:
        notes.append(
            f"`loss` wrote into your own arrays ({', '.join(written)}); they were restored."
        )
    if left_out:
        notes.append(
            f"Too large to be copied, and so not put back if `loss` writes to it: "
            f"{', '.join(left_out)}."
        )
    return (*notes, *(f"{what[0].upper()}{what[1:]}." for what in compiler.notes))


def _tensor_notes(
    tensor: Tensor, judgement: Judgement, engine: Engine, run: Run
) -> tuple[str, ...]:
    """Say what is no failure but worth knowing: dead inputs and units, and where kinks are."""
    notes = _on_kinks(judgement.kinked, engine.kinks_of(judgement.on_kinks))
    if not engine.exact or judgement.checked < tensor.size or judgement.verdict is Verdict.FAIL:
        return notes
    zero = np.zeros(tensor.size, dtype=bool)
    zero[judgement.indices] = (judgement.values == 0) & (judgement.analytic == 0)
    zero[judgement.on_kinks] = False
    silent = silent_elements(run.plan.graph, tensor.name, zero.reshape(tensor.shape))
    return (silent, *notes) if silent else notes


def _on_kinks(count: int, nodes: list[Node | None]) -> tuple[str, ...]:
    """Say how many elements lie on a kink and, if known, on which lines, the commonest first."""
    if not count:
        return ()
    elements = "element lies" if count == 1 else "elements lie"
    said = (
        f"{count:,} {elements} on a kink of the loss, where the derivative jumps; set apart from "
        "the others"
    )
    places = Counter(f"`{node.primitive.name}` ({node.source})" for node in nodes if node)
    if not places:
        return (f"{said}.",)
    at = [f"{number:,} at {place}" for place, number in places.most_common(_MOST_PLACES)]
    if len(places) > _MOST_PLACES:
        at.append("others elsewhere")
    return (f"{said}: {', '.join(at)}.",)


def _in_float32(engine: Engine) -> bool:
    return engine.exact and engine.unit_roundoff > U64


def make_report(
    tree: ParamTree,
    run: Run,
    judged: Judged,
    options: Options,
    notes: tuple[str, ...],
    known: Known,
    watch: Stopwatch,
) -> Report:
    verdict, sentence = overall(judgement for judgement, *_ in judged)
    revised = revise([judgement for judgement, *_ in judged])
    tensors = {
        tensor.name: _tensor_report(tensor, judgement, assignment, seconds, options, run)
        for tensor, judgement, (_, assignment, seconds) in zip(tree, revised, judged, strict=True)
    }
    if not any(report.verdict is verdict for report in tensors.values()):
        notes = (sentence, *notes)
    diagnosis = None
    if verdict is Verdict.FAIL:
        diagnosis = _diagnosis(tree, run, revised, known, watch.total())
    return Report(
        verdict=verdict,
        loss=run.plan.loop.loss,
        tensors=tensors,
        method=options.method,
        relative_error=relative_error(revised),
        seconds=watch.total(),
        loss_calls=run.loss.calls,
        notes=notes,
        fastcheck_version=__version__,
        diagnosis=diagnosis,
    )


def _diagnosis(
    tree: ParamTree, run: Run, judgements: Sequence[Judgement], known: Known, took: float
) -> Diagnosis | None:
    """Say what is wrong, as far as the two gradients show it.

    It may take three times what the check `took`: the answer to most mistakes is known long before.
    """
    # Right gradients never need it.
    from fastcheck.verdict.diagnosis import diagnose, gather

    try:
        evidence = gather(
            tree,
            judgements,
            # A trace that the engines could not use still shows layers and lines.
            run.plan.graph or run.plan.traced,
            batch_size=known.batch_size,
            previous=known.previous,
            samples=known.samples,
        )
        return diagnose(evidence, max(_SECONDS_OF_A_DIAGNOSIS, 3 * took))
    except Exception as fault:  # a verdict is not to be lost for want of an explanation
        warnings.warn(f"the diagnosis failed ({oneline(fault)}); the verdict stands", stacklevel=4)
        return None


def _tensor_report(
    tensor: Tensor,
    judgement: Judgement,
    assignment: Assignment,
    seconds: float,
    options: Options,
    run: Run,
) -> TensorReport:
    return TensorReport(
        name=tensor.name,
        shape=tensor.user_shape,
        dtype=tensor.dtype.name,
        verdict=judgement.verdict,
        reason=judgement.reason,
        checked=judgement.checked,
        size=tensor.size,
        relative_error=judgement.relative_error,
        worst=judgement.worst,
        resolution=judgement.resolution,
        kinked=judgement.kinked,
        step=judgement.step,
        engine=assignment.engine.name,
        engine_reason=assignment.reason,
        device=assignment.engine.device,
        forward_passes=judgement.checked * (2 if options.method == "central" else 1),
        loss_calls=judgement.loss_calls,
        seconds=seconds,
        notes=(
            *([judgement.note] if judgement.note else []),
            *_tensor_notes(tensor, judgement, assignment.engine, run),
        ),
    )
