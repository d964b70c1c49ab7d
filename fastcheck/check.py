"""The front door: validation → trace → plan → run → compare → Report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.engines.arithmetic import own_arithmetic
from fastcheck.engines.base import IndexArray
from fastcheck.engines.trust import Trust
from fastcheck.errors import InputError
from fastcheck.judging import judge_all
from fastcheck.keep import keep
from fastcheck.options import Known, Options
from fastcheck.outcome import check_notes, make_report
from fastcheck.params import ParamTree, match_gradients, select_indices
from fastcheck.report.data import Report
from fastcheck.report.progress import Progress
from fastcheck.run import ONE_AT_A_TIME, Run, Stopwatch, moving, noting
from fastcheck.verdict.tolerances import Tolerance, tolerance_for

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
        float64 (or complex128) copies of `params`, never with the arrays themselves.
    params : array, or nested dict / list / tuple of arrays
        The parameters θ: arrays of float64, float32 or float16, complex128 or complex64. The real
        and the imaginary part of a complex element are two parameters, each moved alone.
    grads : tree, flat vector, or callable
        The analytic gradient: the same nesting; or a dict whose names differ by the usual prefix
        and case (``dW1``, ``dw1``, ``grad_W1``) and that may hold more entries; or one flat vector
        in the tree's order; or a function of `params` that returns one of these. The gradient of a
        complex array is complex: ∂J/∂Re + i·∂J/∂Im, the direction of steepest ascent, which is
        ``.grad`` in PyTorch. In Wirtinger derivatives that is 2·∂J/∂z̄. Its conjugate, 2·∂J/∂z, is
        what ``jax.grad`` returns.
    method : {"central", "forward"}
        Central differences J(θ+h) − J(θ−h), or forward ones at half the cost.
    step : float or "auto"
        The step h, in units of the parameters. "auto" chooses one for each tensor.
    tolerance : float, optional
        The relative difference that is allowed on top of the measured error bar. By default 1e-6
        for float64 and complex128 parameters, 1e-4 for float32 and complex64, 1e-2 for float16; if
        `loss` computes in a coarser type on the way, that of this type. Your own also applies
        relative to the largest element of each tensor, so single tiny elements may deviate more.
    select : "all", int, or dict
        Which parameters: all; so many of each tensor, drawn at random; or for some tensors, by
        name, a boolean mask or flat indices. Of a complex element both parts.
    engine : {"auto", "fused", "replay", "compiled", "loop"}
        "auto" chooses for each tensor: a generated kernel ("fused") or stacked NumPy arrays
        ("replay") for what can be traced, whichever is estimated to be done first; a compiled loop
        ("compiled") around a loss that Numba compiled; and calls of `loss` ("loop") for the rest.
    device : {"auto", "cpu", "gpu", "gpu:1", "gpu:0,1"}
        Where stacks of copies are computed: on a CUDA device through CuPy, or several of them.
        "auto" is the CPU, and the first GPU for a tensor that would take longer there than half a
        second (four, if CuPy is not loaded yet).
    precision : {"float64", "float32"}
        The floating-point type of the stacks. Many GPUs compute in float32 32 or 64 times as fast;
        the error bars are then wider, and what looks wrong is computed again in float64.
    batched : bool
        `loss` takes stacked parameters (a leading axis of B copies in every array) and returns B
        losses. No trace is needed then: the stacks go through `loss` itself, on arrays like
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
    return checked(loss, params, grads, tree, tolerances, options, selected, known, watch)


def checked(
    loss: Callable[[Any], Any],
    params: Any,
    grads: Any,
    tree: ParamTree,
    tolerance: Tolerance,
    options: Options,
    selected: dict[str, IndexArray],
    known: Known,
    watch: Stopwatch,
    trust: Trust | None = None,
) -> Report:
    """Check with validated arguments; `trust` is what earlier checks of this loss have shown."""
    with (
        own_arithmetic(),
        ONE_AT_A_TIME,
        keep(loss, params, grads) as kept,
        Run(loss, tree, options, tolerance, trust) as run,
    ):
        analytic = _analytic(tree, grads, run)
        judged, written = judge_all(run, tree, selected, analytic, kept)
        notes = check_notes(tree, run, written, kept.left_out)
    with own_arithmetic():
        return make_report(tree, run, judged, options, notes, known, watch)


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
        around a parameter. For complex arrays complex128 ones: ∂J/∂Re + i·∂J/∂Im.

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
    with (
        own_arithmetic(),
        ONE_AT_A_TIME,
        keep(loss, params),
        Run(loss, tree, options, tolerances) as run,
    ):
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
