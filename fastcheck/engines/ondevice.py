"""The engines of one tensor on other devices: kernels where there are any, else stacks of copies.

Nothing of a device is trusted before it agrees with the replay on the host, which is cross-checked
against the user's function. What fails there, now or later, leaves the work to the host.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from fastcheck.devices import Device, budget, default_memory
from fastcheck.differences import Bases
from fastcheck.engines.assignment import TRUSTED, Assignment
from fastcheck.engines.base import U64, Engine
from fastcheck.engines.choice import Costs
from fastcheck.engines.device_engine import DeviceEngine
from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.kernelcheck import unlike_replay
from fastcheck.engines.replay import ReplayEngine
from fastcheck.engines.spread import SpreadEngine
from fastcheck.engines.trust import Trust
from fastcheck.errors import oneline
from fastcheck.fusion.dims import NotFusable
from fastcheck.params import Tensor

ReplayOn = Callable[[Bases, int], ReplayEngine]
"""Makes the replay engine of the tensor where these base values are, with that memory."""
_RELATIVE, _RELATIVE_FLOAT32 = 1e-9, 1e-3


@dataclass(frozen=True)
class _Found:
    """An engine on devices; or, without one, why."""

    engine: SpreadEngine[FusedEngine] | SpreadEngine[ReplayEngine] | None
    note: str


@dataclass
class DevicePlanner:
    """Assigns engines on the devices and in the precision that were asked for.

    Attributes
    ----------
    devices : tuple of Device
        At least one; several CUDA devices share the elements.
    precision : {"float64", "float32"}
    memory : int or None
        Bytes for what a device holds at a time; None for a share of what is free.
    rng : numpy.random.Generator
    trust : Trust
        The kernels that have been compared with the replay.
    """

    devices: tuple[Device, ...]
    precision: str
    memory: int | None
    rng: np.random.Generator
    trust: Trust
    _bases: dict[tuple[str, str], Bases] = field(default_factory=dict)
    _kernels: list[FusedEngine] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The devices as a user writes them, such as ``"gpu:0,1"``."""
        first, *others = self.devices
        return ",".join([first.name, *[str(device.number) for device in others]])

    def assign(
        self,
        tensor: Tensor,
        count: int,
        host: ReplayEngine,
        replay_on: ReplayOn,
        engine: str,
        costs: Costs,
        otherwise: Callable[[], Assignment],
    ) -> Assignment:
        """Assign kernels on the devices, or stacks on them, or failing these the host's engine.

        Parameters
        ----------
        tensor : Tensor
            The one that they perturb.
        count : int
            How many elements are to be perturbed.
        host : ReplayEngine
            The tensor's, on the host.
        replay_on : callable
            Makes the same for a device.
        engine : {"auto", "replay", "fused"}
            The user's wish.
        costs : Costs
            Of the host's replay and the loop.
        otherwise : callable
            The assignment of the host.
        """
        notes = []
        if engine != "replay":
            found = self._fused(host, tensor, count)
            if found.engine is not None:
                return self._assigned(found, host, count, costs)
            notes.append(f"no kernel, because {found.note}")
        if engine != "fused":
            found = self._stacks(host, replay_on)
            if found.engine is not None:
                return self._assigned(found, host, count, costs, *notes)
            notes.append(found.note)
        there = otherwise()
        missed = "; ".join(notes)
        return replace(there, reason=f"{there.reason}; on {self.name} {missed}", missed=missed)

    def assign_stacks(
        self, count: int, host: ReplayEngine, replay_on: ReplayOn, there: Assignment
    ) -> Assignment:
        """Assign stacks of copies in the precision asked for, or else what there is already."""
        found = self._stacks(host, replay_on)
        return there if found.engine is None else self._assigned(found, host, count, there.costs)

    def close(self) -> None:
        """Give back what lies on the devices; engines that go on send it again."""
        for kernel in self._kernels:
            kernel.forget()
        for bases in self._bases.values():
            bases.clear()
        if self._bases or self._kernels:
            for device in self.devices:
                with suppress(Exception):  # a device that has failed has nothing to give back
                    device.release()

    def _fused(self, host: ReplayEngine, tensor: Tensor, count: int) -> _Found:
        """Return kernels, `host` behind them, or why there are none."""
        try:
            # What kernels read is computed on the host.
            memory = default_memory() if self.memory is None else self.memory
            parts = []
            for device in self.devices:
                part = FusedEngine(host, tensor, memory, device=device, precision=self.precision)
                parts.append(part)
                self._kernels.append(part)
            for part in parts:
                obstacle = unlike_replay(part, tensor, count, self.rng, self.trust)
                if obstacle is not None:
                    return _Found(None, obstacle)
        except NotFusable as why:
            return _Found(None, str(why))
        except Exception as fault:
            return _Found(None, f"it could not be made ({oneline(fault)})")
        return _Found(SpreadEngine(parts), f"on {self.name}{self._rounded(host)}")

    def _stacks(self, host: ReplayEngine, replay_on: ReplayOn) -> _Found:
        """Return stacks of copies on the devices, or why they cannot be there."""
        # Where digits cancel, those of float32 are too few.
        precision = self.precision if host.exact else "float64"
        try:
            parts = [
                replay_on(self._bases_on(device, precision), budget(device, self.memory))
                for device in self.devices
            ]
            for part in parts:
                obstacle = _unlike_host(part, host)
                if obstacle is not None:
                    return _Found(None, f"{part.device} {obstacle}")
        except Exception as fault:
            return _Found(None, f"replaying it failed ({oneline(fault)})")
        return _Found(SpreadEngine(parts), f"on {self.name}{self._rounded(host)}")

    def _bases_on(self, device: Device, precision: str) -> Bases:
        key = (device.name, precision)
        if key not in self._bases:
            self._bases[key] = Bases(device, precision)
        return self._bases[key]

    def _assigned(
        self,
        found: _Found,
        host: ReplayEngine,
        count: int,
        costs: Costs,
        *notes: str,
    ) -> Assignment:
        """Return an engine of the devices with the host's behind it."""
        assert found.engine is not None
        part = found.engine.parts[0]
        if isinstance(part, FusedEngine):
            costs = replace(costs, fused=part.seconds(count))
        else:
            costs = replace(costs, replay=part.seconds(count))
        one: Engine = part if len(found.engine.parts) == 1 else found.engine
        engine = DeviceEngine(one, host) if self.devices[0].is_gpu else one
        return Assignment(engine, "; ".join([TRUSTED, found.note, *notes]), costs)

    def _rounded(self, host: ReplayEngine) -> str:
        if self.precision == "float64":
            return ""
        return " in float32" if host.exact else " in float64, because digits cancel in it"


def _unlike_host(part: ReplayEngine, host: ReplayEngine) -> str | None:
    """Compare the few copies that each engine runs for its survey."""
    ours, theirs = part.survey, host.survey
    relative = _RELATIVE if part.unit_roundoff == U64 else _RELATIVE_FLOAT32
    for mine, plain in ((ours.up, theirs.up), (ours.down, theirs.down)):
        known = np.isfinite(plain)
        size = np.abs(plain) + np.max(np.abs(plain[known]), initial=0.0)
        allowed = relative * size + (0.0 if host.exact else 64 * U64 * host.magnitude)
        wrong = ~(np.abs(mine - plain) <= allowed) & known
        if wrong.any():
            place = int(np.flatnonzero(wrong)[0])
            return (
                f"changes the loss by {mine[place]:.9g} at element {ours.probes[place]}, and the "
                f"host by {plain[place]:.9g}"
            )
    return None
