"""How J bends with the parameters of a network: which errors of rounding make up for others.

The Gauss-Newton matrix: a sum over samples of g g^T, where g is how an output changes with the
parameters. Samples are latents for the entropy model, and pixels for the synthesis.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, jacrev, vmap

from codec.arch import Architecture, ParamSpec
from codec.fixedpoint.program import Program
from codec.fixedpoint.stack import Features
from codec.freeze.measure import Meter
from codec.layers import Synthesis
from codec.layers.arm import Arm, laplace_bits
from codec.media.metrics import plane_weights
from codec.model.entropy import EntropyModel
from codec.model.picture import build_filters, synthesis_tensors

POOL_SIZE = 1 << 17
NUM_LATENTS = 1 << 13
NUM_PIXELS = 1 << 11
BATCH = 1 << 10
SEED = 1
# What errors of blend and gain weigh beside those of samples: the square of how far apart two
# predictions are, or what they have in common with the picture.
BLEND_WEIGHT = 0.01
UNPREDICTED = 0.5  # the prediction where there is no reference


def entropy_curvature(
    meter: Meter, arrays: Mapping[str, np.ndarray], specs: Sequence[ParamSpec]
) -> np.ndarray:
    """Second derivatives of lambda R, R the bits of all latents: float64 (P, P).

    The Fisher matrix, with what each latent is for what it could be. Latents are drawn by how
    strongly their bits depend on what the ARM gives, from a pool of about POOL_SIZE. Motion grids
    have an ARM of their own, which shares no derivatives with the other.

    Args:
        meter: has the latents.
        arrays: parameters by name, at which derivatives are taken.
        specs: parameters of the ARMs, in the order of the matrix.
    """
    model = EntropyModel(meter.arch, **meter.target.size).requires_grad_(False)
    _load(model.tensors(), arrays)
    parts = []
    for arm, grids in model.arms:
        names = _names(arm, model.tensors())
        own = [spec for spec in specs if spec.name in names]
        drawn = _drawn_latents(model, arm, grids, meter.latents)
        parts.append(_arm_curvature(meter, drawn, arm, names, own))
    return _block_diagonal(parts)


def _arm_curvature(
    meter: Meter,
    drawn: tuple[Tensor, Tensor, Tensor],
    arm: Arm,
    names: Mapping[str, str],
    specs: Sequence[ParamSpec],
) -> np.ndarray:
    """The part of one ARM, from the latents that were drawn for it."""
    contexts, values, counts = drawn
    # The Fisher matrix is that of nats.
    roots = (counts * math.log(2) * meter.target.bit_weight).sqrt()

    def bits(parameters: dict[str, Tensor], context: Tensor, value: Tensor) -> Tensor:
        mu, log_scale = functional_call(arm, parameters, (context[:, None],))
        return laplace_bits(value, mu[0], log_scale[0])

    slopes = vmap(grad(bits), (None, 0, 0))
    parameters = dict(arm.named_parameters())
    return _gram(
        _rows(slopes(parameters, *batch[:2]), names, specs) * batch[2][:, None]
        for batch in zip(*(t.split(BATCH) for t in (contexts, values, roots)), strict=True)
    )


def synthesis_curvature(
    meter: Meter,
    program: Program,
    arrays: Mapping[str, np.ndarray],
    features: Sequence[Features],
    specs: Sequence[ParamSpec],
) -> np.ndarray:
    """Second derivatives of the distortion: float64 (P, P).

    From NUM_PIXELS pixels of all frames. Chroma counts as if it were not subsampled, and hidden
    colour as if it were seen. With motion, every frame counts as if it had no reference.

    Args:
        meter: has the pictures.
        program: gives the format of the features.
        arrays: parameters by name, at which derivatives are taken.
        features: of each frame.
        specs: parameters of the synthesis, in the order of the matrix.
    """
    arch = meter.arch
    model = _Unpredicted(arch).requires_grad_(False)
    tensors = model.tensors()
    _load(tensors, arrays)
    names, reach = _names(model, tensors), _reach(arch)
    weights = [*plane_weights(meter.target.format)]
    weights += [BLEND_WEIGHT] * (arch.num_straight - arch.num_channels)
    roots = torch.tensor([2 * w / NUM_PIXELS for w in weights]).sqrt()

    def pixel(parameters: dict[str, Tensor], patch: Tensor) -> Tensor:
        return functional_call(model, parameters, (patch[None],))[0, :, reach, reach] * roots

    slopes = vmap(jacrev(pixel), (None, 0))
    parameters = dict(model.named_parameters())
    return _gram(
        _rows(slopes(parameters, batch), names, specs)
        for batch in _patches(meter, program, features).split(BATCH)
    )


class _Unpredicted(torch.nn.Module):
    """The synthesis of a frame without references; blend and gain are outputs too."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        trunk, self.filtered = arch.synthesis[: arch.num_trunk], arch.num_channels
        self.trunk = Synthesis(
            arch.num_inputs,
            trunk,
            flag_common_randomness=arch.common_randomness,
            is_balanced=arch.has_motion,
        )
        self.filters = torch.nn.Sequential(*build_filters(arch))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, num_straight, H, W)."""
        made = self.trunk(x)
        if made.shape[1] == self.filtered:
            return made
        picture = self.filters(made[:, : self.filtered] + UNPREDICTED)
        return torch.cat([picture, made[:, self.filtered :]], dim=1)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters by their names in the stream."""
        return synthesis_tensors(self.trunk, self.filters)


def _block_diagonal(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Square matrices along the diagonal of one, zeros beside them."""
    ends = np.cumsum([len(part) for part in parts])
    whole = np.zeros((ends[-1], ends[-1]))
    for part, end in zip(parts, ends, strict=True):
        whole[end - len(part) : end, end - len(part) : end] = part
    return whole


def _load(tensors: Mapping[str, Tensor], arrays: Mapping[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(torch.from_numpy(arrays[name]))


def _names(module: torch.nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """What a module calls its parameters, by their names in the stream."""
    own = {id(tensor): name for name, tensor in module.named_parameters()}
    return {name: own[id(tensor)] for name, tensor in tensors.items() if id(tensor) in own}


def _rows(
    slopes: Mapping[str, Tensor], names: Mapping[str, str], specs: Sequence[ParamSpec]
) -> Tensor:
    """Derivatives (n, {outputs,} *shape) by name -> (n * outputs, P), in the order of `specs`."""
    parts = [slopes[names[s.name]] for s in specs]
    return torch.cat([p.reshape(-1, s.size) for p, s in zip(parts, specs, strict=True)], dim=1)


def _gram(batches: Iterable[Tensor]) -> np.ndarray:
    """Sum of g g^T over the rows g of all batches (n, P): float64 (P, P)."""
    return sum((rows.T @ rows).double() for rows in batches).numpy()


def _drawn_latents(
    model: EntropyModel, arm: Arm, grids: range, latents: Sequence[np.ndarray]
) -> tuple[Tensor, Tensor, Tensor]:
    """Contexts (n, width) and values (n,) of latents, and how many each stands for (n,)."""
    rng = np.random.default_rng(SEED)
    share = min(1.0, POOL_SIZE / sum(latents[index].size for index in grids))
    planes = [torch.from_numpy(latent).float() for latent in latents]
    contexts, values = [], []
    for index in grids:
        own = torch.from_numpy(np.flatnonzero(rng.random(planes[index].numel()) < share))
        contexts.append(model.contexts(index, planes)[:, own])
        values.append(planes[index].flatten()[own])
    pool, values = torch.cat(contexts, dim=1), torch.cat(values)
    odds = _influence(arm, pool, values)
    # Where nothing has any, all are alike.
    odds = odds / odds.sum() if odds.any() else np.full(odds.size, 1 / odds.size)
    drawn = rng.choice(odds.size, size=NUM_LATENTS, p=odds)
    counts = torch.from_numpy(1 / (share * NUM_LATENTS * odds[drawn])).float()
    return pool[:, drawn].T, values[drawn], counts


def _influence(arm: Arm, contexts: Tensor, values: Tensor) -> np.ndarray:
    """How strongly the bits of each latent depend on the parameters of the last layer: (n,)."""
    outputs = [tensor.requires_grad_() for tensor in arm(contexts)]
    slopes = torch.autograd.grad(laplace_bits(values, *outputs).sum(), outputs)
    squares = sum(slope.square() for slope in slopes) * (1 + contexts.square().sum(0))
    return squares.double().sqrt().numpy()


def _reach(arch: Architecture) -> int:
    return sum(layer.kernel_space // 2 for layer in arch.synthesis)


def _patches(meter: Meter, program: Program, features: Sequence[Features]) -> Tensor:
    """Inputs of the synthesis around pixels drawn at random: (n, C, 2 reach + 1, 2 reach + 1).

    Beyond the edges they are replicated, which is what the first layer sees there.
    """
    rng, target = np.random.default_rng(SEED), meter.target
    place = rng.integers((len(features), target.height, target.width), size=(NUM_PIXELS, 3))
    around = np.arange(-_reach(meter.arch), _reach(meter.arch) + 1)
    parts = []
    for t, feature in enumerate(features):
        own = place[place[:, 0] == t, 1:]
        y = np.clip(own[:, :1] + around, 0, target.height - 1)[:, :, None]
        x = np.clip(own[:, 1:] + around, 0, target.width - 1)[:, None, :]
        made = np.zeros((feature.active.size, len(own), around.size, around.size), np.int32)
        made[feature.active] = feature.planes[:, y, x]
        noise = meter.noise(program, t)
        parts.append(made if noise is None else np.concatenate([made, noise[:, y, x]]))
    patches = np.concatenate(parts, axis=1).swapaxes(0, 1) * 2.0**-program.numerics.feature_frac
    return torch.from_numpy(patches.astype(np.float32))
