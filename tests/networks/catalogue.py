"""All the networks, for the tests here and for ``python -m benchmarks networks``."""

from __future__ import annotations

from . import (
    attention,
    convolutional,
    embeddings,
    losses,
    normalisation,
    objects,
    recurrent,
)
from .case import NETWORKS, Case, Network

FAMILIES = tuple(
    module.__name__.rpartition(".")[2]
    for module in (
        recurrent,
        convolutional,
        normalisation,
        attention,
        embeddings,
        objects,
        losses,
    )
)

__all__ = ["FAMILIES", "NETWORKS", "Case", "Network"]
