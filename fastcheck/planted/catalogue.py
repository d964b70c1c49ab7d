"""The list of bugs."""

from __future__ import annotations

from fastcheck.planted import on_backward as inside
from fastcheck.planted import on_gradients as finished
from fastcheck.planted.bug import Bug, Bugs
from fastcheck.planted.checker import CheckerBug

_TENSORS = {"tensors": None}
_LAYER = {"layer": None}
_INSIDE = ("backward",)

BUGS = Bugs(
    [
        Bug(
            "scale",
            "The first weights' gradient is twice too large.",
            finished.scale,
            options={"factor": 2.0, **_TENSORS},
            usual=({}, {"factor": 0.5}, {"factor": 1.0001}),
        ),
        Bug(
            "sign",
            "The last weights' gradient has the wrong sign.",
            finished.sign,
            options=_TENSORS,
            usual=({}, {"tensors": "all"}),
        ),
        Bug(
            "transpose",
            "The gradient of the last square weights is transposed.",
            finished.transpose,
            options=_TENSORS,
        ),
        Bug(
            "missing-bias-sum",
            "The last bias's gradient takes one sample instead of the sum over all.",
            inside.missing_bias_sum,
            _INSIDE,
        ),
        Bug(
            "missing-mean",
            "The division by the number of samples was forgotten.",
            finished.missing_mean,
            ("batch_size",),
            _TENSORS,
        ),
        Bug(
            "missing-l2",
            "The weights' gradient lacks the term of the L2 penalty.",
            finished.missing_l2,
            ("params", "decay"),
            _TENSORS,
        ),
        Bug(
            "missing-mask",
            "The mask of a hidden layer was forgotten: dropout's, or otherwise the ReLU's.",
            inside.missing_mask,
            _INSIDE,
            _LAYER,
        ),
        Bug(
            "activation-derivative",
            "A hidden layer has the wrong derivative: 1 for a ReLU, 1−a for tanh, a for a sigmoid.",
            inside.activation_derivative,
            _INSIDE,
            _LAYER,
        ),
        Bug(
            "sample-dropped",
            "The last sample is missing from the sums over the batch.",
            inside.sample_dropped,
            _INSIDE,
            {"sample": -1},
        ),
        Bug("stale", "The gradients are those of the step before.", finished.stale, ("previous",)),
        Bug(
            "accumulated",
            "The gradients of the step before were not zeroed, so this step's were added to them.",
            finished.accumulated,
            ("previous",),
        ),
        Bug(
            "aliased-buffer",
            "Two tensors' gradients share one array, so both hold the one written last.",
            finished.aliased,
        ),
        Bug(
            "overwritten-buffer",
            "A hidden layer's derivative was written over its activations, which dW reads next.",
            inside.overwritten_buffer,
            _INSIDE,
            _LAYER,
        ),
        Bug(
            "one-element",
            "One element of the first weights' gradient is one percent too large.",
            finished.one_element,
            options={"factor": 1.01, **_TENSORS},
            usual=({}, {"factor": 0.0}),
        ),
        Bug(
            "one-row",
            "One row of the first weights' gradient is zero.",
            finished.one_row,
            options={"factor": 0.0, "row": None, **_TENSORS},
        ),
        Bug(
            "swapped", "The gradients of two tensors of equal shape are swapped.", finished.swapped
        ),
        CheckerBug(
            "shallow-copy",
            "The checker copies the parameters shallowly, and its numerical gradient is half.",
            lambda scene, options: {},
        ),
        Bug(
            "permuted-rows",
            "The rows of the first weights' gradient are moved down by one.",
            finished.permuted_rows,
            options=_TENSORS,
        ),
    ]
)
"""The bugs, in order and by name."""
