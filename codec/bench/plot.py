"""Curves of rate and distortion as a picture; matplotlib is optional and only imported here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codec.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from codec.bench.rdreport import RdReport

SUFFIXES = (".png", ".svg", ".pdf")
_COLUMNS = 3
_PANEL_INCHES = (5.0, 4.0)
_MARKERS = "os^vD<>pP*X"
_NODES_A_CURVE = 100


def check_plot(path: str) -> None:
    """Raise UsageError where a plot cannot be made, before the work that it would show."""
    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib; pip install 'modcodec[bench]'")
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UsageError(f"--plot: {Path(path).name} must end in one of {' '.join(SUFFIXES)}")


def write_plot(path: Path, reports: Sequence[RdReport]) -> None:
    """A panel for every file: PSNR over bits a pixel, points and the curves that BD-rates use."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    wanted = [(file, report) for report in reports for file in report.files]
    columns = min(_COLUMNS, len(wanted))
    rows = math.ceil(len(wanted) / columns)
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (file, report) in zip(panels, wanted, strict=False):
        _draw(axes, file, report)
    for axes in panels[len(wanted) :]:
        axes.set_axis_off()
    figure.savefig(path, dpi=110)


def _draw(axes: Axes, file: str, report: RdReport) -> None:
    for number, codec in enumerate(report.codecs):
        curve = report.curves[file].get(codec)
        if curve is None:
            continue
        style = {"color": f"C{number % 10}", "linewidth": 2.0 if codec in report.own else 1.0}
        psnr_db = np.linspace(curve.low_db, curve.high_db, _NODES_A_CURVE)
        rates = [curve.rate_at(value) for value in psnr_db]
        axes.plot(rates, psnr_db, **style)
        marker = _MARKERS[number % len(_MARKERS)]
        points = {"linestyle": "", "marker": marker, "markersize": 4, "label": codec}
        axes.plot(np.exp(curve.log_rate), curve.psnr_db, color=style["color"], **points)
    _scale_rates(axes)
    axes.set(title=file, xlabel="bits a pixel", ylabel=f"{report.kind.psnr}, dB")
    axes.grid(visible=True, which="both", linewidth=0.3)
    if axes.lines:
        axes.legend(fontsize="x-small")


def _scale_rates(axes: Axes) -> None:
    """Bits a pixel go by their logarithm, with numbers at 1, 2 and 5 of each decade alone."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
