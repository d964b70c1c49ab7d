"""``python -m benchmarks NAME``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import cold, gpu, monitor, naive, networks, scaling, trust
from benchmarks.peers import benchmark as peers
from fastcheck.errors import FastcheckError

BENCHMARKS = {
    "naive": naive,
    "peers": peers,
    "networks": networks,
    "scaling": scaling,
    "cold": cold,
    "gpu": gpu,
    "trust": trust,
    "monitor": monitor,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark; return 0, or 2 where it cannot be run or goes wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    commands = parser.add_subparsers(metavar="NAME", required=True)
    for name, module in BENCHMARKS.items():
        command = commands.add_parser(name, help=module.SUMMARY, description=module.SUMMARY)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except FastcheckError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
