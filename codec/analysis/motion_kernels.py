"""Kernels of the search for motion: windows of a picture against moved windows of another.

Vectors are pairs (columns, rows) in quarter samples. Pictures are float32 on [0, 1] and at least a
window large; those that windows are fetched from have a margin of replicated samples on all sides.
"""

from __future__ import annotations

import numpy as np

from codec.jit import inner_float, njit_float

# A window further out than this beyond the edge, filters included, holds replicated samples only:
# that its place is clamped there changes nothing.
FILTER_MARGIN = 8
# A difference to a neighbour's vector that is larger costs no more: objects have edges.
MOST_ROUGHNESS = 32


@inner_float
def _window_start(row, column, block, side, height, width):
    """First (row, column) of the window around a block; it lies within the picture."""
    y = row * block - (side - block) // 2
    x = column * block - (side - block) // 2
    return min(max(y, 0), height - side), min(max(x, 0), width - side)


@inner_float
def _fetch(planes, y, x, vector_x, vector_y, out):
    """The window (side, side) at a vector from (y, x), into `out`.

    `planes` (2, 2, rows, columns) are the samples and those half a sample further by (row, column);
    quarters are means of the nearest two or four. Whole vectors take only planes[0, 0].
    """
    side = out.shape[0]
    margin = side + FILTER_MARGIN
    half_y, half_x = vector_y >> 1, vector_x >> 1
    more_y, more_x = vector_y & 1, vector_x & 1
    limit_y, limit_x = planes.shape[2] - side - 1, planes.shape[3] - side - 1
    top = min(max(y + margin + (half_y >> 1), 0), limit_y)
    left = min(max(x + margin + (half_x >> 1), 0), limit_x)
    if more_y == 0 and more_x == 0:
        plane = planes[half_y & 1, half_x & 1]
        for j in range(side):
            source, target = plane[top + j, left : left + side], out[j]
            for i in range(side):
                target[i] = source[i]
        return
    next_y, next_x = half_y + more_y, half_x + more_x
    down, right = (next_y >> 1) - (half_y >> 1), (next_x >> 1) - (half_x >> 1)
    for j in range(side):
        here, below = top + j, top + j + down
        beside = left + right
        a = planes[half_y & 1, half_x & 1, here, left : left + side]
        b = planes[half_y & 1, next_x & 1, here, beside : beside + side]
        c = planes[next_y & 1, half_x & 1, below, left : left + side]
        d = planes[next_y & 1, next_x & 1, below, beside : beside + side]
        target = out[j]
        for i in range(side):
            target[i] = np.float32(0.25) * (a[i] + b[i] + c[i] + d[i])


@inner_float
def _difference(picture, y, x, window):
    """Sum of absolute differences between the picture from (y, x) on and a window."""
    side = window.shape[0]
    total = np.float32(0)
    for j in range(side):
        here, there = picture[y + j, x : x + side], window[j]
        for i in range(side):
            total += abs(here[i] - there[i])
    return total


@inner_float
def _difference_of_mean(picture, y, x, first, second):
    """As `_difference`, to the mean of two windows."""
    side = first.shape[0]
    total = np.float32(0)
    for j in range(side):
        here, one, two = picture[y + j, x : x + side], first[j], second[j]
        for i in range(side):
            total += abs(here[i] - np.float32(0.5) * (one[i] + two[i]))
    return total


@inner_float
def _roughness(field, row, column, vector_x, vector_y):
    """Mean over the four neighbours of the distance to their vectors, in quarter samples."""
    rows, columns = field.shape[0], field.shape[1]
    total = 0
    for k in range(4):
        r = min(max(row + (k == 0) - (k == 1), 0), rows - 1)
        c = min(max(column + (k == 2) - (k == 3), 0), columns - 1)
        if r == row and c == column:
            continue
        distance = abs(vector_x - field[r, c, 0]) + abs(vector_y - field[r, c, 1])
        total += min(distance, MOST_ROUGHNESS)
    return np.float32(0.25) * np.float32(total)


@inner_float
def _cost(picture, y, x, planes, field, row, column, vector_x, vector_y, window, weight):
    _fetch(planes, y, x, vector_x, vector_y, window)
    roughness = _roughness(field, row, column, vector_x, vector_y)
    return _difference(picture, y, x, window) + weight * roughness


@njit_float
def search_everywhere(picture, planes, field, block, side, weight, reach):
    """Give each block the best whole vector within `reach` samples of zero, or keep what it has.

    Args:
        picture: (H, W) float32.
        planes: (2, 2, H + margins, W + margins) float32, of which [0, 0] is used.
        field: (rows, columns, 2) int32, changed.
        weight: of the roughness of the field, for a whole window.
    """
    window = np.empty((side, side), np.float32)
    for row in range(field.shape[0]):
        for column in range(field.shape[1]):
            y, x = _window_start(row, column, block, side, *picture.shape)
            place = (picture, y, x, planes, field, row, column)
            best_x, best_y = field[row, column, 0], field[row, column, 1]
            least = _cost(*place, best_x, best_y, window, weight)
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    cost = _cost(*place, 4 * dx, 4 * dy, window, weight)
                    if cost < least:
                        least, best_x, best_y = cost, 4 * dx, 4 * dy
            field[row, column, 0], field[row, column, 1] = best_x, best_y


@inner_float
def _refine_block(picture, planes, field, row, column, block, steps, weight, window):
    y, x = _window_start(row, column, block, window.shape[0], *picture.shape)
    place = (picture, y, x, planes, field, row, column)
    best_x, best_y = field[row, column, 0], field[row, column, 1]
    least = _cost(*place, best_x, best_y, window, weight)
    for k in range(10):
        r = min(max(row + k // 3 - 1, 0), field.shape[0] - 1)
        c = min(max(column + k % 3 - 1, 0), field.shape[1] - 1)
        to_x, to_y = (field[r, c, 0], field[r, c, 1]) if k < 9 else (best_x * 0, best_y * 0)
        if to_x != best_x or to_y != best_y:
            cost = _cost(*place, to_x, to_y, window, weight)
            if cost < least:
                least, best_x, best_y = cost, to_x, to_y
    for step in steps:
        centre_x, centre_y = best_x, best_y
        for k in range(9):
            if k == 4:
                continue
            to_x, to_y = centre_x + step * (k % 3 - 1), centre_y + step * (k // 3 - 1)
            cost = _cost(*place, to_x, to_y, window, weight)
            if cost < least:
                least, best_x, best_y = cost, to_x, to_y
    field[row, column, 0], field[row, column, 1] = best_x, best_y


@njit_float
def refine(picture, planes, field, block, side, steps, weight):
    """Improve a field: the vectors of neighbours and zero are tried, then steps around the best.

    It goes over all blocks there and back, so that a vector that fits spreads to all sides.

    Args:
        picture: (H, W) float32.
        planes: (2, 2, H + margins, W + margins) float32.
        field: (rows, columns, 2) int32, changed.
        steps: int64, in quarter samples.
        weight: of the roughness of the field, for a whole window.
    """
    window = np.empty((side, side), np.float32)
    count = field.shape[0] * field.shape[1]
    for k in range(2 * count):
        row, column = divmod(k if k < count else 2 * count - 1 - k, field.shape[1])
        _refine_block(picture, planes, field, row, column, block, steps, weight, window)


@inner_float
def _prediction_error(picture, y, x, pair, vectors, windows):
    """The least difference to the mean of both predictions, or to one of them alone."""
    past, future, ratio = pair
    first_x, first_y, added_x, added_y = vectors
    second_x, second_y = (
        added_x - ((ratio * first_x + 128) >> 8),
        added_y - ((ratio * first_y + 128) >> 8),
    )
    one, two = windows
    _fetch(past, y, x, first_x, first_y, one)
    _fetch(future, y, x, second_x, second_y, two)
    alone = min(_difference(picture, y, x, one), _difference(picture, y, x, two))
    return min(_difference_of_mean(picture, y, x, one, two), alone)


@inner_float
def _joint_cost(picture, y, x, pair, fields, row, column, vectors, windows, weights):
    first_x, first_y, added_x, added_y = vectors
    rough = _roughness(fields[0], row, column, first_x, first_y)
    rough += _roughness(fields[1], row, column, added_x, added_y)
    size = np.float32(abs(added_x) + abs(added_y))
    error = _prediction_error(picture, y, x, pair, vectors, windows)
    return error + weights[0] * rough + weights[1] * size


@inner_float
def _both(fields, row, column):
    first, added = fields
    return (
        first[row, column, 0],
        first[row, column, 1],
        added[row, column, 0],
        added[row, column, 1],
    )


@inner_float
def _candidate(k, best, fields, row, column):
    """Vectors to try: those of the four neighbours, none added, none, a step of either vector."""
    first_x, first_y, added_x, added_y = best
    if k < 4:
        r = min(max(row + (k == 0) - (k == 1), 0), fields[0].shape[0] - 1)
        c = min(max(column + (k == 2) - (k == 3), 0), fields[0].shape[1] - 1)
        return _both(fields, r, c)
    zero = np.int32(0)
    if k < 6:
        return (first_x, first_y, zero, zero) if k == 4 else (zero, zero, zero, zero)
    step = (k - 6) // 2
    step += step >= 4
    dx, dy = np.int32(step % 3 - 1), np.int32(step // 3 - 1)
    if k % 2:
        return (np.int32(first_x + dx), np.int32(first_y + dy), added_x, added_y)
    return (first_x, first_y, np.int32(added_x + dx), np.int32(added_y + dy))


@njit_float
def settle(picture, pair, fields, block, side, weights):
    """Improve both vectors of each block together: what counts is the prediction they make.

    Args:
        picture: (H, W) float32.
        pair: planes of the past and of the future reference, and the ratio in 1/256.
        fields: the vectors to the past, and what is added to those to the future; both
            (rows, columns, 2) int32, changed.
        weights: of the roughness of each field, and of what is added, for a whole window.
    """
    windows = (np.empty((side, side), np.float32), np.empty((side, side), np.float32))
    rows, columns = fields[0].shape[0], fields[0].shape[1]
    count = rows * columns
    for n in range(2 * count):
        row, column = divmod(n if n < count else 2 * count - 1 - n, columns)
        y, x = _window_start(row, column, block, side, *picture.shape)
        best = _both(fields, row, column)
        least = _joint_cost(picture, y, x, pair, fields, row, column, best, windows, weights)
        for k in range(22):
            to = _candidate(k, best, fields, row, column)
            cost = _joint_cost(picture, y, x, pair, fields, row, column, to, windows, weights)
            if cost < least:
                least, best = cost, to
        fields[0][row, column, 0], fields[0][row, column, 1] = best[0], best[1]
        fields[1][row, column, 0], fields[1][row, column, 1] = best[2], best[3]


@njit_float
def window_errors(picture, pair, fields, block, side):
    """What the better of a mean and a single prediction leaves in every window: float32.

    Args as those of `settle`.
    """
    windows = (np.empty((side, side), np.float32), np.empty((side, side), np.float32))
    errors = np.empty(fields[0].shape[:2], np.float32)
    for row in range(errors.shape[0]):
        for column in range(errors.shape[1]):
            y, x = _window_start(row, column, block, side, *picture.shape)
            vectors = _both(fields, row, column)
            errors[row, column] = _prediction_error(picture, y, x, pair, vectors, windows)
    return errors
