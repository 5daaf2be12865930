"""The training task of a segment: its networks as the preset plans them, device and noise."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import torch

from codec.analysis.motion_search import search_motion
from codec.arch import Architecture, numerics_for_depth
from codec.arch.presets import (
    CLIP_REFERENCE_PIXELS,
    IMAGE_REFERENCE_PIXELS,
    Plan,
    Preset,
    build_architectures,
    training_steps,
)
from codec.bitstream.limits import Limits
from codec.errors import InputError, UsageError
from codec.fixedpoint.noise import noise_planes
from codec.fixedpoint.stack import channel_levels
from codec.media.frames import ClipInfo, Frame
from codec.training.states import Task


def check_size(info: ClipInfo) -> None:
    """Refuse pictures that decoders refuse.

    Raises:
        InputError: too many samples.
    """
    if info.height * info.width > Limits().max_pixels:
        raise InputError(
            f"{info.width}x{info.height} is more than the {Limits().max_pixels} samples that "
            "decoders accept; make it smaller"
        )


def choose_device(name: str) -> torch.device:
    """The device to train on; "auto" is CUDA where there is one.

    Raises:
        UsageError: CUDA was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device here; use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def make_task(
    frames: Sequence[Frame],
    info: ClipInfo,
    preset: Preset,
    plan: Plan,
    *,
    rd_lambda: float,
    seed: int,
    device: torch.device,
    threads: int,
    known: Collection[Architecture] = (),
) -> Task:
    """What is fitted to the frames of a segment, with networks as a plan of the preset says.

    If the plan leaves a choice, it is made among those that are `known`, where there are any.
    """
    size = {"height": info.height, "width": info.width}
    archs = build_architectures(
        plan, num_channels=info.format.num_planes, num_frames=len(frames), **size
    )
    archs = [arch for arch in archs if arch in known] or archs
    task = Task(
        frames=frames,
        format=info.format,
        **size,
        arch=archs[0],
        numerics=numerics_for_depth(info.format.coded_depth),
        rd_lambda=rd_lambda,
        recipe=preset.training,
        seed=seed,
        device=device,
    )
    if archs[0].has_motion:
        task = with_motion(task, archs, threads=threads)
    return replace(task, noise=noise_tensor(task)) if task.arch.common_randomness else task


def preset_steps(preset: Preset, info: ClipInfo, num_frames: int) -> int:
    """Training steps that a preset spends on a segment of so many frames."""
    num_pixels = info.height * info.width
    if info.is_still:
        reference = IMAGE_REFERENCE_PIXELS
        return training_steps(preset.image.steps, num_pixels, reference_pixels=reference)
    num_pixels *= num_frames
    reference = CLIP_REFERENCE_PIXELS
    return training_steps(preset.clip.steps, num_pixels, reference_pixels=reference)


def with_motion(task: Task, archs: Sequence[Architecture], *, threads: int) -> Task:
    """The task with the architecture whose motion promises least, and the vectors that were found.

    They are what motion grids start from, (T, h, w) each.
    """
    colours = 3 if task.format.layout == "rgb" else 1
    luma = np.stack([np.mean(frame.planes[:colours], axis=0) for frame in task.frames])
    luma = (luma / task.format.peak).astype(np.float32)
    found = search_motion(luma, archs, rd_lambda=task.rd_lambda, threads=threads)
    best = min(range(len(archs)), key=lambda number: found[number].j)
    latents = [
        torch.from_numpy(grid).to(task.device, torch.float32) for grid in found[best].latents
    ]
    return replace(task, arch=archs[best], motion=latents, motion_levels=found[best].levels)


def noise_tensor(task: Task) -> torch.Tensor:
    """Planes of common randomness for training, (T, C, H, W), as the decoder will make them."""
    scale = 1 << task.numerics.feature_frac
    planes = [
        noise_planes(
            channel_levels(task.arch),
            seed=task.seed,
            frame=t,
            height=task.height,
            width=task.width,
            numerics=task.numerics,
        )
        for t in range(len(task.frames))
    ]
    return torch.from_numpy(np.stack(planes).astype(np.float32) / scale).to(task.device)
