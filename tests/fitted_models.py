"""Models trained for a moment, as freezing takes them, and what a decoder makes of the result."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
import torch
from small_pictures import frames

from codec.arch import NARROW, WIDE, Architecture, Numerics, parse_grids, parse_layers
from codec.arch.presets import Recipe
from codec.bitstream.elements import Network, Partition
from codec.bitstream.network import write_network
from codec.encoder.tasks import noise_tensor, with_motion
from codec.fixedpoint.entropy import encode_latents
from codec.fixedpoint.pictures import frames_from_channels
from codec.fixedpoint.program import load_network
from codec.fixedpoint.render import render
from codec.freeze.measure import Frozen, Target
from codec.freeze.quantize import Arrays, to_arrays
from codec.freeze.search import freeze
from codec.layers.quantizers import hard_round
from codec.media.frames import PixelFormat
from codec.training.slopes import distortion_slopes
from codec.training.states import Cost, Task, Trained
from codec.training.trainer import Trainer

torch.set_num_threads(1)
RD_LAMBDA = 1e-3

IMAGE = Architecture(
    grids=parse_grids(static="0-4", hyper="3"),
    num_contexts=6,
    ifce_features=2,
    ifce_levels=(0, 1),
    arm_layers=1,
    temporal=(),
    synthesis=parse_layers(["8-1-linear-relu", "X-1-linear-none", "X-3-residual-none"], num_out=4),
)
CLIP = replace(
    IMAGE,
    grids=parse_grids(static="0-4", slow="2:2", dynamic="1-2"),
    temporal=parse_layers(
        [
            "5-3x1-ck-none@1/4",
            "5-3x1-conv-none@1/4,res=1,gate=1",
            "7-3x3-adaptive-relu@1/2,res=1,gate=1,code=2,every=2",
        ],
        num_out=3,
    ),
    synthesis=parse_layers(["8-1-linear-relu", "X-1-linear-none"], num_out=3),
)
MOTION = replace(
    IMAGE,
    grids=parse_grids(static="2", dynamic="0-3", motion="3-4"),
    synthesis=parse_layers(
        ["8-1-linear-relu", "X+2-1-linear-none", "X-3-difference-none"], num_out=3
    ),
)


@dataclass(frozen=True)
class Fitted:
    """A trained model as freezing takes it, and what it cost in float."""

    arch: Architecture
    numerics: Numerics
    arrays: Arrays
    latents: list[np.ndarray]
    slopes: list[np.ndarray]
    target: Target
    cost: Cost

    def freeze(self, **arrays: np.ndarray) -> Frozen:
        return freeze(
            self.arch, self.numerics, {**self.arrays, **arrays}, self.latents, self.target
        )


@functools.cache
def trained(name: str) -> tuple[Task, Trained]:
    """A 16-bit picture with alpha or a 10-bit 4:2:0 clip, of odd size, trained for a moment."""
    arch, numerics, fmt, num_frames = {
        "image": (IMAGE, WIDE, PixelFormat("rgb", 16, alpha=True), 1),
        "clip": (CLIP, NARROW, PixelFormat("yuv420", 10), 5),
        "motion": (MOTION, NARROW, PixelFormat("yuv420", 10), 5),
        "noise": (replace(IMAGE, common_randomness=True), WIDE, PixelFormat("rgb", 16, True), 1),
    }[name]
    task = Task(
        frames=frames(fmt, 21, 34, num_frames),
        format=fmt,
        height=21,
        width=34,
        arch=arch,
        numerics=numerics,
        rd_lambda=RD_LAMBDA,
        recipe=Recipe(candidates=1),
        seed=5 if name == "motion" else 4,
        device=torch.device("cpu"),
    )
    if arch.common_randomness:
        task = replace(task, noise=noise_tensor(task))
    if arch.has_motion:
        task = with_motion(task, [arch], threads=1)
    return task, Trainer(task, lambda step, total, cost: None).run(120)


@functools.cache
def fitted(name: str) -> Fitted:
    """What freezing takes of `trained`."""
    task, state = trained(name)
    target = Target(
        frames=task.frames,
        format=task.format,
        height=task.height,
        width=task.width,
        rd_lambda=task.rd_lambda,
        noise_seed=task.seed,
        threads=2,
    )
    arrays = to_arrays(state.model.tensors())
    latents = [hard_round(latent).numpy() for latent in state.latents]
    slopes = distortion_slopes(task, state)
    return Fitted(task.arch, task.numerics, arrays, latents, slopes, target, state.cost)


@functools.cache
def frozen(name: str) -> Frozen:
    return fitted(name).freeze()


def measured(case: Fitted, network: Network, codes: Arrays) -> tuple[float, float, float]:
    """(distortion, bits of latents, bits of the network) of what a decoder gets and shows."""
    target, program = case.target, load_network(network, case.numerics)
    latents = [latent.astype(np.int16) for latent in case.latents]
    _, substreams = encode_latents(program, latents, **target.size, partition=Partition())
    peak, weights = target.format.peak, {"rgb": (1 / 3,) * 3, "yuv420": (4 / 6, 1 / 6, 1 / 6)}
    total = 0.0
    shown = render(program, latents, codes, **target.size, noise_seed=target.noise_seed)
    for channels, frame in zip(shown, target.frames, strict=True):
        planes = frames_from_channels(channels, target.format, numerics=case.numerics)
        differences = [(a.astype(float) - b) / peak for a, b in zip(planes, frame.planes,
                                                                    strict=True)]  # fmt: skip
        if target.format.alpha:
            visible = frame.planes[-1] > 0
            total += np.mean(differences.pop() ** 2) / 3
            differences = [d[visible] for d in differences]
        total += sum(
            w * np.mean(d**2)
            for w, d in zip(weights[target.format.layout], differences, strict=True)
        )
    payload = 8 * len(write_network(network))
    return total / len(target.frames), 8 * sum(map(len, substreams)), payload
