"""The first steps of a predicted segment: few frames at first, which the others then start from."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from codec.arch import Inter, prediction_levels
from codec.training.states import Task, Trained


class Stage(NamedTuple):
    """The task of some frames of a segment (`numbers`, in order), and its steps."""

    task: Task
    numbers: list[int]
    steps: int


def plan_stages(task: Task, steps: int) -> list[Stage]:
    """Stages that take about as long as `steps` steps of all frames, each the same share.

    Stage k has the frames of the first k + 1 levels; the whole segment is none of them.
    """
    levels, num_frames = prediction_levels(len(task.frames)), len(task.frames)
    stages = []
    for count in range(1, len(levels)):
        numbers = sorted(inter.frame for level in levels[:count] for inter in level)
        each = steps * num_frames // (len(levels) - 1) // len(numbers)
        stages.append(Stage(_part(task, numbers, levels[:count]), numbers, each))
    return stages


def _part(task: Task, numbers: list[int], prediction: tuple[tuple[Inter, ...], ...]) -> Task:
    return replace(
        task,
        frames=[task.frames[t] for t in numbers],
        motion=[grid[numbers] for grid in task.motion],
        noise=None if task.noise is None else task.noise[numbers],
        prediction=prediction,
    )


def carry_over(small: Trained, numbers: list[int], large: Trained, others: list[int]) -> None:
    """Give a fresh state of the frames `others` the networks and latents of some of them."""
    large.model.load_state_dict(small.model.state_dict())
    places = [others.index(number) for number in numbers]
    for source, target in zip(small.latents, large.latents, strict=True):
        target.data[places] = source.detach()
