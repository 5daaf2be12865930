"""The bits of all latents of a segment: contexts, IFCE and ARM over every grid at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codec.arch import Architecture, grid_shape, ifce_sources, slice_of
from codec.arch.motion import MOTION_CONTEXTS, MOTION_LAYERS
from codec.layers.arm import Arm, Ifce, gather_contexts, laplace_bits, upsample_nearest


def motion_arm() -> Arm:
    """The ARM of motion grids; at first it expects the mean of the vectors beside and above."""
    arm = Arm(MOTION_CONTEXTS, MOTION_LAYERS)
    with torch.no_grad():
        arm.stab_weight.zero_()
        arm.stab_weight[0, :2] = 0.5
        arm.out_weight.mul_(0.1)
    return arm


class EntropyModel(nn.Module):
    """One ARM shared by all grids and an IFCE for each grid that has one."""

    def __init__(self, arch: Architecture, *, num_frames: int, height: int, width: int) -> None:
        super().__init__()
        self.arch, self.num_frames, self.size = arch, num_frames, (height, width)
        self.arm = Arm(arch.arm_width, arch.arm_layers)
        self.motion_arm = motion_arm() if arch.has_motion else None
        self.ifce = nn.ModuleDict(
            {
                str(i): Ifce(len(sources), arch.ifce_features)
                for i in range(len(arch.grids))
                if (sources := ifce_sources(arch, i))
            }
        )

    @property
    def arms(self) -> list[tuple[Arm, range]]:
        """Each ARM with the grids that it serves: that of motion, if there is one, comes first."""
        first, count = self.arch.num_motion_grids, len(self.arch.grids)
        parts = [(self.motion_arm, range(first)), (self.arm, range(first, count))]
        return [(arm, part) for arm, part in parts if arm is not None]

    def _sources(self, index: int, latents: Sequence[Tensor]) -> Tensor:
        """Coarser latents of grid `index` at half its resolution: (S, sources, h', w')."""
        arch, grid = self.arch, self.arch.grids[index]
        level = grid.level + 1
        height, width = (-(-size >> level) for size in self.size)
        num_slices = grid.num_slices(self.num_frames)
        planes = []
        for source in ifce_sources(arch, index):
            other = arch.grids[source]
            frames = [j * grid.time_stride for j in range(num_slices)]
            picked = latents[source][[slice_of(other, frame) for frame in frames]]
            planes.append(upsample_nearest(picked.unsqueeze(1), other.level - level, height, width))
        return torch.cat(planes, dim=1)

    def contexts(self, index: int, latents: Sequence[Tensor]) -> Tensor:
        """(width, S * h * w) inputs of the ARM of grid `index`; latents are (S, h, w) each."""
        arch, latent = self.arch, latents[index]
        if arch.grids[index].motion:
            return gather_contexts(latent, MOTION_CONTEXTS).view(MOTION_CONTEXTS, -1)
        spatial = gather_contexts(latent, arch.num_contexts).view(arch.num_contexts, -1)
        if not arch.ifce_features:
            return spatial
        if str(index) in self.ifce:
            half = self.ifce[str(index)](self._sources(index, latents))
            height, width = grid_shape(arch.grids[index], *self.size)
            features = upsample_nearest(half, 1, height, width).reshape(arch.ifce_features, -1)
        else:
            features = spatial.new_zeros(arch.ifce_features, spatial.shape[1])
        return torch.cat([spatial, features], dim=0)

    def forward(self, latents: Sequence[Tensor]) -> Tensor:
        """Total bits of the latents, one (S, h, w) tensor per grid in coding order; a scalar."""
        return sum(self._bits(arm, part, latents) for arm, part in self.arms)

    def _bits(self, arm: Arm, part: range, latents: Sequence[Tensor]) -> Tensor:
        """Bits of some grids that share an ARM."""
        columns = torch.cat([self.contexts(i, latents) for i in part], dim=1)
        values = torch.cat([latents[i].reshape(-1) for i in part])
        return laplace_bits(values, *arm(columns)).sum()

    def tensors(self) -> dict[str, Tensor]:
        """Parameters by their names in the stream."""
        named = {f"arm.{name}": tensor for name, tensor in self.arm.tensors().items()}
        if self.motion_arm is not None:
            tensors = self.motion_arm.tensors().items()
            named |= {f"motion_arm.{name}": tensor for name, tensor in tensors}
        return named | self.ifce_tensors()

    def ifce_tensors(self) -> dict[str, Tensor]:
        """Those of the IFCEs by their names in the stream."""
        named = {}
        for index, ifce in self.ifce.items():
            named[f"ifce.{index}.weight"], named[f"ifce.{index}.bias"] = ifce.weight, ifce.bias
        return named
