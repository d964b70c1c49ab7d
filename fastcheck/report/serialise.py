"""Reports as strict JSON, and back.

Strict JSON has no NaN and no infinities, which are just what a broken gradient holds; they are
written as the strings ``"nan"``, ``"inf"`` and ``"-inf"``. Reading is checked field by field and
names every field that is missing: a report that was edited or cut short is not half believed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fastcheck.errors import InputError, InputTypeError
from fastcheck.report.data import Diagnosis, Finding, Report, TensorReport, Verdict, Worst

SCHEMA = 1
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_T = TypeVar("_T")


def to_dict(report: Report) -> dict[str, Any]:
    """Return `report` as plain data: dicts, lists, strings, numbers, None."""
    return {
        "schema": SCHEMA,
        "fastcheck_version": report.fastcheck_version,
        "verdict": report.verdict.value,
        "loss": _plain(report.loss),
        "method": report.method,
        "relative_error": _plain(report.relative_error),
        "seconds": _plain(report.seconds),
        "loss_calls": int(report.loss_calls),
        "notes": list(report.notes),
        "tensors": {name: _tensor_to_dict(tensor) for name, tensor in report.tensors.items()},
        "diagnosis": None if report.diagnosis is None else _diagnosis_to_dict(report.diagnosis),
    }


def to_json(report: Report, indent: int | None = 2) -> str:
    """Return `report` as strict JSON."""
    return json.dumps(to_dict(report), indent=indent, allow_nan=False)


def from_dict(data: object) -> Report:
    """Return the report that `to_dict` turned into `data`. See `Report.from_dict`."""
    fields = _Fields(data, "")
    schema = fields.take("schema", _integer)
    if schema != SCHEMA:
        raise InputError(
            f"`data` has report schema {schema}, and this fastcheck reads schema {SCHEMA}; "
            f"read it with the fastcheck that wrote it ({_writer(data)})."
        )
    fields.require(
        "fastcheck_version verdict loss method relative_error seconds loss_calls notes tensors"
    )
    return Report(
        verdict=fields.take("verdict", Verdict),
        loss=fields.take("loss", _number),
        tensors=fields.take("tensors", _tensors_from_dict),
        method=fields.take("method", _string),
        relative_error=fields.take("relative_error", _number),
        seconds=fields.take("seconds", _number),
        loss_calls=fields.take("loss_calls", _integer),
        notes=fields.take("notes", _strings),
        fastcheck_version=fields.take("fastcheck_version", _string),
        # Reports of versions that made no diagnosis lack it.
        diagnosis=fields.take("diagnosis", _diagnosis_from) if "diagnosis" in fields else None,
    )


def from_json(text: str | bytes) -> Report:
    """Return the report that `to_json` wrote. See `Report.from_json`."""
    if not isinstance(text, str | bytes):
        raise InputTypeError(
            f"`text` must be the JSON itself as str or bytes, not {type(text).__name__}; "
            "read the file first, e.g. Report.from_json(Path('report.json').read_text())."
        )
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InputError(
            f"`text` is not JSON ({error}); give the whole text that `to_json` returned."
        ) from error
    return from_dict(data)


def _plain(value: float) -> float | str:
    value = float(value)
    if math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _tensor_to_dict(tensor: TensorReport) -> dict[str, Any]:
    return {
        "shape": [int(length) for length in tensor.shape],
        "dtype": tensor.dtype,
        "verdict": tensor.verdict.value,
        "reason": tensor.reason,
        "checked": int(tensor.checked),
        "size": int(tensor.size),
        "relative_error": _plain(tensor.relative_error),
        "worst": None if tensor.worst is None else _worst_to_dict(tensor.worst),
        "resolution": _plain(tensor.resolution),
        "kinked": int(tensor.kinked),
        "step": _plain(tensor.step),
        "engine": tensor.engine,
        "engine_reason": tensor.engine_reason,
        "forward_passes": int(tensor.forward_passes),
        "loss_calls": int(tensor.loss_calls),
        "seconds": _plain(tensor.seconds),
        "notes": list(tensor.notes),
        "device": tensor.device,
    }


def _worst_to_dict(worst: Worst) -> dict[str, Any]:
    return {
        "index": [int(i) for i in worst.index],
        "analytic": _plain(worst.analytic),
        "numeric": _plain(worst.numeric),
        "error_bar": _plain(worst.error_bar),
        **({"part": worst.part} if worst.part else {}),
    }


def _tensors_from_dict(data: object) -> dict[str, TensorReport]:
    if not isinstance(data, Mapping):
        raise ValueError(f"{data!r}")
    return {name: _tensor_from_dict(name, tensor) for name, tensor in data.items()}


def _tensor_from_dict(name: str, data: object) -> TensorReport:
    fields = _Fields(data, f"tensors[{name!r}].")
    fields.require(
        "shape dtype verdict reason checked size relative_error worst resolution kinked step "
        "engine engine_reason forward_passes loss_calls seconds notes"
    )
    return TensorReport(
        name=name,
        shape=fields.take("shape", _integers),
        dtype=fields.take("dtype", _string),
        verdict=fields.take("verdict", Verdict),
        reason=fields.take("reason", _string),
        checked=fields.take("checked", _integer),
        size=fields.take("size", _integer),
        relative_error=fields.take("relative_error", _number),
        worst=fields.take("worst", lambda found: _worst_from_dict(name, found)),
        resolution=fields.take("resolution", _number),
        kinked=fields.take("kinked", _integer),
        step=fields.take("step", _number),
        engine=fields.take("engine", _string),
        engine_reason=fields.take("engine_reason", _string),
        forward_passes=fields.take("forward_passes", _integer),
        loss_calls=fields.take("loss_calls", _integer),
        seconds=fields.take("seconds", _number),
        notes=fields.take("notes", _strings),
        # Reports of versions that knew no other device lack it.
        device=fields.take("device", _string) if "device" in fields else "cpu",
    )


def _worst_from_dict(name: str, data: object) -> Worst | None:
    if data is None:
        return None
    fields = _Fields(data, f"tensors[{name!r}].worst.")
    fields.require("index analytic numeric error_bar")
    return Worst(
        index=fields.take("index", _integers),
        analytic=fields.take("analytic", _number),
        numeric=fields.take("numeric", _number),
        error_bar=fields.take("error_bar", _number),
        # Real elements have no parts.
        part=fields.take("part", _string) if "part" in fields else "",
    )


def _diagnosis_to_dict(diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "findings": [
            {
                "cause": finding.cause,
                "certainty": finding.certainty,
                "tensors": list(finding.tensors),
                "evidence": finding.evidence,
                "explanation": finding.explanation,
                "alternatives": list(finding.alternatives),
            }
            for finding in diagnosis.findings
        ]
    }


def _diagnosis_from(data: object) -> Diagnosis | None:
    if data is None:
        return None
    found = _Fields(data, "diagnosis.").take("findings", _list)
    return Diagnosis(tuple(_finding_from(number, one) for number, one in enumerate(found)))


def _finding_from(number: int, data: object) -> Finding:
    fields = _Fields(data, f"diagnosis.findings[{number}].")
    fields.require("cause certainty tensors evidence explanation alternatives")
    return Finding(
        cause=fields.take("cause", _string),
        certainty=fields.take("certainty", _string),
        tensors=fields.take("tensors", _strings),
        evidence=fields.take("evidence", _string),
        explanation=fields.take("explanation", _string),
        alternatives=fields.take("alternatives", _strings),
    )


class _Fields:
    """The fields of one JSON object, read one by one with errors that say where they are.

    Parameters
    ----------
    data : object
        What should be a dict.
    where : str
        The path of that dict in the report, as it stands before a field's name.
    """

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, Mapping):
            place = f"`data` has {where.rstrip('.')} =" if where else "`data` must be a dict, not"
            raise InputTypeError(
                f"{place} a {type(data).__name__}{', not a dict' if where else ''}; "
                "give what `Report.to_dict` or `Report.to_json` returned."
            )
        self._data, self._where = data, where

    def __contains__(self, name: str) -> bool:
        return name in self._data

    def require(self, names: str) -> None:
        """Raise if any of the space-separated names is absent, with all that are."""
        missing = [f"{self._where}{name}" for name in names.split() if name not in self._data]
        if missing:
            raise InputError(
                f"`data` lacks {', '.join(missing)}; "
                "give what `Report.to_dict` or `Report.to_json` returned, whole."
            )

    def take(self, name: str, read: Callable[[Any], _T]) -> _T:
        """Return field `name` as `read` understands it."""
        self.require(name)
        found = self._data[name]
        try:
            return read(found)
        except (InputError, InputTypeError):
            raise
        except (ValueError, TypeError) as error:
            raise InputError(
                f"`data` has {self._where}{name} = {_shown(found)}, which no report holds; "
                "give what `Report.to_dict` or `Report.to_json` returned, unedited."
            ) from error


def _shown(found: object) -> str:
    text = repr(found)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _writer(data: Any) -> str:
    version = data.get("fastcheck_version")
    return f"version {version}" if isinstance(version, str) else "version unknown"


def _string(found: object) -> str:
    if not isinstance(found, str):
        raise TypeError
    return found


def _integer(found: object) -> int:
    # True is an int in Python, and never a count.
    if not isinstance(found, int) or isinstance(found, bool):
        raise TypeError
    return found


def _number(found: object) -> float:
    if isinstance(found, str):
        if found not in _NON_FINITE:
            raise ValueError
        return _NON_FINITE[found]
    if not isinstance(found, float):
        return float(_integer(found))
    return found


def _integers(found: object) -> tuple[int, ...]:
    return tuple(_integer(item) for item in _list(found))


def _strings(found: object) -> tuple[str, ...]:
    return tuple(_string(item) for item in _list(found))


def _list(found: object) -> list[Any]:
    if not isinstance(found, list):
        raise TypeError
    return found
