"""How the distortion depends on the latents at the end of a training: which changes may pay."""

from __future__ import annotations

import numpy as np
import torch

from codec.layers.quantizers import hard_round
from codec.training.backend import backend_for
from codec.training.loss import error_planes
from codec.training.states import Task, Trained


def distortion_slopes(task: Task, trained: Trained) -> list[np.ndarray]:
    """Derivatives of D with respect to the rounded latents, float32 (S, h, w) for each grid."""
    latents = [hard_round(latent).requires_grad_() for latent in trained.latents]
    channels = trained.model.picture(latents, task.noise)
    planes = error_planes(task.frames, task.format, task.device)
    error = backend_for(task.device).squared_error(channels, planes)
    slopes = torch.autograd.grad(error, latents, materialize_grads=True)
    return [slope.cpu().numpy() for slope in slopes]
