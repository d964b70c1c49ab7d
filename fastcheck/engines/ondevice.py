"""The engines of one tensor on other devices: kernels where there are any, else stacks of copies.

Nothing of a device is trusted before it agrees with the replay on the host, which is cross-checked
against the user's function. What fails there leaves the work to the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastcheck.devices import Device, budget, default_memory
from fastcheck.engines.base import Engine
from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.kernelcheck import unlike_replay
from fastcheck.engines.replay import ReplayEngine
from fastcheck.engines.spread import SpreadEngine
from fastcheck.fusion.dims import NotFusable
from fastcheck.params import Tensor

ReplayOn = Callable[[Device, int, str], ReplayEngine]
"""Makes the replay engine of the tensor on a device, with that memory and precision."""


@dataclass(frozen=True)
class OnDevice:
    """An engine on devices, or why there is none; `note` says what a reader should know of it."""

    engine: Engine | None
    note: str


@dataclass(frozen=True)
class DevicePlanner:
    """Makes engines for tensors, on the devices and in the precision that were asked for.

    Attributes
    ----------
    devices : tuple of Device
        At least one; several CUDA devices share the elements.
    precision : {"float64", "float32"}
    memory : int or None
        Bytes for what a device holds at a time; None for a share of what is free.
    rng : numpy.random.Generator
    """

    devices: tuple[Device, ...]
    precision: str
    memory: int | None
    rng: np.random.Generator

    @property
    def name(self) -> str:
        """The devices as a user writes them, such as ``"gpu:0,1"``."""
        first, *others = self.devices
        return ",".join([first.name, *[str(device.number) for device in others]])

    def fused(self, host: ReplayEngine, tensor: Tensor, count: int) -> OnDevice:
        """Return kernels, `host` behind them, or why there are none."""
        try:
            # What kernels read is computed on the host.
            memory = default_memory() if self.memory is None else self.memory
            parts = [
                FusedEngine(host, tensor, memory, device=device, precision=self.precision)
                for device in self.devices
            ]
            for part in parts:
                obstacle = unlike_replay(part, tensor, count, self.rng)
                if obstacle is not None:
                    return OnDevice(None, obstacle)
        except NotFusable as why:
            return OnDevice(None, str(why))
        except Exception as fault:
            return OnDevice(None, f"it could not be made ({_oneline(fault)})")
        return OnDevice(_one_or_spread(parts), f"on {self.name}{self._rounded(host)}")

    def replay(self, host: ReplayEngine, tensor: Tensor, replay_on: ReplayOn) -> OnDevice:
        """Return stacks of copies on the devices, or why they cannot be there."""
        # Where digits cancel, those of float32 are too few.
        precision = self.precision if host.exact else "float64"
        try:
            parts = [
                replay_on(device, budget(device, self.memory), precision) for device in self.devices
            ]
            for part in parts:
                obstacle = _unlike_host(part, host)
                if obstacle is not None:
                    return OnDevice(None, f"{part.device} {obstacle}")
        except Exception as fault:
            return OnDevice(None, f"replaying it on {self.name} failed ({_oneline(fault)})")
        return OnDevice(_one_or_spread(parts), f"on {self.name}{self._rounded(host)}")

    def _rounded(self, host: ReplayEngine) -> str:
        if self.precision == "float64":
            return ""
        return " in float32" if host.exact else " in float64, because digits cancel in it"


def _one_or_spread(parts: list[FusedEngine] | list[ReplayEngine]) -> Engine:
    return parts[0] if len(parts) == 1 else SpreadEngine[FusedEngine | ReplayEngine](parts)


def _unlike_host(part: ReplayEngine, host: ReplayEngine) -> str | None:
    """Compare the few copies that each engine runs for its survey."""
    ours, theirs = part.survey, host.survey
    relative = 1e-3 if part.unit_roundoff > 2.0**-53 else 1e-9
    for mine, plain in ((ours.up, theirs.up), (ours.down, theirs.down)):
        size = np.abs(plain) + np.max(np.abs(plain), initial=0.0)
        allowed = relative * size + (0.0 if host.exact else 64 * 2.0**-53 * host.magnitude)
        wrong = ~(np.abs(mine - plain) <= allowed) & np.isfinite(plain)
        if wrong.any():
            place = int(np.flatnonzero(wrong)[0])
            return (
                f"changes the loss by {mine[place]:.9g} at element {ours.probes[place]}, and the "
                f"host by {plain[place]:.9g}"
            )
    return None


def _oneline(fault: BaseException) -> str:
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:200]}"
