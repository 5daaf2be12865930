"""Training of one segment: candidates, the main phase with noisy latents, a rounded tail."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codec.arch import Architecture, Numerics
from codec.arch.presets import Recipe
from codec.layers.quantizers import hard_round
from codec.media.frames import Frame, PixelFormat
from codec.model.segment import SegmentModel
from codec.training.backend import Backend, backend_for
from codec.training.loss import error_planes
from codec.training.optimizers import Optimizers
from codec.training.schedule import Phases, cosine, linear, plan_steps, warmup_noise

WARMUP_TEMPERATURE = 0.35
WARMUP_BETAS = (0.725, 0.97)
CHECKS = 20  # hard-rounded evaluations in a phase


@dataclass(frozen=True)
class Cost:
    """J = D + lambda R: mean squared error on [0, 1], bits a luma pixel, and their weighted sum."""

    distortion: float
    bpp: float
    j: float

    @staticmethod
    def unknown() -> Cost:
        """What a model costs before it was measured."""
        return Cost(math.inf, math.nan, math.inf)

    @property
    def psnr_db(self) -> float:
        """PSNR of the distortion; NaN before it was measured."""
        if math.isinf(self.distortion):
            return math.nan
        return -10 * math.log10(max(self.distortion, 1e-10))


@dataclass
class Trained:
    """A model and its latents in units of bins, with the cost they reached."""

    model: SegmentModel
    latents: list[Tensor]
    cost: Cost


OnStep = Callable[[int, int, Cost], None]


@dataclass(frozen=True)
class Task:
    """What is fitted: frames, how they are described and weighed, and with which machine."""

    frames: Sequence[Frame]
    format: PixelFormat
    height: int
    width: int
    arch: Architecture
    numerics: Numerics
    rd_lambda: float
    recipe: Recipe
    seed: int
    device: torch.device
    noise: Tensor | None = None  # planes of common randomness, (T, C, H, W)

    @property
    def num_pixels(self) -> int:
        """Luma pixels of the segment."""
        return len(self.frames) * self.height * self.width


class Trainer:
    """Runs the phases of one task; `on_step` hears of every step with the last checked cost."""

    def __init__(self, task: Task, on_step: OnStep, *, backend: Backend | None = None) -> None:
        self.task, self.on_step = task, on_step
        self.backend = backend_for(task.device) if backend is None else backend
        self.planes = error_planes(task.frames, task.format, task.device)
        self.generator = torch.Generator(device=task.device).manual_seed(task.seed)
        self.step, self.total = 0, 0
        self.last = Cost.unknown()

    def run(self, steps: int) -> Trained:
        """Train for `steps` steps in all and return the best state that was met."""
        phases = plan_steps(self.task.recipe, steps)
        self.total = phases.total
        state = self._best_candidate(phases)
        self._main(state, phases.main_steps)
        self._tail(state, phases.tail_steps)
        return state

    def evaluate(self, model: SegmentModel, latents: Sequence[Tensor]) -> Cost:
        """Cost with latents rounded as in the stream; parameters still in float."""
        with torch.no_grad():
            rounded = [hard_round(latent) for latent in latents]
            channels, bits = model(rounded, self.task.noise)
            distortion = float(self.backend.squared_error(channels.clamp(0, 1), self.planes))
        bpp = float(bits) / self.task.num_pixels
        j = distortion + self.task.rd_lambda * bpp
        return Cost(distortion, bpp, j) if math.isfinite(j) else Cost.unknown()

    def measure_step(self) -> float:
        """Seconds of one training step: the last of three, on a model that is thrown away."""
        state, seconds = self.new_candidate(0), 0.0
        parameters = [nn.Parameter(latent.detach()) for latent in state.latents]
        optimizers = self._optimizers(
            state, parameters, self.task.recipe.latent_betas, precondition_every=10
        )
        for _ in range(3):
            started = time.monotonic()
            loss = self._loss(
                state.model, parameters, WARMUP_TEMPERATURE, self.task.recipe.noise[0]
            )
            optimizers.step(loss, network_lr=0.0, latent_lr=0.0)
            if self.task.device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.monotonic() - started
        return seconds

    def new_candidate(self, number: int) -> Trained:
        """A model with random networks and zero latents; `number` makes the seeds differ."""
        task = self.task
        torch.manual_seed(task.seed * 1000 + number)
        model = self.backend.segment_model(
            task.arch,
            numerics=task.numerics,
            num_frames=len(task.frames),
            height=task.height,
            width=task.width,
        ).to(task.device)
        return Trained(model, model.zero_latents(task.device), Cost.unknown())

    def _best_candidate(self, phases: Phases) -> Trained:
        best: Trained | None = None
        for number in range(phases.num_candidates):
            state = self.new_candidate(number)
            if phases.candidate_steps:
                self._warm_up(state, phases.candidate_steps)
            if best is None or state.cost.j < best.cost.j:
                best = state
        return best

    def _warm_up(self, state: Trained, steps: int) -> None:
        recipe, noise = self.task.recipe, warmup_noise(self.task.rd_lambda)
        parameters = [nn.Parameter(latent.detach()) for latent in state.latents]
        optimizers = self._optimizers(state, parameters, WARMUP_BETAS, precondition_every=1)
        for _ in range(steps):
            loss = self._loss(state.model, parameters, WARMUP_TEMPERATURE, noise)
            lrs = {"network_lr": recipe.network_lr, "latent_lr": recipe.latent_lr}
            optimizers.step(loss, **lrs)
            self._tick()
        self._keep(state, parameters)

    def _main(self, state: Trained, steps: int) -> None:
        recipe = self.task.recipe
        parameters = [nn.Parameter(latent.detach() / recipe.gain) for latent in state.latents]
        optimizers = self._optimizers(state, parameters, recipe.latent_betas, precondition_every=10)
        best = _Best()
        for i in range(steps):
            progress = i / steps
            loss = self._loss(
                state.model,
                parameters,
                linear(recipe.temperature, progress),
                linear(recipe.noise, progress),
            )
            optimizers.step(
                loss,
                network_lr=cosine(recipe.network_lr, recipe.final_lr, progress),
                latent_lr=cosine(recipe.latent_lr, recipe.final_lr, progress),
            )
            if _is_check(i, steps):
                self._keep(state, parameters)
                best.offer(state)
            self._tick()
        best.restore(state)

    def _tail(self, state: Trained, steps: int) -> None:
        recipe = self.task.recipe
        rounded = [hard_round(latent) for latent in state.latents]
        state.latents = rounded
        optimizers = self._optimizers(state, [], recipe.latent_betas, precondition_every=10)
        best = _Best()
        best.offer(state)
        for i in range(steps):
            channels, bits = state.model(rounded, self.task.noise)
            rate = bits / self.task.num_pixels
            loss = self._distortion(channels) + self.task.rd_lambda * rate
            lr = cosine(recipe.tail_lr, recipe.final_lr, i / steps)
            optimizers.step(loss, network_lr=lr, latent_lr=0.0)
            if _is_check(i, steps):
                state.cost = self.last = self.evaluate(state.model, rounded)
                best.offer(state)
            self._tick()
        best.restore(state)

    def _optimizers(
        self,
        state: Trained,
        latents: Sequence[Tensor],
        betas: tuple[float, float],
        *,
        precondition_every: int,
    ) -> Optimizers:
        return Optimizers(
            state.model.trained_parameters(),
            latents,
            latent_adam=self.backend.latent_adam,
            latent_betas=betas,
            precondition_every=precondition_every,
        )

    def _loss(
        self, model: SegmentModel, parameters: Sequence[Tensor], temperature: float, noise: float
    ) -> Tensor:
        latents = self.backend.noisy_rounding(
            parameters,
            gain=self.task.recipe.gain,
            noise_std=noise,
            temperature=temperature,
            generator=self.generator,
        )
        channels, bits = model(latents, self.task.noise)
        return self._distortion(channels) + self.task.rd_lambda * bits / self.task.num_pixels

    def _distortion(self, channels: Tensor) -> Tensor:
        return self.backend.squared_error(channels, self.planes)

    def _keep(self, state: Trained, parameters: Sequence[Tensor]) -> None:
        state.latents = [p.detach() * self.task.recipe.gain for p in parameters]
        state.cost = self.last = self.evaluate(state.model, state.latents)

    def _tick(self) -> None:
        self.step += 1
        self.on_step(self.step, self.total, self.last)


class _Best:
    """Copy of the best state that was offered."""

    def __init__(self) -> None:
        self.kept: tuple[dict, list[Tensor], Cost] | None = None

    def offer(self, state: Trained) -> None:
        if self.kept is None or state.cost.j < self.kept[2].j:
            weights = copy.deepcopy(state.model.state_dict())
            self.kept = (weights, [latent.clone() for latent in state.latents], state.cost)

    def restore(self, state: Trained) -> None:
        if self.kept is not None:
            weights, state.latents, state.cost = self.kept
            state.model.load_state_dict(weights)


def _is_check(step: int, steps: int) -> bool:
    every = max(1, steps // CHECKS)
    return step == steps - 1 or step % every == every - 1
