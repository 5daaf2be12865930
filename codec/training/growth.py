"""The first steps of a predicted segment: few frames at first, which the others then start from."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from codec.arch import Prediction, frames_of, slice_of
from codec.training.phase import MainPhase
from codec.training.states import Task


class Stage(NamedTuple):
    """The task of some frames of a segment, and its steps."""

    task: Task
    steps: int


def plan_stages(task: Task, steps: int) -> list[Stage]:
    """Stages that take about as long as `steps` steps of all frames, each the same share.

    Stage k has the frames of the first k + 1 levels; the whole segment is none of them.
    """
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
    """Give a phase with more frames the networks, what SOAP knows of them, and the latents."""
    after.state.model.load_state_dict(before.state.model.state_dict())
    after.optimizers.load_networks(before.optimizers)
    few, many = (frames_of(phase.state.model.picture.prediction) for phase in (before, after))
    places = [many.index(number) for number in few]
    grids = after.state.model.arch.grids
    with torch.no_grad():
        for grid, source, target in zip(grids, before.parameters, after.parameters, strict=True):
            # Slices that serve several frames are taken from the first of them.
            for own, place in reversed(list(enumerate(places))):
                target[slice_of(grid, place)] = source[slice_of(grid, own)]
