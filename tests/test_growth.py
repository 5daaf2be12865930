"""Growth: the first levels of a segment are trained with the networks of all of it."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixedpoint_networks import architecture
from small_pictures import frames

from codec.arch import NARROW, code_owners, frames_of, prediction_levels
from codec.arch.presets import Recipe
from codec.bitstream.fields import Cursor
from codec.bitstream.limits import Limits
from codec.bitstream.network import read_codes, write_codes
from codec.encoder.coding import code_segment
from codec.encoder.finish import Finisher
from codec.encoder.tasks import with_motion
from codec.fixedpoint.pictures import frame_hash, frames_from_channels
from codec.fixedpoint.render_reference import render_reference
from codec.media.frames import PixelFormat
from codec.training.backend import FUSED, PLAIN
from codec.training.growth import plan_stages
from codec.training.states import Task
from codec.training.trainer import Trainer

torch.set_num_threads(1)
YUV = PixelFormat("yuv420", 8)
NUM_FRAMES = 5
ARCH = architecture(
    dynamic="0-3",
    motion="3",
    ifce_features=0,
    temporal=(
        "1-1x1-adaptive-none@1/8,res=1,gate=1,demod=0,code=2,every=level",
        "2-3x1-ck-none@1/4",
        "3-3x1-adaptive-relu@1/2,res=1,gate=1,code=2,every=2",
    ),
    synthesis=("8-1-linear-relu", "X+2-1-linear-none", "X-3-difference-none"),
)


@functools.cache
def moving_task() -> Task:
    task = Task(
        frames=frames(YUV, 32, 48, NUM_FRAMES),
        format=YUV,
        height=32,
        width=48,
        arch=ARCH,
        numerics=NARROW,
        rd_lambda=1e-3,
        recipe=Recipe(),
        seed=4,
        device=torch.device("cpu"),
    )
    return with_motion(task, [task.arch], threads=1)


def trainer_of(task: Task, backend=FUSED) -> Trainer:
    return Trainer(task, lambda step, total, cost: None, backend=backend)


def test_motion_grids_of_levels_that_a_frame_does_not_use_stay_zero():
    arch = architecture(
        dynamic="0-3",
        motion="3-4",
        ifce_features=0,
        synthesis=("8-1-linear-relu", "X+2-1-linear-none", "X-3-difference-none"),
    )
    levels = (3, 4, 3, 4, 4)
    task = with_motion(replace(moving_task(), arch=arch), [arch], threads=1)
    task = replace(task, motion_levels=levels, motion=[torch.zeros_like(x) for x in task.motion])
    phase = None
    for stage in [*(stage.task for stage in plan_stages(task, 6)), task]:
        phase = trainer_of(stage).go_on(phase, 3, (0.0, 1.0))
        for _ in range(3):
            phase.update()
    for grid, latent in zip(arch.grids[: arch.num_motion_grids], phase.parameters, strict=False):
        used = torch.tensor([level == grid.level for level in levels])
        assert not latent[~used].any()
        assert latent[used].any()


@pytest.mark.parametrize("backend", [FUSED, PLAIN], ids=["fused", "plain"])
def test_every_stage_goes_on_where_the_one_before_ended(backend):
    task, levels, phase = moving_task(), prediction_levels(NUM_FRAMES, 32), None
    stages = [stage.task for stage in plan_stages(task, 6)]
    assert [stage.prediction for stage in stages] == [levels[:k] for k in range(1, len(levels))]
    for stage in [*stages, task]:
        before = phase
        phase = trainer_of(stage, backend).go_on(before, 2, (0.0, 1.0))
        if before is not None:
            old, new = (p.state.model.picture.tensors() for p in (before, phase))
            assert all(torch.equal(new[name], values) for name, values in old.items())
        for _ in range(2):
            phase.update()


def test_codes_of_frames_that_are_still_to_come_wait_for_them():
    levels = prediction_levels(NUM_FRAMES, 32)
    for stage in [stage.task for stage in plan_stages(moving_task(), 6)]:
        phase = trainer_of(stage).go_on(None, 1, (0.0, 1.0))
        model = phase.state.model
        with torch.no_grad():
            # Gates and maps start at zero, behind which nothing moves; so do latents.
            for values in (*model.parameters(), *phase.parameters):
                values += 0.1 * torch.randn(values.shape)
        phase.update()
        assert all(p.grad.isfinite().all() for p in model.trained_parameters())
        for layer, block in zip(ARCH.temporal, model.picture.temporal, strict=True):
            if layer.code:
                present = set(code_owners(layer, stage.prediction)) - {0}
                assert block.owners == tuple(
                    code_owners(layer, levels)[t] for t in frames_of(stage.prediction)
                )
                moved = block.codes.grad.any(dim=1).nonzero().flatten() + 1
                assert set(moved.tolist()) == present


def test_what_was_grown_is_decoded_as_its_reference_says():
    task = moving_task()
    trained = trainer_of(task).run(30)
    finisher = Finisher(task, trained, rd_lambda=task.rd_lambda, steps=30, threads=1)
    frozen = finisher.at(task.rd_lambda)
    coded = code_segment(frozen, task, first_frame=0, network_id=0, threads=2)
    shapes = {"arch": ARCH, "num_frames": NUM_FRAMES}
    assert {name: values.shape for name, values in frozen.codes.items()} == {
        "temporal.0.codes": (3, 2),
        "temporal.2.codes": (2, 2),
    }
    data = memoryview(write_codes(frozen.codes, **shapes))
    codes = read_codes(Cursor(b"", what="test"), data, **shapes, limits=Limits())
    size = {"num_frames": NUM_FRAMES, "height": task.height, "width": task.width}
    made = render_reference(
        frozen.network, frozen.latents, codes, **size, noise_seed=0, numerics=NARROW
    )
    shown = [frames_from_channels(channels, YUV, numerics=NARROW) for channels in made]
    assert tuple(map(frame_hash, shown)) == coded.segment.frame_hashes
    # Some of the picture has come through.
    assert np.mean(coded.errors) < 0.5 * np.var(np.stack([f.planes[0] for f in task.frames]))
