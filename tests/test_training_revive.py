"""Dead units of the synthesis begin anew, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from fixedpoint_networks import architecture
from small_pictures import frames
from test_training import RGB, ignore
from test_training import task as small_task
from test_training_growth import equal
from torch import Tensor

from codec.model.segment import SegmentModel
from codec.training import phase as phases
from codec.training import revive
from codec.training.phase import MainPhase
from codec.training.states import Task
from codec.training.trainer import Trainer

torch.set_num_threads(1)
LAYERS = ("6-1-linear-relu", "X-1-linear-none", "X-3-residual-none")
DEAD = [1, 4]


def task_of(*layers: str) -> Task:
    arch = architecture(static="0-3", synthesis=layers or LAYERS)
    return small_task(arch=arch, frames=frames(RGB, 40, 56, 1), height=40, width=56)


def phase_with_dead_units(task: Task) -> MainPhase:
    """A phase before its first step: networks and latents are random, two units never on."""
    phase = Trainer(task, ignore).go_on(None, 40, (0.0, 1.0))
    torch.manual_seed(1)
    first = phase.state.model.picture.synthesis.main_branch[0]
    with torch.no_grad():
        for values in (*phase.state.model.trained_parameters(), *phase.parameters):
            values += 0.1 * torch.randn(values.shape)
        first.bias.abs_().add_(0.1)
        first.bias[DEAD] = -1e3
    return phase


def rounded(phase: MainPhase) -> list[Tensor]:
    return [latent.round() for latent in phase.trainer.latents_of(phase.parameters)]


def share_on(model: SegmentModel, latents: list[Tensor]) -> Tensor:
    """In which share of all pixels each unit is on."""
    first = model.picture.synthesis.main_branch[0]
    with torch.no_grad():
        pixels = model.picture.features(latents).movedim(1, 0).flatten(1)
        return ((first.weight.flatten(1) @ pixels + first.bias[:, None]) > 0).float().mean(dim=1)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def test_dead_units_begin_anew_and_the_picture_stays() -> None:
    phase = phase_with_dead_units(task_of())
    model, latents = phase.state.model, rounded(phase)
    assert share_on(model, latents)[DEAD].max() == 0
    before, old = model(latents, None)[0].detach(), copy.deepcopy(model.state_dict())
    assert revive.revive(model, latents, generator()) == len(DEAD)
    after = model(latents, None)[0].detach()
    assert torch.allclose(after, before, rtol=0, atol=1e-6)
    assert share_on(model, latents)[DEAD].min() > 0
    alive = [unit for unit in range(6) if unit not in DEAD]
    for name, values in model.state_dict().items():
        units = {"picture.synthesis.main_branch.0.weight": (alive,),
                 "picture.synthesis.main_branch.0.bias": (alive,),
                 "picture.synthesis.main_branch.2.weight": (slice(None), alive)}  # fmt: skip
        part = units.get(name, ())
        assert torch.equal(values[part], old[name][part]), name


def test_new_units_are_twins_of_the_strongest() -> None:
    phase = phase_with_dead_units(task_of())
    model, latents = phase.state.model, rounded(phase)
    first, _, second = model.picture.synthesis.main_branch[:3]
    with torch.no_grad():
        second.weight[:, 3] = 50.0
        second.weight[:, 0] = 20.0
    assert revive.revive(model, latents, generator()) == len(DEAD)
    assert torch.equal(first.weight[DEAD], first.weight[[3, 0]])
    assert torch.equal(second.weight[:, DEAD], torch.zeros(3, 2, 1, 1))


def test_units_that_live_stay_as_they_are() -> None:
    phase = phase_with_dead_units(task_of())
    model, latents = phase.state.model, rounded(phase)
    revive.revive(model, latents, generator())
    old = copy.deepcopy(model.state_dict())
    assert revive.revive(model, latents, generator()) == 0
    assert all(torch.equal(values, old[name]) for name, values in model.state_dict().items())


OTHERS = [
    ("X-1-linear-none",),
    ("6-1-linear-none", "X-1-linear-none"),
    ("6-3-linear-relu", "X-1-linear-none"),
    ("6-1-linear-relu", "6-1-residual-none", "X-1-linear-none"),
    ("6-1-linear-relu", "6-3-difference-none", "X-1-linear-none"),
]


@pytest.mark.parametrize("layers", OTHERS)
def test_other_layers_are_left_alone(layers: tuple[str, ...]) -> None:
    phase = Trainer(task_of(*layers), ignore).go_on(None, 40, (0.0, 1.0))
    with torch.no_grad():
        phase.state.model.picture.synthesis.main_branch[0].bias.fill_(-1e3)
    assert revive.revive(phase.state.model, rounded(phase), generator()) == 0


def test_looks_become_rare_and_end() -> None:
    looks = [step for step in range(1000) if revive.is_look(step, 0.1)]
    assert looks == [25, 50, 100, 200, 400, 800]
    assert not any(revive.is_look(step, revive.LAST_PROGRESS) for step in range(1000))


def test_a_phase_looks_after_some_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revive, "FIRST_LOOK", 3)
    phase = phase_with_dead_units(task_of())
    model = phase.state.model
    for steps, is_dead in ((3, True), (1, False)):
        for _ in range(steps):
            phase.update()
        assert bool(share_on(model, rounded(phase))[DEAD].max() == 0) is is_dead


def test_a_resumed_training_draws_the_same_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "SNAPSHOT_EVERY_S", -1.0)
    monkeypatch.setattr(revive, "FIRST_LOOK", 3)
    monkeypatch.setattr(revive, "FEWEST_ON", 0.4)  # of six units some are below
    task, snapshots, counts = task_of(), [], []

    def counted(*arguments: object) -> int:
        counts.append(revive.revive(*arguments))
        return counts[-1]

    monkeypatch.setattr(phases, "revive", counted)
    whole = Trainer(task, ignore).run(24, on_snapshot=snapshots.append)
    assert sum(counts) > 0
    for index in (1, 2, 3, 6):
        assert equal(Trainer(task, ignore).run(24, snapshot=snapshots[index]), whole)
