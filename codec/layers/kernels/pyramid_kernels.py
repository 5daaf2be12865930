"""The separable filters of the upsampling pyramid and their gradients, one plane at a time."""

from __future__ import annotations

import numpy as np

from codec.jit import inner_float, njit_float
from codec.layers.kernels.vectors import (
    LANES,
    add,
    address,
    lane_sum,
    load,
    load_evens,
    load_odds,
    multiply_add,
    splat,
    store,
    store_pairs,
)

PHASE_TAPS = 4  # taps of one phase of the x2 kernel
FILTER_TAPS = 8  # seven, and one that is zero
_PHASE_MARGIN = 2
_FILTER_REACH = 3
_ZERO = np.float32(0.0)


@inner_float
def _whole(width):
    """Pixels of a row that whole vectors hold."""
    return width // LANES * LANES


@inner_float
def _four_rows(rows, first):
    """Four rows of (h, w) from row `first` on, replicated outside."""
    last = rows.shape[0] - 1
    a, b = rows[min(max(first, 0), last)], rows[min(max(first + 1, 0), last)]
    c, d = rows[min(max(first + 2, 0), last)], rows[min(max(first + 3, 0), last)]
    return a, b, c, d


@inner_float
def _weigh_rows(rows, first, kernel, line, margin):
    """line = sum of kernel[i] * row first + i, rows outside replicated; edges replicated as well.

    `rows` is (h, w), `line` has at least `margin` more floats at each side; the kernel has 4 or 8
    taps.
    """
    width = rows.shape[1]
    middle = line[margin : margin + width]
    for i in range(0, kernel.size, PHASE_TAPS):
        a, b, c, d = _four_rows(rows, first + i)
        p, q, r, s = kernel[i : i + PHASE_TAPS]
        pv, qv, rv, sv = splat(p), splat(q), splat(r), splat(s)
        for j in range(0, _whole(width), LANES):
            total = multiply_add(pv, load(address(a, j)), splat(_ZERO))
            if i:
                total = add(total, load(address(middle, j)))
            total = multiply_add(qv, load(address(b, j)), total)
            total = multiply_add(rv, load(address(c, j)), total)
            store(address(middle, j), multiply_add(sv, load(address(d, j)), total))
        for j in range(_whole(width), width):
            total = middle[j] if i else _ZERO
            middle[j] = total + p * a[j] + q * b[j] + r * c[j] + s * d[j]
    line[:margin] = middle[0]
    line[margin + width :] = middle[width - 1]


@inner_float
def _fold_margins(line, margin, width):
    """Add the gradients of replicated edges to those of the edges; gives the middle."""
    middle = line[margin : margin + width]
    for i in range(margin):
        middle[0] += line[i]
        middle[width - 1] += line[margin + width + i]
    return middle


@inner_float
def _rows_back(gradient, rows, first, kernel, rows_back, sums):
    """Gradients behind `_weigh_rows`, `gradient` (w,) without margins; adds to `sums` (taps,)."""
    width = rows.shape[1]
    for i in range(0, kernel.size, PHASE_TAPS):
        sources, backs = _four_rows(rows, first + i), _four_rows(rows_back, first + i)
        for k in range(PHASE_TAPS):
            row, back, weight = sources[k], backs[k], kernel[i + k]
            weights, products = splat(weight), splat(_ZERO)
            for j in range(0, _whole(width), LANES):
                slope, place = load(address(gradient, j)), address(back, j)
                store(place, multiply_add(weights, slope, load(place)))
                products = multiply_add(slope, load(address(row, j)), products)
            total = lane_sum(products)
            for j in range(_whole(width), width):
                back[j] += weight * gradient[j]
                total += gradient[j] * row[j]
            sums[i + k] += total


@inner_float
def new_line(width):
    """Scratch for a row of `width` source pixels, with margins, as `source_line` fills it."""
    return np.zeros(width + 2 * _PHASE_MARGIN + PHASE_TAPS + 2 * LANES, np.float32)


@inner_float
def source_line(source, y, phases, line):
    """Weigh the rows of source (h, w) that row y of its double is made of."""
    _weigh_rows(source, (y >> 1) - 2 + (y & 1), phases[y & 1], line, _PHASE_MARGIN)


@inner_float
def double_line(line, phases, out):
    """A row of the double from what `source_line` made; `phases` (2, 4): even and odd columns."""
    width = out.size
    a, b, c, d = phases[0]
    p, q, r, s = phases[1]
    av, bv, cv, dv = splat(a), splat(b), splat(c), splat(d)
    pv, qv, rv, sv = splat(p), splat(q), splat(r), splat(s)
    for j in range(0, _whole(width >> 1), LANES):
        x0, x1, x2 = load(address(line, j)), load(address(line, j + 1)), load(address(line, j + 2))
        x3, x4 = load(address(line, j + 3)), load(address(line, j + 4))
        even = multiply_add(av, x0, multiply_add(bv, x1, splat(_ZERO)))
        odd = multiply_add(pv, x1, multiply_add(qv, x2, splat(_ZERO)))
        even = multiply_add(cv, x2, multiply_add(dv, x3, even))
        odd = multiply_add(rv, x3, multiply_add(sv, x4, odd))
        store_pairs(address(out, 2 * j), even, odd)
    for j in range(_whole(width >> 1), (width + 1) >> 1):
        out[2 * j] = a * line[j] + b * line[j + 1] + c * line[j + 2] + d * line[j + 3]
        if 2 * j + 1 < width:
            out[2 * j + 1] = p * line[j + 1] + q * line[j + 2] + r * line[j + 3] + s * line[j + 4]


@njit_float
def interpolate_rows(source, target, phases, y0, y1):
    """Rows y0 to y1 of target (H, W) = source (h, w) at twice the size."""
    line = new_line(source.shape[1])
    for y in range(y0, y1):
        source_line(source, y, phases, line)
        double_line(line, phases, target[y])


@inner_float
def _split_columns(gradient, evens, odds):
    """Even and odd columns of a row, which begin at PHASE_TAPS in `evens` and `odds`."""
    width = gradient.size
    even, odd = evens[PHASE_TAPS:], odds[PHASE_TAPS:]
    for j in range(0, _whole(width >> 1), LANES):
        store(address(even, j), load_evens(address(gradient, 2 * j)))
        store(address(odd, j), load_odds(address(gradient, 2 * j)))
    for j in range(_whole(width >> 1), width >> 1):
        even[j] = gradient[2 * j]
        odd[j] = gradient[2 * j + 1]
    if width & 1:
        even[width >> 1] = gradient[width - 1]


@inner_float
def _phase_products(evens, odds, line, width, sums):
    """sums (2, 4) += products of the two columns' gradients with what their taps read.

    Columns and line have room for a vector behind their ends, where the columns are zero.
    """
    even, odd = evens[PHASE_TAPS:], odds[PHASE_TAPS:]
    e0 = e1 = e2 = e3 = o0 = o1 = o2 = o3 = splat(_ZERO)
    for j in range(0, width, LANES):
        e, o = load(address(even, j)), load(address(odd, j))
        x0, x1, x2 = load(address(line, j)), load(address(line, j + 1)), load(address(line, j + 2))
        x3, x4 = load(address(line, j + 3)), load(address(line, j + 4))
        e0, o0 = multiply_add(e, x0, e0), multiply_add(o, x1, o0)
        e1, o1 = multiply_add(e, x1, e1), multiply_add(o, x2, o1)
        e2, o2 = multiply_add(e, x2, e2), multiply_add(o, x3, o2)
        e3, o3 = multiply_add(e, x3, e3), multiply_add(o, x4, o3)
    sums[0, 0] += lane_sum(e0)
    sums[0, 1] += lane_sum(e1)
    sums[0, 2] += lane_sum(e2)
    sums[0, 3] += lane_sum(e3)
    sums[1, 0] += lane_sum(o0)
    sums[1, 1] += lane_sum(o1)
    sums[1, 2] += lane_sum(o2)
    sums[1, 3] += lane_sum(o3)


@inner_float
def _line_back(evens, odds, phases, back, size):
    """Gradients of a line of `size` floats from those of its two columns."""
    a, b, c, d = phases[0]
    p, q, r, s = phases[1]
    av, bv, cv, dv = splat(a), splat(b), splat(c), splat(d)
    pv, qv, rv, sv = splat(p), splat(q), splat(r), splat(s)
    for u in range(0, size, LANES):
        even = multiply_add(av, load(address(evens, u + 4)), splat(_ZERO))
        odd = multiply_add(pv, load(address(odds, u + 3)), splat(_ZERO))
        even = multiply_add(bv, load(address(evens, u + 3)), even)
        odd = multiply_add(qv, load(address(odds, u + 2)), odd)
        even = multiply_add(cv, load(address(evens, u + 2)), even)
        odd = multiply_add(rv, load(address(odds, u + 1)), odd)
        even = multiply_add(dv, load(address(evens, u + 1)), even)
        odd = multiply_add(sv, load(address(odds, u)), odd)
        store(address(back, u), add(even, odd))


@inner_float
def new_columns(width):
    """Scratch (3, ...) for `double_row_back`: even columns, odd columns, gradients of a line."""
    return np.zeros((3, width + 2 * PHASE_TAPS + 2 * LANES), np.float32)


@inner_float
def double_row_back(source, y, line, target_back, source_back, phases, columns, across, down):
    """Gradients behind row y of the double of a plane.

    Args:
        source, source_back: (h, w), and its gradients, which are added to.
        line: what `source_line` made of row y.
        target_back: gradients of the row.
        columns: scratch of `new_columns`.
        across, down: (2, 4), gradients of the taps along rows and columns, which are added to.
    """
    width = source.shape[1]
    evens, odds, back = columns[0], columns[1], columns[2]
    _split_columns(target_back, evens, odds)
    _phase_products(evens, odds, line, (target_back.size + 1) >> 1, across)
    _line_back(evens, odds, phases, back, width + 2 * _PHASE_MARGIN)
    middle = _fold_margins(back, _PHASE_MARGIN, width)
    first = (y >> 1) - 2 + (y & 1)
    _rows_back(middle, source, first, phases[y & 1], source_back, down[y & 1])


@njit_float
def interpolate_rows_back(source, target_back, source_back, phases, y0, y1, sums):
    """Gradients behind `interpolate_rows`.

    Those of the source are added to `source_back`, also two rows beyond those of y0 to y1; those of
    the taps to `sums` (rows or columns, 2, 4).
    """
    across, down = sums[0], sums[1]
    line, columns = new_line(source.shape[1]), new_columns(source.shape[1])
    for y in range(y0, y1):
        source_line(source, y, phases, line)
        double_row_back(source, y, line, target_back[y], source_back, phases, columns, across, down)


@njit_float
def filter_rows(source, target, kernel, y0, y1):
    """Rows y0 to y1 of target = source (h, w) under the separable filter, edges replicated."""
    width = source.shape[1]
    line = np.empty(width + 2 * _FILTER_REACH, np.float32)
    a, b, c, d, e, f, g, _ = kernel
    for y in range(y0, y1):
        _weigh_rows(source, y - _FILTER_REACH, kernel, line, _FILTER_REACH)
        out = target[y]
        for j in range(width):
            outer = a * line[j] + b * line[j + 1] + c * line[j + 2] + d * line[j + 3]
            out[j] = outer + e * line[j + 4] + f * line[j + 5] + g * line[j + 6]


@inner_float
def _filter_products(gradient, line, width, sums):
    """sums (8,) += products of gradients with what the taps read; gradients begin at 6."""
    row = gradient[2 * _FILTER_REACH :]
    a = b = c = d = e = f = g = _ZERO
    for j in range(width):
        value = row[j]
        a += value * line[j]
        b += value * line[j + 1]
        c += value * line[j + 2]
        d += value * line[j + 3]
        e += value * line[j + 4]
        f += value * line[j + 5]
        g += value * line[j + 6]
    for i, total in enumerate((a, b, c, d, e, f, g)):
        sums[i] += total


@njit_float
def filter_rows_back(source, target_back, source_back, kernel, y0, y1, sums):
    """Gradients behind `filter_rows`, as `interpolate_rows_back`; sums (rows or columns, 8)."""
    across, down = sums[0], sums[1]
    width = source.shape[1]
    size, margin = width + 2 * _FILTER_REACH, 2 * _FILTER_REACH
    line, back = np.empty(size, np.float32), np.empty(size, np.float32)
    padded = np.zeros(width + 2 * margin, np.float32)
    a, b, c, d, e, f, g, _ = kernel
    for y in range(y0, y1):
        _weigh_rows(source, y - _FILTER_REACH, kernel, line, _FILTER_REACH)
        padded[margin : margin + width] = target_back[y]
        _filter_products(padded, line, width, across)
        for u in range(size):
            outer = a * padded[u + 6] + b * padded[u + 5] + c * padded[u + 4] + d * padded[u + 3]
            back[u] = outer + e * padded[u + 2] + f * padded[u + 1] + g * padded[u]
        middle = _fold_margins(back, _FILTER_REACH, width)
        _rows_back(middle, source, y - _FILTER_REACH, kernel, source_back, down)
