"""The optimizers: SOAP for the networks, quasi-hyperbolic Adam for the latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from codec.layers.kernels.latents import FusedQHAdam
from codec.training.backend import LatentOptimizer
from codec.training.qhadam import QHAdam
from codec.training.soap import Soap

GRADIENT_CLIP = 0.1
# Gradients of a mean error shrink with the number of pixels; Adam's usual 1e-8 would damp them.
LATENT_EPS = 1e-15
# The rest of a step follows the gradient of the moment (docs/experiments.md).
LATENT_MOMENTUM_SHARE = 0.9


class Optimizers:
    """One step of everything that is trained: networks (gradient norm clipped) and latents."""

    def __init__(
        self,
        networks: Sequence[nn.Parameter],
        latents: Sequence[Tensor],
        *,
        latent_optimizer: LatentOptimizer,
        latent_betas: tuple[float, float],
        precondition_every: int,
    ) -> None:
        self.networks = list(networks)
        self.network_optimizer = Soap(
            self.networks,
            betas=(0.95, 0.95),
            weight_decay=1e-2,
            precondition_every=precondition_every,
        )
        self.latent_optimizer = None
        if latents:
            self.latent_optimizer = latent_optimizer(
                latents, betas=latent_betas, momentum_share=LATENT_MOMENTUM_SHARE, eps=LATENT_EPS
            )

    def step(self, loss: Tensor, *, network_lr: float, latent_lr: float) -> None:
        """Backward pass of `loss` and one update with these learning rates."""
        self.forget_gradients()
        loss.backward()
        self.update_networks(network_lr)
        self.update_latents(latent_lr)

    def forget_gradients(self) -> None:
        """Leave all parameters without gradients."""
        self.network_optimizer.zero_grad()
        if self.latent_optimizer is not None:
            self.latent_optimizer.zero_grad()

    def update_networks(self, lr: float) -> None:
        """Change the networks by their gradients, which are clipped."""
        nn.utils.clip_grad_norm_(self.networks, GRADIENT_CLIP)
        self.network_optimizer.step(lr)

    def update_latents(self, lr: float) -> None:
        """Change the latents, if any are trained, by their gradients."""
        if self.latent_optimizer is not None:
            for group in self.latent_optimizer.param_groups:
                group["lr"] = lr
            self.latent_optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """All moments, bases and counts, by names of their own."""
        state = {f"network/{n}": t for n, t in self.network_optimizer.state().items()}
        if self.latent_optimizer is not None:
            state |= {f"latents/{n}": t for n, t in _state_of(self.latent_optimizer).items()}
        return state

    def adopt_networks(
        self, other: Optimizers, sources: Mapping[nn.Parameter, nn.Parameter]
    ) -> None:
        """Go on with what another one knows of the parameters that these began as."""
        self.network_optimizer.adopt(other.network_optimizer, sources)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on with what `state` gave, for the same parameters."""
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "latents": {}}
        for name, tensor in state.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor
        self.network_optimizer.load(parts["network"])
        if self.latent_optimizer is not None:
            _load_into(self.latent_optimizer, parts["latents"])


def _state_of(optimizer: QHAdam | FusedQHAdam) -> dict[str, Tensor]:
    if isinstance(optimizer, FusedQHAdam):
        return optimizer.state()
    entries = optimizer.state_dict()["state"]
    return {f"{i}/{key}": t for i, entry in entries.items() for key, t in entry.items()}


def _load_into(optimizer: QHAdam | FusedQHAdam, state: dict[str, Tensor]) -> None:
    if isinstance(optimizer, FusedQHAdam):
        optimizer.load(state)
        return
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        number, _, key = name.partition("/")
        entries.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": entries})
