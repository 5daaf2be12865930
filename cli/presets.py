"""`modcodec presets`: what can be asked for with --preset, and what it costs."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict

from cli.params import Json, Verbose

NAME = "presets"


def command(as_json: Json = False, verbose: Verbose = False) -> None:
    """List the presets and their cost.

    With -v, also what each of them expands to. A preset is a TOML file: copy one of them, edit it,
    and name it with --preset MY.toml.
    """
    from codec.arch.presets import load_preset, preset_names

    presets = [load_preset(name) for name in preset_names()]
    if as_json:
        print(json.dumps([asdict(preset) for preset in presets], indent=2))
        return
    width = max(len(preset.name) for preset in presets)
    for preset in presets:
        print(f"{preset.name:<{width}}  {preset.description}")
        if preset.cost:
            print(textwrap.indent(preset.cost.strip(), " " * (width + 2)))
        if verbose:
            for part in ("image", "clip", "training"):
                values = asdict(getattr(preset, part))
                print(f"{'':{width}}  [{part}]")
                for key, value in values.items():
                    print(f"{'':{width}}    {key} = {json.dumps(value)}")
