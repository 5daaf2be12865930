"""The same decoder for a picture of half the size: everything one level finer, level 0 left out."""

from __future__ import annotations

from dataclasses import replace

from codec.arch.motion import MIN_BLOCK_LEVEL
from codec.arch.network import Architecture


def can_halve(arch: Architecture) -> bool:
    """Whether everything that a network has can be one level finer, and something is left then.

    All of its latent grids have one time stride, so that level 0 has the last of the features.
    """
    latent = arch.latent_grids
    return (
        any(grid.level for grid in latent)
        and len({grid.time_stride for grid in latent}) == 1
        and all(layer.level for layer in arch.temporal)
        and not (arch.has_motion and arch.block_level == MIN_BLOCK_LEVEL)
        and not arch.common_randomness
    )


def halved(arch: Architecture) -> Architecture:
    """What is at level n + 1 of `arch` is at level n."""
    first, last = arch.ifce_levels
    return replace(
        arch,
        grids=tuple(replace(grid, level=grid.level - 1) for grid in arch.grids if grid.level),
        ifce_levels=(max(first - 1, 0), max(last - 1, 0)),
        temporal=tuple(replace(layer, level=layer.level - 1) for layer in arch.temporal),
    )


def name_in_half(name: str, arch: Architecture) -> str | None:
    """What a parameter of the float model is called in the halved one; None if it has none there.

    Kernels of level 0 are those of level 1.
    """
    *parts, last = name.split(".")
    if "upsampling" in parts:
        return ".".join([*parts, str(max(int(last) - 1, 0))])
    if "ifce" in parts and arch.grids[int(parts[-1])].level == 0:
        return None
    # The other grids keep their numbers: level 0 is the last in coding order.
    return name
