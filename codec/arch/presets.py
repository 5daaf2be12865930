"""Presets: TOML files that name the networks for images and clips, and the training recipe."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from hashlib import sha256
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any

from codec.arch.codes import num_codes
from codec.arch.grids import Grid, coding_order, parse_grids, parse_levels
from codec.arch.motion import Prediction
from codec.arch.network import Architecture
from codec.arch.notation import Layer, parse_layer, parse_layers
from codec.errors import UsageError

# Pictures from these sizes on (pixels) get one and two more levels.
LARGE_PICTURES = (1_000_000, 3_000_000)
IMAGE_REFERENCE_PIXELS = 768 * 512
CLIP_REFERENCE_PIXELS = 21 * 352 * 288
MAX_STEPS_FACTOR = 4.0
SPEEDS = ("instant", "fast", "medium", "slow", "veryslow")


@dataclass(frozen=True)
class Plan:
    """Network description as a preset writes it: before the size of the picture is known.

    `steps` are forward and backward passes over the whole segment, for a 768x512 picture or 21
    frames of 352x288; smaller ones get more (`training_steps`). `static`, `dynamic` and `hyper`
    are level ranges such as "0-6", `slow` is "STRIDE:LEVELS"; in layers `X` is the number of
    channels that come in (temporal) or of the picture (synthesis). `motion` has the levels of the
    motion vectors, of which each frame uses one; `vector_frac` and `anchor_span` are those of
    `Architecture`. Where there are several of the three, the encoder chooses.
    """

    steps: int
    static: str
    synthesis: list[str]
    slow: str = ""
    dynamic: str = ""
    hyper: str = ""
    motion: list[str] = field(default_factory=list)
    vector_frac: list[int] = field(default_factory=lambda: [2])
    anchor_span: list[int] = field(default_factory=lambda: [32])
    contexts: int = 14
    ifce_features: int = 6
    ifce_levels: str = "0-2"
    arm_layers: int = 2
    temporal: list[str] = field(default_factory=list)
    up_taps: int = 8
    pre_taps: int = 7
    common_randomness: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError("steps is at least 1")
        if not (self.vector_frac and self.anchor_span):
            raise UsageError("vector_frac and anchor_span have one value at least")


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    `candidates` networks are started and share `candidate_share` of the steps, the best one goes
    on. Instead, with motion `growth_share` of the steps go to few frames at first, and of a large
    picture at most as much time to half its size. The last `tail_share` runs with rounded latents.
    Learning rates are those of SOAP (networks) and Adam (latents, which are multiplied by `gain`
    before they are rounded).
    """

    candidates: int = 3
    candidate_share: float = 0.1
    growth_share: float = 0.25
    tail_share: float = 0.05
    network_lr: float = 0.02
    latent_lr: float = 0.01
    tail_lr: float = 1e-4
    final_lr: float = 1e-5
    latent_betas: tuple[float, float] = (0.8, 0.95)
    gain: float = 16.0
    temperature: tuple[float, float] = (0.35, 0.08)
    noise: tuple[float, float] = (0.22, 0.15)

    def __post_init__(self) -> None:
        limits = (
            ("gain is above 0", self.gain > 0),
            ("temperature is above 0", min(self.temperature) > 0),
            ("candidate_share and tail_share are less than 1 together",
             self.candidate_share + self.tail_share < 1),
            ("growth_share and tail_share are less than 1 together",
             self.growth_share + self.tail_share < 1),
        )  # fmt: skip
        for rule, holds in limits:
            if not holds:
                raise UsageError(rule)


@dataclass(frozen=True)
class Preset:
    """A point on the curve of time against size.

    `lean` is tried beside `image` for small pictures, whose files networks are a large part of,
    and `tiny` as well for those that are hardly more than icons.
    """

    name: str
    description: str
    image: Plan
    clip: Plan
    training: Recipe
    cost: str = ""
    lean: Plan | None = None
    tiny: Plan | None = None

    @property
    def digest(self) -> str:
        """12 hex digits that change with whatever changes files: a name may come to mean
        something else."""
        parts = repr(replace(self, name="", description="", cost=""))
        return sha256(parts.encode()).hexdigest()[:12]


def preset_names() -> tuple[str, ...]:
    """Names of the presets that come with modcodec, fastest first."""
    names = [p.name[:-5] for p in resources.files("configs").iterdir() if p.name.endswith(".toml")]
    return tuple(sorted(names, key=lambda n: (SPEEDS.index(n) if n in SPEEDS else len(SPEEDS), n)))


def load_preset(name: str) -> Preset:
    """Read a preset by its name, or from a TOML file if `name` ends in .toml.

    Raises:
        UsageError: no such preset, or a file with wrong keys or values; the message names them.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"{name}: no such preset file")
        text = path.read_text(encoding="utf-8", errors="replace")
        return parse_preset(text, name=path.stem, source=name)
    if name not in preset_names():
        close = difflib.get_close_matches(name, preset_names(), 1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(preset_names())}"
        raise UsageError(f"no preset {name!r}; {hint}")
    text = (resources.files("configs") / f"{name}.toml").read_text(encoding="utf-8")
    return parse_preset(text, name=name, source=f"preset {name}")


def parse_preset(text: str, *, name: str, source: str) -> Preset:
    """Parse the TOML text of a preset; `source` is what error messages name."""
    try:
        data = tomllib.loads(text)
    except ValueError as error:  # of which TOMLDecodeError is one; another is for endless integers
        raise UsageError(f"{source}: not valid TOML: {error}") from error
    parts: dict[str, Any] = {"name": name, "description": "", **data}
    for key in ("lean", "tiny"):
        if isinstance(parts.get(key), Mapping) and isinstance(parts.get("image"), Mapping):
            values = {**parts["image"], **parts[key]}
            parts[key] = _section(Plan, values, where=f"{source}: [{key}]")
    for key, kind in (("image", Plan), ("clip", Plan), ("training", Recipe)):
        parts[key] = _section(kind, parts.get(key), where=f"{source}: [{key}]")
    return _section(Preset, parts, where=source)


def _section(kind: type, values: object, *, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} is missing")
    known = {f.name: f for f in fields(kind)}
    for key, value in values.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(f"{where}: unknown key {key!r}{hint}")
        _check_value(known[key].type, value, where=f"{where}: {key}")
    for key, wanted in known.items():
        if key not in values and wanted.default is wanted.default_factory is MISSING:
            raise UsageError(f"{where}: {key} is missing")
    try:
        return kind(**{k: tuple(v) if "tuple" in known[k].type else v for k, v in values.items()})
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _check_value(annotation: str, value: object, *, where: str) -> None:
    def is_number(x: object) -> bool:
        return isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x < math.inf

    fits = {
        "str": isinstance(value, str),
        "int": isinstance(value, int) and not isinstance(value, bool) and value >= 0,
        "float": is_number(value),
        "bool": isinstance(value, bool),
        "list[str]": isinstance(value, list) and all(isinstance(x, str) for x in value),
        "list[int]": isinstance(value, list) and all(type(x) is int for x in value),
        "tuple[float, float]": isinstance(value, list)
        and len(value) == 2
        and all(map(is_number, value)),
    }
    if not fits.get(annotation, True):
        raise UsageError(f"{where} = {value!r} is not a valid {annotation}")


def training_steps(steps: int, num_pixels: int, *, reference_pixels: int) -> int:
    """Steps for a segment: steps * sqrt(reference / pixels) where it is smaller than the reference.

    At most four times `steps`: a small segment takes less time all the same, and needs it less.
    """
    factor = math.sqrt(reference_pixels / num_pixels)
    return round(steps * min(MAX_STEPS_FACTOR, max(1.0, factor)))


def build_architectures(
    plan: Plan, *, num_channels: int, num_frames: int, height: int, width: int
) -> list[Architecture]:
    """Fit a plan to a segment: more levels for large pictures, fewer for tiny ones.

    Returns:
        One architecture for each description of motion among which the encoder chooses.

    Raises:
        UsageError: a plan that does not describe a network.
    """
    choices = [("", Architecture.vector_frac, Architecture.anchor_span)]
    if plan.motion:
        choices = list(product(plan.motion, plan.vector_frac, plan.anchor_span))
    size = {"num_frames": num_frames, "height": height, "width": width}
    distinct: dict[tuple[Architecture, Prediction], Architecture] = {}
    for choice in choices:
        arch = _build(plan, *choice, num_channels=num_channels, **size)
        # A short segment does not tell some spans apart.
        distinct.setdefault((replace(arch, anchor_span=1), arch.prediction(num_frames)), arch)
    return list(distinct.values())


def _build(
    plan: Plan,
    motion: str,
    vector_frac: int,
    anchor_span: int,
    *,
    num_channels: int,
    num_frames: int,
    height: int,
    width: int,
) -> Architecture:
    grids = _fit_grids(plan, motion, num_frames=num_frames, height=height, width=width)
    ifce = parse_levels(plan.ifce_levels)
    if ifce and ifce != tuple(range(ifce[0], ifce[-1] + 1)):
        raise UsageError(f"ifce_levels {plan.ifce_levels!r}: write one range such as 0-2")
    return Architecture(
        grids=grids,
        num_contexts=plan.contexts,
        ifce_features=plan.ifce_features if ifce else 0,
        ifce_levels=(ifce[0], ifce[-1]) if ifce else (0, 0),
        arm_layers=plan.arm_layers,
        temporal=_fit_temporal(plan.temporal, grids, num_frames, anchor_span),
        synthesis=parse_layers(plan.synthesis, num_out=num_channels),
        up_taps=plan.up_taps,
        pre_taps=plan.pre_taps,
        common_randomness=plan.common_randomness,
        vector_frac=vector_frac,
        anchor_span=anchor_span,
    )


def _fit_grids(
    plan: Plan, motion: str, *, num_frames: int, height: int, width: int
) -> tuple[Grid, ...]:
    texts = {name: getattr(plan, name) for name in ("static", "slow", "dynamic", "hyper")}
    grids = parse_grids(**texts, motion=motion)
    coarsest = max(grid.level for grid in grids if not grid.motion)
    more = sum(height * width >= limit for limit in LARGE_PICTURES)
    grown = list(grids)
    for extra in range(1, more + 1):
        grown += [
            replace(g, level=g.level + extra) for g in grids if g.level == coarsest and not g.motion
        ]
    # A level at which the whole picture is one latent is the last that can say anything.
    last = max(height - 1, width - 1).bit_length()
    block = min((grid.level for grid in grids if grid.motion), default=0)
    kept = [grid for grid in grown if grid.level <= (max(last, block) if grid.motion else last)]
    # Whatever changes in time still needs a grid that does.
    left = {grid.time_stride for grid in kept if not grid.hyper}
    kept += [Grid(last, s) for s in {g.time_stride for g in grown if not g.hyper} - left]
    static = {(grid.level, grid.hyper) for grid in kept if grid.time_stride == 0}

    def repeats_static(grid: Grid) -> bool:
        is_alike = (grid.level, grid.hyper) in static and not grid.motion
        return is_alike and grid.time_stride >= num_frames

    return coding_order(grid for grid in kept if not repeats_static(grid))


def _fit_temporal(
    texts: list[str], grids: tuple[Grid, ...], num_frames: int, anchor_span: int
) -> tuple[Layer, ...]:
    latents = [grid.level for grid in grids if not grid.hyper]
    layers: list[Layer] = []
    channels, below = 0, max(latents) + 1
    for text in texts:
        level = min(parse_layer(text, num_out=1).level, max(latents))
        channels += sum(level <= grid < below for grid in latents)
        layer = replace(parse_layer(text, num_out=channels), level=level)
        if layer.code and num_codes(layer, num_frames, anchor_span) == 1:
            layer = replace(layer, code=0, every=0)
        layers.append(layer)
        channels, below = layer.out, level
    return tuple(layers)
