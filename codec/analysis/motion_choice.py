"""What motion would cost, estimated before training: which of several descriptions promises least.

The constants make the estimates agree with the J that short trainings gave (docs/experiments.md,
"motion by choice").
"""

from __future__ import annotations

import numpy as np

# The error at which a residue begins to be worth bits, in units of lambda.
RESIDUE_FROM = 0.15
RESIDUE_WEIGHT = 1.15
# Mean squared over squared mean absolute error, of a Laplace density.
SQUARE_OF_MEAN = 2.0
# Training makes vectors that are cheaper than those of the search.
VECTOR_WEIGHT = 0.6
# Vectors are told apart by how much those around them differ.
ACTIVITIES = (1, 2, 4, 8, 16, 32)
_LEAST_DISTANCE = 0.05


def residue_cost(errors: np.ndarray, *, num_references: int, rd_lambda: float) -> float:
    """J of what prediction leaves of a frame: the mean of w D ln(1 + e / D) over its blocks.

    That is about the error e itself where it is small, and grows as the bits do which it takes to
    lower a large one to about D = 0.15 lambda. References have an error of about D as well, of
    which the mean of two has half.

    Args:
        errors: mean absolute difference of each block to its prediction from the source, samples
            on [0, 1].
    """
    least = RESIDUE_FROM * rd_lambda
    squares = SQUARE_OF_MEAN * np.square(errors, dtype=np.float64) + least / num_references
    return RESIDUE_WEIGHT * least * float(np.log1p(squares / least).mean())


def vector_bits(latents: np.ndarray) -> float:
    """Bits of the motion latents of one grid, int16 (T, rows, columns), coded in order.

    Differences to the mean of the vectors beside and above are taken as two-sided geometric,
    P(d) = (1 - t) / (1 + t) t^|d|, with a t for each class of activity.
    """
    padded = np.pad(latents.astype(np.int64), ((0, 0), (1, 0), (1, 1)))
    left, above = padded[:, 1:, :-2], padded[:, :-1, 1:-1]
    before, behind = padded[:, :-1, :-2], padded[:, :-1, 2:]
    distances = np.abs(latents - (left + above + 1) // 2)
    activity = np.abs(left - before) + np.abs(above - before) + np.abs(above - behind)
    classes = np.digitize(activity, ACTIVITIES)
    return VECTOR_WEIGHT * sum(
        _geometric_bits(distances[classes == k]) for k in range(len(ACTIVITIES) + 1)
    )


def _geometric_bits(distances: np.ndarray) -> float:
    if not distances.size:
        return 0.0
    mean = distances.mean() + _LEAST_DISTANCE
    t = (np.sqrt(1 + mean * mean) - 1) / mean
    return float(distances.size * np.log2((1 + t) / (1 - t)) - distances.sum() * np.log2(t))
