"""What every network here consists of: a loss, parameters, a gradient written by hand, and bugs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Case:
    """One network with its data, as its author would hand it to `fastcheck.check`.

    Attributes
    ----------
    loss
        ``loss(params)``.
    params
        θ.
    grads
        ``grads(params)`` is the right gradient, ``grads(params, bug)`` one with a mistake.
    bugs
        The mistakes, each with the names of the tensors whose gradients it spoils.
    """

    loss: Callable[[Any], Any]
    params: Any
    grads: Callable[..., Any]
    bugs: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Network:
    """A way to write a network.

    Attributes
    ----------
    name
        What it is, and how it is written.
    family
        The file that it is in.
    make
        ``make(m, h)`` returns a case of m samples and a width of h; it may take further sizes.
    loop
        Words of the reason for which it needs the loop engine; empty if it does not.
    no_kernel
        Names of the tensors that have no kernel, so that the replay engine does them; or "all".
    large
        What `make` is called with for measurements of speed: m, h and, where need be, more.
    """

    name: str
    family: str
    make: Callable[..., Case]
    loop: str = ""
    no_kernel: tuple[str, ...] = ()
    large: tuple[int, ...] = (64, 256)

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


NETWORKS: list[Network] = []


def network(
    name: str, *, loop: str = "", no_kernel: str = "", large: tuple[int, ...] = (64, 256)
) -> Callable[[Callable[..., Case]], Callable[..., Case]]:
    """Register a function that makes a case; `no_kernel` names tensors, separated by spaces."""

    def register(make: Callable[..., Case]) -> Callable[[int, int], Case]:
        family = make.__module__.rpartition(".")[2]
        NETWORKS.append(Network(name, family, make, loop, tuple(no_kernel.split()), large))
        return make

    return register
