"""A monitor's records as curves in TensorBoard, through whichever of its writers is installed.

The three writers take the same calls, except that TensorBoard's own has no text. PyTorch takes
seconds to import and needs TensorBoard's package anyway, so it is asked first only where the
program uses it already.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import TracebackType
from typing import Any

from fastcheck.errors import InputError, oneline
from fastcheck.monitor.record import Record
from fastcheck.report.data import Verdict

_TORCH = ("torch.utils.tensorboard", "SummaryWriter")
_OTHERS = (("tensorboardX", "SummaryWriter"), ("tensorboard.summary", "Writer"))
_SCALARS = (
    "loss relative_difference error_bar smallest_gradient largest_gradient seconds share"
).split()
_VERDICTS = {Verdict.PASS: 1.0, Verdict.INCONCLUSIVE: 0.0, Verdict.FAIL: -1.0}


class TensorBoardWriter:
    """Writes records as scalars under ``fastcheck/``. Use as a context manager, or `close` it.

    A verdict is 1 for pass, 0 for inconclusive and -1 for fail, that of every tensor under
    ``fastcheck_tensors/``. The notes of a record are a text, where the writer has texts.

    Parameters
    ----------
    logdir : str or path
        The folder of the run; it is created where there is none.

    Raises
    ------
    InputError
        There is no package that writes for TensorBoard, or the folder cannot be written.
    """

    def __init__(self, logdir: str | os.PathLike[str]) -> None:
        make = _find()
        try:
            self._writer: Any = make(os.fspath(logdir))
        except OSError as error:
            raise InputError(
                f"`logdir`: {logdir} cannot be written ({error.strerror or error}); "
                "give another folder."
            ) from None

    def write(self, record: Record) -> None:
        """Add one record, and hand it to the operating system at once."""
        if self._writer is None:
            raise InputError("`logdir`: the writer was closed; make another TensorBoardWriter.")
        for name in _SCALARS:
            self._writer.add_scalar(f"fastcheck/{name}", getattr(record, name), record.step)
        self._writer.add_scalar("fastcheck/verdict", _VERDICTS[record.verdict], record.step)
        for name, verdict in record.tensors.items():
            self._writer.add_scalar(f"fastcheck_tensors/{name}", _VERDICTS[verdict], record.step)
        if record.notes and hasattr(self._writer, "add_text"):
            self._writer.add_text("fastcheck/notes", "\n\n".join(record.notes), record.step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file; calling it again does nothing."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> TensorBoardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _find() -> Any:
    """Return the class of the first writer that can be imported."""
    faults = []
    for module, name in [_TORCH, *_OTHERS] if "torch" in sys.modules else [*_OTHERS, _TORCH]:
        try:
            return getattr(import_module(module), name)
        except ModuleNotFoundError:
            continue
        # Installed and broken: versions that do not fit each other fail in every way.
        except Exception as error:
            faults.append(f"{module} cannot be imported, {oneline(error)}")
    found = f" ({'; '.join(faults)})" if faults else ""
    raise InputError(
        f"`logdir`: no package that writes for TensorBoard is installed{found}; "
        "`pip install tensorboard`, or tensorboardX."
    )
