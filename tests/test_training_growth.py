"""Trainings of predicted segments: few frames at first, and the others from where those are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from moving_clips import moving_architecture, pan
from test_training import ignore, state_of

from codec.arch import NARROW, Architecture, frames_of, parse_layers, prediction_levels
from codec.arch.presets import Recipe
from codec.encoder.tasks import noise_tensor, with_motion
from codec.jit import get_threads, set_threads
from codec.media.frames import PixelFormat
from codec.training import phase
from codec.training.growth import num_growth_steps, plan_stages
from codec.training.schedule import plan_steps
from codec.training.states import Cost, Task, Trained
from codec.training.trainer import Trainer

torch.set_num_threads(1)
YUV444 = PixelFormat("yuv444", 10)

MOVING = moving_architecture()
ARCHITECTURES = {
    "dynamic": MOVING,
    "static and slow": moving_architecture(static="0-4", slow="2:1", dynamic="1-2"),
    "noise": replace(MOVING, common_randomness=True),
    "temporal layers": replace(
        MOVING, temporal=parse_layers(["4-3x3-adaptive-relu@1/4,code=2,every=2"], num_out=3)
    ),
}


def moving_task(
    arch: Architecture = MOVING, *, num_frames: int = 6, height: int = 24, width: int = 37
) -> Task:
    """A pan whose motion was searched."""
    task = Task(
        frames=list(pan(YUV444, height, width, num_frames).frames),
        format=YUV444,
        height=height,
        width=width,
        arch=arch,
        numerics=NARROW,
        rd_lambda=2e-3,
        recipe=Recipe(candidates=1),
        seed=1,
        device=torch.device("cpu"),
    )
    if arch.common_randomness:
        task = replace(task, noise=noise_tensor(task))
    return with_motion(task, [arch], threads=1)


def equal(first: Trained, second: Trained) -> bool:
    pairs = zip(state_of(first), state_of(second), strict=True)
    return first.cost == second.cost and all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("shares", [(0.25, 0.05), (0.0, 0.0), (0.9, 0.09), (0.5, 0.3)])
def test_phases_of_a_growing_segment_add_up(shares: tuple[float, float]) -> None:
    recipe = Recipe(candidates=3, growth_share=shares[0], tail_share=shares[1])
    for steps in range(1, 60):
        growth = num_growth_steps(replace(moving_task(), recipe=recipe), steps)
        plan = plan_steps(recipe, steps, growth_steps=growth)
        assert plan.total == steps
        assert plan.growth_steps == growth == int(steps * shares[0])
        assert plan.num_candidates == 1 or not growth
        assert plan.main_steps >= 1
        assert min(plan.candidate_steps, plan.tail_steps) >= 0
    plan = plan_steps(Recipe(tail_share=0.05), 1000, growth_steps=250)
    assert (plan.before_main, plan.main_steps, plan.tail_steps) == (250, 700, 50)


def test_stages_have_the_frames_of_the_first_levels_and_equal_shares() -> None:
    task = moving_task(ARCHITECTURES["noise"], num_frames=9)
    stages = plan_stages(task, 100)
    levels = prediction_levels(9, 32)
    numbers = [frames_of(stage.task.prediction) for stage in stages]
    assert numbers == [[0], [0, 8], [0, 4, 8], [0, 2, 4, 6, 8]]
    assert len(levels) == len(stages) + 1
    for k, (stage, own) in enumerate(zip(stages, numbers, strict=True)):
        part = stage.task
        assert part.prediction == levels[: k + 1]
        assert all(a is task.frames[t] for a, t in zip(part.frames, own, strict=True))
        assert all(torch.equal(a, b[own]) for a, b in zip(part.motion, task.motion, strict=True))
        assert torch.equal(part.noise, task.noise[own])
        # Each stage takes a quarter of the time of 100 steps of 9 frames.
        assert 0 <= 900 / 4 - stage.steps * len(part.frames) < len(part.frames)


def test_few_steps_may_leave_stages_without_any() -> None:
    assert all(stage.steps == 0 for stage in plan_stages(moving_task(), 0))


@pytest.mark.parametrize("name", ["dynamic", "static and slow"])
def test_more_frames_go_on_from_those_that_were_trained(name: str) -> None:
    task = moving_task(ARCHITECTURES[name])
    stage = plan_stages(task, 10)[1].task
    before = Trainer(stage, ignore).go_on(None, 4, (0.0, 0.5))
    for _ in range(4):
        before.update()
    after = Trainer(task, ignore).go_on(before, 4, (0.5, 1.0))
    assert after.progress == 0.5
    own, others = after.state.model.state_dict(), before.state.model.state_dict()
    assert all(torch.equal(own[n], others[n]) for n in others)
    made, wanted = (p.optimizers.network_optimizer.state() for p in (after, before))
    assert int(made["steps"]) == 4
    assert made.keys() == wanted.keys()
    assert all(torch.equal(made[n], wanted[n]) for n in wanted)
    fresh = Trainer(task, ignore).go_on(None, 4, (0.5, 1.0))
    for grid, few, many, start in zip(
        task.arch.grids, before.parameters, after.parameters, fresh.parameters, strict=True
    ):
        if grid.time_stride == 1:
            assert torch.equal(many[[0, 5]], few)
            assert torch.equal(many[1:5], start[1:5])
        else:
            # Frames 0 and 5 were 0 and 1: they shared slices of two frames.
            assert torch.equal(many[[0, -1]], few[[0, 0]])
            assert torch.equal(many[1:-1], start[1:-1])


def test_trainings_start_from_the_motion_that_was_found() -> None:
    task = moving_task()
    state = Trainer(task, ignore).new_candidate(0)
    motion, rest = state.latents[:4], state.latents[4:]
    assert all(torch.equal(a, b) for a, b in zip(motion, task.motion, strict=True))
    assert any(latent.any() for latent in motion)
    assert not any(latent.any() for latent in rest)


def test_frames_grow_only_where_there_is_motion() -> None:
    assert num_growth_steps(moving_task(), 40) == 10
    assert num_growth_steps(moving_task(num_frames=1), 40) == 0
    assert num_growth_steps(moving_task(ARCHITECTURES["temporal layers"]), 40) == 10
    assert num_growth_steps(plan_stages(moving_task(), 9)[0].task, 40) == 0


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 45])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_step_is_told(name: str, steps: int) -> None:
    heard: list[tuple[int, int, Cost]] = []
    task = moving_task(ARCHITECTURES[name], num_frames=4, height=17, width=22)
    trainer = Trainer(task, lambda *news: heard.append(news))
    trained = trainer.run(steps)
    assert [news[0] for news in heard] == list(range(1, steps + 1))
    assert {news[1] for news in heard} == {steps}
    assert trainer.evaluate(trained.model, trained.latents) == trained.cost
    known = [cost.j for _, _, cost in heard if cost.j < float("inf")]
    assert trained.cost.j <= min(known)


def test_training_lowers_the_cost() -> None:
    trainer = Trainer(moving_task(), ignore)
    start = trainer.new_candidate(0)
    before = trainer.evaluate(start.model, start.latents)
    assert trainer.run(100).cost.j < 0.6 * before.j


def test_the_seed_says_what_comes_out() -> None:
    first, again = (Trainer(moving_task(), ignore).run(30) for _ in range(2))
    assert equal(first, again)
    other = Trainer(replace(moving_task(), seed=2), ignore).run(30)
    assert not equal(first, other)


def test_threads_change_nothing() -> None:
    task, results, before = moving_task(height=72, width=96), [], get_threads()
    try:
        for threads in (1, 3):
            set_threads(threads)
            results.append(Trainer(task, ignore).run(20))
    finally:
        set_threads(before)
    assert equal(*results)


@pytest.fixture
def a_snapshot_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phase, "SNAPSHOT_EVERY_S", -1.0)


@pytest.mark.usefixtures("a_snapshot_every_step")
@pytest.mark.parametrize("name", ["dynamic", "static and slow"])
def test_resumed_trainings_end_like_those_that_were_not_interrupted(name: str) -> None:
    task = moving_task(ARCHITECTURES[name])
    snapshots: list[phase.Snapshot] = []
    whole = Trainer(task, ignore).run(40, on_snapshot=snapshots.append)
    plan = plan_steps(task.recipe, 40, growth_steps=num_growth_steps(task, 40))
    growth = sum(stage.steps for stage in plan_stages(task, plan.growth_steps))
    assert len(snapshots) == growth + plan.main_steps
    for index in (0, growth // 2, growth - 1, growth, len(snapshots) - 1):
        heard: list[int] = []
        trainer = Trainer(task, lambda step, total, cost, heard=heard: heard.append(step))
        assert equal(trainer.run(40, snapshot=snapshots[index]), whole)
        assert heard == list(range(heard[0], 41))
        assert index < growth or heard[0] == plan.growth_steps + index - growth + 2


def test_refining_goes_on_from_the_result() -> None:
    trainer = Trainer(moving_task(), ignore)
    trained = trainer.run(60)
    before = trained.cost.at(1e-3).j
    trainer.refine(40, rd_lambda=1e-3, begin=0.5)
    assert trained.cost.at(1e-3).j < before
