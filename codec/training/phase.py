"""The main phase of a training: networks and noisy latents together, measured now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from codec.layers.quantizers import hard_round
from codec.training.control import steer
from codec.training.revive import is_look, revive
from codec.training.schedule import cosine, linear
from codec.training.states import Best, Cost, Trained

if TYPE_CHECKING:
    from codec.training.trainer import Trainer

CHECKS = 20  # hard-rounded evaluations in a phase
SNAPSHOT_EVERY_S = 5.0

Snapshot = dict[str, Tensor]
OnSnapshot = Callable[[Snapshot], None]


class MainPhase:
    """Networks and noisy latents trained together; it can be put away and taken up again.

    `ends` are the points of the schedules, from 0 to 1, at which it starts, or starts again, and
    ends.
    """

    def __init__(
        self,
        trainer: Trainer,
        state: Trained,
        steps: int,
        ends: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        recipe = trainer.task.recipe
        self.trainer, self.state, self.steps, self.ends = trainer, state, steps, ends
        self.index, self.best = 0, Best()
        self.parameters = trainer.parameters_of(state)
        self.optimizers = trainer.optimizers(
            state, self.parameters, recipe.latent_betas, precondition_every=10
        )

    def run(self, on_snapshot: OnSnapshot | None) -> None:
        """All steps that are left; the state is then the best that was met."""
        taken = time.monotonic()
        while self.index < self.steps:
            self._advance()
            is_due = self.index == self.steps or time.monotonic() - taken > SNAPSHOT_EVERY_S
            if on_snapshot is not None and is_due:
                on_snapshot(self.snapshot())
                taken = time.monotonic()
        self.best.restore(self.state)

    def updates(self, on_snapshot: OnSnapshot) -> Iterator[float]:
        """All steps that are left, unmeasured; after each the share of the steps that is done."""
        taken = time.monotonic()
        while self.index < self.steps:
            self.update()
            yield self.index / self.steps
            if time.monotonic() - taken > SNAPSHOT_EVERY_S:
                on_snapshot(self.snapshot())
                taken = time.monotonic()

    def begin_again(self, steps: int, begin: float) -> None:
        """Go on from the state as it is, with what the optimizers know, from `begin` on."""
        self.index, self.steps, self.ends, self.best = 0, steps, (begin, 1.0), Best()
        fresh = self.trainer.parameters_of(self.state)
        with torch.no_grad():
            for parameter, value in zip(self.parameters, fresh, strict=True):
                parameter.copy_(value)

    @property
    def progress(self) -> float:
        """Where the next step is in the schedules."""
        return linear(self.ends, self.index / self.steps)

    def update(self) -> None:
        """One step, unmeasured."""
        recipe, progress = self.trainer.task.recipe, self.progress
        if is_look(self.index, progress):
            latents = [hard_round(x) for x in self.trainer.latents_of(self.parameters)]
            revive(self.state.model, latents, self.trainer.generator)
        loss = self.trainer.loss(
            self.state.model,
            self.parameters,
            linear(recipe.temperature, progress),
            linear(recipe.noise, progress),
            step=self.index,
        )
        self.optimizers.step(
            loss,
            network_lr=cosine(recipe.network_lr, recipe.final_lr, progress),
            latent_lr=cosine(recipe.latent_lr, recipe.final_lr, progress),
        )
        self.index += 1

    def _advance(self) -> None:
        trainer, progress, is_measured = (
            self.trainer,
            self.progress,
            is_check(self.index, self.steps),
        )
        self.update()
        if is_measured:
            trainer.keep(self.state, self.parameters)
            self.best.offer(self.state, trainer.rd_lambda)
            if trainer.goal is not None:
                now = trainer.rd_lambda
                trainer.rd_lambda = steer(now, self.state, trainer.goal, progress)
        trainer.tick()

    def snapshot(self) -> Snapshot:
        """Copies of everything that the steps to come depend on."""
        trainer, best = self.trainer, self.best
        numbers = [self.index, trainer.rd_lambda]
        for cost in (trainer.last, best.cost):
            numbers += [cost.distortion, cost.bpp, cost.j]
        tensors = {
            "numbers": torch.tensor(numbers, dtype=torch.float64),
            "generator": trainer.generator.get_state(),
        }
        tensors |= {f"model/{n}": t.clone() for n, t in self.state.model.state_dict().items()}
        tensors |= {f"latent/{i}": p.detach().clone() for i, p in enumerate(self.parameters)}
        tensors |= {f"best_model/{n}": t for n, t in best.weights.items()}
        tensors |= {f"best_latent/{i}": y for i, y in enumerate(best.latents)}
        return tensors | {f"optimizer/{n}": t for n, t in self.optimizers.state().items()}

    def load(self, snapshot: Snapshot) -> None:
        """Go on where a snapshot of the same task was taken.

        Raises:
            KeyError, RuntimeError, ValueError: it is of another task.
        """
        numbers = snapshot["numbers"].tolist()
        self.index, self.trainer.rd_lambda = int(numbers[0]), numbers[1]
        self.trainer.last, self.best.cost = Cost(*numbers[2:5]), Cost(*numbers[5:8])
        self.trainer.step += self.index
        self.trainer.generator.set_state(snapshot["generator"])
        self.state.model.load_state_dict(of_prefix(snapshot, "model/"))
        self.best.weights = of_prefix(snapshot, "best_model/")
        self.best.latents = list(of_prefix(snapshot, "best_latent/").values())
        with torch.no_grad():
            for parameter, value in zip(
                self.parameters, of_prefix(snapshot, "latent/").values(), strict=True
            ):
                parameter.copy_(value)
        self.optimizers.load(of_prefix(snapshot, "optimizer/"))


def of_prefix(snapshot: Snapshot, prefix: str) -> Snapshot:
    """What has a prefix, by the rest of its name; numbered names in the order of their numbers."""
    names = [name for name in snapshot if name.startswith(prefix)]
    rests = [name.removeprefix(prefix) for name in names]
    if all(rest.isdigit() for rest in rests):
        rests.sort(key=int)
    return {rest: snapshot[prefix + rest] for rest in rests}


def is_check(step: int, steps: int) -> bool:
    """Whether the state after step number `step` of a phase is measured."""
    every = max(1, steps // CHECKS)
    return step == steps - 1 or step % every == every - 1
