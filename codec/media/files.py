"""Paths as the media readers and writers take them, and what to say when one cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

from codec.errors import InputError


def checked_input(path: str | os.PathLike) -> Path:
    """The path of a file that is there and not empty; raises InputError with one line otherwise."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a directory, not a picture or clip")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: is not a regular file; pipes are read from '-', as y4m")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: no permission to read it")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    return path


def av_url(path: str | os.PathLike) -> str:
    """The path as FFmpeg takes it literally, without seeing protocols or patterns in it."""
    return f"file:{os.fspath(path)}"


def reason(error: Exception) -> str:
    """What a library's exception says, in one line and without the path."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")
