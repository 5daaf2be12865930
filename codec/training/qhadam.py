"""Adam whose momentum is mixed with the gradient of the step itself, for latents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class QHAdam(torch.optim.Adam):
    """x -= lr (nu m + (1 - nu) g) / (sqrt(v) + eps), where m and v are Adam's, without their bias.

    nu is `momentum_share`, which makes it Adam where it is 1.

    Source: Ma and Yarats, "Quasi-hyperbolic momentum and Adam for deep learning" (2019), section 4,
    with nu2 = 1.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        *,
        betas: tuple[float, float],
        momentum_share: float,
        eps: float,
    ) -> None:
        super().__init__(parameters, lr=0.0, betas=betas, eps=eps)
        self.momentum_share = momentum_share

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Change every parameter that has a gradient."""
        (group,) = self.param_groups
        lr, (_, beta) = group["lr"], group["betas"]
        group["lr"] = self.momentum_share * lr
        super().step()
        group["lr"] = lr
        for p in group["params"]:
            if p.grad is not None:
                square = self.state[p]["exp_avg_sq"] / (1 - beta ** self.state[p]["step"].item())
                deviation = square.sqrt_().add_(group["eps"])
                p.addcdiv_(p.grad, deviation, value=-(1 - self.momentum_share) * lr)
