"""The architecture of one decoder: one description for float model and integer program."""

from codec.arch.codes import code_owners, num_codes
from codec.arch.grids import Grid, coding_order, grid_shape, parse_grids, slice_of
from codec.arch.motion import (
    Inter,
    Prediction,
    frames_of,
    motion_grids,
    prediction_levels,
    references_of,
)
from codec.arch.network import (
    Architecture,
    channels_at,
    ifce_sources,
    is_balanced,
    pre_levels,
    synthesis_inputs,
    temporal_at,
    temporal_inputs,
    up_stages,
)
from codec.arch.notation import Layer, format_layer, parse_layer, parse_layers
from codec.arch.numerics import NARROW, WIDE, Numerics, numerics_for_depth
from codec.arch.parameters import ParamSpec, exponent_groups, param_specs, segment_specs

__all__ = [
    "NARROW",
    "WIDE",
    "Architecture",
    "Grid",
    "Inter",
    "Layer",
    "Numerics",
    "ParamSpec",
    "Prediction",
    "channels_at",
    "code_owners",
    "coding_order",
    "exponent_groups",
    "format_layer",
    "frames_of",
    "grid_shape",
    "ifce_sources",
    "is_balanced",
    "motion_grids",
    "num_codes",
    "numerics_for_depth",
    "param_specs",
    "parse_grids",
    "parse_layer",
    "parse_layers",
    "pre_levels",
    "prediction_levels",
    "references_of",
    "segment_specs",
    "slice_of",
    "synthesis_inputs",
    "temporal_at",
    "temporal_inputs",
    "up_stages",
]
