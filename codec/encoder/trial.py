"""Which of several networks a picture gets: all are trained a little, the best one is taken."""

from __future__ import annotations

from collections.abc import Sequence

from codec.arch.presets import Plan, Preset
from codec.encoder.finish import Finisher
from codec.encoder.pace import work_of
from codec.media.frames import ClipInfo
from codec.training.states import Task
from codec.training.trainer import Trainer

# Up to these sizes (pixels) the preset's smaller networks are tried.
LEAN_PIXELS, TINY_PIXELS = 300_000, 40_000
# The steps of a trial, as a share of all; fewer than that many say little. Tiny networks take more
# steps to show what they can do, and icons take little time for each.
STEPS_SHARE, FEWEST_STEPS, FEWEST_ICON_STEPS = 0.1, 100, 400


def plans_for(preset: Preset, info: ClipInfo, num_frames: int) -> list[Plan]:
    """The networks that are tried for a segment of so many frames, large ones first."""
    if num_frames > 1:
        return [preset.clip]
    num_pixels = info.width * info.height
    smaller = ((preset.lean, LEAN_PIXELS), (preset.tiny, TINY_PIXELS))
    own = [plan for plan, most in smaller if plan is not None and num_pixels <= most]
    return [preset.image, *own]


def trial_steps(steps: int, num_pixels: int) -> int:
    """Steps that each network is tried with where the best one will be trained for `steps`."""
    fewest = FEWEST_ICON_STEPS if num_pixels <= TINY_PIXELS else FEWEST_STEPS
    return min(steps, max(fewest, int(STEPS_SHARE * steps)))


def trials_work(steps: int, num_pixels: int, num_networks: int) -> float:
    """What trying that many networks takes, in units of a plain step; one is not tried."""
    if num_networks == 1:
        return 0.0
    return num_networks * work_of(trial_steps(steps, num_pixels), is_search=False)


def choose(tasks: Sequence[Task], *, steps: int, threads: int) -> int:
    """The number of the task with the least J, networks included, after some of the steps."""
    short = trial_steps(steps, tasks[0].num_pixels)
    costs = []
    for task in tasks:
        trained = Trainer(task, lambda *_: None).run(short)
        finisher = Finisher(task, trained, rd_lambda=task.rd_lambda, steps=short, threads=threads)
        costs.append(finisher.cost)
    return costs.index(min(costs))
