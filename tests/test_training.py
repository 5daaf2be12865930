"""Training: the error it minimises, its schedule, that it is repeatable and gets somewhere."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_pictures import frame, frames

from codec.arch import NARROW, Architecture, parse_grids, parse_layers
from codec.arch.presets import Recipe
from codec.layers.error import box_mean, squared_error
from codec.media.frames import Frame, PixelFormat
from codec.media.metrics import frame_mse
from codec.training.backend import FUSED
from codec.training.loss import error_planes
from codec.training.schedule import cosine, linear, plan_steps, warmup_noise
from codec.training.states import Cost, Task, Trained
from codec.training.trainer import Trainer

torch.set_num_threads(1)
CPU = torch.device("cpu")
RGB = PixelFormat("rgb", 8)
YUV = PixelFormat("yuv420", 10)

IMAGE = Architecture(
    grids=parse_grids(static="0-4", hyper="3"),
    num_contexts=6,
    ifce_features=2,
    ifce_levels=(0, 1),
    arm_layers=1,
    temporal=(),
    synthesis=parse_layers(["8-1-linear-relu", "X-1-linear-none", "X-3-residual-none"], num_out=3),
)
CLIP = replace(
    IMAGE,
    grids=parse_grids(static="0-4", slow="2:2", dynamic="1-2"),
    temporal=parse_layers(
        [
            "5-3x1-ck-none@1/4",
            "5-3x3-adaptive-relu@1/4,res=1,gate=1,code=2,every=2",
            "4-3x1-conv-none@1/4",
        ],
        num_out=3,
    ),
)


def task(**changes) -> Task:
    """A small RGB picture, unless told otherwise."""
    given_task = Task(
        frames=frames(RGB, 24, 37, 1),
        format=RGB,
        height=24,
        width=37,
        arch=IMAGE,
        numerics=NARROW,
        rd_lambda=2e-3,
        recipe=Recipe(candidates=2),
        seed=1,
        device=CPU,
    )
    return replace(given_task, **changes)


def clip_task() -> Task:
    return task(frames=frames(YUV, 17, 22, 4), format=YUV, height=17, width=22, arch=CLIP)


def ignore(step: int, total: int, cost: Cost) -> None:
    """Nobody listens."""


def samples_at_luma(planes: tuple[np.ndarray, ...], fmt: PixelFormat) -> torch.Tensor:
    """Planes on [0, 1] as channels (1, C, H, W); chroma samples are repeated."""
    height, width = planes[0].shape
    channels = []
    for i, plane in enumerate(planes):
        down_y, down_x = fmt.chroma_shifts if i in (1, 2) else (0, 0)
        wide = plane.repeat(1 << down_y, axis=0).repeat(1 << down_x, axis=1)[:height, :width]
        channels.append(wide / fmt.peak)
    return torch.from_numpy(np.stack(channels)[None]).float()


@pytest.mark.parametrize("layout", ["gray", "rgb", "yuv420", "yuv422", "yuv444"])
@pytest.mark.parametrize("depth", [8, 10, 16])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("size", [(9, 13), (8, 6), (1, 1)])
def test_distortion_is_the_error_that_metrics_report(layout, depth, alpha, size):
    fmt, rng = PixelFormat(layout, depth, alpha), np.random.default_rng(0)
    sources = [frame(fmt, *size, time=t) for t in range(3)]
    tests = [
        Frame(tuple(rng.integers(0, fmt.peak + 1, p.shape).astype(fmt.dtype) for p in f.planes))
        for f in sources
    ]
    expected = 0.0
    for source, test in zip(sources, tests, strict=True):
        error = frame_mse(source, test, fmt)
        expected += (error.colour + (error.alpha or 0) / 3) / fmt.peak**2 / len(sources)
    channels = torch.cat([samples_at_luma(test.planes, fmt) for test in tests])
    made = squared_error(channels, error_planes(sources, fmt, CPU))
    assert float(made) == pytest.approx(expected, rel=1e-4, abs=1e-7)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 1), st.integers(0, 1))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_box_means_repeat_the_last_row_and_column(height, width, down_y, down_x):
    plane = np.random.default_rng(height * 8 + width).random((2, height, width))
    made = box_mean(torch.from_numpy(plane), down_y, down_x).numpy()
    assert made.shape == (2, -(-height >> down_y), -(-width >> down_x))
    for t, y, x in np.ndindex(made.shape):
        rows = [min((y << down_y) + i, height - 1) for i in range(1 << down_y)]
        columns = [min((x << down_x) + i, width - 1) for i in range(1 << down_x)]
        assert made[t, y, x] == pytest.approx(np.mean([plane[t, r, c] for r in rows
                                                       for c in columns]))  # fmt: skip


@pytest.mark.parametrize("candidates", [0, 1, 2, 5])
@pytest.mark.parametrize("shares", [(0.1, 0.05), (0.5, 0.3), (0.0, 0.0), (0.9, 0.09)])
def test_phases_add_up_to_the_steps_that_were_asked_for(candidates, shares):
    recipe = Recipe(candidates=candidates, candidate_share=shares[0], tail_share=shares[1])
    for steps in range(1, 51):
        plan = plan_steps(recipe, steps)
        assert plan.total == steps
        assert plan.main_steps >= 1
        assert min(plan.candidate_steps, plan.tail_steps) >= 0
        assert plan.num_candidates in (1, candidates)
    plan = plan_steps(Recipe(candidates=3, candidate_share=0.1, tail_share=0.05), 1000)
    assert (plan.num_candidates, plan.candidate_steps) == (3, 33)
    assert (plan.main_steps, plan.tail_steps) == (851, 50)


def test_schedules_begin_and_end_where_they_say():
    assert linear((0.3, 0.1), 0) == 0.3
    assert linear((0.3, 0.1), 0.5) == pytest.approx(0.2)
    assert linear((0.3, 0.1), 1) == pytest.approx(0.1)
    assert cosine(1e-2, 1e-5, 0) == 1e-2
    assert cosine(1e-2, 1e-5, 0.5) == pytest.approx((1e-2 + 1e-5) / 2)
    assert cosine(1e-2, 1e-5, 1) == pytest.approx(1e-5)
    # Cool-Chic's table: 0.2475 at 1e-4, 0.204 at 1e-3, 0.161 at 1e-2; held beyond.
    assert warmup_noise(1e-4) == pytest.approx(0.2475, abs=1e-4)
    assert warmup_noise(1e-3) == pytest.approx(0.2043, abs=1e-4)
    assert warmup_noise(1e-2) == pytest.approx(0.1611, abs=1e-4)
    assert warmup_noise(1e-9) == warmup_noise(1e-4)
    assert warmup_noise(1.0) == warmup_noise(2e-2)


def state_of(trained: Trained) -> list[torch.Tensor]:
    return [*trained.latents, *trained.model.state_dict().values()]


@pytest.mark.parametrize("make_task", [task, clip_task])
def test_training_is_repeatable_and_the_seed_matters(make_task):
    first, again = (Trainer(make_task(), ignore).run(45) for _ in range(2))
    assert first.cost == again.cost
    for a, b in zip(state_of(first), state_of(again), strict=True):
        assert torch.equal(a, b)
    other = Trainer(replace(make_task(), seed=2), ignore).run(45)
    assert any(not torch.equal(a, b) for a, b in zip(first.latents, other.latents, strict=True))
    assert other.cost != first.cost


def test_noise_differs_from_pair_to_pair_and_within_pairs_by_its_sign():
    drawn = []

    def listen(parameters, *, noise_std, seed, **settings):
        drawn.append((noise_std, seed))
        return FUSED.noisy_rounding(parameters, noise_std=noise_std, seed=seed, **settings)

    backend = replace(FUSED, noisy_rounding=listen)
    Trainer(task(recipe=Recipe(candidates=1)), ignore, backend=backend).run(42)
    assert len(drawn) == 40  # the rest has rounded latents
    pairs = list(zip(drawn[0::2], drawn[1::2], strict=True))
    assert all(std > 0 > other and seed == same for (std, seed), (other, same) in pairs)
    assert len({seed for (_, seed), _ in pairs}) == len(pairs)


def test_candidates_of_every_seed_start_differently():
    def start(seed: int, number: int) -> torch.Tensor:
        state = Trainer(task(seed=seed), ignore).new_candidate(number)
        assert not any(latent.any() for latent in state.latents)
        return state.model.picture.tensors()["synth.0.weight"]

    assert torch.equal(start(1, 0), start(1, 0))
    others = [start(1, 1), start(2, 0), start(2, 1)]
    assert not any(torch.equal(start(1, 0), other) for other in others)


def test_measuring_a_step_changes_nothing():
    plain = Trainer(task(), ignore).run(12)
    assert Trainer(task(), ignore).measure_step() > 0
    after = Trainer(task(), ignore).run(12)
    for a, b in zip(state_of(plain), state_of(after), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("make_task", [task, clip_task])
def test_training_lowers_the_cost_and_returns_the_best_state(make_task):
    heard: list[tuple[int, int, Cost]] = []
    trainer = Trainer(make_task(), lambda *news: heard.append(news))
    start = trainer.new_candidate(0)
    before = trainer.evaluate(start.model, start.latents)
    trained = trainer.run(120)
    assert [news[0] for news in heard] == list(range(1, 121))
    assert {news[1] for news in heard} == {120}
    assert trained.cost.j < 0.6 * before.j
    assert trained.cost.j <= min(cost.j for _, _, cost in heard[24:])
    # What is returned really costs that, with latents as they are and as they will be rounded.
    assert trainer.evaluate(trained.model, trained.latents) == trained.cost
    assert trained.cost.j == pytest.approx(
        trained.cost.distortion + trainer.task.rd_lambda * trained.cost.bpp
    )
    assert any(latent.round().any() for latent in trained.latents)


def test_the_better_state_comes_back_when_training_gets_worse():
    wild_tail = Recipe(candidates=1, tail_share=0.4, tail_lr=3.0, final_lr=1e-5)
    trainer = Trainer(task(recipe=wild_tail), ignore)
    costs: list[Cost] = []
    original = trainer.evaluate

    def listen(model, latents):
        costs.append(original(model, latents))
        return costs[-1]

    trainer.evaluate = listen
    trained = trainer.run(30)
    assert costs[-1].j > trained.cost.j
    assert trained.cost.j == min(cost.j for cost in costs)
    assert original(trained.model, trained.latents) == trained.cost


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_very_short_trainings_work(steps):
    heard: list[int] = []
    trained = Trainer(clip_task(), lambda step, total, cost: heard.append(step)).run(steps)
    assert len(heard) == steps
    assert math.isfinite(trained.cost.j)


def test_the_best_candidate_goes_on():
    recipe = replace(task().recipe, candidates=3, candidate_share=0.5, tail_share=0.0)
    trainer = Trainer(task(recipe=recipe), ignore)
    plan = plan_steps(recipe, 48)
    assert (plan.num_candidates, plan.candidate_steps) == (3, 8)
    best = trainer._best_candidate(plan)
    again = Trainer(task(recipe=recipe), ignore)
    costs = []
    for number in range(3):
        state = again.new_candidate(number)
        again.warm_up(state, plan.candidate_steps)
        costs.append(copy.copy(state.cost))
    assert len({cost.j for cost in costs}) == 3
    assert best.cost.j == min(cost.j for cost in costs)


def test_costs_that_are_not_known_have_no_psnr():
    assert math.isnan(Cost.unknown().psnr_db)
    assert Cost(1e-3, 1.0, 2e-3).psnr_db == pytest.approx(30)
