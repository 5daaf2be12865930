"""Files of training that was interrupted: tensors and a JSON text, in the safetensors format."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from codec.errors import InputError

_KEY = "modcodec"


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors, and what JSON can say about them, so that the file is whole or not there."""
    part = path.with_name(f"{path.name}.part")
    plain = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, part, metadata={_KEY: json.dumps(about)})
    os.replace(part, path)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Inverse of `write_checkpoint`.

    Raises:
        InputError: the file is not one of these.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})[_KEY])
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise InputError(
            f"{path}: not a checkpoint of modcodec ({' '.join(str(error).split())}); "
            "remove it to begin anew"
        ) from error
