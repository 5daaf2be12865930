"""From latents to pictures in the synthesis format: one way for decoding and for measuring."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from codec.arch import Architecture, Inter, Prediction, references_of
from codec.fixedpoint.motion import compose, frame_field, vectors_of
from codec.fixedpoint.noise import noise_planes
from codec.fixedpoint.program import Program
from codec.fixedpoint.stack import (
    Features,
    FrameFeatures,
    channel_levels,
    temporal_stack,
)
from codec.fixedpoint.synthesis import filter_composed, synthesise
from codec.jit import map_ahead

# Up to this size there is memory for a frame in each thread.
MAX_PIXELS_SIDE_BY_SIDE = 1 << 20

_Shown = TypeVar("_Shown")


@dataclass(frozen=True)
class Scene:
    """What the frames of a segment are made from.

    `features_at(frame, threads)` gives the features of a frame; `latents` (slices, h, w) of each
    grid in coding order are read for motion.
    """

    program: Program
    latents: Sequence[np.ndarray]
    num_frames: int
    height: int
    width: int
    noise_seed: int
    features_at: Callable[[int, int], Features]


def make_scene(
    program: Program,
    latents: Sequence[np.ndarray],
    codes: Mapping[str, np.ndarray],
    *,
    num_frames: int,
    height: int,
    width: int,
    noise_seed: int = 0,
    threads: int = 1,
) -> Scene:
    """The scene of a segment; here the layers run that need all its frames at once.

    Args:
        program: a checked network.
        latents: int16 (slices, h, w) of each grid, in coding order.
        codes: of the segment, by name (`codec.arch.segment_specs`).

    Raises:
        BitstreamError: a code under which an accumulator could leave its type.
    """
    size = {"height": height, "width": width}
    low = temporal_stack(program, latents, codes, num_frames=num_frames, threads=threads, **size)
    features_at = FrameFeatures(program, low, latents, **size).at
    return Scene(program, latents, num_frames, height, width, noise_seed, features_at)


def frame_noise(
    program: Program, *, seed: int, frame: int, height: int, width: int, threads: int = 1
) -> np.ndarray | None:
    """Noise planes (C, H, W) of a frame, or None where the architecture has none."""
    if not program.arch.common_randomness:
        return None
    return noise_planes(
        channel_levels(program.arch),
        seed=seed,
        frame=frame,
        height=height,
        width=width,
        numerics=program.numerics,
        threads=threads,
    )


def making_order(arch: Architecture, frames: range, num_frames: int) -> Prediction:
    """The frames that are made so that `frames` can be shown, level by level.

    Those of one level do not depend on each other. Without motion there is one level.
    """
    if arch.has_motion:
        return references_of(frames, arch.prediction(num_frames))
    return (tuple(Inter(frame, -1, -1) for frame in frames),)


def make_picture(
    scene: Scene,
    inter: Inter,
    feature: Features,
    pictures: Mapping[int, np.ndarray],
    *,
    threads: int = 1,
) -> np.ndarray:
    """One frame, (C, H, W) in the synthesis format; in [0, 1] where there is motion.

    `pictures` has those that it is predicted from, by number.
    """
    program, size = scene.program, {"height": scene.height, "width": scene.width}
    noise = frame_noise(program, seed=scene.noise_seed, frame=inter.frame, threads=threads, **size)
    straight = synthesise(program, *feature, noise=noise, threads=threads)
    if not program.arch.has_motion:
        return straight
    vectors = vectors_of(frame_field(program.arch, scene.latents, inter.frame, **size), inter)
    references = [pictures[frame] for frame in (inter.past, inter.future)[: len(vectors)]]
    composed = compose(program, straight, references, vectors, threads=threads)
    return filter_composed(program, composed, threads=threads)


def draw(
    scene: Scene,
    show: Callable[[np.ndarray, int], _Shown],
    *,
    frames: range | None = None,
    threads: int = 1,
) -> Iterator[_Shown]:
    """`show(picture, threads)` of each wanted frame, in display order.

    Small frames of a level are made side by side, of others the strips. Pictures that others are
    predicted from are held until the end.
    """
    frames = range(scene.num_frames) if frames is None else frames
    levels = making_order(scene.program.arch, frames, scene.num_frames)
    references = {frame for level in levels for inter in level for frame in inter[1:]}
    pictures: dict[int, np.ndarray] = {}
    shown: dict[int, _Shown] = {}
    left = deque(frames)

    def make(made: tuple[Inter, Features], threads: int) -> tuple[np.ndarray | None, list[_Shown]]:
        inter, feature = made
        picture = make_picture(scene, inter, feature, pictures, threads=threads)
        results = [show(picture, threads)] if inter.frame in frames else []
        return picture if inter.frame in references else None, results

    for level in levels:
        for inter, (picture, results) in zip(level, _map(scene, make, level, threads), strict=True):
            if picture is not None:
                pictures[inter.frame] = picture
            for result in results:
                shown[inter.frame] = result
            while left and left[0] in shown:
                yield shown.pop(left.popleft())


def _map(
    scene: Scene,
    make: Callable[[tuple[Inter, Features], int], _Shown],
    level: Sequence[Inter],
    threads: int,
) -> Iterator[_Shown]:
    """`make` of each frame of a level and its features, in order."""
    is_large = scene.height * scene.width > MAX_PIXELS_SIDE_BY_SIDE
    side_by_side, inside = (1, threads) if is_large or len(level) < threads else (threads, 1)
    made = ((inter, scene.features_at(inter.frame, inside)) for inter in level)
    return map_ahead(lambda job: make(job, inside), made, threads=side_by_side)


def render(
    program: Program,
    latents: Sequence[np.ndarray],
    codes: Mapping[str, np.ndarray],
    *,
    num_frames: int,
    height: int,
    width: int,
    noise_seed: int = 0,
    frames: range | None = None,
    threads: int = 1,
) -> Iterator[np.ndarray]:
    """The picture of each frame, (C, H, W) in the synthesis format.

    Arguments and errors as for `make_scene`; `frames` are those that are wanted, None means all.
    """
    scene = make_scene(
        program,
        latents,
        codes,
        num_frames=num_frames,
        height=height,
        width=width,
        noise_seed=noise_seed,
        threads=threads,
    )
    yield from draw(scene, lambda picture, _: picture, frames=frames, threads=threads)
