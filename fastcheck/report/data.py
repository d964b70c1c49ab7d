"""A finished gradient check as plain data: what renderers read and what is saved.

Nothing here computes a verdict or knows how it will be shown: `text` turns a Report into a page,
`serialise` into JSON and back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What a check says about a gradient."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Worst:
    """The element whose analytic and numerical derivatives disagree most.

    Attributes
    ----------
    index : tuple of int
        Its position, one integer an axis: ``W[index]``. Empty for a scalar.
    analytic, numeric : float
        The two derivatives there. Either may be NaN or infinite.
    error_bar : float
        Half-width of the interval around `numeric` that holds the true derivative.
    part : str
        ``"real"`` or ``"imag"``: which part of a complex element it is; empty for a real one.
    """

    index: tuple[int, ...]
    analytic: float
    numeric: float
    error_bar: float
    part: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorReport:
    """What was found for one tensor of the parameters.

    Attributes
    ----------
    name : str
        Its path in the parameter tree, such as ``layers[0].W``.
    shape : tuple of int
        Its shape.
    dtype : str
        The dtype that the user gave; the arithmetic is float64 (complex128) whatever it is.
    verdict : Verdict
        Pass, fail or inconclusive.
    reason : str
        Why, in one or more sentences; may be empty for an ordinary pass.
    checked, size : int
        How many of its elements were checked, and how many it has. The real and the imaginary
        part of a complex element are two.
    relative_error : float
        ``‖a − n‖ / (‖a‖ + ‖n‖)`` over the checked elements; 0 where both gradients are zero.
    worst : Worst or None
        The worst element; None where nothing was checked.
    resolution : float
        The smallest relative error that this check could have seen, ``‖B‖ / max(‖a‖, ‖n‖)``.
    kinked : int
        Elements that lie on a kink of the loss and were set apart.
    step : float
        The median step h that was taken.
    engine, engine_reason : str
        The engine that computed the differences, and why it was chosen.
    forward_passes : int
        Forward passes that the numerical gradient stands for: two a checked element (central), or
        one (forward).
    loss_calls : int
        How often the user's loss was really called for it.
    seconds : float
        Wall-clock time spent on it.
    notes : tuple of str
        Anything else that a reader should know about this tensor.
    device : str
        Where the differences were computed: ``"cpu"``, ``"gpu:0"`` or ``"gpu:0,1"``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    verdict: Verdict
    reason: str
    checked: int
    size: int
    relative_error: float
    worst: Worst | None
    resolution: float
    kinked: int
    step: float
    engine: str
    engine_reason: str
    forward_passes: int
    loss_calls: int
    seconds: float
    notes: tuple[str, ...] = ()
    device: str = "cpu"

    @property
    def engine_and_device(self) -> str:
        """The engine, and the device unless it is the CPU: ``"fused on gpu:0"``."""
        return self.engine if self.device == "cpu" else f"{self.engine} on {self.device}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One mistake in a backward pass, as far as the two gradients show it.

    Attributes
    ----------
    cause : str
        Its name, such as ``"scale"``, ``"transpose"`` or ``"missing-mask"``; ``"unknown"`` where
        no known mistake fits.
    certainty : str
        ``"exact"``: the mistake predicts every element, within error bars and tolerance.
        ``"partly"``: it predicts nine tenths of the error and not the rest, so it is no more than
        a hint. ``"where"``: nothing fits; said is where to look.
    tensors : tuple of str
        Names of the tensors that it is about.
    evidence : str
        What was seen, with figures.
    explanation : str
        What it comes from and what to look for.
    alternatives : tuple of str
        Causes that fit as well; `explanation` names them.
    """

    cause: str
    certainty: str
    tensors: tuple[str, ...]
    evidence: str
    explanation: str
    alternatives: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.evidence} {self.explanation}".strip()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a gradient is wrong: one finding a mistake, the one nearest to the loss first.

    Iterating over it yields the findings.

    Attributes
    ----------
    findings : tuple of Finding
    """

    findings: tuple[Finding, ...]

    @property
    def causes(self) -> tuple[str, ...]:
        """The causes that are certain."""
        return tuple(f.cause for f in self.findings if f.certainty == "exact")

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __str__(self) -> str:
        return "\n".join(str(finding) for finding in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Report:
    """The answer of a gradient check. ``bool(report)`` is `passed`; ``str(report)`` is a page.

    Attributes
    ----------
    verdict : Verdict
        The verdict over all tensors.
    loss : float
        The loss at the unperturbed parameters.
    tensors : dict of str to TensorReport
        One entry a tensor, in the order of the parameter tree.
    method : str
        ``"central"`` or ``"forward"``.
    relative_error : float
        ``‖a − n‖ / (‖a‖ + ‖n‖)`` over every checked parameter at once.
    seconds : float
        Wall-clock time of the whole check.
    loss_calls : int
        How often the user's loss was really called.
    notes : tuple of str
        Anything else that a reader should know about the whole check.
    fastcheck_version : str
        The version that made this report.
    diagnosis : Diagnosis or None
        Why the gradient is wrong, as far as that can be told; None unless the verdict is fail.
    """

    verdict: Verdict
    loss: float
    tensors: dict[str, TensorReport]
    method: str
    relative_error: float
    seconds: float
    loss_calls: int
    notes: tuple[str, ...] = ()
    fastcheck_version: str
    diagnosis: Diagnosis | None = None

    @property
    def passed(self) -> bool:
        """Whether the verdict is pass; an inconclusive check has not passed."""
        return self.verdict is Verdict.PASS

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the failing tensors, in the order of the parameter tree."""
        return tuple(n for n, tensor in self.tensors.items() if tensor.verdict is Verdict.FAIL)

    @property
    def forward_passes(self) -> int:
        """Forward passes that the whole numerical gradient stands for."""
        return sum(tensor.forward_passes for tensor in self.tensors.values())

    @property
    def checked(self) -> int:
        """Number of parameters that were checked."""
        return sum(tensor.checked for tensor in self.tensors.values())

    @property
    def size(self) -> int:
        """Number of parameters that there are."""
        return sum(tensor.size for tensor in self.tensors.values())

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        from fastcheck.report.text import render

        return render(self)

    def __repr__(self) -> str:
        tensors = "1 tensor" if len(self.tensors) == 1 else f"{len(self.tensors)} tensors"
        return (
            f"<Report {self.verdict.value}: {tensors}, {self.checked:,} of {self.size:,} "
            f"parameters, relative error {self.relative_error:.1e}>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as dicts, lists, strings and numbers that strict JSON can hold.

        NaN and the infinities become the strings ``"nan"``, ``"inf"`` and ``"-inf"``.
        """
        from fastcheck.report.serialise import to_dict

        return to_dict(self)

    def to_json(self, indent: int | None = 2) -> str:
        """Return the report as strict JSON (no bare NaN or Infinity).

        Parameters
        ----------
        indent : int or None
            Spaces an indentation level takes; None writes one line.
        """
        from fastcheck.report.serialise import to_json

        return to_json(self, indent=indent)

    @classmethod
    def from_dict(cls, data: object) -> Report:
        """Return the report that `to_dict` turned into `data`.

        Raises
        ------
        InputTypeError
            `data` is not a dict.
        InputError
            It has another schema, lacks a field, or a field holds something impossible.
        """
        from fastcheck.report.serialise import from_dict

        return from_dict(data)

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        """Return the report that `to_json` wrote.

        Raises
        ------
        InputTypeError
            `text` is not a str or bytes, or the JSON in it is not an object.
        InputError
            It is not JSON, or not a report (see `from_dict`).
        """
        from fastcheck.report.serialise import from_json

        return from_json(text)
