"""The embedded handwritten digits.

Alpaydin, E. & Kaynak, C. (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, https://doi.org/10.24432/C50P49, licensed under CC BY 4.0. See ``data/LICENSE.md`` for
what was selected.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
from numpy.typing import NDArray

from fastcheck.errors import InputError

SIDE = 8
BRIGHTEST = 16


def load_digits(
    size: int = 28, count: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read the embedded digits.

    The 8×8 originals are enlarged by a whole factor (each pixel becomes a square) and centred on
    black, so most pixels of a 28×28 image are exactly zero, as in MNIST.

    Parameters
    ----------
    size : int
        Side of the square images, at least 8. 28 enlarges by 3 and pads by 2.
    count : int, optional
        How many digits, at most 500; all of them by default. The classes take turns, so the first
        ``10 k`` digits hold each class k times.

    Returns
    -------
    images : float64 array (n, size * size)
        One image a row, from 0 (black) to 1.
    labels : int64 array (n,)
        The digits 0 to 9.

    Raises
    ------
    InputError
        `size` is below 8, or `count` is not between 1 and 500.
    """
    small, labels = _read()
    count = len(labels) if count is None else count
    if size < SIDE:
        raise InputError(f"`size` is {size}; the digits are {SIDE}×{SIDE}: ask for 8 or more.")
    if not 1 <= count <= len(labels):
        raise InputError(
            f"`count` is {count}; ask for 1 to {len(labels)} digits, "
            "or read a larger set with load_idx."
        )
    images = _enlarge(small[:count].reshape(-1, SIDE, SIDE), size)
    return images.reshape(count, size * size) / BRIGHTEST, labels[:count].astype(np.int64)


def _read() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    # Opened through importlib.resources so that it also works from a zipped package.
    source = resources.files("fastcheck.problems") / "data" / "digits.npz"
    with source.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return archive["images"], archive["labels"]


def _enlarge(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    factor = size // SIDE
    before = (size - factor * SIDE) // 2
    after = size - factor * SIDE - before
    larger = images.repeat(factor, axis=1).repeat(factor, axis=2)
    return np.pad(larger, ((0, 0), (before, after), (before, after)))
