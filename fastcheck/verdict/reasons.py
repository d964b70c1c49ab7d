"""The sentences of a verdict: what was found, why it is not more, and what would resolve it."""

from __future__ import annotations

import numpy as np

from fastcheck.verdict.comparison import Comparison, norm


def place(index: tuple[int, ...], part: str = "") -> str:
    """Return an index as it is written after a name: ``[3, 17]``; nothing for a scalar.

    A part of a complex element follows: ``[3, 17].imag``.
    """
    element = f"[{', '.join(map(str, index))}]" if index else ""
    return f"{element}.{part}" if part else element


def empty(size: int) -> str:
    """Say that there was nothing to check."""
    if size == 0:
        return "The tensor has no elements, so there is nothing to check."
    return "None of its elements was selected, so nothing was checked."


def not_finite_analytic(name: str, value: float, count: int) -> str:
    """Say that the analytic gradient holds NaN or Inf."""
    return (
        f"The analytic gradient is not finite in {_elements(count)}, first at {name} "
        f"({value:g}): look for 0/0, log(0) or an overflow in the backward pass."
    )


def zero(reacts: bool) -> str:
    """Say that both gradients are exactly zero."""
    if reacts:
        return "Both gradients are exactly zero: the loss is stationary in these parameters."
    return (
        "Both gradients are exactly zero: the loss ignores these parameters, or does not change "
        "with them here."
    )


def vanishing(comparison: Comparison) -> str:
    """Say that both gradients are zero to rounding."""
    top = max(_top(comparison.analytic), _top(comparison.measured.values))
    return (
        f"Both gradients are zero to rounding: no derivative exceeds {top:.1e}, which is what "
        "rounding leaves of terms that cancel."
    )


def wrong_elements(comparison: Comparison, name: str, position: int, count: int) -> str:
    """Say which element is wrong, by how much, and how many more are."""
    m = comparison.measured
    return (
        f"{_capital(_elements(count))} of {len(m.values)} "
        f"{_s('differ', count)} by more than the error bar; the worst, "
        f"{name}, is {comparison.analytic[position]:.9g} analytically but "
        f"{m.values[position]:.9g} ± {m.error_bar[position]:.1g} numerically, "
        "confirmed with other steps."
    )


def wrong_scale(scale: float, uncertainty: float) -> str:
    """Say that the gradient as a whole is too long or too short."""
    ratio = 1 / scale if scale else float("inf")
    return (
        "As a whole the analytic gradient does not fit the numerical one: projected on it, it is "
        f"{ratio:.7g} times as large (± {uncertainty:.1g}), although no single element stands out."
    )


def tiny(error: float, tolerance: float) -> str:
    """Say what a difference that is real but tiny most often comes from, and what accepts it."""
    return (
        f"The difference is tiny, {error:.1e} of the tensor: a small constant (ε) inside a "
        "logarithm, square root or division of the forward pass that the backward pass leaves out "
        f"looks like this. `tolerance={tolerance:.0e}` accepts it."
    )


def without_guards(said: str, throughout: bool, error: float) -> str:
    """Say that the gradient leaves out small constants: those of one tensor."""
    what = "is the gradient of the loss without" if throughout else "leaves out, in some places,"
    return f"It {what} {said}, and differs by {error:.1e} from the right one."


def unguarded(said: str, throughout: bool, error: float) -> str:
    """Say the same as a note on any tensor; the figure is that of all of them."""
    what = "is that of the loss without" if throughout else "leaves out, in some places,"
    return (
        f"the gradient {what} {said}; taken over all tensors, that differs by {error:.1e} from the "
        "right one."
    )


def unconfirmed(count: int, name: str, exact: bool) -> str:
    """Say that deviations were seen that other steps did not confirm."""
    return (
        f"{_capital(_elements(count))} "
        f"{_s('differ', count)} by more than the error bar, the worst at "
        f"{name}, but other steps could not confirm it{_why_not(exact)}"
    )


def lost(count: int, name: str, step: float) -> str:
    """Say that the loss is not finite around θ."""
    return (
        f"The loss is NaN or infinite within a step ({step:.1e}) of {_elements(count)}, first "
        f"{name}, so there is no numerical derivative: check at parameters further "
        "from the edge of its domain."
    )


def kinks(comparison: Comparison, name: str) -> str:
    """Say that elements lie on a kink and g is none of the one-sided derivatives."""
    count = int(np.count_nonzero(comparison.open_kinks))
    return (
        f"{count} of {len(comparison.analytic)} elements lie on a kink of the loss (a ReLU, max, "
        f"abs or norm exactly at its corner), the first at {name}, where the analytic "
        "value is none of the one-sided derivatives and cannot be judged: move the parameters a "
        "little, say by 1e-3 times random numbers, and check again."
    )


def all_on_kinks() -> str:
    """Say that only one-sided derivatives were there to compare with."""
    return (
        "Every element that could tell lies on a kink of the loss (a ReLU, max, abs or norm "
        "exactly at its corner), where zero is right whether or not the backward pass covers it: "
        "move the parameters a little, say by 1e-3 times random numbers, and check again."
    )


def not_together(count: int, names: list[str], ahead: float, behind: float, analytic: float) -> str:
    """Say that derivatives on kinks fit one by one, but do not add up."""
    low, high = sorted((f"{ahead:.4g}", f"{behind:.4g}"), key=float)
    slope = low if low == high else f"between {low} and {high}"
    return (
        f"{count} elements of {' and '.join(names)} lie on kinks of the loss that they share "
        "(inputs of a maximum that are equal, say). Each alone has a one-sided derivative or the "
        f"mean of both, but moved together they change the loss by {slope} a unit, and their "
        f"analytic derivatives add up to {analytic:.4g}: move the parameters a little, say by 1e-3 "
        "times random numbers, and check again."
    )


def hidden(exact: bool) -> str:
    """Say that changes of the loss are lost in its rounding."""
    if exact:
        return (
            "The loss stands still near these parameters but jumps further off: where something "
            "inside rounds or counts, a derivative of zero proves nothing. Check without the "
            "rounding, or at other parameters."
        )
    return (
        "The change of the loss is lost in its own rounding: it is exactly zero at the step but "
        f"not at much larger ones. {_less_noise(exact)}"
    )


def passed(comparison: Comparison, step: float | None) -> str:
    """Say what is unusual about a pass; nothing if nothing is."""
    m = comparison.measured
    kinked = int(np.count_nonzero(m.kinked))
    other = 0 if step is None else int(np.count_nonzero((m.steps != step) & ~m.kinked))
    sentences = []
    if kinked:
        sentences.append(
            f"{_capital(_elements(kinked))} {_s('lie', kinked)} on a kink of the loss; "
            f"{'its' if kinked == 1 else 'their'} analytic value is a one-sided derivative or the "
            "mean of both."
        )
    if other:
        sentences.append(
            f"{_capital(_elements(other))}, too inaccurate at `step` = {step:g}, "
            f"{'was' if other == 1 else 'were'} measured again with another step."
        )
    return " ".join(sentences)


def resolution(comparison: Comparison, rho: float, step: float | None) -> str:
    """Say why the error bars are too wide for a verdict, and what would narrow them.

    Parameters
    ----------
    comparison : Comparison
        Of the tensor.
    rho : float
        Its resolution.
    step : float or None
        The step, if the user gave it.
    """
    m = comparison.measured
    shares = {
        "roundoff": norm(m.roundoff),
        # Noise shows in what is taken for truncation, too.
        "truncation": norm(m.truncation) / 2,
        "kinks": norm(m.jump),
        "gradient": norm(m.gradient_noise + comparison.floor_in_use()),
    }
    start = (
        "Nothing contradicts the gradient, but only relative errors above "
        f"{rho:.1e} could have been seen (a pass needs "
        f"{comparison.tolerance.rho_max:.0e})"
    )
    if m.coarse:
        return f'{start}: float32 has no more digits here. Leave `precision` at "float64".'
    cause = max(shares, key=lambda key: shares[key])
    return f"{start}: {_causes(comparison, step)[cause]}"


def _causes(comparison: Comparison, step: float | None) -> dict[str, str]:
    m = comparison.measured
    size = comparison.scale
    small = f"the gradient is so small here (its norm is {size:.1e}) that"
    bends = "the loss bends" if step is None else f"at `step` = {step:g} the loss bends"
    return {
        "roundoff": _UNSTEADY
        if m.stairs
        else f"{small} the rounding of the loss hides it. {_less_noise(m.exact)}"
        if step is None
        else f"at `step` = {step:g} the rounding of the loss hides the rest. Take a larger step, "
        'or leave it at "auto".',
        "truncation": _UNSTEADY
        if m.stairs
        else f"{bends} within the step, and the truncation error hides the rest. "
        + (
            'Leave `step` at "auto", or take a smaller one.'
            if step is not None
            else "Check at other parameters, or give a smaller `step`."
        ),
        "kinks": "elements lie on a kink of the loss. Move the parameters a little, say by 1e-3 "
        "times random numbers, and check again.",
        "gradient": f"{small} the analytic gradient itself is mostly rounding. Check earlier in "
        "training, or at other parameters.",
    }


_UNSTEADY = (
    "the loss does not move smoothly near these parameters: it jumps, or it jitters by more than "
    "float64 would. If a threshold, argmax or mask that depends on them decides which terms count, "
    "check at other parameters, or with that choice held fixed; if the loss is rounded inside "
    "(float32 or float16 on the way), compute it in float64. Or let it be traced "
    '(engine="auto", batched=False), which tells one from the other.'
)


def _why_not(exact: bool) -> str:
    if exact:
        return (
            ": the loss may move in stairs (something inside rounds, or looks its value up), whose "
            "slope between two jumps proves nothing, or have kinks too close by. Check without the "
            "rounding, or at other parameters."
        )
    return f": the loss may jump, or be rounded, too much there. {_less_noise(exact)}"


def _less_noise(exact: bool) -> str:
    if exact:
        return "Check earlier in training, or at other parameters."
    return (
        "Check earlier in training or at other parameters, sum the loss in float64, or let it be "
        'traced (engine="auto", batched=False), which knows differences without rounding.'
    )


def _s(verb: str, count: int) -> str:
    return verb + "s" if count == 1 else verb


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _elements(count: int) -> str:
    return "one element" if count == 1 else f"{count} elements"


def _top(values: np.ndarray) -> float:
    return float(np.max(np.abs(values), initial=0.0))
