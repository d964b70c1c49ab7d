"""Parameter trees: reading the user's arrays, naming them, and matching gradients to them."""

from __future__ import annotations

from fastcheck.params.matching import match_gradients
from fastcheck.params.selection import select_indices
from fastcheck.params.tree import ParamTree, Tensor

__all__ = ["ParamTree", "Tensor", "match_gradients", "select_indices"]
