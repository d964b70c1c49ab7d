"""Rates with their intervals, one row a rule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.trusted.counts import Rate

_OWN, _OTHER = "#0072b2", "#e69f00"
_DPI = 150


def rates(file: Path, title: str, panels: Sequence[tuple[str, Sequence[tuple[str, Rate]]]]) -> Path:
    """Draw panels of rates side by side, the first row being fastcheck's; return the file."""
    from matplotlib.figure import Figure

    rows = max(len(shown) for _, shown in panels)
    figure = Figure(figsize=(4.2 * len(panels) + 2.6, 1.3 + 0.42 * rows), layout="constrained")
    places = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (heading, shown) in zip(places, panels, strict=True):
        for row, (_, rate) in enumerate(shown):
            low, high = rate.interval
            axes.errorbar(
                rate.value,
                row,
                xerr=[[rate.value - low], [high - rate.value]],
                fmt="o",
                color=_OTHER if row else _OWN,
                capsize=2.5,
            )
            axes.annotate(
                f"{rate.count:,} of {rate.total:,}",
                (high, row),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.set_title(heading, fontsize=9, loc="left")
        axes.set_xlim(-0.02, 1.3)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    places[0].set_yticks(range(rows), [name for name, _ in panels[0][1]], fontsize=8)
    places[0].set_ylim(rows - 0.5, -0.5)
    figure.suptitle(title, fontsize=11)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=_DPI)
    return file
