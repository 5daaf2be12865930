"""A neural codec for pictures and clips; the names here are its whole public interface.

Nothing heavy is imported until a name is used, and PyTorch only by `encode`.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# PyTorch's OpenMP threads otherwise spin while they wait, and on cores shared with anything else a
# training step then takes up to ten times as long. It must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from codec.api import compare, decode, encode, info, verify
    from codec.comparison import Comparison
    from codec.errors import CodecError
    from codec.options import EncodeOptions, EncodeReport, Progress

__all__ = [
    "CodecError",
    "Comparison",
    "EncodeOptions",
    "EncodeReport",
    "Progress",
    "compare",
    "decode",
    "encode",
    "info",
    "verify",
]

_HOMES = {
    "CodecError": "errors",
    "Comparison": "comparison",
    "EncodeOptions": "options",
    "EncodeReport": "options",
    "Progress": "options",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'codec' has no attribute {name!r}")
    return getattr(import_module(f"codec.{_HOMES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
