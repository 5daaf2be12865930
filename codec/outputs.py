"""Outputs that are complete or absent: written under another name, then renamed."""

from __future__ import annotations

import contextlib
import enum
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from codec.errors import CodecError, OutputError, OutputExistsError, UsageError

# Only a killed process leaves a file with this in its name behind; it can be removed.
MARK = ".modcodec-part-"
STDIO = "-"
CHECKPOINT_SUFFIX = ".checkpoint"

_NUMBER = re.compile(r"%(0[0-9]{1,2})?d")


class Existing(enum.Enum):
    """What to do about a target that is there already."""

    REFUSE = "refuse"
    OVERWRITE = "overwrite"
    SKIP = "skip"


def existing_rule(*, overwrite: bool, keep: bool) -> Existing:
    """The rule that -y and -n ask for."""
    if overwrite and keep:
        raise UsageError("-y and -n contradict each other; give one of them")
    if overwrite:
        return Existing.OVERWRITE
    return Existing.SKIP if keep else Existing.REFUSE


def may_write(target: str, existing: Existing) -> bool:
    """Whether to go on and make `target`; False means that it is there and shall be skipped.

    Raises:
        OutputExistsError: it is there, and neither -y nor -n was given.
        OutputError: it cannot be written whatever the options say.
    """
    path = Path(target)
    if target == STDIO or _is_device(path):
        return True
    if path.is_dir():
        raise OutputError(f"{target}: is a folder; name a file with -o, or use --output-dir")
    if not path.parent.is_dir():
        raise OutputError(f"{target}: there is no folder {path.parent}")
    if not _is_taken(path) or existing is Existing.OVERWRITE:
        return True
    if existing is Existing.SKIP:
        return False
    raise OutputExistsError(f"{target}: exists already; -y overwrites it, -n skips it")


def is_numbered(target: str | os.PathLike) -> bool:
    """Whether a name like frame%04d.png stands for one file a frame."""
    return _NUMBER.search(os.path.basename(target)) is not None


def refuse_same_file(source: str, target: str) -> None:
    """Raise UsageError if writing `target` would destroy `source`."""
    if STDIO in (source, target) or not os.path.exists(source) or not os.path.exists(target):
        return
    if os.path.samefile(source, target) and not _is_device(Path(target)):
        raise UsageError(f"{target}: input and output are the same file")


def checkpoint_path(target: str) -> Path | None:
    """Where an interrupted encode keeps what it has made; None if `target` is not a file."""
    if target == STDIO or _is_device(Path(target)):
        return None
    return Path(f"{target}{CHECKPOINT_SUFFIX}")


@contextlib.contextmanager
def atomic_output(target: str, existing: Existing, *, suffix: str = "") -> Iterator[Path]:
    """Give a path to write to; when the block ends well, what was written becomes `target`.

    The path ends like `target`, or in `suffix` where that is standard output or a device.

    On any exception, a signal that raises one included, nothing is left behind, and errors name the
    target. Standard output and
    devices receive the bytes when the block has ended. A `target` with `%04d` in it stands for
    numbered files: they are written into a folder beside it and renamed one by one.
    """
    if target == STDIO or _is_device(Path(target)):
        manager = _forwarded(target, suffix or Path(target).suffix)
    elif is_numbered(target):
        manager = _many_files(Path(target), existing)
    else:
        manager = _one_file(Path(os.path.realpath(target)), existing)
    part = ""
    try:
        with manager as path:
            part = str(path)
            yield path
    except OutputError as error:
        if not part or part not in str(error):
            raise
        raise type(error)(str(error).replace(part, target)) from error
    except OSError as error:
        if isinstance(error, CodecError | BrokenPipeError):
            raise
        raise OutputError(f"{target}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _one_file(target: Path, existing: Existing) -> Iterator[Path]:
    # The suffix stays last: writers choose the container by it.
    part = target.with_name(f".{target.stem}{MARK}{secrets.token_hex(4)}{target.suffix}")
    try:
        yield part
        _sync(part)
        may_write(str(target), Existing.REFUSE if existing is Existing.SKIP else existing)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(target.parent)


@contextlib.contextmanager
def _many_files(pattern: Path, existing: Existing) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=MARK, dir=pattern.parent))
    try:
        yield folder / pattern.name
        parts = sorted(folder.iterdir())
        if existing is not Existing.OVERWRITE:
            for part in parts:
                may_write(str(pattern.with_name(part.name)), Existing.REFUSE)
        for part in parts:
            _sync(part)
            os.replace(part, pattern.with_name(part.name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _sync_folder(pattern.parent)


@contextlib.contextmanager
def _forwarded(target: str, suffix: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="modcodec-") as folder:
        part = Path(folder, f"output{suffix}")
        yield part
        with part.open("rb") as source:
            if target == STDIO:
                shutil.copyfileobj(source, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            else:
                with open(target, "wb") as sink:
                    shutil.copyfileobj(source, sink)


def _is_taken(path: Path) -> bool:
    if not is_numbered(path):
        return os.path.lexists(path)
    before, _, after = _NUMBER.split(path.name, maxsplit=1)
    names = re.compile(f"{re.escape(before)}[0-9]+{re.escape(after)}")
    return any(names.fullmatch(name) for name in os.listdir(path.parent))


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # Windows cannot open folders, and some network file systems cannot sync them.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
