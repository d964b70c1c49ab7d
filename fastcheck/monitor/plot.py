"""A training's checks on one page: loss, relative difference and gradient range by step.

The page answers whether a relative difference that rises is the gradient's fault or the check's:
the error bar, how far the numerical gradient may be off by itself, is a shaded area, and dots that
stay in it are explained by it. Verdicts differ in their markers and panels in their lines, so that
nothing is lost in grey. The colours are Okabe and Ito's, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from fastcheck.errors import InputError
from fastcheck.monitor.record import Record
from fastcheck.monitor.summary import details, runs, sentence, spread
from fastcheck.report.data import Verdict
from fastcheck.report.layout import shorten, wrap

_SIZE = (8.0, 8.6)  # inches; fits A4 and letter
_DPI = 150
_TITLE_COLUMNS, _TITLE_LINES = 92, 3
_NEARLY_ZERO = 1e-20  # a relative difference that float64 can only have by chance
_DETAIL_COLUMNS = 112
_HUGE = 1e300  # beyond it, the ends of an axis and its ticks are no numbers any more
_DECADES = 200  # powers of ten that an axis shows on either side of 1; its ticks reach further

_BLUE, _VERMILION, _ORANGE = "#0072b2", "#c8420a", "#e69f00"
_SHADE, _EDGE, _INK = "#d4d4d4", "#808080", "#222222"
_FAINT, _FAILING = "#4a4a4a", "#fbe3d6"
_BEHIND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
_LABELS = {
    Verdict.PASS: "pass",
    Verdict.INCONCLUSIVE: "could not decide",
    Verdict.FAIL: "fail",
}
_MARKERS: dict[Verdict, dict[str, Any]] = {
    Verdict.PASS: {"marker": "o", "color": _BLUE, "s": 16},
    Verdict.INCONCLUSIVE: {
        "marker": "^",
        "facecolor": "white",
        "edgecolor": _INK,
        "linewidth": 1.0,
        "s": 34,
    },
    Verdict.FAIL: {
        "marker": "X",
        "color": _VERMILION,
        "edgecolor": _INK,
        "linewidth": 0.5,
        "s": 52,
    },
}


def plot_history(records: Sequence[Record], path: str | os.PathLike[str]) -> Path:
    """Draw records on one page and return the file.

    Parameters
    ----------
    records : sequence of Record
        At least one; a monitor's history, or what `read_jsonl` returned.
    path : str or path
        Where to: a name that ends in ``.png``, ``.pdf`` or ``.svg``. Without an ending, a PNG.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        There are no records, the file cannot be written, or Matplotlib is missing.
    """
    file = Path(path)
    if not records:
        raise InputError("`records` is empty, and there is nothing to plot; check at least once.")
    page = _drawn(records, file)
    try:
        file.write_bytes(page)
    except OSError as error:
        raise InputError(
            f"`path`: {file} cannot be written ({error.strerror or error}); give another file."
        ) from None
    return file


def _drawn(records: Sequence[Record], file: Path) -> bytes:
    """Return the page in the format that the file's name asks for."""
    try:
        from matplotlib import style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "`path`: a plot needs Matplotlib, which is not installed; "
            "`pip install 'fastcheck[plot]'`, or matplotlib."
        ) from None
    written = io.BytesIO()
    # The user's own style may have a dark background, or give every text to LaTeX.
    with style.context("default"):
        figure = Figure(figsize=_SIZE, layout="constrained")
        canvas = FigureCanvasAgg(figure)  # on which the title is measured
        kind = file.suffix[1:].lower() or "png"
        if kind not in (known := canvas.get_supported_filetypes()):
            raise InputError(
                f"`path`: {file} ends in {file.suffix!r}, which is no format of a plot; "
                f"give a name that ends in .png, .pdf or .svg (known: {', '.join(sorted(known))})."
            )
        _draw(figure, records)
        figure.savefig(written, format=kind, dpi=_DPI)
    return written.getvalue()


def _draw(figure: Any, records: Sequence[Record]) -> None:
    loss, difference, gradient = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": (1, 1.8, 1)}
    )
    figure.get_layout_engine().set(h_pad=0.08, hspace=0.03)
    for axes in (loss, difference, gradient):
        _clean(axes)
        _mark_failures(axes, records)
    _draw_loss(loss, records)
    _draw_difference(difference, records)
    _draw_gradient(gradient, records)
    _steps(gradient, records)
    _name_failure(loss, records)
    _title(figure, loss, records)


def _title(figure: Any, axes: Any, records: Sequence[Record]) -> None:
    title = figure.suptitle(
        "",
        x=0.012,
        ha="left",
        fontsize=10.5,
        fontweight="bold",
        color=_INK,
        parse_math=False,
    )
    said = sentence(records)
    for columns in range(_TITLE_COLUMNS, _TITLE_COLUMNS // 2, -5):
        title.set_text("\n".join(_lines(said, columns)))
        if title.get_window_extent().x1 <= figure.bbox.x1:  # letters differ in their widths
            break
    lines = wrap(details(records), _DETAIL_COLUMNS)
    fails = any(
        record.verdict is Verdict.FAIL for record in records
    )  # and is named above the panel
    style = {"fontsize": 8.5, "color": _FAINT, "pad": 20 if fails else 8}
    axes.set_title("\n".join(lines), loc="left", **style)


def _lines(text: str, columns: int) -> list[str]:
    """Return a title as few lines, all about as long, and shortened if it is a whole story."""
    lines = wrap(text, columns)
    if len(lines) > _TITLE_LINES:
        rest = " ".join(lines[_TITLE_LINES - 1 :])
        return [*lines[: _TITLE_LINES - 1], shorten(rest, columns, tail_width=0)]
    shares = range(columns // 2, columns)
    return next((even for width in shares if len(even := wrap(text, width)) == len(lines)), lines)


def _draw_loss(axes: Any, records: Sequence[Record]) -> None:
    values = [record.loss for record in records]
    _scale(axes, values, log=spread(values))
    for run in runs(records):
        _line(axes, run, lambda record: record.loss, color=_INK, linewidth=1.3)
    _outside(axes, records, lambda record: record.loss)
    axes.set_ylabel("loss")


def _draw_difference(axes: Any, records: Sequence[Record]) -> None:
    shown = [value for one in records for value in (one.relative_difference, one.error_bar)]
    _scale(axes, [value for value in shown if value > _NEARLY_ZERO], log=True)
    floor = axes.get_ylim()[0]
    for run in runs(records):
        _area(axes, run, lambda record: floor, lambda record: record.error_bar)
    for verdict in (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL):
        some = [record for record in records if record.verdict is verdict]
        _markers(axes, some, verdict)
    axes.set_ylabel("relative difference, analytic\nagainst numerical gradient")
    _explain_difference(axes, records)


def _draw_gradient(axes: Any, records: Sequence[Record]) -> None:
    shown = [v for one in records for v in (one.smallest_gradient, one.largest_gradient)]
    _scale(axes, shown, log=True)
    for run in runs(records):
        _area(
            axes,
            run,
            lambda record: record.smallest_gradient,
            lambda record: record.largest_gradient,
        )
        _line(axes, run, lambda r: r.largest_gradient, color=_INK, linewidth=1.3)
        _line(axes, run, lambda r: r.smallest_gradient, color=_INK, linewidth=1.0, dashes=(4, 2))
    _outside(axes, records, lambda record: record.largest_gradient)
    axes.set_ylabel("gradient elements,\nabsolute values")
    _explain_gradient(axes)
    axes.set_xlabel("training step")


_Value = Callable[[Record], float]


def _width(width: float, count: int) -> float:
    """Return the width of a line through so many points: thousands of them need a thin one."""
    return width if count <= 500 else width / 2


def _line(axes: Any, run: Sequence[Record], value: _Value, **style: Any) -> None:
    """Draw a curve, with gaps where there is nothing to draw and dots where it has no length."""
    points = [(record.step, _drawable(axes, value(record))) for record in run]
    axes.plot(
        *zip(*points, strict=True), **{**style, "linewidth": _width(style["linewidth"], len(run))}
    )
    alone = [
        points[n]
        for n in range(len(points))
        if all(math.isnan(y) for _, y in (*points[max(n - 1, 0) : n], *points[n + 1 : n + 2]))
    ]
    if alone:
        axes.scatter(*zip(*alone, strict=True), s=12, color=style["color"], zorder=3)


def _area(axes: Any, run: Sequence[Record], low: _Value, high: _Value) -> None:
    steps = [record.step for record in run]
    lows = [_drawable(axes, low(record)) for record in run]
    highs = [_drawable(axes, high(record)) for record in run]
    axes.fill_between(steps, lows, highs, facecolor=_SHADE, edgecolor="none", zorder=1)
    axes.plot(steps, highs, color=_EDGE, linewidth=_width(1.0, len(run)), zorder=1.5)
    # An area of one step has no width.
    axes.vlines(steps[:1], lows[:1], highs[:1], color=_SHADE, linewidth=6 if len(run) == 1 else 0)


def _markers(axes: Any, some: Sequence[Record], verdict: Verdict) -> None:
    """Draw the relative differences of a verdict; what has no place on the axis, at its edge."""
    style = dict(_MARKERS[verdict])
    style["s"] *= max(0.25, min(1.0, (150 / max(len(some), 1)) ** 0.5))
    inside = [one for one in some if _NEARLY_ZERO < one.relative_difference < math.inf]
    axes.scatter(
        [one.step for one in inside],
        [_drawable(axes, one.relative_difference) for one in inside],
        zorder=4,
        **style,
    )
    at_edge = {
        0.0: [one for one in some if one.relative_difference <= _NEARLY_ZERO],
        1.0: [one for one in some if not one.relative_difference < math.inf],
    }
    for height, those in at_edge.items():
        axes.scatter(
            [one.step for one in those],
            [height] * len(those),
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            zorder=5,
            **style,
        )


def _outside(axes: Any, records: Sequence[Record], value: _Value) -> None:
    """Mark at the upper edge where a curve is NaN or infinite."""
    steps = [record.step for record in records if not math.isfinite(value(record))]
    axes.scatter(
        steps,
        [1.0] * len(steps),
        transform=axes.get_xaxis_transform(),
        clip_on=False,
        marker="x",
        s=22,
        color=_INK,
        linewidth=1.0,
        zorder=5,
    )


def _drawable(axes: Any, value: float) -> float:
    """Return what a curve shows of a value: NaN, which is a gap, for what has no place."""
    if not math.isfinite(value):
        return math.nan
    low, high = axes.get_ylim()
    return float(min(max(value, low), high))


def _scale(axes: Any, values: Sequence[float], log: bool) -> None:
    """Set the axis to the values, with room at both ends."""
    finite = [value for value in values if math.isfinite(value)]
    if not log:
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        low, high = max(low, -_HUGE), min(high, _HUGE)
        room = 0.06 * (high - low) or 0.1 * max(abs(low), 1e-3)
        axes.set_ylim(low - room, high + room)
        return
    axes.set_yscale("log")
    exponents = [math.log10(value) for value in finite if value > 0] or [-1.0, 0.0]
    low, high = min(exponents), max(exponents)
    room = max(0.08 * (high - low), 0.3)
    low, high = max(low - room, -_DECADES), min(high + room, _DECADES)
    axes.set_ylim(10.0 ** min(low, _DECADES - 1), 10.0 ** max(high, 1 - _DECADES))


def _mark_failures(axes: Any, records: Sequence[Record]) -> None:
    """Shade the steps from the first failing check of a stretch to the last."""
    for run in runs(records):
        for fails, group in groupby(run, lambda record: record.verdict is Verdict.FAIL):
            stretch = list(group)
            if fails:
                first, last = stretch[0].step, stretch[-1].step
                axes.axvspan(first, last, facecolor=_FAILING, edgecolor="none", zorder=0)
                axes.axvline(first, color=_VERMILION, linewidth=1.0, linestyle=":", zorder=0.5)


def _name_failure(axes: Any, records: Sequence[Record]) -> None:
    first = next((record for record in records if record.verdict is Verdict.FAIL), None)
    if first is None:
        return
    low, high = axes.get_xlim()
    place = (first.step - low) / (high - low)
    side = "left" if place < 0.1 else "right" if place > 0.9 else "center"
    axes.annotate(
        f"fails: step {first.step:,}",
        (first.step, 1.0),
        xycoords=axes.get_xaxis_transform(),
        xytext=(0, 3),
        textcoords="offset points",
        ha=side,
        va="bottom",
        fontsize=8.5,
        color=_VERMILION,
    )


def _steps(axes: Any, records: Sequence[Record]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    first, last = min(r.step for r in records), max(r.step for r in records)
    room = max(0.02 * (last - first), 0.5)
    axes.set_xlim(first - room, last + room)
    ticks = MaxNLocator(nbins=9, steps=[1, 2, 5, 10], integer=True)
    axes.xaxis.set_major_locator(ticks if last > first else FixedLocator([first]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))


def _explain_difference(axes: Any, records: Sequence[Record]) -> None:
    from matplotlib.patches import Patch

    handles: list[Any] = [
        _handle(f"{label}, {n:,}", _MARKERS[verdict])
        for verdict, label in _LABELS.items()
        if (n := sum(record.verdict is verdict for record in records))
    ]
    bar = "error bar: what the numerical gradient may be off by itself"
    handles.append(Patch(facecolor=_SHADE, edgecolor=_EDGE, label=bar))
    differences = [record.relative_difference for record in records]
    edges = []
    if any(difference <= _NEARLY_ZERO for difference in differences):
        edges.append(
            "on the lower edge: 0" + " or nearly" * any(0 < d <= _NEARLY_ZERO for d in differences)
        )
    if not all(difference < math.inf for difference in differences):
        edges.append("on the upper edge: NaN or infinite")
    _legend(axes, handles)
    if edges:
        axes.annotate(
            "; ".join(edges),
            (1.0, 0.0),
            xycoords="axes fraction",
            xytext=(-3, 6),
            textcoords="offset points",
            ha="right",
            fontsize=7.5,
            color=_FAINT,
            bbox=_BEHIND,
            zorder=6,
        )


def _explain_gradient(axes: Any) -> None:
    from matplotlib.lines import Line2D

    largest = Line2D([], [], color=_INK, linewidth=1.3, label="largest")
    smallest = Line2D(
        [], [], color=_INK, linewidth=1.0, dashes=(4, 2), label="smallest, zeros aside"
    )
    _legend(axes, [largest, smallest])


def _handle(label: str, style: dict[str, Any]) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        linestyle="",
        marker=style["marker"],
        markersize=style["s"] ** 0.5,
        markerfacecolor=style.get("facecolor", style.get("color")),
        markeredgecolor=style.get("edgecolor", style.get("color")),
        markeredgewidth=style.get("linewidth", 0),
        label=label,
    )


def _legend(axes: Any, handles: Sequence[Any]) -> None:
    """Put the legend above the panel, where there is no curve to hide."""
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=len(handles),
        fontsize=8,
        frameon=False,
        borderaxespad=0.5,
        borderpad=0.2,
        columnspacing=1.4,
        handletextpad=0.4,
    )


def _clean(axes: Any) -> None:
    axes.grid(color="#e3e3e3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)
