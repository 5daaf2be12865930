"""One door for every file that can be written: the extension says what it becomes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from codec.errors import OutputError, UsageError
from codec.media.clip_writer import CLIP_EXTENSIONS, write_clip
from codec.media.files import reason
from codec.media.frames import AudioTrack, ClipInfo, Frame
from codec.media.stills import STILL_EXTENSIONS, write_still
from codec.media.y4m import write_y4m

_Y4M = ".y4m"
_NUMBER = re.compile(r"%(0[0-9]{1,2})?d")
_NAME_IN_FOLDER = "%06d.png"
_FIRST_NUMBER = 1


def write_output(
    path: str | os.PathLike,
    info: ClipInfo,
    frames: Iterable[Frame],
    *,
    metadata: dict[str, bytes] | None = None,
    audio: AudioTrack | None = None,
    codec: str | None = None,
    crf: int | None = None,
) -> tuple[str, ...]:
    """Writes a picture or a clip, and returns sentences about what the output does not hold.

    .mkv and .mp4 take `codec` and `crf` (see `write_clip`). .y4m has no sound. The extension of a
    picture takes one frame; with a number in the name (out_%04d.png), or for an existing directory,
    all frames are written, counted from 1, YUV as RGB (see `as_picture`). Raises UsageError and
    OutputError.
    """
    path = Path(path)
    extension = path.suffix.lower()
    if extension in CLIP_EXTENSIONS and not is_sequence(path):
        write_clip(path, info, frames, audio=audio, codec=codec, crf=crf)
        return ("metadata (ICC, EXIF, XMP) is left out",) if metadata else ()
    if codec is not None or crf is not None:
        raise UsageError(f"codec and crf are for {' and '.join(CLIP_EXTENSIONS)}, not for {path}")
    if is_sequence(path):
        _write_sequence(path, info, frames, metadata or {})
    elif extension == _Y4M:
        _write_y4m_file(path, info, frames)
    elif extension in STILL_EXTENSIONS:
        write_still(path, info, _only_frame(path, frames), metadata or {})
    else:
        known = " ".join((*CLIP_EXTENSIONS, _Y4M, *STILL_EXTENSIONS))
        raise OutputError(f"{path}: cannot write '{extension}' files; use one of {known}")
    return ("the sound is left out",) if audio is not None else ()


def is_sequence(path: str | os.PathLike) -> bool:
    """Whether an output name stands for many files: a directory, or a name like out_%04d.png."""
    path = Path(path)
    return path.is_dir() or "%" in path.name


def _write_sequence(
    path: Path, info: ClipInfo, frames: Iterable[Frame], metadata: dict[str, bytes]
) -> None:
    folder, pattern = (path, _NAME_IN_FOLDER) if path.is_dir() else (path.parent, path.name)
    if len(_NUMBER.findall(pattern)) != 1 or pattern.count("%") != 1:
        raise OutputError(f"{path}: the name needs exactly one number, written like %04d")
    for number, frame in enumerate(frames, _FIRST_NUMBER):
        name = _NUMBER.sub(lambda match, n=number: match[0] % n, pattern)
        write_still(folder / name, info, frame, metadata)


def _write_y4m_file(path: Path, info: ClipInfo, frames: Iterable[Frame]) -> None:
    try:
        with path.open("wb") as file:
            write_y4m(file, info, frames)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{path}: cannot be written: {reason(error)}") from error


def _only_frame(path: Path, frames: Iterable[Frame]) -> Frame:
    frame, *more = islice(frames, 2)
    if more:
        example = f"{path.stem}_%04d{path.suffix}"
        raise OutputError(f"{path}: holds one picture and there are more frames; use {example}")
    return frame
