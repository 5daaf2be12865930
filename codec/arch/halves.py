"""The same decoder for a picture of half the size: everything one level finer, level 0 left out."""

from __future__ import annotations

from dataclasses import replace

from codec.arch.network import Architecture


def can_halve(arch: Architecture) -> bool:
    """Whether this is the network of a still, and something is left of it without level 0."""
    latent = arch.latent_grids
    return (
        any(grid.level for grid in latent)
        and {grid.time_stride for grid in latent} == {0}
        and not (arch.has_motion or arch.temporal or arch.common_randomness)
    )


def halved(arch: Architecture) -> Architecture:
    """What is at level n + 1 of `arch` is at level n."""
    first, last = arch.ifce_levels
    return replace(
        arch,
        grids=tuple(replace(grid, level=grid.level - 1) for grid in arch.grids if grid.level),
        ifce_levels=(max(first - 1, 0), max(last - 1, 0)),
    )


def name_in_half(name: str, arch: Architecture) -> str | None:
    """What a parameter of the float model is called in the halved one, if it is there.

    Kernels of level 0 are those of level 1; its IFCE has none, None.
    """
    *parts, last = name.split(".")
    if "upsampling" in parts:
        return ".".join([*parts, str(max(int(last) - 1, 0))])
    if "ifce" in parts and arch.grids[int(parts[-1])].level == 0:
        return None
    # The other grids keep their numbers: level 0 is the last in coding order.
    return name
