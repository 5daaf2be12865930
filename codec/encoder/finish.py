"""From a trained segment to integers: networks once, latents for any lambda near its own."""

from __future__ import annotations

from dataclasses import replace

from codec.freeze.latents import change_latents
from codec.freeze.measure import Frozen, Meter, Target
from codec.freeze.quantize import to_arrays
from codec.freeze.search import freeze
from codec.layers.quantizers import hard_round
from codec.training.slopes import distortion_slopes
from codec.training.states import Task, Trained

# A pass over latents takes about twice as long as a training step.
STEPS_PER_PASS = 20
# Small segments get as many passes as take some seconds.
PASS_PIXELS, MOST_PASSES = 8_000_000, 60


class Finisher:
    """Freezes what was trained, and then changes its latents for one lambda after the other.

    Args:
        task, trained: the model is only read.
        rd_lambda: what the networks are rounded for.
        steps: of training; longer ones get more passes over the latents.
        threads: of the kernels.
    """

    def __init__(
        self, task: Task, trained: Trained, *, rd_lambda: float, steps: int, threads: int
    ) -> None:
        few = min(MOST_PASSES, PASS_PIXELS // task.num_pixels)
        self._task, self._passes = task, max(few, steps // STEPS_PER_PASS)
        self._target = Target(
            frames=task.frames,
            format=task.format,
            height=task.height,
            width=task.width,
            rd_lambda=rd_lambda,
            noise_seed=task.seed,
            threads=threads,
        )
        latents = [hard_round(latent).cpu().numpy() for latent in trained.latents]
        arrays = to_arrays(trained.model.tensors())
        self._frozen = freeze(task.arch, task.numerics, arrays, latents, self._target)
        self._slopes = distortion_slopes(task, trained)

    @property
    def cost(self) -> float:
        """J with latents as they were trained, networks included."""
        return self._target.j(self._frozen)

    def at(self, rd_lambda: float) -> Frozen:
        """The network, and latents that went from the trained ones towards the least J."""
        target = replace(self._target, rd_lambda=rd_lambda)
        meter = Meter(self._task.arch, self._task.numerics, self._frozen.latents, target)
        return change_latents(meter, self._frozen, self._slopes, passes=self._passes)
