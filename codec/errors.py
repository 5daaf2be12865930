"""The whole exception tree: every class names the exit code that the command line ends with."""

from __future__ import annotations


class CodecError(Exception):
    """Base of all that modcodec raises on purpose; `exit_code` is the process exit status."""

    exit_code = 1


class UsageError(CodecError, ValueError):
    """An option or argument that cannot be used as given."""

    exit_code = 2


class NotationError(UsageError):
    """A layer description that does not parse; the message points at the wrong token."""


class GridDtypeError(UsageError, AssertionError):
    """A coordinate grid that is not float32."""


class InputError(CodecError, ValueError):
    """An input that cannot be read, or whose content is not supported."""

    exit_code = 3


class NotModcodecError(InputError):
    """The first bytes of the file are not those of a modcodec stream."""


class OutputError(CodecError, OSError):
    """An output that cannot be written."""

    exit_code = 4


class OutputExistsError(OutputError, FileExistsError):
    """The output is there already and overwriting was not asked for."""


class BitstreamError(CodecError, ValueError):
    """A stream that is truncated, damaged or contradicts itself."""

    exit_code = 5


class LimitError(BitstreamError):
    """A stream that declares more than the decoder's limits allow it to allocate."""


class UnsupportedVersionError(CodecError, ValueError):
    """A stream that needs another version of modcodec."""

    exit_code = 6


class TargetError(CodecError, ValueError):
    """A target that was not reached; the message tells the nearest that was found."""

    exit_code = 7


class BatchError(CodecError):
    """Some inputs of a batch failed."""

    exit_code = 8
