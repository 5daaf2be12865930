"""The first steps of a picture: at half its size, where they take a quarter of the time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from codec.arch.halves import can_halve, halved, name_in_half
from codec.layers.error import box_mean

if TYPE_CHECKING:
    from codec.training.phase import MainPhase
    from codec.training.states import Task

# The time of so many steps is what half the size is worth (docs/experiments.md); steps of smaller
# pictures than that (pixels) take about the same time at any size.
HALF_STEPS, FEWEST_PIXELS = 25, 60_000


def is_worth_halving(task: Task) -> bool:
    """Whether this is a large picture whose network starts at random and can do without level 0."""
    is_large_picture = len(task.frames) == 1 and task.num_pixels >= FEWEST_PIXELS
    return is_large_picture and not task.networks and can_halve(task.arch)


def half_size(task: Task) -> Task:
    """The same picture at half the size, sides rounded up; samples are means of 2x2."""
    return replace(
        task,
        frames=[replace(f, planes=tuple(map(_half, f.planes))) for f in task.frames],
        height=-(-task.height // 2),
        width=-(-task.width // 2),
        arch=halved(task.arch),
    )


def _half(plane: np.ndarray) -> np.ndarray:
    samples = torch.from_numpy(plane.astype(np.float32))
    return box_mean(samples[None], 1, 1)[0].round().numpy().astype(plane.dtype)


def carry_up(before: MainPhase, after: MainPhase) -> None:
    """Give a phase what one at half the size has: networks, what SOAP knows of them, and latents.

    All is one level coarser then; level 0 has no latents, and starts with the weights of level 1.
    """
    arch, old = after.state.model.arch, dict(before.state.model.named_parameters())
    sources = {}
    for name, parameter in after.state.model.named_parameters():
        source = old.get(name_in_half(name, arch))
        if source is not None and parameter.numel():
            sources[parameter] = source
    with torch.no_grad():
        for parameter, source in sources.items():
            parameter.copy_(_with_level_0(source, parameter.shape))
        # Level 0 is the last in coding order.
        for source, latent in zip(before.parameters, after.parameters, strict=False):
            latent.copy_(source)
    after.optimizers.adopt_networks(before.optimizers, sources)


def _with_level_0(weight: Tensor, shape: torch.Size) -> Tensor:
    """(out, features, 1, 1), one feature more if the shape has: the last one again."""
    return weight if weight.shape == shape else torch.cat([weight, weight[:, -1:]], dim=1)
