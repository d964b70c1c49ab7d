"""Every tensor is assigned an engine, measured and judged; then those on kinks are, together."""

from __future__ import annotations

from collections.abc import Mapping

from fastcheck.engines.assignment import Assignment
from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.keep import Kept
from fastcheck.outcome import Judged
from fastcheck.params import ParamTree, Tensor
from fastcheck.report.data import Verdict
from fastcheck.report.progress import Progress
from fastcheck.run import Run, Stopwatch, moving
from fastcheck.verdict.judge import Judgement, judge, rounding_floors
from fastcheck.verdict.together import together
from fastcheck.verdict.witness import contradiction


def judge_all(
    run: Run,
    tree: ParamTree,
    selected: Mapping[str, IndexArray],
    analytic: Mapping[str, FloatArray],
    kept: Kept,
) -> tuple[Judged, list[str]]:
    """Judge every tensor; also say which of the user's own arrays the loss wrote into."""
    # What a coarser type on the way leaves of zero, a trace shows for itself.
    floors = rounding_floors(tree, analytic, run.tolerance_of_parameters)
    total = sum(len(indices) for indices in selected.values())
    judged: Judged = []
    took: list[float] = []
    written = set(kept.changed())
    assigned = []
    for tensor in tree:
        watch = Stopwatch()
        with moving(tensor):
            assigned.append(run.assign(tensor, len(selected[tensor.name])))
        took.append(watch.total())
        written.update(kept.changed())
    with Progress(total, "checking", enabled=run.options.progress) as bar:
        for tensor, assignment, seconds in zip(tree, assigned, took, strict=True):
            bar.label = f"checking {tensor.name}"
            watch = Stopwatch()
            with moving(tensor):
                judgement, by = _settle_one(
                    run,
                    tensor,
                    selected[tensor.name],
                    analytic,
                    floors[tensor.name],
                    assignment,
                    bar,
                )
            judged.append((judgement, by, seconds + watch.total()))
            # A loss that stores θ in them leaves only the tensor perturbed last different from θ.
            written.update(kept.changed())
    return _together(run, tree, judged), [name for name in tree.names if name in written]


def _settle_one(
    run: Run,
    tensor: Tensor,
    indices: IndexArray,
    analytic: Mapping[str, FloatArray],
    floor: float,
    assignment: Assignment,
    bar: Progress,
) -> tuple[Judgement, Assignment]:
    """Judge a tensor; what would fail against the word of the loss itself is left to the loop."""
    given = run, tensor, indices, analytic, floor
    judgement = _judge_one(*given, assignment, bar)
    engine = assignment.engine
    if judgement.verdict is not Verdict.FAIL or not engine.exact or run.coarsest is not None:
        return judgement, assignment
    found = contradiction(run.plan.loop, tensor, judgement)
    if found is None:
        return judgement, assignment
    by_loop = run.assign_loop(tensor, len(indices), f"the {engine.name} engine erred: {found}")
    return _judge_one(*given, by_loop), by_loop


def _judge_one(
    run: Run,
    tensor: Tensor,
    indices: IndexArray,
    analytic: Mapping[str, FloatArray],
    floor: float,
    assignment: Assignment,
    bar: Progress | None = None,
) -> Judgement:
    step = run.options.step
    first, again = run.measure(tensor, indices, assignment, bar)
    return judge(
        tensor.name,
        tensor.user_shape,
        # C order, whatever the layout of the arrays
        analytic[tensor.name].ravel(order="C")[indices],
        indices,
        first,
        run.tolerance,
        again,
        floor=floor,
        step=None if isinstance(step, str) else step,
        rounding=lambda rough: _at(run.gradient_rounding(tensor, rough), indices),
        excuses=lambda: run.excuses(tensor, indices),
        is_complex=tensor.is_complex,
    )


def _at(values: FloatArray | None, indices: IndexArray) -> FloatArray | None:
    return None if values is None else values[indices]


def _together(run: Run, tree: ParamTree, judged: Judged) -> Judged:
    """Return the judgements after elements on kinks, if there are any, were looked at together."""
    if not any(len(judgement.on_kinks) for judgement, *_ in judged):
        return judged
    engines = {judgement.name: assignment.engine for judgement, assignment, _ in judged}
    judgements = [judgement for judgement, *_ in judged]
    loss, base = run.loss.evaluate, run.plan.loop.loss
    found = together(judgements, engines, tree, loss, base, run.noise)
    return [(one, by, seconds) for one, (_, by, seconds) in zip(found, judged, strict=True)]
