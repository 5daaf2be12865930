"""Training tasks of cases, and processes that train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from codec.arch import Architecture, numerics_for_depth
from codec.arch.presets import load_preset
from codec.bench.cases import Case
from codec.encoder.tasks import noise_tensor
from codec.media.frames import Frame
from codec.training.backend import backend_for
from codec.training.memory import keep_freed_memory
from codec.training.states import Task

RD_LAMBDA = 1e-3
SEED = 0


def prepare_process(threads: int) -> None:
    """Make this process one that trains on so many threads, with memory kept as an encode does."""
    keep_freed_memory()
    backend_for(torch.device("cpu")).use_threads(threads)


def make_task(
    case: Case, frames: Sequence[Frame], arch: Architecture, *, height: int, width: int
) -> Task:
    """Training of a case's networks on frames of any size."""
    task = Task(
        frames=frames,
        format=case.info.format,
        height=height,
        width=width,
        arch=arch,
        numerics=numerics_for_depth(case.info.format.coded_depth),
        rd_lambda=RD_LAMBDA,
        recipe=load_preset(case.preset).training,
        seed=SEED,
        device=torch.device("cpu"),
    )
    return replace(task, noise=noise_tensor(task)) if arch.common_randomness else task


def whole_task(case: Case) -> Task:
    """Training of a case as it is."""
    size = {"height": case.info.height, "width": case.info.width}
    return make_task(case, case.frames(), case.architecture(), **size)
