"""The user's own function as a witness, before differences that were propagated fail anything."""

from __future__ import annotations

import numpy as np

from fastcheck.engines.base import Engine
from fastcheck.params import Tensor
from fastcheck.verdict.judgement import Judgement
from fastcheck.verdict.probing import Probe, reacts
from fastcheck.verdict.stencil import derivatives, half_gap
from fastcheck.verdict.steps import scale_of

# Some of the cube root of u, and a quarter of that: a kink would show in one of them.
_STEPS = (2.0**-17, 2.0**-19)
_NEAR = 0.1


def contradiction(loop: Engine, tensor: Tensor, judgement: Judgement) -> str | None:
    """Say what the loss itself shows, if that is the analytic derivative and not the numerical one.

    The element that deviates most is perturbed by plain central differences. They have to agree
    with one derivative and to be ten times as far from the other, with both steps and on both sides
    of θ: a loss that is rounded, or on a kink, is no witness, nor is one that does not move at all.

    Parameters
    ----------
    loop : Engine
        Calls the user's function.
    tensor : Tensor
        The tensor at θ.
    judgement : Judgement
        One that fails.
    """
    gaps = np.abs(judgement.analytic - judgement.values)
    gaps[~np.isfinite(gaps)] = 0.0
    gaps[np.isin(judgement.indices, judgement.on_kinks)] = 0.0
    worst = int(np.argmax(gaps)) if len(gaps) else 0
    if not len(gaps) or gaps[worst] == 0:
        return None
    index, right = judgement.indices[[worst]], judgement.analytic[worst]
    size = max(abs(float(tensor.value.ravel()[index[0]])), scale_of(tensor))
    try:
        looks = Probe(loop, tensor.name).at_each(index, [np.array([h * size]) for h in _STEPS])
    except Exception:  # it may not be defined there
        return None
    near = _NEAR * gaps[worst]
    with np.errstate(all="ignore"):
        shown = [float(derivatives(look)[0]) for look in looks]
        apart = [float(half_gap(look)[0]) for look in looks]
    agrees = all(abs(one - right) <= near for one in shown) and all(gap <= near for gap in apart)
    if not agrees or not all(map(reacts, looks)):
        return None
    return (
        f"its derivative of element {index[0]} is {judgement.values[worst]:.6g}, but `loss` "
        f"itself shows {shown[0]:.6g}"
    )
