"""``python -m benchmarks networks`` measures the networks that are here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

# At the end: an installed fastcheck comes before the one in this folder.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks import networks
from benchmarks.__main__ import main


def test_a_run_prints_saves_and_plots(capsys: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    chosen = ["--match", "set_weights", "--repeats", "1"]
    assert main(["networks", *chosen, "--save", "--force", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "objects: a network object with set_weights(flat)" in out
    assert "times faster" in out
    saved = json.loads((tmp_path / "networks.json").read_text())
    assert [one["network"].partition(":")[0] for one in saved["results"]] == ["objects", "objects"]
    assert [one["needs_loop"] for one in saved["results"]] == [False, False]
    assert not any("loop" in one["engines"] for one in saved["results"])
    assert (tmp_path / "networks.png").read_bytes()[:4] == b"\x89PNG"


def test_a_quick_run_takes_one_network_of_each_family() -> None:
    families = [network.family for network in networks.chosen_networks("", quick=True)]
    assert len(families) == len(set(families)) == 7


def test_a_name_that_matches_nothing_ends_with_2(capsys: Any) -> None:
    assert main(["networks", "--match", "perceptron of 1958"]) == 2
    assert "perceptron of 1958" in capsys.readouterr().err
