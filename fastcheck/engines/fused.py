"""The fused engine: a slice as a kernel of the CPU or a GPU, one for elements that enter it alike.

The kernel computes the copies for which nothing crosses a kink and every polynomial is in its
reach, and refuses the others; those are replayed. So both engines answer the same question in the
same way, and this one answers it for nearly every copy.
"""

from __future__ import annotations

from itertools import pairwise
from math import inf

import numpy as np

from fastcheck.devices.base import Device
from fastcheck.devices.cpu import cpu_device
from fastcheck.engines.adjoint import Expected
from fastcheck.engines.base import (
    U32,
    U64,
    Attempt,
    BoolArray,
    Differences,
    FloatArray,
    IndexArray,
    lost_in_float32,
)
from fastcheck.engines.replay import ReplayEngine
from fastcheck.fusion.cuda import CudaCode
from fastcheck.fusion.dims import NotFusable
from fastcheck.fusion.kernel import Kernel, threads
from fastcheck.fusion.lower import Program, lower
from fastcheck.fusion.ongpu import CudaKernel
from fastcheck.fusion.printer import print_kernel
from fastcheck.fusion.roots import Group, groups_of
from fastcheck.fusion.schedule import Schedule, schedule
from fastcheck.fusion.series import REACHES
from fastcheck.params import Tensor
from fastcheck.trace.graph import Node

HOISTED_BYTES = 16 * 1024**2
"""What is hoisted for a block of copies is meant to stay in the caches."""
# About what a call of a kernel takes, a vector operation of it, and an element hoisted for it.
_SECONDS_A_CALL, _SECONDS_AN_OPERATION, _SECONDS_A_HOISTED = 3e-4, 0.16e-9, 1.5e-9
# And what printing takes for each operation in a kernel.
_SECONDS_TO_PRINT = 1.3e-5
# And lowering a slice for each expression, of which most are operations in the end.
_SECONDS_TO_LOWER = 1e-5
# On a GPU transfers and launches are what is seen; the second is for copies by the million.
_SECONDS_A_CALL_ON_GPU, _SECONDS_A_COPY_ON_GPU = 1e-4, 1e-8
_SAMPLE = 64
_MOST_REFUSED = 0.1
# An argument of a polynomial is a step times inputs and weights; they are seldom larger than this.
_USUAL_GAIN = 8.0
AnyKernel = Kernel | CudaKernel


class FusedEngine:
    """Exact differences for one tensor by generated kernels.

    Parameters
    ----------
    replay : ReplayEngine
        Computes the copies that a kernel refuses.
    tensor : Tensor
    memory : int
        Bytes for what is hoisted out of the kernels, at a time.
    worth : float
        Seconds that printing a kernel may take at most, by estimate.
    device : Device, optional
        Where the kernels run; `replay` is on the host all the same. By default the CPU.
    precision : {"float64", "float32"}
        The arithmetic of kernels on a GPU. On the CPU it is always float64.
    expected : Expected, optional
        The derivatives by a backward pass, which the first differences are held against.

    Raises
    ------
    NotFusable
        The slice does something that a kernel does not.

    Attributes
    ----------
    refused : int
        How many copies have been left to the replay engine so far.
    doubt : str
        Why the kernels are not used any more: what they disagreed in. Empty while they are.
    """

    name = "fused"
    exact = True

    def __init__(
        self,
        replay: ReplayEngine,
        tensor: Tensor,
        memory: int,
        worth: float = inf,
        *,
        device: Device | None = None,
        precision: str = "float64",
        expected: Expected | None = None,
    ) -> None:
        if not replay.exact:
            raise NotFusable("a function takes part whose difference cancels digits")
        self.replay = replay
        self.loss = replay.loss
        self.magnitude = replay.magnitude
        self.slice = replay.slice
        self.refused = 0
        self._tensor = tensor
        self._place = cpu_device() if device is None else device
        self._precision = precision if self._place.is_gpu else "float64"
        self.device = str(self._place)
        self.unit_roundoff = U64 if self._precision == "float64" else U32
        self.expected = expected
        self.doubt = ""
        self._compared = False
        self._memory = memory if self._place.is_gpu else min(memory, HOISTED_BYTES)
        self._worth = worth
        self._groups = groups_of(self.slice)
        self._kernels: dict[tuple[Group, float], AnyKernel | None] = {}
        self._gain = dict.fromkeys(self._groups, _USUAL_GAIN)
        self._tried: dict[tuple[Group, float], float] = {}
        for group in self._groups:
            self.kernel(group, REACHES[0])

    @property
    def careful(self) -> ReplayEngine:
        """The replay engine: what seems wrong is looked at again with NumPy, in float64."""
        return self.replay

    def kernel(self, group: Group, reach: float) -> AnyKernel | None:
        """Return the kernel of a group; None if its elements do not reach the loss."""
        if (group, reach) not in self._kernels:
            with np.errstate(all="ignore"):  # what overflows is refused, copy by copy
                program = lower(self.slice, group, reach, self._worth / _SECONDS_TO_LOWER)
            kernel = None
            if program.change is not None:
                planned = schedule(program)
                if planned.operations * _SECONDS_TO_PRINT > self._worth:
                    raise NotFusable("a long kernel would take longer to print than the replay")
                kernel = self._printed(program, planned)
            self._kernels[group, reach] = kernel
        return self._kernels[group, reach]

    def _printed(self, program: Program, planned: Schedule) -> AnyKernel:
        if not self._place.is_gpu:
            return Kernel(print_kernel(program, planned), self._memory)
        source = print_kernel(program, planned, CudaCode)
        return CudaKernel(source, self._memory, self._place, self._precision)

    def kernels(self) -> list[AnyKernel]:
        """Return the kernels that differences of the usual step need."""
        found = [self.kernel(group, REACHES[0]) for group in self._groups]
        return [kernel for kernel in found if kernel is not None]

    def forget(self) -> None:
        """Give back the memory of the device."""
        for kernel in self._kernels.values():
            if isinstance(kernel, CudaKernel):
                kernel.forget()

    def seconds(self, count: int) -> float:
        """Estimate the time of the differences of `count` elements, kernels compiled."""
        kernels = self.kernels()
        if self._place.is_gpu:
            return _SECONDS_A_CALL_ON_GPU + count * _SECONDS_A_COPY_ON_GPU
        each = max((kernel.source.operations for kernel in kernels), default=0.0)
        work = each * count * _SECONDS_AN_OPERATION
        hoisted = sum(kernel.elements for kernel in kernels) * _SECONDS_A_HOISTED
        return _SECONDS_A_CALL + hoisted + work / min(threads(), max(1.0, work / 1e-4))

    def kinks_of(self, indices: IndexArray) -> list[Node | None]:
        """Return the operations at which elements met a kink; the replay engine knows."""
        return self.replay.kinks_of(indices)

    def differences(
        self,
        tensor: str,
        indices: IndexArray,
        steps: FloatArray,
        *,
        central: bool = True,
    ) -> Differences:
        """Perturb single elements of the tensor; see `fastcheck.engines.base.Engine`."""
        return self.settled(self.attempt(indices, steps, central), indices)

    def attempt(self, indices: IndexArray, steps: FloatArray, central: bool) -> Attempt:
        """Compute what the kernels do not refuse."""
        if self.unit_roundoff > U64:
            steps = steps.astype(np.float32).astype(np.float64)
        plus, minus, refused = self.computed(indices, steps)
        if not self._is_as_expected(indices, steps, plus + minus, refused, central):
            refused[:] = True
        changes = np.stack([plus, -minus] if central else [plus])
        if self.unit_roundoff > U64 and len(indices) and lost_in_float32(steps, changes):
            refused[:] = True
        left = np.broadcast_to(refused, changes.shape)
        return Attempt(steps.copy(), changes, np.zeros(len(indices), dtype=bool), left)

    def settled(self, attempt: Attempt, indices: IndexArray) -> Differences:
        """Replay the copies that the kernels refused."""
        self.refused += int(attempt.left[0].sum())
        return self.replay.completing(attempt, indices)

    def _is_as_expected(
        self,
        indices: IndexArray,
        steps: FloatArray,
        changes: FloatArray,
        refused: BoolArray,
        central: bool,
    ) -> bool:
        """Hold J(θ+h) − J(θ−h) against a backward pass; once they differ, nothing is trusted.

        Where it is no derivative, at a step of the user's own, a first look takes one that is tiny.
        """
        expected = self.expected
        if expected is None or self.doubt:
            return not self.doubt
        if not central or not expected.compares(steps):
            if self._compared:
                return True
            steps = np.full(len(indices), expected.tiny)
            plus, minus, refused = self.computed(indices, steps)
            changes = plus + minus
        self._compared = True
        self.doubt = expected.unlike(indices, steps, changes, refused) or ""
        return not self.doubt

    def computed(
        self, indices: IndexArray, steps: FloatArray
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Return what the kernels say of J(θ+h) − J(θ) and J(θ) − J(θ−h), and what they refuse."""
        count = len(indices)
        plus, minus = np.zeros(count), np.zeros(count)
        refused = np.zeros(count, dtype=bool)
        for group in self._groups:
            chosen = _members(group, indices, self._tensor.size)
            if chosen is not None and not chosen.any():
                continue
            part = slice(None) if chosen is None else chosen
            plus[part], minus[part], refused[part] = self._group(group, indices[part], steps[part])
        return plus, minus, refused | ~np.isfinite(plus) | ~np.isfinite(minus)

    def _group(
        self, group: Group, indices: IndexArray, steps: FloatArray
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Run the kernel with the smallest reach that few copies are out of."""
        largest = float(np.abs(steps).max(initial=0.0))
        wanted = largest * self._gain[group]
        fitting = [reach for reach in REACHES if reach >= wanted] or [REACHES[-1]]
        if len(indices) <= 4 * _SAMPLE:
            return self._few(group, fitting, indices, steps)
        sample = slice(None, None, len(indices) // _SAMPLE)
        reach = self._suitable(group, fitting, indices[sample], steps[sample])
        return self._run(group, reach, indices, steps)

    def _few(
        self, group: Group, fitting: list[float], indices: IndexArray, steps: FloatArray
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Run a kernel of a longer reach as well, if most of a few copies are refused."""
        first = found = self._run(group, fitting[0], indices, steps)
        if len(indices) >= _SAMPLE and found[2].mean() <= _MOST_REFUSED:
            self._tried[group, fitting[0]] = float(np.abs(steps).max())
        for before, reach in pairwise(fitting):
            if found[2].mean() <= _MOST_REFUSED:
                break
            found = self._run(group, reach, indices, steps)
            if found[2].mean() <= _MOST_REFUSED:  # it was the reach, and is next time
                largest = float(np.abs(steps).max(initial=0.0))
                self._gain[group] = max(self._gain[group], 1.01 * before / largest)
        return found if found[2].sum() < first[2].sum() else first

    def _suitable(
        self, group: Group, fitting: list[float], indices: IndexArray, steps: FloatArray
    ) -> float:
        """Return the first reach with which few of a sample of copies are refused."""
        largest = float(np.abs(steps).max(initial=0.0))
        for reach in fitting[:-1]:
            if self._tried.get((group, reach), 0.0) >= largest:
                return reach
            _, _, refused = self._run(group, reach, indices, steps)
            if refused.mean() <= _MOST_REFUSED:
                self._tried[group, reach] = largest
                return reach
            # Kinks are refused whatever the reach; another one is tried to find out.
            self._gain[group] = max(self._gain[group], 1.01 * reach / largest)
        return fitting[-1]

    def _run(
        self, group: Group, reach: float, indices: IndexArray, steps: FloatArray
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        nothing = np.zeros(len(indices))
        try:
            kernel = self.kernel(group, reach)
        except NotFusable:  # longer polynomials may make a kernel too long
            return nothing, nothing.copy(), np.ones(len(indices), dtype=bool)
        if kernel is None:
            return nothing, nothing.copy(), np.zeros(len(indices), dtype=bool)
        return kernel.run({pin: at[indices] for pin, at in group.positions.items()}, steps)


def _members(group: Group, indices: IndexArray, size: int) -> BoolArray | None:
    """Return which of the indices belong to a group; None for all of them."""
    if group.elements is None:
        return None
    inside = np.zeros(size, dtype=bool)
    inside[group.elements] = True
    return inside[indices]
