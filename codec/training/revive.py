"""Hidden units of the synthesis that no pixel switches on: they begin anew as twins of others.

With the rates of the first steps nearly half of the units of a layer end where their inputs are
never positive, so they get no gradients any more (docs/experiments.md, "hidden units that died").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codec.model.segment import SegmentModel

# Units are looked at after so many steps, and each time after as many again as there were, up to
# this point of the schedules: most die in the first steps, and later ones have little time left.
FIRST_LOOK, LAST_PROGRESS = 25, 0.5
# A unit is dead that is on in less than this share of the pixels.
FEWEST_ON = 1e-3
# Every so many rows and columns are looked at.
PIXEL_STEP = 3


def is_look(step: int, progress: float) -> bool:
    """Whether units are looked at before step number `step` of a phase: 25, 50, 100, 200, ..."""
    times = step // FIRST_LOOK
    return step == times * FIRST_LOOK and times.bit_count() == 1 and progress < LAST_PROGRESS


@torch.no_grad()
def revive(model: SegmentModel, latents: Sequence[Tensor], generator: torch.Generator) -> int:
    """Give the dead units of the first hidden layer of the synthesis another start.

    Unit u = relu(w x + b) adds v u to the next layer, where v is a column of its weights. A dead
    one gets w of one of the units with the largest |v| std(u), a bias with which it switches at a
    pixel drawn at random, and v = 0, so the picture stays as it is.

    Args:
        model: its first layer is 1x1 with a ReLU and a linear layer behind it, or it stays as is.
        latents: rounded, (S, h, w) for each grid.
        generator: draws the pixels.

    Returns:
        How many began anew.
    """
    found = _hidden_layer(model)
    if found is None:
        return 0
    first, second = found
    weights, bias = first.weight.flatten(1), first.bias
    features = model.picture.features(latents)[:, :, ::PIXEL_STEP, ::PIXEL_STEP]
    pixels = features.movedim(1, 0).flatten(1)
    units = torch.relu(weights @ pixels + bias[:, None])
    is_dead = (units > 0).float().mean(dim=1) < FEWEST_ON
    dead, num_alive = is_dead.nonzero().flatten(), int((~is_dead).sum())
    if not len(dead) or not num_alive:
        return 0
    strength = second.weight.flatten(1).abs().sum(dim=0) * units.std(dim=1, correction=0)
    strongest = strength.masked_fill(is_dead, -1.0).argsort(descending=True)
    twins = strongest[torch.arange(len(dead), device=dead.device) % num_alive]
    drawn = torch.randint(pixels.shape[1], dead.shape, generator=generator, device=generator.device)
    bias[dead] = -(weights[twins] * pixels[:, drawn].T).sum(dim=1)
    first.weight[dead] = first.weight[twins]
    second.weight[:, dead] = 0.0
    return len(dead)


def _hidden_layer(model: SegmentModel) -> tuple[nn.Module, nn.Module] | None:
    """The first layer of the trunk and the one behind it, if units of the first can be replaced."""
    branch, (first, *behind) = model.picture.synthesis.main_branch, model.arch.synthesis
    if model.arch.common_randomness or not first.makes_units:
        return None
    return (branch[0], branch[2]) if behind and behind[0].kind == "linear" else None
