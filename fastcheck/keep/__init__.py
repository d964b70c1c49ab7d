"""Keeping what is the user's: after a check, everything is as it was before."""

from __future__ import annotations

from fastcheck.keep.kept import Kept, keep

__all__ = ["Kept", "keep"]
