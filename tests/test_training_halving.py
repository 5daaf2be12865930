"""Trainings of large pictures: their half size first, all of which is then one level coarser."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixedpoint_networks import architecture
from small_pictures import frames
from test_training import RGB, ignore
from test_training import task as small_task
from test_training_growth import equal
from torch import nn

from codec.arch import Architecture, parse_grids
from codec.arch.halves import can_halve, halved, name_in_half
from codec.arch.presets import Recipe
from codec.training import halving, phase
from codec.training.backend import FUSED, PLAIN, Backend
from codec.training.growth import num_growth_steps, plan_stages
from codec.training.phase import MainPhase
from codec.training.schedule import plan_steps
from codec.training.soap import Soap
from codec.training.states import Task
from codec.training.trainer import Trainer

torch.set_num_threads(1)
ARCH = architecture(static="0-4", hyper="2-3", ifce_features=2)


@pytest.fixture(autouse=True)
def small_pictures_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halving, "FEWEST_PIXELS", 1)


def task_of(arch: Architecture = ARCH, **changes: object) -> Task:
    """A picture of odd sides."""
    size = {"frames": frames(RGB, 45, 71, 1), "height": 45, "width": 71}
    how = {"rd_lambda": 1e-3, "recipe": Recipe(candidates=1), "seed": 3}
    return small_task(arch=arch, **size, **(how | changes))


def trained(task: Task, backend: Backend = FUSED, steps: int = 5) -> MainPhase:
    """A phase after some steps, with latents that are not zero anywhere."""
    made = Trainer(task, ignore, backend=backend).go_on(None, steps, (0.0, 0.5))
    with torch.no_grad():
        for values in (*made.state.model.parameters(), *made.parameters):
            values += 0.1 * torch.randn(values.shape)
    for _ in range(steps):
        made.update()
    return made


def test_half_the_size_is_the_mean_of_four_samples() -> None:
    task = task_of()
    half = halving.half_size(task)
    assert (half.height, half.width) == (23, 36)
    for plane, small in zip(task.frames[0].planes, half.frames[0].planes, strict=True):
        assert small.dtype == plane.dtype
        assert small.shape == (23, 36)
        padded = np.pad(plane.astype(float), ((0, 1), (0, 1)), mode="edge")
        means = padded.reshape(23, 2, 36, 2).mean(axis=(1, 3))
        assert np.abs(small - means).max() <= 0.5


def test_the_smaller_network_is_the_larger_one_without_level_0() -> None:
    half = halved(ARCH)
    assert half.grids == parse_grids(static="0-3", hyper="1-2")
    assert half.ifce_levels == (max(ARCH.ifce_levels[0] - 1, 0), ARCH.ifce_levels[1] - 1)
    assert can_halve(half)
    assert not can_halve(replace(ARCH, grids=parse_grids(static="0"), ifce_features=0))
    assert not can_halve(replace(ARCH, common_randomness=True))


@pytest.mark.parametrize("static", ["1-4", "0,2-4", "0-1"])
def test_levels_may_be_missing(static: str) -> None:
    task = task_of(replace(ARCH, grids=parse_grids(static=static, hyper="0,2")))
    assert Trainer(task, ignore).run(20).cost.j < 0.1
    assert num_growth_steps(task, 20) == 5


@pytest.mark.parametrize("backend", [FUSED, PLAIN], ids=["fused", "plain"])
def test_all_levels_but_the_finest_go_on_as_they_were(backend: Backend) -> None:
    task = task_of()
    before = trained(halving.half_size(task), backend)
    after = Trainer(task, ignore, backend=backend).go_on(before, 5, (0.5, 1.0))
    few, many = before.state.model, after.state.model
    # Coarser latents cost the same bits, and make the same features at half the size.
    old, new = ([p.detach() for p in made.parameters] for made in (before, after))
    assert not new[-1].any()
    assert all(torch.equal(a, b) for a, b in zip(old, new, strict=False))
    for index in range(len(old)):
        contexts = [made.entropy.contexts(index, own) for made, own in ((few, old), (many, new))]
        assert torch.equal(*contexts)
    for a, b in zip(few.entropy.arm.parameters(), many.entropy.arm.parameters(), strict=True):
        assert torch.equal(a, b)
    features = few.picture.features(old)
    (made,) = many.picture._blocks_at(1, new).values()
    torch.testing.assert_close(made, features)
    # Level 0 adds nothing yet.
    wide, narrow = many.picture.synthesis, few.picture.synthesis
    x = torch.randn(1, features.shape[1] + 1, 4, 5)
    x[:, -1] = 0
    torch.testing.assert_close(wide(x), narrow(x[:, :-1]))
    for _ in range(5):
        after.update()


def test_what_soap_knows_is_carried_along() -> None:
    task = task_of()
    before = trained(plan_stages(task, 20)[0].task)
    after = Trainer(task, ignore).go_on(before, 5, (0.5, 1.0))
    old, new = (made.optimizers.network_optimizer for made in (before, after))
    known = {t.parameter: t for t in old.tensors}
    sources = dict(before.state.model.named_parameters())
    names = {p: name_in_half(n, ARCH) for n, p in after.state.model.named_parameters()}
    assert new.steps == old.steps == 5
    first = after.state.model.picture.synthesis.main_branch[0].weight
    for tensor in new.tensors:
        if tensor.parameter is first:
            out, inputs = tensor.shape
            (source,) = (t for t in old.tensors if t.shape == [out, inputs - 1])
            assert torch.equal(tensor.square[:, :-1], source.square)
            assert torch.equal(tensor.grams[1][:-1, :-1], source.grams[1])
            torch.testing.assert_close(tensor.bases[1].T @ tensor.bases[1], torch.eye(inputs))
        elif (name := names[tensor.parameter]) and tensor.shape == known[sources[name]].shape:
            assert tensor.square.any()
            assert torch.equal(tensor.square, known[sources[name]].square)


def test_adopted_parameters_take_the_steps_that_their_sources_take() -> None:
    generator = torch.Generator().manual_seed(5)
    shapes = [(4, 6), (6,), (3, 3, 3, 3), (2, 5)]
    gradients = [[torch.randn(s, generator=generator) for s in shapes] for _ in range(15)]
    options = {"betas": (0.95, 0.95), "weight_decay": 0.0, "precondition_every": 10}
    old = [nn.Parameter(g.clone()) for g in gradients[0]]
    soap = Soap(old, **options)

    def step(optimizer: Soap, parameters: list[nn.Parameter], number: int) -> None:
        for parameter, gradient in zip(parameters, gradients[number], strict=True):
            parameter.grad = gradient.clone()
        optimizer.step(0.01)

    for number in range(12):
        step(soap, old, number)
    new = [nn.Parameter(p.detach().clone()) for p in old]
    other = Soap(new, **options)
    other.adopt(soap, dict(zip(new, old, strict=True)))
    for number in range(12, 15):
        step(soap, old, number)
        step(other, new, number)
    assert all(torch.equal(a, b) for a, b in zip(old, new, strict=True))
    # Without a source, or of one that knows nothing, a parameter begins anew.
    fresh = [nn.Parameter(p.detach().clone()) for p in old]
    begun = Soap(fresh, **options)
    begun.adopt(Soap(old, **options), dict(zip(fresh, old, strict=True)))
    assert begun.steps == 0
    begun.adopt(soap, {fresh[0]: old[0]})
    step(begun, fresh, 0)
    assert all(p.isfinite().all() for p in fresh)
    assert (fresh[3] - old[3]).abs().max() <= 0.01 / 0.05**0.5


def test_half_size_takes_at_most_a_quarter_and_little_of_long_trainings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = task_of()
    counts = [num_growth_steps(task, steps) for steps in (3, 40, 100, 5000)]
    assert counts == [0, 10, 25, 25]
    (stage,) = plan_stages(task, 10)
    assert stage.steps == 40
    monkeypatch.setattr(halving, "FEWEST_PIXELS", 45 * 71 + 1)
    assert num_growth_steps(task, 40) == 0


@pytest.mark.parametrize("steps", [1, 2, 9, 40])
def test_every_step_is_told(steps: int) -> None:
    heard: list[tuple[int, int]] = []
    trainer = Trainer(task_of(), lambda step, total, _: heard.append((step, total)))
    trained = trainer.run(steps)
    assert heard == [(number, steps) for number in range(1, steps + 1)]
    assert trainer.evaluate(trained.model, trained.latents) == trained.cost


def test_short_trainings_come_further() -> None:
    costs = []
    for growth_share in (0.0, 0.25):
        task = task_of(recipe=Recipe(growth_share=growth_share))
        costs.append(Trainer(task, ignore).run(60).cost.j)
    assert costs[1] < 0.9 * costs[0]


def test_resumed_trainings_end_like_those_that_were_not_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(phase, "SNAPSHOT_EVERY_S", -1.0)
    task, snapshots = task_of(), []
    whole = Trainer(task, ignore).run(20, on_snapshot=snapshots.append)
    plan = plan_steps(task.recipe, 20, growth_steps=num_growth_steps(task, 20))
    growth = 4 * plan.growth_steps
    assert len(snapshots) == growth + plan.main_steps
    for index in (0, growth - 1, growth, len(snapshots) - 1):
        again = Trainer(task, ignore).run(20, snapshot=snapshots[index])
        assert equal(again, whole)
