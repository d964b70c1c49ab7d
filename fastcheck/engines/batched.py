"""The batched engine: the user's own function takes stacks of perturbed copies (``batched=True``).

Differences are those of the loop engine, for many elements in one call. Stacks share memory as far
as the function lets them. Before they are trusted, copies of a stack are compared with stacks of
one: a function in which copies mix is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter

import numpy as np

from fastcheck.devices import Device, budget
from fastcheck.devices.cpu import cpu_device
from fastcheck.devices.cuda import gpu_device
from fastcheck.engines.base import U64, Differences, FloatArray, IndexArray
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.stack_size import Room, StackSize, peak_memory
from fastcheck.engines.stacked_loss import StackedLoss
from fastcheck.engines.stacks import Stacks
from fastcheck.errors import FastcheckError, InputError
from fastcheck.params import ParamTree, Tensor
from fastcheck.trace.graph import Node

REASON = "`loss` takes stacks of copies (batched=True)"

_CHECKED = 7
_FEWER = 4
_STEP = 2.0**-8
_ROUNDOFFS = 64
_NOISE = 32.0
_TRIAL_SECONDS = 0.2


class BatchedEngine:
    """Differences of the loss by calling the user's function with stacks.

    Parameters
    ----------
    loss : StackedLoss
        The user's loss, wrapped.
    tree : ParamTree
        The parameters θ.
    loop : LoopEngine
        J(θ), and whether the loss writes into what it is given.
    memory : int or None
        Bytes for one stack and what the function makes of it; None for a share of what is free.
    noise : callable
        σ of the loss.

    Attributes
    ----------
    writes_params : tuple of str
        The tensors that the loss was seen to write into.

    Raises
    ------
    InputError
        If `memory` does not suffice for one stacked copy of the parameters.
    """

    name = "batched"
    exact = False
    unit_roundoff = U64

    def __init__(
        self,
        loss: StackedLoss,
        tree: ParamTree,
        loop: LoopEngine,
        memory: int | None,
        noise: Callable[[], float],
    ) -> None:
        self._function, self._tree, self._noise = loss, tree, noise
        self._device = _device(tree)
        self._out_of_memory = self._device.out_of_memory
        self.loss, self.magnitude = loop.loss, loop.magnitude
        self.writes_params = loop.writes_params
        self._stacks = Stacks(tree)
        self._sharing = not loop.writes_params
        stacked = tree.size * np.dtype(np.float64).itemsize
        self._room = Room(budget(self._device, memory), stacked)
        self._sizes: dict[str, StackSize] = {}
        self._trusted: dict[str, int] = {}

    @property
    def device(self) -> str:
        """Where the stacks are: where the user's own arrays are."""
        return self._device.name

    @property
    def careful(self) -> BatchedEngine:
        """Itself."""
        return self

    def kinks_of(self, indices: IndexArray) -> list[Node | None]:
        """Return nothing: a black box does not know."""
        return [None] * len(indices)

    def differences(
        self,
        tensor: str,
        indices: IndexArray,
        steps: FloatArray,
        *,
        central: bool = True,
    ) -> Differences:
        """Perturb single elements of one tensor; see `fastcheck.engines.base.Engine`."""
        before = self._function.calls
        entry = self._tree[tensor]
        self.trust(entry)
        # `flat` counts in C order whatever the memory layout is.
        start = entry.value.flat[indices]
        upper, lower = start + steps, start - steps
        sides = (upper, lower) if central else (upper,)
        losses = self._losses(entry, np.tile(indices, len(sides)), np.concatenate(sides))
        found = losses.reshape(len(sides), len(indices))
        zeros = np.zeros(len(indices))
        with np.errstate(invalid="ignore"):
            return Differences(
                plus=found[0] - self.loss,
                minus=self.loss - found[1] if central else zeros,
                step_plus=upper - start,
                step_minus=start - lower if central else zeros,
                kinked=np.zeros(len(indices), dtype=bool),
                loss_calls=self._function.calls - before,
            )

    def parameters_per_stack(self, tensor: str) -> int:
        """Return how many parameters a stack holds now, at two copies each."""
        return max(1, self._size(tensor).copies // 2)

    @property
    def bytes_per_parameter(self) -> int:
        """What two copies take, as far as is known."""
        return 2 * self._room.per_copy

    def seconds(self, tensor: str, count: int) -> float:
        """Estimate the time of central differences of `count` elements."""
        per_copy = self._size(tensor).seconds
        return 2 * count * (per_copy if math.isfinite(per_copy) else self._function.fastest)

    def try_out(self, tensor: Tensor) -> None:
        """Find the size of the stacks for a moment, so that the estimates hold."""
        size, stop = self._size(tensor.name), perf_counter() + _TRIAL_SECONDS
        while not size.settled and perf_counter() < stop:
            indices = np.arange(size.copies, dtype=np.int64) % tensor.size
            with np.errstate(all="ignore"):
                self._losses(tensor, indices, tensor.value.flat[indices])

    def trust(self, tensor: Tensor) -> None:
        """Compare some copies of a stack with stacks of one, and with a stack in another order.

        Raises
        ------
        InputError
            If a copy's loss depends on more than that copy.
        """
        if tensor.name in self._trusted or not tensor.size:
            return
        indices, values = _checked_copies(tensor)
        while (copies := min(_CHECKED, self._room.most)) > 1:
            try:
                with np.errstate(all="ignore"):
                    self._check(tensor, indices[:copies], values[:copies])
                break
            except self._out_of_memory as error:
                self._exceeded(copies, error)
        self._trusted[tensor.name] = copies

    # Cross-check

    def _check(self, tensor: Tensor, indices: IndexArray, values: FloatArray) -> None:
        difference = self._compare(tensor, indices, values)
        if difference is not None and self._sharing:
            # The function may have taken a view for memory of its own.
            self._sharing = False
            difference = self._compare(tensor, indices, values)
        if difference is not None:
            raise _mixing(difference)

    def _compare(self, tensor: Tensor, indices: IndexArray, values: FloatArray) -> str | None:
        """Say which copy has another loss in another stack; None if all agree."""
        copies = len(indices)
        if self._sharing:  # what is kept must not count as the function's
            self._stacks.reserve(tensor, copies)
        with peak_memory() as large:
            together = self._stack(tensor, indices, values)
        others = np.arange(copies)[::-2][: min(_FEWER, copies - 1)]
        with peak_memory() as small:
            again = self._stack(tensor, indices[others], values[others])
        if large.size is not None and small.size is not None:
            self._room.learn(len(others), small.size, copies, large.size)
        for place in (0, copies // 2, copies - 1):
            alone = self._stack(tensor, indices[[place]], values[[place]])[0]
            if not self._agree(together[place], alone):
                return _differs(place, copies, together[place], f"{float(alone)!r} alone")
        for now, place in enumerate(others):
            if not self._agree(together[place], again[now]):
                what = f"{float(again[now])!r} as copy {now} of a stack of {len(others)}"
                return _differs(place, copies, together[place], what)
        return None

    def _agree(self, one: float, other: float) -> bool:
        if not (np.isfinite(one) and np.isfinite(other)):
            return bool(one == other or (np.isnan(one) and np.isnan(other)))
        gap = abs(one - other)
        largest = max(abs(one), abs(other), self.magnitude)
        rounding = _ROUNDOFFS * self._function.unit_roundoff * largest
        return bool(gap <= rounding or gap <= _NOISE * self._noise())

    # Stacks

    def _losses(self, tensor: Tensor, indices: IndexArray, values: FloatArray) -> FloatArray:
        """Return the loss with each element in turn set to its value, in stacks that fit."""
        losses = np.zeros(len(indices))
        size, done = self._size(tensor.name), 0
        while done < len(indices):
            copies = _share(len(indices) - done, size.copies)
            part = slice(done, done + copies)
            try:
                start = perf_counter()
                found = self._stack(tensor, indices[part], values[part])
                size.took(copies, perf_counter() - start)
                if copies > self._trusted.get(tensor.name, copies):
                    found = self._spot_checked(tensor, indices[part], values[part], found)
                    self._trusted[tensor.name] = copies
            except self._out_of_memory as error:
                self._exceeded(copies, error)
                continue
            losses[part] = found
            done += copies
        return losses

    def _spot_checked(
        self, tensor: Tensor, indices: IndexArray, values: FloatArray, losses: FloatArray
    ) -> FloatArray:
        """Compare copies of a stack of a size not seen before with stacks of one."""
        places = np.unique([len(losses) // 3, 2 * len(losses) // 3, len(losses) - 1])
        alone = [self._stack(tensor, indices[[at]], values[[at]])[0] for at in places]
        differing = self._differing(losses[places], alone)
        if differing is not None and self._sharing:
            self._sharing = False
            losses = self._stack(tensor, indices, values)
            differing = self._differing(losses[places], alone)
        if differing is None:
            return losses
        place, other = int(places[differing]), float(alone[differing])
        raise _mixing(_differs(place, len(losses), losses[place], f"{other!r} alone"))

    def _differing(self, losses: FloatArray, alone: list[float]) -> int | None:
        """Return the first place at which two losses of the same copy do not agree."""
        pairs = zip(losses, alone, strict=True)
        return next((n for n, pair in enumerate(pairs) if not self._agree(*pair)), None)

    def _stack(self, tensor: Tensor, indices: IndexArray, values: FloatArray) -> FloatArray:
        """Return the losses of one stack, which shares memory as long as that does no harm."""
        if self._sharing:
            losses = self._shared_stack(tensor, indices, values)
            if losses is not None:
                return losses
        losses = self._function.losses(self._stacks.copies(tensor, indices, values), len(indices))
        self._sharing = False  # not before the function is known to accept fresh copies
        return losses

    def _shared_stack(
        self, tensor: Tensor, indices: IndexArray, values: FloatArray
    ) -> FloatArray | None:
        """Return the losses of a stack that shares memory; None if the function needs its own."""
        lent = self._stacks.lend(tensor, indices, values)
        try:
            losses = self._function.losses(lent.tree, len(indices))
        except self._out_of_memory:
            raise
        except FastcheckError:
            raise
        except Exception:
            # It may not like read-only arrays or strides of zero. If it is something else, the
            # call with copies raises it again.
            return None
        written = self._stacks.take_back(lent)
        if written:
            self.writes_params = tuple(dict.fromkeys((*self.writes_params, *written)))
            return None
        return losses

    def _exceeded(self, copies: int, error: BaseException) -> None:
        self._stacks.drop()
        self._device.release()
        self._room.exceeded(copies, error)

    def _size(self, tensor: str) -> StackSize:
        return self._sizes.setdefault(tensor, StackSize(self._room))


def _device(tree: ParamTree) -> Device:
    """Return the device whose memory the stacks take."""
    numbers = [tensor.place.device.id for tensor in tree if tensor.place is not None]
    return gpu_device(numbers[0]) if numbers else cpu_device()


def _checked_copies(tensor: Tensor) -> tuple[IndexArray, FloatArray]:
    """Return elements spread over a tensor, and a value for each that no other copy has."""
    spread = np.linspace(0, tensor.size - 1, _CHECKED)
    indices = np.round(spread).astype(np.int64)
    start = tensor.value.flat[indices]
    # Relative to the element itself, so that a variance, say, stays positive.
    size = np.where(start != 0, np.abs(start), tensor.rms or 1.0)
    signs = np.where(np.arange(_CHECKED) % 2, -1.0, 1.0)
    return indices, start + signs * _STEP * size * (1 + np.arange(_CHECKED) / _CHECKED)


def _share(left: int, most: int) -> int:
    """Return the size of the next stack, of as few stacks as possible that are about equal."""
    stacks = -(-left // most)
    return -(-left // stacks)


def _differs(place: int, copies: int, loss: float, otherwise: str) -> str:
    return f"copy {place} of a stack of {copies} has the loss {float(loss)!r}, but {otherwise}"


def _mixing(difference: str) -> InputError:
    return InputError(
        f"`loss` mixes the copies of a stack: {difference}. With batched=True each copy's loss "
        "must depend on that copy alone, not on the others or on its place: look for a sum, mean, "
        "maximum or reshape over the first axis, and for random numbers drawn for each copy."
    )
