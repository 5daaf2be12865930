"""The description of one network: grids, entropy model, upsampling, temporal layers, synthesis."""

from __future__ import annotations

from dataclasses import dataclass

from codec.arch.grids import Grid, coding_order
from codec.arch.motion import (
    MAX_BLOCK_LEVEL,
    MIN_BLOCK_LEVEL,
    Prediction,
    check_motion_fields,
    prediction_levels,
)
from codec.arch.notation import Layer
from codec.errors import UsageError

# Causal neighbours (dy, dx) in the order in which they are used (Cool-Chic 5, priority map).
CONTEXT_ORDER = (
    (0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-3, 0), (0, -3),
    (-1, -2), (-2, 1), (-2, -1), (-1, 2), (-2, -2), (-1, -3), (-2, 2), (-3, 1),
    (0, -4), (-1, 3), (-2, -3), (-2, 3), (-3, -1), (-3, -2), (-3, 2), (-4, 0),
)  # fmt: skip
NUM_WEIGHTS = 2  # channels beside the residue: blend of the two predictions, and gain
CONTEXT_REACH_UP = 4
CONTEXT_REACH_SIDE = 4

MAX_GRIDS = 64
MAX_IFCE_FEATURES = 31
MAX_ARM_LAYERS = 7
MAX_LAYERS = 15

# Half of the x2 interpolation kernels, outermost tap first, in 1/256: bilinear and bicubic.
UP_DEFAULT_Q8 = {4: (64, 192), 8: (-9, -27, 67, 225)}
PRE_TAPS = (1, 3, 5, 7)


@dataclass(frozen=True)
class Architecture:
    """Everything a decoder must know to build the network of a segment.

    Args:
        grids: latent and hyper grids in coding order.
        num_contexts: causal neighbours the ARM sees.
        ifce_features: context features from coarser grids (0: no IFCE).
        ifce_levels: (first, last) level of the latent grids that get those features.
        arm_layers: hidden residual layers of the ARM.
        temporal: layers on the stack of frames, coarse to fine.
        synthesis: layers from features to picture channels; the last one's `out` is their count.
            With motion grids, the 1x1 layers before the first larger kernel make the residue and
            two more channels, blend and gain; the layers from there on filter what these make of
            the prediction.
        up_taps: taps of the x2 interpolation kernels, 4 or 8.
        pre_taps: taps of the filters before concatenation: 1 (none), 3, 5 or 7.
        common_randomness: whether noise planes are the second half of the synthesis inputs.
        vector_frac: a motion latent of 1 is 2^-vector_frac luma samples, 0 to 4.
        anchor_span: frames from one anchor to the next at most, a power of two up to 64.

    Raises:
        UsageError: a combination that no decoder can build.
    """

    grids: tuple[Grid, ...]
    num_contexts: int
    ifce_features: int
    ifce_levels: tuple[int, int]
    arm_layers: int
    temporal: tuple[Layer, ...]
    synthesis: tuple[Layer, ...]
    up_taps: int = 8
    pre_taps: int = 7
    common_randomness: bool = False
    vector_frac: int = 2
    anchor_span: int = 32

    def __post_init__(self) -> None:
        if not 1 <= len(self.grids) <= MAX_GRIDS or self.grids != coding_order(self.grids):
            raise UsageError(f"an architecture has 1 to {MAX_GRIDS} grids in coding order")
        if not any(not grid.hyper for grid in self.grids):
            raise UsageError("an architecture needs at least one latent grid")
        limits = (
            ("num_contexts", self.num_contexts, 1, len(CONTEXT_ORDER)),
            ("ifce_features", self.ifce_features, 0, MAX_IFCE_FEATURES),
            ("arm_layers", self.arm_layers, 0, MAX_ARM_LAYERS),
            ("number of synthesis layers", len(self.synthesis), 1, MAX_LAYERS),
            ("number of temporal layers", len(self.temporal), 0, MAX_LAYERS),
        )
        for name, value, low, high in limits:
            if not low <= value <= high:
                raise UsageError(f"{name} is {value}: it must be from {low} to {high}")
        if self.up_taps not in UP_DEFAULT_Q8 or self.pre_taps not in PRE_TAPS:
            raise UsageError("up_taps is 4 or 8, pre_taps 1, 3, 5 or 7")
        check_motion_fields(self.vector_frac, self.anchor_span)
        _check_motion(self)
        _check_temporal(self)
        _check_synthesis(self)

    @property
    def num_channels(self) -> int:
        """Picture channels that the synthesis makes."""
        if self.has_motion and self.num_trunk == len(self.synthesis):
            return self.synthesis[-1].out - NUM_WEIGHTS
        return self.synthesis[-1].out

    @property
    def has_motion(self) -> bool:
        """Whether frames are predicted from others."""
        return any(grid.motion for grid in self.grids)

    @property
    def num_motion_grids(self) -> int:
        """Grids of motion vectors, which come first."""
        return sum(grid.motion > 0 for grid in self.grids)

    @property
    def block_level(self) -> int:
        """log2 of the side of the blocks that share a motion vector."""
        return min(grid.level for grid in self.grids if grid.motion)

    def prediction(self, num_frames: int) -> Prediction:
        """In which order the frames of a segment are made, and from which others."""
        return prediction_levels(num_frames, self.anchor_span)

    @property
    def num_trunk(self) -> int:
        """Synthesis layers before the prediction comes in; all of them without motion."""
        if not self.has_motion:
            return len(self.synthesis)
        larger = (i for i, layer in enumerate(self.synthesis) if layer.kernel_space > 1)
        return next(larger, len(self.synthesis))

    @property
    def num_straight(self) -> int:
        """Outputs of the stabiliser, which is added to the last layer of the trunk."""
        return self.num_channels + (NUM_WEIGHTS if self.has_motion else 0)

    @property
    def arm_width(self) -> int:
        """Width of the ARM: contexts plus IFCE features."""
        return self.num_contexts + self.ifce_features

    @property
    def latent_grids(self) -> tuple[Grid, ...]:
        """The grids that feed the picture, in coding order."""
        return tuple(grid for grid in self.grids if not grid.hyper)

    @property
    def max_level(self) -> int:
        """Level at which the upsampling starts."""
        return max(grid.level for grid in self.latent_grids)

    @property
    def num_features(self) -> int:
        """Feature channels at full resolution, noise planes not counted."""
        return channels_at(self, 0)

    @property
    def num_inputs(self) -> int:
        """Channels that enter the first synthesis layer."""
        return self.num_features * (2 if self.common_randomness else 1)


def up_stages(arch: Architecture) -> tuple[int, ...]:
    """Levels that the x2 stages arrive at, in order: max_level - 1 down to 0."""
    return tuple(range(arch.max_level - 1, -1, -1))


def pre_levels(arch: Architecture) -> tuple[int, ...]:
    """Levels whose grids are filtered before they join the stack (all but the coarsest)."""
    if arch.pre_taps == 1:
        return ()
    levels = {grid.level for grid in arch.latent_grids}
    return tuple(level for level in up_stages(arch) if level in levels)


def temporal_at(arch: Architecture, level: int) -> tuple[int, ...]:
    """Indices of the temporal layers that work at `level`."""
    return tuple(i for i, layer in enumerate(arch.temporal) if layer.level == level)


def channels_at(arch: Architecture, level: int) -> int:
    """Channels of the stack at `level`, after the temporal layers there."""
    channels = 0
    for here in range(arch.max_level, level - 1, -1):
        channels += sum(grid.level == here for grid in arch.latent_grids)
        for index in temporal_at(arch, here):
            channels = arch.temporal[index].out
    return channels


def temporal_inputs(arch: Architecture, index: int) -> int:
    """Channels that enter temporal layer number `index`."""
    layer = arch.temporal[index]
    same = [i for i in temporal_at(arch, layer.level) if i < index]
    if same:
        return arch.temporal[same[-1]].out
    coarser = channels_at(arch, layer.level + 1) if layer.level < arch.max_level else 0
    return coarser + sum(grid.level == layer.level for grid in arch.latent_grids)


def synthesis_inputs(arch: Architecture, index: int) -> int:
    """Channels that enter synthesis layer number `index`."""
    if index == 0:
        return arch.num_inputs
    is_composed = arch.has_motion and index == arch.num_trunk
    return arch.synthesis[index - 1].out - (NUM_WEIGHTS if is_composed else 0)


def is_balanced(arch: Architecture, index: int) -> bool:
    """Whether a synthesis layer has, instead of a bias, what makes zero of features that are zero.

    With motion that is the last layer of the trunk: a frame without latents is its prediction.
    """
    return arch.has_motion and index == arch.num_trunk - 1


def ifce_sources(arch: Architecture, index: int) -> tuple[int, ...]:
    """Indices of the grids whose latents feed the IFCE of grid `index`; empty where it has none.

    They are the grids coded before it that are coarser (level greater than its own), but for
    motion grids.
    """
    grid = arch.grids[index]
    first, last = arch.ifce_levels
    if arch.ifce_features == 0 or grid.hyper or not first <= grid.level <= last:
        return ()
    return tuple(
        i
        for i, other in enumerate(arch.grids[:index])
        if other.level > grid.level and not other.motion
    )


def _check_motion(arch: Architecture) -> None:
    if not arch.has_motion:
        return
    if any(grid.motion and (grid.time_stride != 1 or not grid.hyper) for grid in arch.grids):
        raise UsageError("motion grids have a slice for each frame and are hyper grids")
    if not MIN_BLOCK_LEVEL <= arch.block_level <= MAX_BLOCK_LEVEL:
        levels = f"from {MIN_BLOCK_LEVEL} to {MAX_BLOCK_LEVEL}"
        raise UsageError(f"the finest motion level is {arch.block_level}: it must be {levels}")
    if arch.num_trunk == 0 or arch.synthesis[arch.num_trunk - 1].out != arch.num_straight:
        raise UsageError(
            "with motion, the synthesis begins with 1x1 layers that make two channels more than "
            "the picture has"
        )


def _check_temporal(arch: Architecture) -> None:
    levels = [layer.level for layer in arch.temporal]
    if levels != sorted(levels, reverse=True):
        raise UsageError("temporal layers go from coarse to fine resolutions")
    for index, layer in enumerate(arch.temporal):
        if not layer.is_temporal:
            raise UsageError(f"temporal layer {index + 1} is a {layer.kind} layer of the synthesis")
        if layer.level > arch.max_level:
            raise UsageError(f"temporal layer {index + 1} is coarser than the coarsest latent grid")
        inputs = temporal_inputs(arch, index)
        if (layer.kind == "ck" or layer.res) and layer.out != inputs:
            raise UsageError(
                f"temporal layer {index + 1} gets {inputs} channels and makes {layer.out}: "
                "ck and residual layers keep the number"
            )
        groups = layer.groups or inputs
        if inputs % groups or layer.out % groups:
            raise UsageError(f"temporal layer {index + 1}: groups must divide its channels")
        if layer.every and not layer.code:
            raise UsageError(f"temporal layer {index + 1}: every needs code")


def _check_synthesis(arch: Architecture) -> None:
    for index, layer in enumerate(arch.synthesis):
        inputs = synthesis_inputs(arch, index)
        if layer.is_temporal:
            raise UsageError(f"synthesis layer {index + 1} is a temporal ({layer.kind}) layer")
        if layer.kind == "difference" and layer.kernel_space == 1:
            raise UsageError(f"synthesis layer {index + 1}, a difference layer, has a 1x1 kernel")
        if layer.kind in ("residual", "difference") and layer.out != inputs:
            raise UsageError(
                f"synthesis layer {index + 1} is a {layer.kind} layer: it gets {inputs} channels, "
                f"so it cannot make {layer.out}"
            )
