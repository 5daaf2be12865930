"""Kernels of the picture path against PyTorch: values and gradients on odd shapes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from kernel_twins import assert_twins
from torch import Tensor

from codec.layers import error, temporal
from codec.layers.error import ErrorPlane
from codec.layers.kernels import error as fused_error
from codec.layers.kernels import filters
from codec.layers.kernels import temporal as fused_temporal
from codec.layers.kernels.chain import Channel, Dense, chain
from codec.layers.kernels.conv import convolve
from codec.layers.kernels.pyramid import descend
from codec.layers.upsampling import Level, Upsampling, filter_basis, interpolation_basis

CPU = torch.device("cpu")


def separable(x: Tensor, half: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(..., h, w) with both axes' matrices applied, in the type of x."""
    down = torch.einsum("m,mij->ij", half, rows.to(x.dtype))
    across = torch.einsum("m,mij->ij", half, columns.to(x.dtype))
    return down @ x @ across.T


def doubled(x: Tensor, half: Tensor, height: int, width: int) -> Tensor:
    """(..., h, w) at twice the size, cropped."""
    taps, (h, w) = half.numel(), x.shape[-2:]
    rows = interpolation_basis(taps, h, height, CPU)
    return separable(x, half, rows, interpolation_basis(taps, w, width, CPU))


def joined(x: Tensor, half: Tensor) -> Tensor:
    """(..., h, w) under the filter of joining grids."""
    taps, (h, w) = half.numel(), x.shape[-2:]
    return separable(x, half, filter_basis(taps, h, CPU), filter_basis(taps, w, CPU))


@pytest.mark.parametrize(
    ("height", "width", "top", "slices", "up_taps", "pre_taps"),
    [
        (37, 53, 4, 1, 8, 7),
        (64, 80, 3, 2, 4, 5),
        (2, 3, 2, 3, 8, 3),
        (1, 300, 1, 1, 4, 1),
        (1, 1, 0, 2, 8, 7),
    ],
)
def test_a_descent_is_that_of_the_plain_pyramid(
    height: int, width: int, top: int, slices: int, up_taps: int, pre_taps: int
) -> None:
    torch.manual_seed(height)
    levels = [Level(n, -(-height >> n), -(-width >> n), n % 2 + 1) for n in range(top, -1, -1)]
    stages = tuple(range(top - 1, -1, -1))
    filtered = stages if pre_taps > 1 else ()
    module = Upsampling(up_taps=up_taps, pre_taps=pre_taps, stages=stages, filtered=filtered)
    names = list(module.tensors())
    taps = [p.detach() + 0.1 * torch.randn(p.shape) for p in module.tensors().values()]
    shapes = [level[1:3] for level in levels for _ in range(level.num_joining)]
    latents = [torch.randn(slices, *shape) for shape in shapes]

    def fused(*inputs: Tensor) -> Tensor:
        named = dict(zip(names, inputs[len(latents) :], strict=True))
        return descend(None, levels, inputs[: len(latents)], named)

    def plain(*inputs: Tensor) -> Tensor:
        named = dict(zip(names, inputs[len(latents) :], strict=True))
        block, waiting = None, iter(inputs[: len(latents)])
        for level, h, w, num_joining in levels:
            if block is not None:
                block = doubled(block, named[f"up.{level}"], h, w)
            for _ in range(num_joining):
                new, name = next(waiting)[:, None], f"pre.{level}"
                new = joined(new, named[name]) if name in named else new
                block = new if block is None else torch.cat([block, new], dim=1)
        return block

    assert_twins(fused, plain, [*latents, *taps])


def test_the_plain_pyramid_descends_in_one_call_as_step_by_step() -> None:
    module = Upsampling(up_taps=8, pre_taps=7, stages=(1, 0), filtered=(1, 0))
    block, latents = torch.randn(2, 3, 4, 5), [torch.randn(2, 8, 9), torch.randn(2, 15, 17)]
    levels = [Level(1, 8, 9, 1), Level(0, 15, 17, 1)]
    expected = block
    for level, latent in zip(levels, latents, strict=True):
        expected = module.interpolate(expected, *level[:3])
        expected = torch.cat([expected, module.join(latent, level.level)], dim=1)
    torch.testing.assert_close(module.descend(block, levels, latents), expected)


CHAINS = {
    "usual": ([(48, False, 0.0, 16.0), (3, False, -16.0, 16.0)], 3),
    "one layer": ([(3, False, -1.0, 1.0)], 3),
    "residual": ([(7, True, -1.0, 1.0), (7, True, 0.0, 4.0), (1, False, -9.0, 9.0)], 1),
    "no layers": ([], 4),
}


@pytest.mark.parametrize("name", list(CHAINS))
@pytest.mark.parametrize(
    ("frames", "height", "width"), [(1, 1, 1), (3, 71, 45), (2, 2, 300)], ids=str
)
def test_layers_read_doubled_and_plain_planes(
    name: str, frames: int, height: int, width: int
) -> None:
    torch.manual_seed(3)
    spec, out = CHAINS[name]
    half_size = (-(-height // 2), -(-width // 2))
    # One channel of a plane a frame, two that all frames share, four plain ones.
    channels = [
        Channel(True, tuple(range(frames))),
        Channel(True, (frames,) * frames),
        Channel(False, (frames,) * frames),
        *(Channel(False, tuple(range(frames))) for _ in range(4)),
    ]
    planes = [torch.randn(frames + 1, *half_size), torch.randn(frames + 1, height, width)]
    tensors, inputs = [torch.randn(4)], len(channels)
    for outputs, _, _, _ in spec:
        tensors += [torch.randn(outputs, inputs) / math.sqrt(inputs), 0.1 * torch.randn(outputs)]
        inputs = outputs
    tensors += [torch.randn(out, 5), torch.randn(out)]
    forms = [form[1:] for form in spec]

    def fused(small: Tensor, whole: Tensor, taps: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        layers = [
            Dense(w, b, *form) for w, b, form in zip(rest[:-2:2], rest[1:-2:2], forms, strict=True)
        ]
        return chain(small, whole, channels, taps, layers, (rest[-2], rest[-1]))

    def plain(small: Tensor, whole: Tensor, taps: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        large = doubled(small, taps, height, width)
        picked = [(large if c.is_doubled else whole)[list(c.planes)] for c in channels]
        x = torch.stack(picked, dim=1)
        straight = torch.einsum("oi,tihw->tohw", rest[-2], x[:, :5]) + rest[-1][:, None, None]
        y = x if forms else x[:, :0]
        for w, b, form in zip(rest[:-2:2], rest[1:-2:2], forms, strict=True):
            z = torch.einsum("oi,tihw->tohw", w, y) + b[:, None, None]
            y = F.hardtanh(z + y if form[0] else z, *form[1:])
        return y, straight

    assert_twins(fused, plain, [*planes, *tensors])


@pytest.mark.parametrize(
    ("shape", "outputs", "kernel", "dilation", "groups", "limits"),
    [
        ((1, 3, 17, 33), 3, (1, 3), 1, 1, (-2.0, 2.0)),
        ((5, 4, 6, 9), 6, (3, 3), 2, 2, (0.0, math.inf)),
        ((7, 11, 8, 10), 11, (3, 1), 1, 1, (0.0, math.inf)),
        ((4, 6, 8, 300), 6, (3, 1), 1, 6, (-math.inf, math.inf)),
        ((1, 2, 1, 1), 2, (3, 5), 1, 1, (-math.inf, math.inf)),
        ((2, 3, 5, 4), 2, (1, 1), 1, 1, (-1.0, 1.0)),
    ],
)
@pytest.mark.parametrize("sets", [1, 3])
def test_convolutions_with_a_set_of_weights_for_each_frame(
    shape: tuple[int, ...],
    outputs: int,
    kernel: tuple[int, int],
    dilation: int,
    groups: int,
    limits: tuple[float, float],
    sets: int,
) -> None:
    torch.manual_seed(4)
    owner = [t * sets // shape[0] for t in range(shape[0])]
    taps = (kernel[0], kernel[1], kernel[1])
    weights = torch.randn(sets, outputs, shape[1] // groups, *taps) / 4
    options = {"dilation": dilation, "groups": groups}

    def fused(x: Tensor, w: Tensor, b: Tensor, *addend: Tensor) -> Tensor:
        more = addend[0] if addend else None
        return convolve(x, w, b, owner, **options, limits=limits, addend=more)

    def plain(x: Tensor, w: Tensor, b: Tensor, *addend: Tensor) -> Tensor:
        by_set = [temporal.apply_conv(x, weight=one, bias=b, **options) for one in w]
        out = torch.stack([by_set[number][t] for t, number in enumerate(owner)])
        return out.clamp(*limits) + sum(addend)

    inputs = [torch.randn(shape), weights, torch.randn(outputs)]
    assert_twins(fused, plain, inputs)
    assert_twins(fused, plain, [*inputs, torch.randn(shape[0], outputs, *shape[2:])])


@pytest.mark.parametrize("owners", [(), (0, 0, 1, 1, 2), (0, 3, 1, 3, 0), (0,) * 5], ids=str)
@pytest.mark.parametrize("demod", [True, False])
def test_modulated_layers_bake_weights_for_each_code(owners: tuple[int, ...], demod: bool) -> None:
    torch.manual_seed(5)
    names = ["weight", "bias", "gate", "code_map", "codes"]
    shapes = [(4, 4, 3, 3, 3), (4,), (4,), (4, 2), (3, 2)]
    options = {"owners": owners, "demod": demod, "residual": True, "relu": True}

    def call(function, x: Tensor, *tensors: Tensor) -> Tensor:
        return function(x, **dict(zip(names, tensors, strict=True)), **options)

    assert_twins(
        lambda *inputs: call(fused_temporal.apply_adaptive, *inputs),
        lambda *inputs: call(temporal.apply_adaptive, *inputs),
        [torch.randn(5, 4, 7, 9), *(torch.randn(shape) / 2 for shape in shapes)],
    )


@pytest.mark.parametrize(("frames", "first_lag", "taps"), [(5, -2, 5), (1, 0, 3), (9, 0, 4)])
def test_filters_along_time(frames: int, first_lag: int, taps: int) -> None:
    torch.manual_seed(6)
    assert_twins(
        lambda x, w: filters.apply_ck(x, w, first_lag=first_lag),
        lambda x, w: temporal.apply_ck(x, w, first_lag=first_lag),
        [torch.randn(frames, 3, 5, 7), torch.randn(3, taps)],
    )


def test_gains_of_channels() -> None:
    torch.manual_seed(7)
    inputs = [torch.randn(3, 4, 5, 6), torch.randn(4)]
    assert_twins(filters.apply_gate, lambda y, gate: y * gate[:, None, None], inputs)


@pytest.mark.parametrize("halvings", [(0, 0), (1, 1), (0, 1)])
@pytest.mark.parametrize(("height", "width"), [(10, 14), (9, 13), (1, 1), (200, 301)])
def test_the_squared_error_of_planes(halvings: tuple[int, int], height: int, width: int) -> None:
    torch.manual_seed(8)
    small = (-(-height >> halvings[0]), -(-width >> halvings[1]))
    planes = [
        ErrorPlane(torch.rand(2, height, width), 0.6, None, (0, 0)),
        ErrorPlane(torch.rand(2, *small), 0.2, torch.rand(2, *small), halvings),
        ErrorPlane(torch.rand(2, *small), 0.1, None, halvings),
        ErrorPlane(torch.rand(2, height, width), 0.3, torch.rand(2, height, width), (0, 0)),
    ]
    assert_twins(
        lambda x: fused_error.squared_error(x, planes),
        lambda x: error.squared_error(x, planes),
        [torch.rand(2, 4, height, width)],
    )
