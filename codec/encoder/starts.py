"""Where the networks of a segment start: at random, or as those of an earlier segment ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from codec.training.states import Task

# After 200 steps networks that started from trained ones were better, after 400 worse
# (docs/experiments.md).
MOST_STEPS = 250
# Networks that start from trained ones move so much slower.
LEARNING_SHARE = 0.5


def is_worth_starting_from_trained(steps: int) -> bool:
    """Whether segments that are trained for so many steps start from earlier ones."""
    return steps <= MOST_STEPS


def start_from(task: Task, weights: Mapping[str, Tensor]) -> Task:
    """The task with networks that start from the `state_dict` of a model of its architecture."""
    network_lr = LEARNING_SHARE * task.recipe.network_lr
    recipe = replace(task.recipe, network_lr=network_lr, candidates=1)
    return replace(task, networks=weights, recipe=recipe)
