"""Motion compensation as both wings agree on it: prediction order, vectors, interpolation."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from codec.arch.grids import MOTION_COMPONENTS, Grid
from codec.errors import UsageError

MIN_BLOCK_LEVEL, MAX_BLOCK_LEVEL = 2, 6
MAX_ANCHOR_SPAN = 64
VECTOR_FRAC = 4  # vectors in 1/16 luma sample
MAX_VECTOR = 1 << 14  # vectors are held to this, in 1/16 sample
RATIO_FRAC = 8

# The entropy model of motion grids: causal neighbours (the first of CONTEXT_ORDER), hidden layers.
MOTION_CONTEXTS, MOTION_LAYERS = 6, 1

INTERPOLATION_FRAC = 7
INTERPOLATION_TAPS = 8
# Row p interpolates at p/16 behind the sample of tap 3: sinc(x) cos(pi x / 8), sum 2^7; what
# rounding leaves goes to the largest tap.
INTERPOLATION_Q7 = (
    (0, 0, 0, 128, 0, 0, 0, 0),
    (-1, 3, -7, 127, 8, -3, 1, 0),
    (-2, 5, -13, 125, 17, -6, 2, 0),
    (-2, 7, -17, 119, 26, -9, 4, 0),
    (-3, 8, -20, 115, 37, -13, 5, -1),
    (-3, 9, -22, 108, 47, -16, 6, -1),
    (-3, 9, -23, 101, 58, -19, 7, -2),
    (-3, 9, -23, 91, 69, -21, 8, -2),
    (-2, 9, -23, 80, 80, -23, 9, -2),
    (-2, 8, -21, 69, 91, -23, 9, -3),
    (-2, 7, -19, 58, 101, -23, 9, -3),
    (-1, 6, -16, 47, 108, -22, 9, -3),
    (-1, 5, -13, 37, 115, -20, 8, -3),
    (0, 4, -9, 26, 119, -17, 7, -2),
    (0, 2, -6, 17, 125, -13, 5, -2),
    (0, 1, -3, 8, 127, -7, 3, -1),
)


class Inter(NamedTuple):
    """A frame of a segment and the frames it is predicted from.

    `past` is -1 where nothing is predicted; `future` equals `past` where there is one reference.
    """

    frame: int
    past: int
    future: int

    @property
    def ratio_q8(self) -> int:
        """Distance to the future reference over that to the past one, in 1/256, to the nearest."""
        if self.future <= self.frame:
            return 0
        before, after = self.frame - self.past, self.future - self.frame
        return ((after << RATIO_FRAC) + before // 2) // before


Prediction = tuple[tuple[Inter, ...], ...]  # levels, each predicted from earlier ones


def check_motion_fields(vector_frac: int, anchor_span: int) -> None:
    """Refuse what an architecture cannot say of motion.

    Raises:
        UsageError: a value that is out of range.
    """
    if not 0 <= vector_frac <= VECTOR_FRAC:
        raise UsageError(f"vector_frac is {vector_frac}: it must be from 0 to {VECTOR_FRAC}")
    if anchor_span not in [1 << k for k in range(MAX_ANCHOR_SPAN.bit_length())]:
        raise UsageError(
            f"anchor_span is {anchor_span}: it must be a power of two up to {MAX_ANCHOR_SPAN}"
        )


def prediction_levels(num_frames: int, anchor_span: int) -> Prediction:
    """The frames of a segment in levels: a frame is predicted from frames of earlier levels.

    Anchors, the frames floor(k (T - 1) / n) with n = ceil((T - 1) / anchor_span), come one by one,
    each predicted from the one before. The gaps between them are halved again and again: the middle
    floor((a + b) / 2) is predicted from the ends, and all middles of one round are a level.
    """
    last = num_frames - 1
    count = -(-last // anchor_span)
    anchors = [k * last // count for k in range(count + 1)] if count else [0]
    levels = [(Inter(0, -1, -1),)]
    gaps = list(pairwise(anchors))
    levels += [(Inter(b, a, a),) for a, b in gaps]
    while gaps := [(a, b) for a, b in gaps if b - a > 1]:
        levels.append(tuple(Inter((a + b) // 2, a, b) for a, b in gaps))
        gaps = [half for a, b in gaps for half in ((a, (a + b) // 2), ((a + b) // 2, b))]
    return tuple(levels)


def frames_of(prediction: Prediction) -> list[int]:
    """The frames of some levels, in display order."""
    return sorted(inter.frame for level in prediction for inter in level)


def references_of(frames: range, prediction: Prediction) -> Prediction:
    """The levels of a segment without what none of `frames` needs."""
    wanted, kept = set(frames), []
    for level in reversed(prediction):
        own = tuple(inter for inter in level if inter.frame in wanted)
        wanted |= {frame for inter in own for frame in (inter.past, inter.future)}
        kept.append(own)
    return tuple(own for own in reversed(kept) if own)


def motion_grids(grids: tuple[Grid, ...]) -> dict[int, tuple[int, ...]]:
    """For each component 0 to 3 the indices of its grids, in coding order: coarse to fine."""
    return {
        component: tuple(i for i, grid in enumerate(grids) if grid.motion == component + 1)
        for component in range(MOTION_COMPONENTS)
    }
