"""Kernels of the search for motion: windows of a picture against moved windows of others.

A vector is (columns, rows) in quarter samples. Pictures are float32 on [0, 1] and at least a window
large; the planes that windows are fetched from have a margin of replicated samples on all sides.
Costs are sums of absolute differences over a window. Each kernel asks for a cost at one place only:
code that is compiled twice takes twice as long.
"""

from __future__ import annotations

import numpy as np

from codec.jit import inner_float, njit_float

# A window further out than this beyond the edge, filters included, holds replicated samples only:
# that its place is clamped there changes nothing.
FILTER_MARGIN = 8
# A difference to a neighbour's vector that is larger costs no more: objects have edges.
MOST_ROUGHNESS = 32
COMPONENTS = 4
HALF = np.float32(0.5)
QUARTER = np.float32(0.25)
# Bits that a latent of zero takes, and one of 1 or -1: next to zeros, and elsewhere.
ZERO_BITS = (np.float32(0.2), np.float32(1))
ONE_BITS = (np.float32(5), np.float32(2.5))
BITS_TO_DOUBLE = np.float32(2)


@inner_float
def _window_start(row, column, block, side, height, width):
    """First (row, column) of the window around a block; it lies within the picture."""
    y = row * block - (side - block) // 2
    x = column * block - (side - block) // 2
    return min(max(y, 0), height - side), min(max(x, 0), width - side)


@inner_float
def _fetch(planes, y, x, vector_x, vector_y, window):
    """Fill a window (side, side) with what is at a vector from (y, x).

    `planes` (2, 2, rows, columns) are the samples and those half a sample further by (row, column);
    quarters are means of the nearest two or four. Whole vectors take only planes[0, 0].
    """
    side = window.shape[0]
    margin = side + FILTER_MARGIN
    half_y, half_x = vector_y >> 1, vector_x >> 1
    next_y, next_x = (vector_y + 1) >> 1, (vector_x + 1) >> 1
    limit_y, limit_x = planes.shape[2] - side - 1, planes.shape[3] - side - 1
    top = min(max(y + margin + (half_y >> 1), 0), limit_y)
    left = min(max(x + margin + (half_x >> 1), 0), limit_x)
    below, beside = top + (next_y >> 1) - (half_y >> 1), left + (next_x >> 1) - (half_x >> 1)
    is_mean = next_y != half_y or next_x != half_x
    for j in range(side):
        a = planes[half_y & 1, half_x & 1, top + j, left : left + side]
        target = window[j]
        if not is_mean:
            for i in range(side):
                target[i] = a[i]
            continue
        b = planes[half_y & 1, next_x & 1, top + j, beside : beside + side]
        c = planes[next_y & 1, half_x & 1, below + j, left : left + side]
        d = planes[next_y & 1, next_x & 1, below + j, beside : beside + side]
        for i in range(side):
            target[i] = QUARTER * (a[i] + b[i] + c[i] + d[i])


@inner_float
def _difference(picture, y, x, window):
    side = window.shape[0]
    total = np.float32(0)
    for j in range(side):
        here, there = picture[y + j, x : x + side], window[j]
        for i in range(side):
            total += abs(here[i] - there[i])
    return total


@inner_float
def _neighbour(k, row, column, rows, columns):
    """Place of a block above, below, left or right, or of the block itself at the edge."""
    r = row + (k == 1) - (k == 0)
    c = column + (k == 3) - (k == 2)
    return min(max(r, 0), rows - 1), min(max(c, 0), columns - 1)


@inner_float
def _roughness(field, row, column, first, vector_x, vector_y):
    """Mean distance, in quarter samples, to components `first` and the next one of neighbours."""
    total = 0
    for k in range(4):
        r, c = _neighbour(k, row, column, field.shape[0], field.shape[1])
        if r != row or c != column:
            distance = abs(vector_x - field[r, c, first]) + abs(vector_y - field[r, c, first + 1])
            total += min(distance, MOST_ROUGHNESS)
    return QUARTER * np.float32(total)


@inner_float
def _cost(picture, planes, field, place, vector, form, window, weight):
    row, column = place
    y, x = _window_start(row, column, form, window.shape[0], *picture.shape)
    _fetch(planes, y, x, vector[0], vector[1], window)
    roughness = _roughness(field, row, column, 0, vector[0], vector[1])
    return _difference(picture, y, x, window) + weight * roughness


@njit_float
def search_everywhere(picture, planes, field, block, side, weight, reach):
    """Give each block the best whole vector within `reach` samples of zero, or keep what it has.

    Args:
        picture: (H, W) float32.
        planes: (1, 1, H + margins, W + margins) float32, of the reference.
        field: (rows, columns, 2) int32, changed.
        block: samples from block to block.
        side: of the window around each.
        weight: of the roughness of the field.
    """
    window = np.empty((side, side), np.float32)
    vector, best = np.empty(2, np.int32), np.empty(2, np.int32)
    breadth = 2 * reach + 1
    for row in range(field.shape[0]):
        for column in range(field.shape[1]):
            least = np.float32(np.inf)
            for k in range(-1, breadth * breadth):
                vector[:] = field[row, column]
                if k >= 0:
                    vector[0] = 4 * (k % breadth - reach)
                    vector[1] = 4 * (k // breadth - reach)
                place = (row, column)
                cost = _cost(picture, planes, field, place, vector, block, window, weight)
                if cost < least:
                    least = cost
                    best[:] = vector
            field[row, column] = best


@inner_float
def _candidate(k, field, row, column, best, centre, steps, vector):
    """Write vector number `k` to try: those around the block, zero, then steps from the centre."""
    if k < 9:
        r = min(max(row + (k + 4) % 9 // 3 - 1, 0), field.shape[0] - 1)
        c = min(max(column + (k + 4) % 3 - 1, 0), field.shape[1] - 1)
        vector[:] = field[r, c]
    elif k == 9:
        vector[:] = 0
    else:
        if (k - 10) % 9 == 0:
            centre[:] = best
        step = steps[(k - 10) // 9]
        vector[0] = centre[0] + step * ((k - 10) % 3 - 1)
        vector[1] = centre[1] + step * ((k - 10) % 9 // 3 - 1)


@njit_float
def refine(picture, planes, field, block, side, steps, weight):
    """Improve a field: the vectors around each block and zero are tried, then steps from the best.

    It goes over all blocks there and back, so that a vector that fits spreads to all sides.

    Args:
        picture: (H, W) float32.
        planes: (2, 2, H + margins, W + margins) float32, of the reference, with half samples;
            (1, 1, ...) will do for whole steps and vectors.
        field: (rows, columns, 2) int32, changed.
        block: samples from block to block.
        side: of the window around each.
        steps: int64, in quarter samples.
        weight: of the roughness of the field.
    """
    window = np.empty((side, side), np.float32)
    vector, best, centre = np.empty(2, np.int32), np.empty(2, np.int32), np.empty(2, np.int32)
    count = field.shape[0] * field.shape[1]
    for n in range(2 * count):
        row, column = divmod(n if n < count else 2 * count - 1 - n, field.shape[1])
        least = np.float32(np.inf)
        best[:] = field[row, column]
        for k in range(10 + 9 * len(steps)):
            _candidate(k, field, row, column, best, centre, steps, vector)
            if k and vector[0] == best[0] and vector[1] == best[1]:
                continue
            place = (row, column)
            cost = _cost(picture, planes, field, place, vector, block, window, weight)
            if cost < least:
                least = cost
                best[:] = vector
        field[row, column] = best


@inner_float
def _prediction_error(picture, y, x, pair, ratio, vectors, windows):
    """The least difference to the mean of both predictions, or to one of them alone."""
    side = windows.shape[1]
    for n in range(2):
        to_x, to_y = vectors[2 * n], vectors[2 * n + 1]
        if n == 1:
            to_x -= (ratio * vectors[0] + 128) >> 8
            to_y -= (ratio * vectors[1] + 128) >> 8
        _fetch(pair[n], y, x, to_x, to_y, windows[n])
    first, second, mean = np.float32(0), np.float32(0), np.float32(0)
    for j in range(side):
        here, one, two = picture[y + j, x : x + side], windows[0, j], windows[1, j]
        for i in range(side):
            first += abs(here[i] - one[i])
            second += abs(here[i] - two[i])
            mean += abs(here[i] - HALF * (one[i] + two[i]))
    return min(mean, min(first, second))


@inner_float
def _joint_candidate(k, field, row, column, best, vectors):
    """Write components to try: the block's, its neighbours', none added, none, or one step."""
    vectors[:] = best
    if k < 4:
        r, c = _neighbour(k, row, column, field.shape[0], field.shape[1])
        vectors[:] = field[r, c]
    elif k < 6:
        vectors[2 * (5 - k) :] = 0
    elif k < 22:
        step = (k - 6) // 2
        step += step >= 4
        vectors[2 * (k % 2)] += step % 3 - 1
        vectors[2 * (k % 2) + 1] += step // 3 - 1


@njit_float
def settle(picture, pair, ratio, field, block, side, weights):
    """Improve both vectors of each block together: what counts is the prediction they make.

    Args:
        picture: (H, W) float32.
        pair: planes of the past and of the future reference.
        ratio: of their distances, in 1/256.
        field: (rows, columns, 4) int32, changed: the vector to the past, and what is added to the
            one that goes on from it to the future.
        block: samples from block to block.
        side: of the window around each.
        weights: of roughness, and of what is added.
    """
    windows = np.empty((2, side, side), np.float32)
    vectors, best = np.empty(COMPONENTS, np.int32), np.empty(COMPONENTS, np.int32)
    count = field.shape[0] * field.shape[1]
    for n in range(2 * count):
        row, column = divmod(n if n < count else 2 * count - 1 - n, field.shape[1])
        y, x = _window_start(row, column, block, side, *picture.shape)
        least = np.float32(np.inf)
        best[:] = field[row, column]
        for k in range(-1, 22):
            _joint_candidate(k if k >= 0 else 22, field, row, column, best, vectors)
            rough = _roughness(field, row, column, 0, vectors[0], vectors[1])
            rough += _roughness(field, row, column, 2, vectors[2], vectors[3])
            cost = _prediction_error(picture, y, x, pair, ratio, vectors, windows)
            cost += weights[0] * rough
            cost += weights[1] * np.float32(abs(vectors[2]) + abs(vectors[3]))
            if cost < least:
                least = cost
                best[:] = vectors
        field[row, column] = best


@inner_float
def _bits(value, beside, above):
    """About how many bits a latent takes after those to its left and above it."""
    is_busy = int(beside != 0 or above != 0)
    if value == 0:
        return ZERO_BITS[is_busy]
    return ONE_BITS[is_busy] + BITS_TO_DOUBLE * np.float32(np.log2(np.float32(abs(value))))


@inner_float
def _trial(k, wanted, best, trial):
    """Write latents to try: what is wanted, only its first vector, none, or one step from best."""
    if k < 2:
        trial[:] = wanted
        if k == 1:
            trial[2:] = 0
    elif k == 2:
        trial[:] = 0
    else:
        trial[:] = best
        trial[(k - 3) // 2] += 1 - 2 * (k % 2)


@inner_float
def _bits_of_all(chosen, row, column, trial):
    bits = np.float32(0)
    for c in range(COMPONENTS):
        beside = chosen[row, column - 1, c] if column else 0
        above = chosen[row - 1, column, c] if row else 0
        bits += _bits(trial[c], beside, above)
    return bits


@njit_float
def choose_latents(picture, pair, ratio, base, wanted, form, rate):
    """Latents of one level that are worth their bits, and what they and coarser ones leave.

    Args:
        picture: (H, W) float32.
        pair: planes of the past and of the future reference.
        ratio: of their distances, in 1/256.
        base: (rows, columns, 4) int32, components from coarser levels in 1/1024 samples.
        wanted: (rows / times, columns / times, 4) int32, what would be best without a rate.
        form: samples from block to block of `base`, side of the windows, and `times`.
        rate: cost of a bit.
    Returns:
        (rows / times, columns / times, 4) int32, and the sum of absolute differences.
    """
    block, side, times = form
    windows = np.empty((2, side, side), np.float32)
    chosen = np.zeros_like(wanted)
    trial, vectors = np.zeros(COMPONENTS, np.int32), np.zeros(COMPONENTS, np.int32)
    total = 0.0
    for row in range(wanted.shape[0]):
        for column in range(wanted.shape[1]):
            best = chosen[row, column]
            least, least_error = np.float32(np.inf), np.float32(0)
            for k in range(3 + 2 * COMPONENTS):
                if k > 2 and wanted[row, column, (k - 3) // 2] == 0:
                    continue
                _trial(k, wanted[row, column], best, trial)
                error = np.float32(0)
                for r in range(row * times, min((row + 1) * times, base.shape[0])):
                    for c in range(column * times, min((column + 1) * times, base.shape[1])):
                        y, x = _window_start(r, c, block, side, *picture.shape)
                        for i in range(COMPONENTS):
                            vectors[i] = trial[i] + ((base[r, c, i] + 128) >> 8)
                        error += _prediction_error(picture, y, x, pair, ratio, vectors, windows)
                cost = error + rate * _bits_of_all(chosen, row, column, trial)
                if cost < least:
                    least, least_error = cost, error
                    best[:] = trial
            total += least_error
    return chosen, total
