"""The command line: ``fastcheck demo | check | explain | watch | devices``."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence

import fastcheck
from fastcheck.commands import check, demo, devices, explain, output, watch
from fastcheck.commands.terminal import Terminal, forgive_encoding, wants_colour
from fastcheck.errors import FastcheckError

_DESCRIPTION = "Is your hand-written backward pass right, for every parameter?"
_EPILOG = (
    "exit status: 0 pass, 1 fail, 2 bad usage or input, 3 inconclusive, 130 interrupted (Ctrl-C)"
)
_WATCH_EPILOG = (
    "exit status: 0 ended with Ctrl-C, 2 bad usage or input; "
    "with --once that of the last check: 0 pass, 1 fail, 3 inconclusive"
)
_TARGET = "a Python file and its function that returns fastcheck.Problem(loss, params, grads)"
_DAY = 86400.0  # seconds
_BROKEN_PIPE = 141  # as a shell reports a program that SIGPIPE ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    argv
        The arguments after the program's name; those of the process by default.

    Returns
    -------
    int
        0 pass, 1 fail, 2 bad usage or input, 3 inconclusive, 130 interrupted.
    """
    forgive_encoding()
    arguments = _parser().parse_args(argv)
    terminal = Terminal(colour=wants_colour(sys.stdout, refused=arguments.no_color))
    try:
        return int(arguments.run(arguments, terminal))
    except FastcheckError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("\nfastcheck: interrupted; nothing of yours was changed.", file=sys.stderr)
        return output.INTERRUPTED
    except BrokenPipeError:
        # The reader has left (`fastcheck demo | head`); keep the interpreter's last flush quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except Exception:
        # Never status 1: that would say that a gradient is wrong.
        traceback.print_exc()
        return _refuse("this is a fault in fastcheck itself; please report the lines above.")


def _refuse(message: str) -> int:
    sys.stdout.flush()
    print(f"fastcheck: {message}", file=sys.stderr)
    return output.USAGE


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="fastcheck", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"fastcheck {fastcheck.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_check(commands)
    _add_explain(commands)
    _add_watch(commands)
    _add_devices(commands)
    return parser


_Commands = argparse._SubParsersAction  # argparse has no public name for it


def _add_demo(commands: _Commands[ArgumentParser]) -> None:
    parser = _command(commands, "demo", "train 784-10-10 for a moment and check it", demo.run)
    parser.add_argument(
        "what",
        nargs="?",
        choices=(demo.NETWORK, demo.TRAINING),
        default=demo.NETWORK,
        metavar="training",
        help="check it while it trains instead, under a monitor",
    )
    parser.add_argument(
        "--bug",
        metavar="NAME",
        nargs="?",
        const=demo.LIST,
        help='plant a bug in the backward pass; "list" names them',
    )
    parser.add_argument(
        "--sizes",
        type=sizes,
        default=(784, 10, 10),
        metavar="N-N-N",
        help="units of each layer, inputs first (784-10-10)",
    )
    parser.add_argument(
        "--batch", type=int, default=128, metavar="M", help="samples to check on (128)"
    )
    parser.add_argument(
        "--data", metavar="PATH", help="MNIST's own IDX files: a folder, or the file of images"
    )
    _add_engine(parser)
    _add_seed(parser)
    _add_json(parser)


def _add_check(commands: _Commands[ArgumentParser]) -> None:
    parser = _command(commands, "check", "check the gradients of your own problem", check.run)
    parser.add_argument("target", metavar="FILE.py:problem", help=_TARGET)
    parser.add_argument(
        "--batched", action="store_true", help="the loss takes stacks of parameters"
    )
    parser.add_argument(
        "--method", choices=("central", "forward"), default="central", help="(central)"
    )
    parser.add_argument(
        "--step", type=_step, default="auto", metavar="H", help='a number, or "auto" (auto)'
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="RTOL",
        help="the relative error to accept (from the dtype)",
    )
    parser.add_argument(
        "--select",
        type=_select,
        default="all",
        metavar="N",
        help='so many parameters of each tensor, drawn at random, or "all" (all)',
    )
    _add_engine(parser)
    _add_memory(parser)
    _add_seed(parser)
    _add_json(parser)


def _add_explain(commands: _Commands[ArgumentParser]) -> None:
    parser = _command(commands, "explain", "show how a check would run, and why", explain.run)
    parser.add_argument("target", metavar="FILE.py:problem", help=_TARGET)
    parser.add_argument(
        "--batched", action="store_true", help="the loss takes stacks of parameters"
    )
    _add_engine(parser)
    _add_memory(parser)
    _add_json(parser)


def _add_watch(commands: _Commands[ArgumentParser]) -> None:
    parser = _command(commands, "watch", "follow the checks of a training that runs", watch.run)
    parser.epilog = _WATCH_EPILOG
    parser.add_argument("file", metavar="FILE.jsonl", help="what a monitor writes its records to")
    parser.add_argument("--once", action="store_true", help="show what there is, and end")
    parser.add_argument(
        "--interval", type=_interval, default=1.0, metavar="S", help="seconds between two looks (1)"
    )


def _add_devices(commands: _Commands[ArgumentParser]) -> None:
    _command(commands, "devices", "list what there is to compute on", devices.run)


def _command(
    commands: _Commands[ArgumentParser], name: str, summary: str, run: object
) -> ArgumentParser:
    description = f"{summary[0].upper()}{summary[1:]}."
    parser = commands.add_parser(name, help=summary, description=description, epilog=_EPILOG)
    parser.add_argument("--no-color", action="store_true", help="plain text (NO_COLOR does too)")
    parser.set_defaults(run=run)
    return parser


def _add_engine(parser: ArgumentParser) -> None:
    parser.add_argument("--engine", default="auto", help="auto, fused, replay or loop (auto)")
    parser.add_argument("--device", default="auto", help="auto, cpu, gpu, or gpu:0,1 (auto)")
    parser.add_argument("--precision", default="float64", help="float64 or float32 (float64)")


def _add_memory(parser: ArgumentParser) -> None:
    parser.add_argument("--memory", metavar="SIZE", help="the most to use, such as 64MB or 1.5GiB")


def _add_seed(parser: ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of every random draw (0)")


def _add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="also write the result to FILE")


def sizes(text: str) -> tuple[int, ...]:
    """Read ``784-10-10`` (or with ``x`` or ``,``) as the units of each layer."""
    parts = text.replace("x", "-").replace(",", "-").split("-")
    if len(parts) < 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise ArgumentTypeError(f"{text!r} is not a network; write its layers as 784-10-10")
    return tuple(map(int, parts))


def _step(text: str) -> float | str:
    try:
        return text if text == "auto" else float(text)
    except ValueError:
        raise ArgumentTypeError(f'{text!r} is neither a number nor "auto"') from None


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _DAY:
        raise ArgumentTypeError(f"{text!r} is not a time; give seconds, from above 0 to a day")
    return seconds


def _select(text: str) -> int | str:
    try:
        return text if text == "all" else int(text)
    except ValueError:
        raise ArgumentTypeError(f'{text!r} is neither a whole number nor "all"') from None
