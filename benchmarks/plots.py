"""Plots of results: dots, since a bar has no beginning on a log scale, and curves.

Matplotlib is imported where it is used, so that everything but saving runs without it. The colours
are Okabe and Ito's, which colour-blind readers can tell apart; curves differ in their markers too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tables import seconds
from benchmarks.timing import Timing

COLOURS = {
    "loop": "#7f7f7f",
    "cupy": "#cc79a7",
    "peer": "#e69f00",
    "fastcheck": "#0072b2",
    "gpu": "#009e73",
}
LEGEND = {
    "loop": "NumPy alone",
    "cupy": "CuPy alone",
    "peer": "other tools",
    "fastcheck": "fastcheck",
    "gpu": "fastcheck on the GPU",
}
CURVES = (
    ("#7f7f7f", "o"),
    ("#e69f00", "s"),
    ("#0072b2", "^"),
    ("#009e73", "D"),
    ("#cc79a7", "v"),
)
_DPI = 150


@dataclass(frozen=True)
class Dot:
    """A median with its range, in seconds. `kind` is one of `COLOURS`."""

    label: str
    median: float
    low: float
    high: float
    kind: str
    hollow: bool = False


@dataclass(frozen=True)
class Panel:
    """Dots under one title."""

    title: str
    dots: Sequence[Dot]


@dataclass(frozen=True)
class Curve:
    """Medians with their ranges, in seconds, along x."""

    label: str
    points: Sequence[tuple[float, Timing]]
    dashed: bool = False


@dataclass(frozen=True)
class Axes:
    """Curves over one quantity."""

    title: str
    quantity: str
    curves: Sequence[Curve]


def dot(timing: Timing, kind: str) -> Dot:
    """Return a contender's dot, hollow where its time is extrapolated."""
    return Dot(timing.name, timing.median, timing.low, timing.high, kind, timing.extrapolated)


def heading(title: str, machine: Mapping[str, Any]) -> str:
    """Return the title with the machine and the date."""
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['date'][:10]}"
    return f"{title}\n{where}"


def dots(file: Path, title: str, panels: Sequence[Panel], *, log: bool = True) -> Path:
    """Draw panels of dots, one a row, on one scale of seconds; return the file."""
    rows = [max(1, len(panel.dots)) for panel in panels]
    figure = _figure(9.0, 1.6 + sum(0.34 * n + 0.55 for n in rows))
    places = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": rows}
    )[:, 0]
    for axes, panel in zip(places, panels, strict=True):
        _draw_dots(axes, panel, log)
    places[-1].set_xlabel("seconds, median and range" + (" (log scale)" if log else ""))
    _explain(figure, [one for panel in panels for one in panel.dots])
    return _write(figure, file, title)


def _draw_dots(axes: Any, panel: Panel, log: bool) -> None:
    for place, one in enumerate(panel.dots):
        axes.errorbar(
            one.median,
            place,
            xerr=_ranges([one]),
            fmt="o",
            markersize=7,
            color=COLOURS[one.kind],
            markerfacecolor="white" if one.hollow else COLOURS[one.kind],
            capsize=2.5,
        )
        axes.annotate(
            seconds(one.median),
            (one.high, place),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xscale("log" if log else "linear")
    axes.set_yticks(range(len(panel.dots)), [one.label for one in panel.dots], fontsize=8)
    axes.set_ylim(len(panel.dots) - 0.5, -0.5)
    axes.set_title(panel.title, fontsize=9, loc="left")
    axes.margins(x=0.1)
    if not log:
        axes.set_xlim(left=0)
    _clean(axes, "both")


def _explain(figure: Any, drawn: Sequence[Dot]) -> None:
    """Add a legend of the kinds that occur, and of hollow dots."""
    from matplotlib.lines import Line2D

    def handle(label: str, colour: str, face: str) -> Any:
        style: Any = {"marker": "o", "linestyle": "", "markersize": 7}
        return Line2D([], [], color=colour, markerfacecolor=face, label=label, **style)

    kinds = [kind for kind in COLOURS if any(one.kind == kind for one in drawn)]
    handles = [handle(LEGEND[kind], COLOURS[kind], COLOURS[kind]) for kind in kinds]
    if any(one.hollow for one in drawn):
        handles.append(handle("hollow: extrapolated from a sample", "black", "white"))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        fontsize=8,
        frameon=False,
    )


def curves(file: Path, title: str, panels: Sequence[Axes]) -> Path:
    """Draw panels of curves beside each other, both scales logarithmic; return the file."""
    figure = _figure(4.8 * len(panels) + 0.6, 4.6)
    places = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(places, panels, strict=True):
        _draw_curves(axes, panel)
    places[0].set_ylabel("seconds, median and range (log scale)")
    return _write(figure, file, title)


def _draw_curves(axes: Any, panel: Axes) -> None:
    for number, curve in enumerate(panel.curves):
        colour, marker = CURVES[number % len(CURVES)]
        axes.errorbar(
            [x for x, _ in curve.points],
            [timing.median for _, timing in curve.points],
            yerr=_ranges([timing for _, timing in curve.points]),
            color=colour,
            marker=marker,
            markersize=5,
            linestyle="--" if curve.dashed else "-",
            capsize=2.5,
            label=curve.label,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(panel.quantity)
    axes.set_title(panel.title, fontsize=9, loc="left")
    axes.legend(fontsize=8, frameon=False)
    _clean(axes, "both")


def _ranges(measured: Sequence[Dot] | Sequence[Timing]) -> list[list[float]]:
    """Return the ranges as Matplotlib wants them: distances below and above the medians."""
    below = [one.median - one.low for one in measured]
    above = [one.high - one.median for one in measured]
    return [below, above]


def _clean(axes: Any, grid: str) -> None:
    axes.grid(axis=grid, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _write(figure: Any, file: Path, title: str) -> Path:
    figure.suptitle(title, fontsize=11)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=_DPI)
    return file
