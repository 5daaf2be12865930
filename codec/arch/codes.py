"""Which frames of a segment share a modulation code, as both wings agree on it."""

from __future__ import annotations

from codec.arch.motion import Prediction, frames_of, prediction_levels
from codec.arch.notation import BY_LEVEL, Layer


def num_codes(layer: Layer, num_frames: int, anchor_span: int) -> int:
    """Modulation codes of a layer in a segment, the first always zero.

    One for every `every` frames, or for each prediction level.
    """
    if layer.every == BY_LEVEL:
        return len(prediction_levels(num_frames, anchor_span))
    return -(-num_frames // layer.every) if layer.every else 1


def code_owners(layer: Layer, prediction: Prediction) -> tuple[int, ...]:
    """Numbers of the codes that the frames of some levels have, in display order.

    Args:
        layer: an adaptive layer.
        prediction: all levels of a segment, or the first of them.

    Returns:
        For each frame a number below `num_codes` of the whole segment.
    """
    if layer.every != BY_LEVEL:
        return tuple(t // layer.every if layer.every else 0 for t in frames_of(prediction))
    level_of = {inter.frame: k for k, level in enumerate(prediction) for inter in level}
    return tuple(level_of[t] for t in frames_of(prediction))
