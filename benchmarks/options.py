"""Options that several benchmarks share."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError

from benchmarks import results
from benchmarks.cases import DATA
from fastcheck.cli import sizes

STEP = 1e-6


def add_common(parser: ArgumentParser, quick: str) -> None:
    """Declare what every benchmark takes; `quick` says what ``--quick`` is."""
    parser.add_argument(
        "--repeats", type=positive, metavar="R", help="rounds after the warming one"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help=quick)
    results.add_arguments(parser)


def add_network(parser: ArgumentParser) -> None:
    """Declare the network and the step; None where the benchmark's own hold."""
    parser.add_argument("--sizes", type=sizes, metavar="N-N-N", help="units of each layer")
    parser.add_argument("--batch", type=int, metavar="M", help="samples")
    parser.add_argument("--data", choices=DATA, help="digits, or Gaussian noise without a zero")
    add_step(parser)


def add_step(parser: ArgumentParser) -> None:
    """Declare the step."""
    parser.add_argument("--step", type=float, default=STEP, metavar="H")


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def seconds(text: str) -> float:
    """Read a time in seconds, more than 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value
