"""Training of one segment: candidates, the main phase with noisy latents, a rounded tail."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from codec.errors import InputError
from codec.layers.quantizers import hard_round
from codec.training.backend import Backend, backend_for
from codec.training.control import Goal
from codec.training.growth import carry_over, num_growth_steps, plan_stages
from codec.training.loss import error_planes
from codec.training.optimizers import Optimizers
from codec.training.phase import MainPhase, OnSnapshot, Snapshot, is_check
from codec.training.schedule import Phases, cosine, plan_steps, warmup_noise
from codec.training.states import Best, Cost, Task, Trained

WARMUP_TEMPERATURE = 0.35
WARMUP_BETAS = (0.725, 0.97)
SEED_STRIDE = 0x9E3779B1  # between the noise of seeds: far from that of other steps
STAGE = "stage"  # in snapshots taken before all of a segment is trained: which stage

OnStep = Callable[[int, int, Cost], None]


class Trainer:
    """Runs the phases of one task; `on_step` hears of every step with the least cost so far.

    With a `goal`, lambda is changed on the way so that the goal is met.
    """

    def __init__(
        self,
        task: Task,
        on_step: OnStep,
        *,
        goal: Goal | None = None,
        backend: Backend | None = None,
    ) -> None:
        self.task, self.on_step, self.goal = task, on_step, goal
        self.rd_lambda = task.rd_lambda
        self.backend = backend_for(task.device) if backend is None else backend
        self.planes = error_planes(task.frames, task.format, task.device)
        self.used = _used_slices(task)
        self.generator = torch.Generator(device=task.device).manual_seed(task.seed)
        self.step, self.total = 0, 0
        self.last = Cost.unknown()
        self.main: MainPhase | None = None

    def run(
        self, steps: int, *, snapshot: Snapshot | None = None, on_snapshot: OnSnapshot | None = None
    ) -> Trained:
        """Train for `steps` steps in all and return the best state that was met.

        Args:
            steps: forward and backward passes.
            snapshot: of an earlier run of the same task and number of steps, to go on from.
            on_snapshot: gets a snapshot every few seconds of the main phase and at its end.

        Raises:
            InputError: a snapshot that this version did not make.
        """
        growth = num_growth_steps(self.task, steps)
        phases = plan_steps(self.task.recipe, steps, growth_steps=growth)
        self.total = phases.total
        if snapshot is not None and STAGE not in snapshot:
            main = MainPhase(self, self.new_candidate(0), phases.main_steps, self._ends(phases))
            self.step = phases.before_main
            _load(main, snapshot)
        elif phases.growth_steps:
            main = self._grown(phases, snapshot, on_snapshot)
        else:
            main = MainPhase(self, self._best_candidate(phases), phases.main_steps)
        self.main = main
        main.run(on_snapshot)
        self._tail(main.state, phases.tail_steps)
        return main.state

    def refine(self, steps: int, *, rd_lambda: float, begin: float) -> None:
        """Some more steps on what `run` gave, for another lambda, from `begin` in the schedules."""
        self.rd_lambda, self.goal = rd_lambda, None
        state = self.main.state
        state.cost = state.cost.at(rd_lambda)
        self.main.begin_again(steps, begin)
        self.main.run(None)
        self._tail(state, max(1, steps // 4))

    def evaluate(self, model: nn.Module, latents: Sequence[Tensor]) -> Cost:
        """Cost with latents rounded as in the stream; parameters still in float."""
        with torch.no_grad():
            rounded = [hard_round(latent) for latent in latents]
            channels, bits = model(rounded, self.task.noise)
            distortion = float(self.backend.squared_error(channels.clamp(0, 1), self.planes))
        return Cost.of(distortion, float(bits) / self.task.num_pixels, self.rd_lambda)

    def measure_step(self, count: int = 3) -> float:
        """Seconds of one training step: the median of `count` after two, on a throwaway model."""
        state, seconds = self.new_candidate(0), []
        parameters = self.parameters_of(state)
        optimizers = self.optimizers(
            state, parameters, self.task.recipe.latent_betas, precondition_every=10
        )
        schedule = (WARMUP_TEMPERATURE, self.task.recipe.noise[0])
        for step in range(count + 2):
            started = time.monotonic()
            loss = self.loss(state.model, parameters, *schedule, step=step)
            optimizers.step(loss, network_lr=0.0, latent_lr=0.0)
            if self.task.device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.monotonic() - started)
        return sorted(seconds[2:])[count // 2]

    def new_candidate(self, number: int) -> Trained:
        """A model with zero latents, and the motion and the networks that the task starts from.

        If there are none, networks are random; `number` makes their seeds differ.
        """
        task = self.task
        torch.manual_seed(task.seed * 1000 + number)
        model = self.backend.segment_model(
            task.arch,
            numerics=task.numerics,
            num_frames=len(task.frames),
            height=task.height,
            width=task.width,
            prediction=task.prediction,
            segment_frames=task.segment_frames,
        ).to(task.device)
        _start_networks(model, task.networks)
        latents = model.zero_latents(task.device)
        # Motion grids come first in coding order.
        for latent, start in zip(latents, task.motion, strict=False):
            latent.data.copy_(start)
        return Trained(model, latents, Cost.unknown())

    def _ends(self, phases: Phases) -> tuple[float, float]:
        """Where the main phase is in its schedules, which begin with the growth if there is one."""
        growth = phases.growth_steps
        return growth / (growth + phases.main_steps), 1.0

    def _grown(
        self, phases: Phases, snapshot: Snapshot | None, on_snapshot: OnSnapshot | None
    ) -> MainPhase:
        """The segment at the start of the main phase, after parts of it were trained.

        The schedules of the main phase begin here, and go on with what SOAP knows. A snapshot is of
        one of the stages.
        """
        steps, (share, _) = phases.growth_steps, self._ends(phases)
        stages, phase = plan_stages(self.task, steps), None
        first = 0 if snapshot is None else int(snapshot[STAGE])
        for k, stage in list(enumerate(stages))[first:]:
            ends = (share * k / len(stages), share * (k + 1) / len(stages))
            trainer = Trainer(stage.task, lambda *_: None, backend=self.backend)
            phase = trainer.go_on(phase, stage.steps, ends)
            before = steps * k / len(stages)
            if snapshot is not None and k == first:
                _load(phase, snapshot)
                self.step = int(before + steps / len(stages) * phase.index / stage.steps)

            def keep(made: Snapshot, k: int = k) -> None:
                if on_snapshot is not None:
                    on_snapshot(made | {STAGE: torch.tensor(k)})

            for done in phase.updates(keep):
                while self.step < int(before + steps / len(stages) * done):
                    self.tick()
            trainer.keep(phase.state, phase.parameters)
        while self.step < steps:
            self.tick()
        return self.go_on(phase, phases.main_steps, (share, 1.0))

    def go_on(self, before: MainPhase | None, steps: int, ends: tuple[float, float]) -> MainPhase:
        """A phase with fresh latents, but for those of what the one before has as well."""
        phase = MainPhase(self, self.new_candidate(0), steps, ends)
        if before is not None:
            carry_over(before, phase)
        return phase

    def _best_candidate(self, phases: Phases) -> Trained:
        best: Trained | None = None
        for number in range(phases.num_candidates):
            state = self.new_candidate(number)
            if phases.candidate_steps:
                self.warm_up(state, phases.candidate_steps)
            if best is None or state.cost.j < best.cost.j:
                best = state
        return best

    def warm_up(self, state: Trained, steps: int) -> None:
        """Steps at full rates with the noise of the beginning; measures what they give."""
        recipe, noise = self.task.recipe, warmup_noise(self.rd_lambda)
        parameters = self.parameters_of(state)
        optimizers = self.optimizers(state, parameters, WARMUP_BETAS, precondition_every=1)
        for step in range(steps):
            loss = self.loss(state.model, parameters, WARMUP_TEMPERATURE, noise, step=step)
            lrs = {"network_lr": recipe.network_lr, "latent_lr": recipe.latent_lr}
            optimizers.step(loss, **lrs)
            self.tick()
        self.keep(state, parameters)

    def _tail(self, state: Trained, steps: int) -> None:
        recipe = self.task.recipe
        rounded = [hard_round(latent) for latent in state.latents]
        state.latents = rounded
        optimizers = self.optimizers(state, [], recipe.latent_betas, precondition_every=10)
        best = Best()
        best.offer(state, self.rd_lambda)
        for i in range(steps):
            loss = self._rounded_loss(state.model, rounded)
            lr = cosine(recipe.tail_lr, recipe.final_lr, i / steps)
            optimizers.step(loss, network_lr=lr, latent_lr=0.0)
            if is_check(i, steps):
                state.cost = self.evaluate(state.model, rounded)
                best.offer(state, self.rd_lambda)
                self.last = best.cost.at(self.rd_lambda)
            self.tick()
        best.restore(state)

    def optimizers(
        self,
        state: Trained,
        latents: Sequence[Tensor],
        betas: tuple[float, float],
        *,
        precondition_every: int,
    ) -> Optimizers:
        """Fresh optimizers for a model and latents."""
        return Optimizers(
            state.model.trained_parameters(),
            latents,
            latent_optimizer=self.backend.latent_optimizer,
            latent_betas=betas,
            precondition_every=precondition_every,
        )

    def parameters_of(self, state: Trained) -> list[nn.Parameter]:
        """What the optimizer of latents changes: latents in units of `gain` bins."""
        return [nn.Parameter(latent.detach() / self.task.recipe.gain) for latent in state.latents]

    def latents_of(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Inverse of `parameters_of`: latents in units of bins, not rounded."""
        return [p.detach() * self.task.recipe.gain for p in parameters]

    def loss(
        self,
        model: nn.Module,
        parameters: Sequence[Tensor],
        temperature: float,
        noise_std: float,
        *,
        step: int,
    ) -> Tensor:
        """J with the noisy latents of step number `step` of a phase."""
        latents = self.noisy_latents(parameters, temperature, noise_std, step=step)
        return self._rounded_loss(model, latents)

    def noisy_latents(
        self, parameters: Sequence[Tensor], temperature: float, noise_std: float, *, step: int
    ) -> list[Tensor]:
        """Softly rounded latents with the noise of step number `step` of a phase.

        Steps come in pairs whose noise differs by its sign alone: what it does to gradients is
        nearly linear, so the mean over a pair, and with it the momentum, hardly sees it.
        """
        pair = step // 2
        latents = self.backend.noisy_rounding(
            parameters,
            gain=self.task.recipe.gain,
            noise_std=-noise_std if step % 2 else noise_std,
            temperature=temperature,
            seed=(self.task.seed * SEED_STRIDE + pair) % (1 << 32),
        )
        for index, used in self.used.items():
            latents[index] = latents[index] * used
        return latents

    def _rounded_loss(self, model: nn.Module, latents: Sequence[Tensor]) -> Tensor:
        channels, bits = model(latents, self.task.noise)
        rate = bits / self.task.num_pixels
        return self.backend.squared_error(channels, self.planes) + self.rd_lambda * rate

    def keep(self, state: Trained, parameters: Sequence[Tensor]) -> None:
        """Take latents from their parameters into the state and measure it."""
        state.latents = self.latents_of(parameters)
        state.cost = self.evaluate(state.model, state.latents)
        if not self.last.at(self.rd_lambda).j <= state.cost.j:
            self.last = state.cost

    def tick(self) -> None:
        """One step was made."""
        self.step += 1
        self.on_step(self.step, self.total, self.last)


def _used_slices(task: Task) -> dict[int, Tensor]:
    """1 or 0 for the slices (T, 1, 1) of motion grids of which frames use some alone, by grid."""
    used = {}
    for index in range(len(task.motion)):
        own = [level == task.arch.grids[index].level for level in task.motion_levels]
        if not all(own):
            used[index] = torch.tensor(own, device=task.device)[:, None, None]
    return used


def _start_networks(model: nn.Module, networks: Mapping[str, Tensor]) -> None:
    """Give a model tensors of another; those that depend on the number of frames may not fit."""
    own = model.state_dict()
    fitting = {name: x for name, x in networks.items() if x.shape == own[name].shape}
    model.load_state_dict(own | fitting)


def _load(main: MainPhase, snapshot: Snapshot) -> None:
    try:
        main.load(snapshot)
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(
            "the checkpoint is of another version of modcodec; remove it to begin anew"
        ) from error
