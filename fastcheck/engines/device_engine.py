"""An engine on a device that may fail at any moment, and the host's engine for when it does."""

from __future__ import annotations

from fastcheck.engines.base import Differences, Engine, FloatArray, IndexArray
from fastcheck.engines.spread import SpreadEngine
from fastcheck.errors import FastcheckError, oneline
from fastcheck.trace.graph import Node


class DeviceEngine:
    """The differences of a device as long as it works; from its first failure on the host's.

    Drivers, compilers and memory of a device fail in ways of their own. None of them is a reason
    to leave a gradient unchecked.

    Parameters
    ----------
    there, host : Engine
        Both for the same tensor.

    Attributes
    ----------
    fault : str
        What failed; empty as long as nothing has.
    """

    def __init__(self, there: Engine, host: Engine) -> None:
        self.there, self.host = there, host
        self.fault = ""

    @property
    def at_work(self) -> Engine:
        """The engine that computes now."""
        return self.host if self.fault else self.there

    @property
    def name(self) -> str:
        return self.at_work.name

    @property
    def exact(self) -> bool:
        return self.at_work.exact

    @property
    def loss(self) -> float:
        return self.host.loss

    @property
    def magnitude(self) -> float:
        return self.host.magnitude

    @property
    def device(self) -> str:
        return self.at_work.device

    @property
    def unit_roundoff(self) -> float:
        return self.at_work.unit_roundoff

    @property
    def careful(self) -> Engine:
        """Itself, or the engine with more digits that its engine has."""
        careful = self.at_work.careful
        return self if careful is self.at_work else careful

    def kinks_of(self, indices: IndexArray) -> list[Node | None]:
        """Return the operations at which elements met a kink."""
        return self.at_work.kinks_of(indices)

    def differences(
        self,
        tensor: str,
        indices: IndexArray,
        steps: FloatArray,
        *,
        central: bool = True,
    ) -> Differences:
        """Perturb single elements; see `fastcheck.engines.base.Engine`."""
        if not self.fault:
            try:
                return self.there.differences(tensor, indices, steps, central=central)
            except FastcheckError:
                raise
            # An error of the user's own function, which computes some copies, comes again.
            except Exception as fault:
                self.fault = f"{self.there.device} failed ({oneline(fault)})"
        return self.host.differences(tensor, indices, steps, central=central)


def parts_of(engine: Engine) -> tuple[Engine, ...]:
    """Return the engines behind one: those of its devices, or itself."""
    there = engine.at_work if isinstance(engine, DeviceEngine) else engine
    return there.parts if isinstance(there, SpreadEngine) else (there,)
