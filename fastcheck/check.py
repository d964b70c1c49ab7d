"""The front door: validation → trace → plan → run → compare → Report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.engines.assignment import Assignment
from fastcheck.engines.base import U64, Engine, FloatArray, IndexArray
from fastcheck.errors import InputError
from fastcheck.fusion import compiler
from fastcheck.keep import Kept, keep
from fastcheck.options import Known, Options
from fastcheck.params import ParamTree, Tensor, match_gradients, select_indices
from fastcheck.report.data import Diagnosis, Report, TensorReport, Verdict
from fastcheck.report.progress import Progress
from fastcheck.run import ONE_AT_A_TIME, Run, Stopwatch, moving, noting
from fastcheck.trace.graph import Node
from fastcheck.verdict.judge import (
    Judgement,
    judge,
    overall,
    relative_error,
    revise,
    rounding_floors,
)
from fastcheck.verdict.silent import silent_elements
from fastcheck.verdict.tolerances import tolerance_for
from fastcheck.version import __version__

_MOST_PLACES = 3
Gradients = dict[str, NDArray[np.float64]]


def check(
    loss: Callable[[Any], Any],
    params: Any,
    grads: Any,
    *,
    method: str = "central",
    step: float | str = "auto",
    tolerance: float | None = None,
    select: Any = "all",
    engine: str = "auto",
    device: str = "auto",
    precision: str = "float64",
    batched: bool = False,
    memory: int | float | str | None = None,
    progress: bool | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    previous_grads: Any = None,
    sample_grads: Any = None,
) -> Report:
    """Check a hand-written gradient against a numerical one, for every parameter.

    Parameters
    ----------
    loss : callable
        ``loss(params)`` runs the forward pass and returns one real number. It is called with
        float64 copies of `params`, never with the arrays themselves.
    params : array, or nested dict / list / tuple of arrays
        The parameters θ: arrays of float64, float32 or float16.
    grads : tree, flat vector, or callable
        The analytic gradient: the same nesting; or a dict whose names differ by the usual prefix
        and case (``dW1``, ``dw1``, ``grad_W1``) and that may hold more entries; or one flat vector
        in the tree's order; or a function of `params` that returns one of these.
    method : {"central", "forward"}
        Central differences J(θ+h) − J(θ−h), or forward ones at half the cost.
    step : float or "auto"
        The step h, in units of the parameters. "auto" chooses one for each tensor.
    tolerance : float, optional
        The relative difference that is allowed on top of the measured error bar. By default 1e-6
        for float64 parameters, 1e-4 for float32, 1e-2 for float16. Your own also applies relative
        to the largest element of each tensor, so single tiny elements may deviate more.
    select : "all", int, or dict
        Which parameters: all; so many of each tensor, drawn at random; or for some tensors, by
        name, a boolean mask or flat indices.
    engine : {"auto", "fused", "replay", "loop"}
        "auto" chooses for each tensor: a generated kernel ("fused") or stacked NumPy arrays
        ("replay") for what can be traced, whichever is estimated to be done first, and calls of
        `loss` ("loop") for the rest.
    device : {"auto", "cpu", "gpu", "gpu:1", "gpu:0,1"}
        Where stacks of copies are computed: on a CUDA device through CuPy, or several of them.
        "auto" is the CPU, and the first GPU for a tensor that would take longer there than half a
        second (four, if CuPy is not loaded yet).
    precision : {"float64", "float32"}
        The floating-point type of the stacks. Many GPUs compute in float32 32 or 64 times as fast;
        the error bars are then wider, and what looks wrong is computed again in float64.
    batched : bool
        `loss` takes stacked parameters (a leading axis of B copies in every array) and returns B
        losses. Nothing is traced then: the stacks are put through `loss` itself, on arrays like
        those of `params`; `engine` and `precision` stay as they are.
    memory : int or str, optional
        The memory that stacks may take: bytes, or text such as "64MB". By default a quarter of
        what is free, at most 1 GiB; on a GPU half of what is free there.
    progress : bool, optional
        A progress bar: None, the default, on terminals and after one second only.
    seed : int
        Seeds every random choice, so that a check can be repeated.
    batch_size : int, optional
        M, the number of samples. This and the next two decide nothing; where the gradient is wrong
        they help `Report.diagnosis` to tell one mistake from another.
    previous_grads : tree or flat vector, optional
        The gradient of the training step before, like `grads`; a copy of it.
    sample_grads : tree, optional
        Each sample's own gradient: like `grads`, every array with a leading axis of M samples.

    Returns
    -------
    Report
        ``bool(report)`` is True if the gradient passes; ``print(report)`` shows the table.

    Raises
    ------
    InputError, InputTypeError
        If an argument cannot be used: which one, why, and what would help. Both are
        `FastcheckError`; the first is a ValueError, the second a TypeError.

    Notes
    -----
    Nothing of the user's is changed: arrays, attributes that `loss` and `grads` write, and the
    global random states are put back as they were, also after an error or Ctrl-C.

    Examples
    --------
    >>> import numpy as np
    >>> report = check(lambda p: np.sum(p["w"] ** 2), {"w": np.ones(3)}, {"dw": 2 * np.ones(3)})
    >>> bool(report)
    True
    """
    watch = Stopwatch()
    tree = ParamTree.from_user(params)
    tolerances = tolerance_for([tensor.dtype for tensor in tree], tolerance)
    options = Options.validated(
        tree,
        method=method,
        step=step,
        engine=engine,
        device=device,
        precision=precision,
        batched=batched,
        memory=memory,
        progress=progress,
        seed=seed,
    )
    selected = select_indices(tree, select, options.seed)
    if not callable(grads):
        match_gradients(tree, grads)  # say what does not match before any work is done
    known = Known.validated(tree, grads, batch_size, previous_grads, sample_grads)
    with (
        ONE_AT_A_TIME,
        keep(loss, params, grads) as kept,
        Run(loss, tree, options, tolerances) as run,
    ):
        analytic = _analytic(tree, grads, run)
        judged, written = _judge_all(run, tree, selected, analytic, kept)
        notes = _notes(tree, run, written, kept.left_out)
    return _report(tree, run, judged, options, notes, known, watch)


def numerical_gradient(
    loss: Callable[[Any], Any],
    params: Any,
    *,
    method: str = "central",
    step: float | str = "auto",
    engine: str = "auto",
    device: str = "auto",
    precision: str = "float64",
    batched: bool = False,
    memory: int | float | str | None = None,
    progress: bool | None = None,
    seed: int = 0,
) -> Any:
    """Return the numerical gradient of `loss` at `params`, in the same nesting.

    Parameters
    ----------
    loss, params, method, step, engine, device, precision, batched, memory, progress, seed
        As for `check`.

    Returns
    -------
    tree
        float64 arrays in the nesting and shapes of `params`; NaN where the loss is not finite
        around a parameter.

    Raises
    ------
    InputError, InputTypeError
        As for `check`.

    Examples
    --------
    >>> import numpy as np
    >>> numerical_gradient(lambda x: np.sum(x**2), np.array([3.0]))
    array([6.])
    """
    tree = ParamTree.from_user(params)
    options = Options.validated(
        tree,
        method=method,
        step=step,
        engine=engine,
        device=device,
        precision=precision,
        batched=batched,
        memory=memory,
        progress=progress,
        seed=seed,
    )
    tolerances = tolerance_for([tensor.dtype for tensor in tree])
    with ONE_AT_A_TIME, keep(loss, params), Run(loss, tree, options, tolerances) as run:
        values = {}
        with Progress(tree.size, "differentiating", enabled=options.progress) as bar:
            for tensor in tree:
                indices = np.arange(tensor.size, dtype=np.int64)
                with moving(tensor):
                    assignment = run.assign(tensor, len(indices))
                    measured, _ = run.measure(tensor, indices, assignment, bar)
                values[tensor.name] = measured.values.reshape(tensor.shape)
    return tree.build({t.name: values[t.name][()] if t.scalar else values[t.name] for t in tree})


def _analytic(tree: ParamTree, grads: Any, run: Run) -> Gradients:
    """Return the analytic gradients; a function is asked right after a forward pass at θ."""
    if not callable(grads):
        return match_gradients(tree, grads)
    # Backward passes read what the forward pass left behind; θ was not the last to go through it.
    run.loss.base()
    with noting("`grads` is called as grads(params) with float64 copies, after loss(params)."):
        given = grads(tree.copies())
    if given is None:
        raise InputError(
            "`grads` is a function that returned None: return the gradients from it, or pass the "
            "arrays that it fills."
        )
    return match_gradients(tree, given, argument="grads(params)")


Judged = list[tuple[Judgement, Assignment, float]]
"""Per tensor: the judgement, the engine and why that one, and the seconds it took."""


def _judge_all(
    run: Run, tree: ParamTree, selected: dict[str, IndexArray], analytic: Gradients, kept: Kept
) -> tuple[Judged, list[str]]:
    """Judge every tensor; also say which of the user's own arrays the loss wrote into."""
    floors = rounding_floors(tree, analytic, run.tolerance)
    total = sum(len(indices) for indices in selected.values())
    judged: Judged = []
    written = set(kept.changed())
    with Progress(total, "checking", enabled=run.options.progress) as bar:
        for tensor in tree:
            bar.label = f"checking {tensor.name}"
            watch = Stopwatch()
            with moving(tensor):
                judgement, assignment = _judge_one(
                    run, tensor, selected[tensor.name], analytic, floors[tensor.name], bar
                )
            judged.append((judgement, assignment, watch.total()))
            # A loss that stores θ in them leaves only the tensor perturbed last different from θ.
            written.update(kept.changed())
    return judged, [name for name in tree.names if name in written]


def _judge_one(
    run: Run,
    tensor: Tensor,
    indices: IndexArray,
    analytic: Gradients,
    floor: float,
    bar: Progress,
) -> tuple[Judgement, Assignment]:
    step = run.options.step
    assignment = run.assign(tensor, len(indices))
    first, again = run.measure(tensor, indices, assignment, bar)
    judgement = judge(
        tensor.name,
        tensor.shape,
        # C order, whatever the layout of the arrays
        analytic[tensor.name].ravel(order="C")[indices],
        indices,
        first,
        run.tolerance,
        again,
        floor=floor,
        step=None if isinstance(step, str) else step,
        rounding=lambda: _at(run.gradient_rounding(tensor), indices),
    )
    return judgement, assignment


def _at(values: FloatArray | None, indices: IndexArray) -> FloatArray | None:
    return None if values is None else values[indices]


def _notes(
    tree: ParamTree, run: Run, written: list[str], left_out: tuple[str, ...]
) -> tuple[str, ...]:
    """Say what a reader should know about the whole check."""
    notes = []
    coarse = sorted({tensor.dtype.name for tensor in tree if tensor.dtype.itemsize < 8})
    if coarse:
        notes.append(
            f"The parameters are {' and '.join(coarse)}; the numerical gradient was computed in "
            "float64 from the same values."
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
    notes = _where_it_bends(engine.kinks_of(judgement.on_kinks))
    if not engine.exact or judgement.checked < tensor.size or judgement.verdict is Verdict.FAIL:
        return notes
    zero = np.zeros(tensor.size, dtype=bool)
    zero[judgement.indices] = (judgement.values == 0) & (judgement.analytic == 0)
    zero[judgement.on_kinks] = False
    silent = silent_elements(run.plan.graph, tensor.name, zero.reshape(tensor.shape))
    return (silent, *notes) if silent else notes


def _where_it_bends(nodes: list[Node | None]) -> tuple[str, ...]:
    """Say on which lines of the loss elements lie on a kink, the commonest first."""
    places = Counter(f"`{node.primitive.name}` ({node.source})" for node in nodes if node)
    if not places:
        return ()
    said = [f"{count:,} at {place}" for place, count in places.most_common(_MOST_PLACES)]
    if len(places) > _MOST_PLACES:
        said.append("others elsewhere")
    return (f"on a kink of the loss: {', '.join(said)}.",)


def _in_float32(engine: Engine) -> bool:
    return engine.exact and engine.unit_roundoff > U64


def _report(
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
    diagnosis = _diagnosis(tree, run, revised, known) if verdict is Verdict.FAIL else None
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
    tree: ParamTree, run: Run, judgements: Sequence[Judgement], known: Known
) -> Diagnosis | None:
    """Say what is wrong, as far as the two gradients show it."""
    # Right gradients never need it.
    from fastcheck.verdict.diagnosis import diagnose, gather

    evidence = gather(
        tree,
        judgements,
        # A trace that the engines could not use still shows layers and lines.
        run.plan.graph or run.plan.traced,
        batch_size=known.batch_size,
        previous=known.previous,
        samples=known.samples,
    )
    return diagnose(evidence)


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
        shape=tensor.shape,
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
        notes=_tensor_notes(tensor, judgement, assignment.engine, run),
    )
