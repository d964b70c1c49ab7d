"""Results as JSON and as a plot, and what must hold before they are worth saving."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.machine import settle
from fastcheck.errors import FastcheckError

RESULTS = Path(__file__).resolve().parent / "results"
SCHEMA = 2


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options about saving."""
    parser.add_argument("--save", action="store_true", help="write the results and a plot")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help="where to")
    parser.add_argument("--force", action="store_true", help="save even where the machine is busy")


def prepare(arguments: Namespace) -> None:
    """Refuse to save, before anything is measured, what could not or should not be saved.

    Raises
    ------
    FastcheckError
        If Matplotlib is missing, or the machine is busy and ``--force`` was not given.
    """
    if not arguments.save:
        return
    if find_spec("matplotlib") is None:
        raise FastcheckError("plots need Matplotlib: pip install 'fastcheck[bench]'.")
    if not arguments.force:
        settle()


def save(
    name: str,
    machine: Mapping[str, Any],
    settings: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    folder: Path = RESULTS,
) -> Path:
    """Write the results as ``NAME.json`` and return the file."""
    payload = {
        "schema": SCHEMA,
        "benchmark": name,
        "environment": dict(machine),
        "settings": dict(settings),
        "results": [dict(result) for result in results],
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    file.write_text(json.dumps(payload, indent=2) + "\n", encoding="utf-8")
    return file
