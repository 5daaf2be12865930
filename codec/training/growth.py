"""The first steps of a segment: a part of it at first, which the rest then starts from.

Of a predicted segment that is some frames, of a picture its half size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from codec.arch import Prediction, frames_of, slice_of
from codec.training.halving import HALF_STEPS, carry_up, half_size, is_worth_halving
from codec.training.phase import MainPhase
from codec.training.states import Task


class Stage(NamedTuple):
    """The task of a part of a segment, and its steps."""

    task: Task
    steps: int


def num_growth_steps(task: Task, steps: int) -> int:
    """How many of all steps go to parts of the segment at first; 0 where it is trained whole."""
    share = int(steps * task.recipe.growth_share)
    if task.arch.has_motion and len(task.frames) > 1 and not task.prediction:
        return share
    return min(HALF_STEPS, share) if is_worth_halving(task) else 0


def plan_stages(task: Task, steps: int) -> list[Stage]:
    """Stages that take about as long as `steps` steps of all, each the same share.

    Stage k has the frames of the first k + 1 levels; the whole segment is none of them.
    """
    if not task.arch.has_motion:
        return [Stage(half_size(task), 4 * steps)]
    num_frames = len(task.frames)
    levels = task.arch.prediction(num_frames)
    stages = []
    for count in range(1, len(levels)):
        part = _part(task, levels[:count])
        each = steps * num_frames // (len(levels) - 1) // len(part.frames)
        stages.append(Stage(part, each))
    return stages


def _part(task: Task, prediction: Prediction) -> Task:
    numbers = frames_of(prediction)
    return replace(
        task,
        frames=[task.frames[t] for t in numbers],
        motion=[grid[numbers] for grid in task.motion],
        motion_levels=tuple(task.motion_levels[t] for t in numbers if task.motion_levels),
        noise=None if task.noise is None else task.noise[numbers],
        prediction=prediction,
        segment_frames=len(task.frames),
    )


def carry_over(before: MainPhase, after: MainPhase) -> None:
    """Give a phase with more of the segment the networks, what SOAP knows of them, and latents."""
    if before.state.model.arch != after.state.model.arch:
        carry_up(before, after)
    else:
        _carry_frames(before, after)


def _carry_frames(before: MainPhase, after: MainPhase) -> None:
    after.state.model.load_state_dict(before.state.model.state_dict())
    sources = zip(after.optimizers.networks, before.optimizers.networks, strict=True)
    after.optimizers.adopt_networks(before.optimizers, dict(sources))
    few, many = (frames_of(phase.state.model.picture.prediction) for phase in (before, after))
    places = [many.index(number) for number in few]
    grids = after.state.model.arch.grids
    with torch.no_grad():
        for grid, source, target in zip(grids, before.parameters, after.parameters, strict=True):
            # Slices that serve several frames are taken from the first of them.
            for own, place in reversed(list(enumerate(places))):
                target[slice_of(grid, place)] = source[slice_of(grid, own)]
