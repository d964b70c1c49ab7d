"""Read MNIST's own files: the IDX format, plain or gzipped.

The format (Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits"): two zero
bytes, a byte for the element type, a byte for the number of axes, each axis' length as a
big-endian 32-bit integer, then the elements.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastcheck.errors import InputError

UNSIGNED_BYTE = 0x08
AXES_OF_IMAGES = 3
AXES_OF_LABELS = 1
IMAGE_NAMES = (
    "train-images-idx3-ubyte",
    "train-images.idx3-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-images.idx3-ubyte",
)


def load_idx(
    data: str | os.PathLike[str], count: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read images and labels in MNIST's format.

    Parameters
    ----------
    data : path
        A directory that holds ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte`` (or the
        ``t10k-`` pair), with or without ``.gz``; or the file of images, with its labels beside it.
    count : int, optional
        Read only the first `count` images.

    Returns
    -------
    images : float64 array (n, rows * columns)
        One image a row, from 0 to 1.
    labels : int64 array (n,)

    Raises
    ------
    InputError
        A file is missing, unreadable, truncated, not in this format, or the two files disagree.
    """
    if count is not None and count < 1:
        raise InputError(f"`count` is {count}; ask for at least one image.")
    images_file = _images_file(Path(data))
    labels_file = _labels_file(images_file)
    images, total_images = _read(images_file, AXES_OF_IMAGES, "images", count)
    labels, total_labels = _read(labels_file, AXES_OF_LABELS, "labels", count)
    if total_images != total_labels:
        raise InputError(
            f"`data`: {images_file.name} holds {total_images} images but {labels_file.name} holds "
            f"{total_labels} labels; use two files of the same set."
        )
    return images.reshape(len(images), -1) / 255.0, labels.astype(np.int64)


def _images_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.exists():
        raise InputError(
            f"`data`: there is no file or directory {path}; "
            "give a directory with MNIST's IDX files or the file of images."
        )
    found = next((file for name in IMAGE_NAMES if (file := _either(path / name))), None)
    if found is None:
        raise InputError(
            f"`data`: {path} holds no train-images-idx3-ubyte or t10k-images-idx3-ubyte "
            "(with or without .gz); put MNIST's files there or give the file of images itself."
        )
    return found


def _labels_file(images: Path) -> Path:
    plain = images.name.removesuffix(".gz")
    wanted = plain.replace("images", "labels").replace("idx3", "idx1")
    found = _either(images.with_name(wanted)) if wanted != plain else None
    if found is None:
        raise InputError(
            f"`data`: the labels of {images.name} are not beside it; put {wanted} or {wanted}.gz "
            f"in {images.parent}."
            if wanted != plain
            else f"`data`: {images.name} does not say where its labels are; name the files as "
            "MNIST does, e.g. train-images-idx3-ubyte and train-labels-idx1-ubyte."
        )
    return found


def _either(plain: Path) -> Path | None:
    """Return the file, or its gzipped form, whichever exists."""
    zipped = plain.with_name(plain.name + ".gz")
    return next((file for file in (plain, zipped) if file.is_file()), None)


def _read(file: Path, axes: int, what: str, count: int | None) -> tuple[NDArray[np.uint8], int]:
    """Return the first `count` elements of the file and how many it says that it holds."""
    try:
        with _open(file) as stream:
            return _parse(stream, file, axes, what, count)
    except EOFError:
        raise InputError(
            f"`data`: {file} ends in the middle of its compressed stream; download it again."
        ) from None
    except (OSError, zlib.error) as error:
        raise InputError(f"`data`: {file} cannot be read ({error}); download it again.") from error


def _open(file: Path) -> io.BufferedIOBase:
    with file.open("rb") as stream:
        # By content, not by name: browsers often unpack a download and keep the ending.
        zipped = stream.read(2) == b"\x1f\x8b"
    return gzip.open(file, "rb") if zipped else file.open("rb")


def _parse(
    stream: io.BufferedIOBase, file: Path, axes: int, what: str, count: int | None
) -> tuple[NDArray[np.uint8], int]:
    shape = _shape(stream, file, axes, what)
    size = math.prod(shape)
    taken = shape[0] if count is None else min(count, shape[0])
    wanted = size // shape[0] * taken
    body = _read_at_most(stream, wanted)
    if len(body) < wanted:
        raise InputError(
            f"`data`: {file} is truncated: its header promises {size} bytes of {what} but only "
            f"{len(body)} follow; download it again."
        )
    if taken == shape[0] and stream.read(1):
        raise InputError(
            f"`data`: {file} goes on after the {size} bytes of {what} that its header promises; "
            "it is damaged or another kind of file: download it again."
        )
    return np.frombuffer(body, np.uint8).reshape(taken, *shape[1:]), shape[0]


def _shape(stream: io.BufferedIOBase, file: Path, axes: int, what: str) -> tuple[int, ...]:
    header = stream.read(4)
    wanted = bytes((0, 0, UNSIGNED_BYTE, axes))
    if header != wanted:
        raise InputError(
            f"`data`: {file} is not an IDX file of {what}: it begins with bytes "
            f"{header.hex(' ') or '(none)'}, not {wanted.hex(' ')}; "
            f"give MNIST's idx{axes}-ubyte file."
        )
    lengths = stream.read(4 * axes)
    if len(lengths) < 4 * axes:
        raise InputError(f"`data`: {file} ends inside its header; download it again.")
    shape = tuple(int(length) for length in np.frombuffer(lengths, ">u4"))
    if 0 in shape:
        raise InputError(f"`data`: {file} holds no {what} (shape {shape}); give another file.")
    return shape


def _read_at_most(stream: io.BufferedIOBase, size: int) -> bytes:
    # In pieces: a damaged header may promise more than the memory could hold.
    pieces: list[bytes] = []
    left = size
    while left and (piece := stream.read(min(left, 1 << 24))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)
