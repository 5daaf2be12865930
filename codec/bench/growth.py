"""How times and memory grow with the number of pixels: a fixed part and so much a pixel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from codec.bench.cases import Subject


@dataclass(frozen=True)
class Figure:
    """One figure of one subject; `unit` is ms or bytes."""

    subject: Subject
    quantity: str
    unit: str
    value: float


@dataclass(frozen=True)
class Growth:
    """Least squares through a quantity of several sizes, `fixed` + `per_pixel` * pixels.

    `kind` is that of all subjects.
    """

    quantity: str
    unit: str
    kind: str
    fixed: float
    per_pixel: float


def fit_growth(figures: Iterable[Figure]) -> list[Growth]:
    """A line for every quantity and kind that was measured at two numbers of pixels or more."""
    groups: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in figures:
        key = (figure.quantity, figure.unit, figure.subject.kind)
        groups.setdefault(key, []).append(figure)
    lines = []
    for key, own in groups.items():
        pixels = [figure.subject.num_pixels for figure in own]
        if len(set(pixels)) > 1:
            slope, fixed = np.polyfit(pixels, [figure.value for figure in own], 1)
            lines.append(Growth(*key, float(fixed), float(slope)))
    return lines
