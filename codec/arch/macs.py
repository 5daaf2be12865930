"""Multiply-accumulates of the decoder a luma pixel, counted from the description."""

from __future__ import annotations

from codec.arch.grids import Grid
from codec.arch.motion import INTERPOLATION_TAPS
from codec.arch.network import (
    Architecture,
    ifce_sources,
    pre_levels,
    synthesis_inputs,
    temporal_inputs,
    up_stages,
)


def _rate(grid: Grid, num_frames: int) -> float:
    """Samples of a grid a pixel of the segment."""
    return grid.num_slices(num_frames) / num_frames / 4**grid.level


def entropy_macs(arch: Architecture, num_frames: int) -> float:
    """MACs a pixel of ARM and IFCE: each latent pays n C^2 + 4 C, each IFCE output its sources."""
    width = arch.arm_width
    each = arch.arm_layers * width * width + (4 if arch.arm_layers else 2) * width
    total = 0.0
    for index, grid in enumerate(arch.grids):
        sources = len(ifce_sources(arch, index))
        total += _rate(grid, num_frames) * (each + sources * arch.ifce_features / 4)
    return total


def upsampling_macs(arch: Architecture, num_frames: int) -> float:
    """MACs a pixel of the x2 stages (K taps an output sample) and the filters before joining."""
    total = 0.0
    filtered = pre_levels(arch)
    for grid in arch.latent_grids:
        slices = grid.num_slices(num_frames) / num_frames
        for level in up_stages(arch):
            if level < grid.level:
                # Vertical pass at half width, then horizontal at full width: K/2 taps each.
                total += slices * arch.up_taps / 2 * 1.5 / 4**level
        if grid.level in filtered:
            total += slices * 2 * arch.pre_taps / 4**grid.level
    return total


def temporal_macs(arch: Architecture) -> float:
    """MACs a pixel of the temporal layers."""
    total = 0.0
    for index, layer in enumerate(arch.temporal):
        inputs = temporal_inputs(arch, index)
        per_group = 1 if layer.kind == "ck" else inputs // (layer.groups or inputs)
        kernel = layer.time_taps * layer.kernel_space**2
        total += layer.out * (per_group * kernel + layer.gate) / 4**layer.level
    return total


def synthesis_macs(arch: Architecture) -> float:
    """MACs a pixel of the synthesis with its stabiliser."""
    total = arch.num_features * arch.num_straight
    for index, layer in enumerate(arch.synthesis):
        total += synthesis_inputs(arch, index) * layer.out * layer.kernel_space**2
    return float(total)


def prediction_macs(arch: Architecture) -> float:
    """MACs a pixel of two predictions, interpolated block by block, and their composition."""
    if not arch.has_motion:
        return 0.0
    side, taps = 1 << arch.block_level, INTERPOLATION_TAPS
    return arch.num_channels * (2 * (taps * (side + taps - 1) / side + taps) + 3)


def mac_per_pixel(arch: Architecture, num_frames: int = 1) -> float:
    """MACs a luma pixel of the whole decoder for a segment of `num_frames` frames."""
    return (
        entropy_macs(arch, num_frames)
        + upsampling_macs(arch, num_frames)
        + temporal_macs(arch)
        + synthesis_macs(arch)
        + prediction_macs(arch)
    )
