"""One door for every file that can be read: a still or a clip, by what is in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from codec.errors import UsageError
from codec.media.animation import read_animation
from codec.media.clips import is_picture_file, read_clip
from codec.media.files import checked_input
from codec.media.frames import Clip, Frame
from codec.media.stills import picture_kind, read_still
from codec.media.y4m import MAGIC, read_y4m

# Pillow's formats of which several pictures are an animation; of others the first is taken.
_ANIMATED = ("GIF", "PNG", "AVIF")
# Films of which Pillow knows only the signature or decodes a part.
_LEFT_TO_FFMPEG = ("MPEG", "FLI")


def open_source(path: str | os.PathLike, *, skip: int = 0, limit: int | None = None) -> Clip:
    """A picture or a clip, told apart by content; `limit` frames of a clip after `skip` others.

    An animated picture of more than one frame is a clip. Raises InputError for what cannot be read
    and UsageError for a selection of frames that makes no sense.
    """
    if skip < 0:
        raise UsageError(f"the number of frames to skip must not be negative, and is {skip}")
    if limit is not None and limit < 1:
        raise UsageError(f"the limit of frames must be at least 1, and is {limit}")
    path = checked_input(path)
    with path.open("rb") as file:
        if file.read(len(MAGIC)) == MAGIC:
            return _y4m(path, skip, limit)
    kind = picture_kind(path)
    if kind is None or kind.format in _LEFT_TO_FFMPEG:
        if is_picture_file(path):
            return _still(path, skip)
    elif kind.num_pictures == 1 or kind.format not in (*_ANIMATED, "WEBP"):
        return _still(path, skip, kind.num_pictures)
    elif kind.format == "WEBP":
        return read_animation(path, skip=skip, limit=limit)
    return read_clip(path, skip=skip, limit=limit)


def _still(path: Path, skip: int, num_pictures: int = 1) -> Clip:
    if skip:
        raise UsageError(f"{path}: is a single picture, so no frames can be skipped")
    clip = read_still(path)
    if num_pictures == 1:
        return clip
    note = f"only the first of its {num_pictures} pictures is read"
    return replace(clip, notes=(*clip.notes, note))


def _y4m(path: Path, skip: int, limit: int | None) -> Clip:
    with path.open("rb") as file:
        clip = read_y4m(file, name=str(path), skip=skip, limit=limit)
    return replace(clip, frames=_y4m_frames(path, skip, limit))


def _y4m_frames(path: Path, skip: int, limit: int | None) -> Iterator[Frame]:
    # Opened anew, so that a clip whose frames nobody asks for leaves no file open.
    with path.open("rb") as file:
        yield from read_y4m(file, name=str(path), skip=skip, limit=limit).frames
