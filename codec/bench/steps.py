"""One training step by part: the eager PyTorch twin and the fused kernels in turn."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from codec.bench.cases import Case, Subject
from codec.bench.tasks import prepare_process, whole_task
from codec.bench.timing import Laps, Stopwatch, Times, run_rounds, summary
from codec.training.backend import FUSED, PLAIN, Backend
from codec.training.states import Task
from codec.training.trainer import Trainer

GRADIENT_PARTS = ("rounding", "picture", "error", "rate")
OPTIMIZER_PARTS = ("latent optimizer", "network optimizer")
GRADIENTS, STEP = "forward and backward", "step"
# SOAP renews its preconditioners every so many steps in the main phase of training.
PRECONDITION_EVERY = 10
LATENT_STD = 1.0  # in bins
# A gradient needs two multiply-adds for each one of the decoder.
TRAINING_MACS_PER_MAC = 3


@dataclass(frozen=True)
class PartTimes:
    """A part with both backends; `ratio` is the median over rounds of plain / fused in a round."""

    plain: Times
    fused: Times
    ratio: float


@dataclass(frozen=True)
class KernelRate:
    """10^9 useful multiply-adds a second at the least time: three for each one of the decoder."""

    plain_gmac_s: float
    fused_gmac_s: float


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """Training steps of one subject, by part, forward and backward pass together.

    `ns_per_pixel` are of the median step, by backend.
    """

    subject: Subject
    threads: int
    rounds: int
    parts: dict[str, PartTimes]
    ns_per_pixel: dict[str, float]
    kernels: dict[str, KernelRate]


class SplitStep:
    """A training step of one backend, cut between its parts so that each can be timed.

    Values and gradients are those of an uncut step. Learning rates are zero: all rounds do the
    same work on the same latents, which are noise.
    """

    def __init__(self, task: Task, backend: Backend, *, threads: int) -> None:
        trainer = Trainer(task, lambda step, total, cost: None, backend=backend)
        self.task, self.backend, self.threads = task, backend, threads
        self.trainer, state = trainer, trainer.new_candidate(0)
        self.model = state.model
        generator = torch.Generator().manual_seed(task.seed)
        self.parameters = [
            nn.Parameter(torch.randn(shape, generator=generator) * LATENT_STD / task.recipe.gain)
            for shape in self.model.shapes
        ]
        self.optimizers = trainer.optimizers(
            state,
            self.parameters,
            task.recipe.latent_betas,
            precondition_every=PRECONDITION_EVERY,
        )

    def run(self) -> Laps:
        """Do the step once; milliseconds by part, and of some together."""
        self.backend.use_threads(self.threads)
        self.optimizers.forget_gradients()
        watch = Stopwatch()
        self._gradients(watch)
        # As many updates as share one renewal of the preconditioners.
        for _ in range(PRECONDITION_EVERY):
            self.optimizers.update_networks(0.0)
        watch.lap("network optimizer")
        self.optimizers.update_latents(0.0)
        watch.lap("latent optimizer")
        laps = dict(watch.laps_ms)
        laps["network optimizer"] /= PRECONDITION_EVERY
        laps[GRADIENTS] = sum(laps[part] for part in GRADIENT_PARTS)
        laps[STEP] = laps[GRADIENTS] + sum(laps[part] for part in OPTIMIZER_PARTS)
        return laps

    def _gradients(self, watch: Stopwatch) -> None:
        task, recipe = self.task, self.task.recipe
        latents = self.trainer.noisy_latents(
            self.parameters, recipe.temperature[0], recipe.noise[0], step=0
        )
        cut = [latent.detach().requires_grad_() for latent in latents]
        watch.lap("rounding")
        channels = self.model.picture(cut, task.noise)
        cut_channels = channels.detach().requires_grad_()
        watch.lap("picture")
        self.backend.squared_error(cut_channels, self.trainer.planes).backward()
        watch.lap("error")
        channels.backward(cut_channels.grad)
        watch.lap("picture")
        (task.rd_lambda * self.model.entropy(cut) / task.num_pixels).backward()
        watch.lap("rate")
        torch.autograd.backward(latents, [latent.grad for latent in cut])
        watch.lap("rounding")


def measure_steps(case: Case, *, threads: int, repeat: int) -> StepReport:
    """Time `repeat` rounds of a plain and a fused step; to be run in a process of its own."""
    prepare_process(threads)
    task, subject = whole_task(case), case.subject()
    steps = {b.name: SplitStep(task, b, threads=threads).run for b in (PLAIN, FUSED)}
    rounds = run_rounds(steps, repeat)
    parts = {
        part: _part_times(rounds, part)
        for part in (*GRADIENT_PARTS, GRADIENTS, *OPTIMIZER_PARTS, STEP)
    }
    return StepReport(
        subject=subject,
        threads=threads,
        rounds=repeat,
        parts=parts,
        ns_per_pixel={
            PLAIN.name: parts[STEP].plain.median_ms * 1e6 / subject.num_pixels,
            FUSED.name: parts[STEP].fused.median_ms * 1e6 / subject.num_pixels,
        },
        kernels={
            "picture": _kernel_rate(parts["picture"], subject.picture_macs * subject.num_pixels),
            "rate": _kernel_rate(parts["rate"], subject.entropy_macs * subject.num_pixels),
        },
    )


def _part_times(rounds: Mapping[str, Sequence[Laps]], part: str) -> PartTimes:
    plain, fused = ([laps[part] for laps in rounds[b.name]] for b in (PLAIN, FUSED))
    ratio = statistics.median(a / b for a, b in zip(plain, fused, strict=True))
    return PartTimes(summary(plain), summary(fused), ratio)


def _kernel_rate(times: PartTimes, macs: float) -> KernelRate:
    def rate(one: Times) -> float:
        return TRAINING_MACS_PER_MAC * macs / (one.min_ms * 1e6)

    return KernelRate(rate(times.plain), rate(times.fused))
