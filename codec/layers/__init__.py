"""Differentiable layers of the decoder network."""

from codec.layers.adaptive import AdaptiveConv3DMod, demodulation
from codec.layers.blocks import TemporalAdaptive, TemporalCK, TemporalConv
from codec.layers.ckconv import SIREN, CKConvND
from codec.layers.conv3d import Conv3d
from codec.layers.masks import ExponentialModulationND
from codec.layers.synthesis import DifferenceConv2d, Synthesis, SynthesisConv2d
from codec.layers.temporal import apply_adaptive, apply_ck, apply_conv

__all__ = [
    "SIREN",
    "AdaptiveConv3DMod",
    "CKConvND",
    "Conv3d",
    "DifferenceConv2d",
    "ExponentialModulationND",
    "Synthesis",
    "SynthesisConv2d",
    "TemporalAdaptive",
    "TemporalCK",
    "TemporalConv",
    "apply_adaptive",
    "apply_ck",
    "apply_conv",
    "demodulation",
]
