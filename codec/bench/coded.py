"""Files to decode: networks and latents of a short training, repeated over the whole picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from codec.bench.cases import Case
from codec.bench.tasks import make_task, prepare_process, whole_task
from codec.bitstream.writer import StreamWriter, write_still
from codec.encoder.coding import code_segment
from codec.freeze.measure import Frozen, Target
from codec.freeze.quantize import to_arrays
from codec.freeze.search import freeze
from codec.layers.quantizers import hard_round
from codec.media.frames import Frame, PixelFormat
from codec.model.picture import latent_shapes
from codec.training.states import Task
from codec.training.trainer import Trainer

# Side of the part that is trained: a multiple of the space stride of all but huge grids.
STILL_PART, CLIP_PART = 256, 128


def make_file(case: Case, *, steps: int, threads: int) -> bytes:
    """A complete stream of the case's size; to be run in a process of its own.

    A part in the middle of the picture is trained for `steps` steps and frozen. Its latents,
    repeated to the size of the picture, are range-coded with its networks. The decoder thus has
    real latents at a real rate, but the picture is not that of the case.
    """
    prepare_process(threads)
    task = whole_task(case)
    frozen = _train_part(case, task, steps=steps, threads=threads)
    size = {"height": task.height, "width": task.width}
    shapes = latent_shapes(task.arch, num_frames=case.num_frames, **size)
    pairs = zip(frozen.latents, shapes, strict=True)
    repeated = replace(frozen, latents=[repeat_to(latent, shape) for latent, shape in pairs])
    coded = code_segment(repeated, task, first_frame=0, network_id=0, threads=threads)
    file = io.BytesIO()
    if case.info.is_still:
        write_still(file, case.info, network=coded.network, segment=coded.segment)
    else:
        writer = StreamWriter(file, case.info)
        writer.network(0, coded.network)
        writer.segment(coded.segment)
        writer.finish()
    return file.getvalue()


def _train_part(case: Case, task: Task, *, steps: int, threads: int) -> Frozen:
    side = STILL_PART if case.info.is_still else CLIP_PART
    size = {"height": min(side, task.height), "width": min(side, task.width)}
    frames = [crop_middle(frame, task.format, **size) for frame in task.frames]
    part = make_task(case, frames, task.arch, **size)
    trained = Trainer(part, lambda step, total, cost: None).run(steps)
    latents = [hard_round(latent).numpy() for latent in trained.latents]
    target = Target(
        frames=frames,
        format=task.format,
        **size,
        rd_lambda=task.rd_lambda,
        noise_seed=task.seed,
        threads=threads,
    )
    arrays = to_arrays(trained.model.tensors())
    return freeze(task.arch, task.numerics, arrays, latents, target)


def crop_middle(frame: Frame, pixel_format: PixelFormat, *, height: int, width: int) -> Frame:
    """The middle of a frame, as far as chroma samples can be cut."""
    planes = []
    rows, columns = frame.planes[0].shape
    # Even, so that chroma samples stay where they belong.
    top, left = (rows - height) // 4 * 2, (columns - width) // 4 * 2
    for plane, shape in zip(frame.planes, pixel_format.plane_shapes(height, width), strict=True):
        y, x = top * plane.shape[0] // rows, left * plane.shape[1] // columns
        planes.append(np.ascontiguousarray(plane[y : y + shape[0], x : x + shape[1]]))
    return Frame(tuple(planes), frame.pts_ticks)


def repeat_to(latent: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Latents (S, h, w) repeated in rows and columns up to a larger shape (S, H, W)."""
    _, height, width = latent.shape
    after = [(0, 0), (0, shape[1] - height), (0, shape[2] - width)]
    return np.pad(latent, after, mode="wrap")
