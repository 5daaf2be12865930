"""The house: who imports whom, where torch may be, how long things get, what the wheel holds."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("codec", "cli", "configs")

# Ground floor first; a room imports itself and rooms of lower floors.
FLOORS = (
    ("errors",),
    ("arch", "jit", "media", "options", "outputs"),
    ("arrays", "bitstream", "layers", "segments"),
    ("fixedpoint", "model"),
    ("analysis", "decoder", "freeze", "training"),
    ("comparison", "encoder"),
    ("api", "bench"),
    ("cli",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FLOAT_WING = {"layers", "model", "training"}
INTEGER_WING = {"bitstream", "fixedpoint", "decoder"}
MAY_IMPORT_TORCH = {*FLOAT_WING, "freeze", "encoder", "bench"}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def _sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _room_of(module: str) -> str | None:
    """The room of a dotted module name; None for what is not ours or belongs to no room."""
    parts = module.split(".")
    if parts[0] == "cli":
        return "cli"
    if parts[0] != "codec":
        return None
    return parts[1] if len(parts) > 1 else "api"


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> list[str]:
    """Every module that a file imports anywhere, as dotted names down to what is imported."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            if node.module == "codec":
                names += [f"codec.{alias.name}" for alias in node.names]
            else:
                names.append(str(node.module))
    return names


def _is_allowed(importer: str, imported: str) -> bool:
    if importer == imported:
        return True
    if importer in FLOAT_WING and imported in INTEGER_WING:
        return False
    return FLOOR_OF[imported] < FLOOR_OF[importer]


@pytest.mark.parametrize("path", _sources("codec", "cli"), ids=_module_name)
def test_a_room_imports_only_rooms_below_it(path: Path) -> None:
    room = _room_of(_module_name(path))
    for name in _imports(path):
        imported = _room_of(name)
        if imported is None:
            continue
        assert imported in FLOOR_OF, f"{name} is in no room of the house"
        assert _is_allowed(room, imported), f"{room} must not import {name}"


@pytest.mark.parametrize("path", _sources("codec", "cli"), ids=_module_name)
def test_torch_stays_in_the_float_wing(path: Path) -> None:
    if _room_of(_module_name(path)) in MAY_IMPORT_TORCH:
        return
    roots = {name.split(".")[0] for name in _imports(path)}
    assert not roots & {"torch", "pytorch_optimizer"}


@pytest.mark.parametrize("path", _sources("codec", "cli", "tests"), ids=_module_name)
def test_modules_are_short_and_say_what_they_are_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "has no docstring"
    assert text.count("\n") <= MAX_FILE_LINES
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


def test_every_room_of_the_tree_has_a_floor() -> None:
    rooms = {_room_of(_module_name(path)) for path in _sources("codec", "cli")}
    assert rooms <= set(FLOOR_OF)


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["--help"], 0),
        (["--version", "-v"], 0),
        (["encode", "--help"], 0),
        (["decode", "missing.modc"], 3),
        (["info", "missing.modc"], 3),
        (["verify", "missing.modc"], 3),
        (["presets"], 0),
        (["bench", "--help"], 0),
        (["bench", "speed", "--help"], 0),
        (["bench", "rd", "--help"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_light_commands_do_not_import_torch(
    arguments: list[str], exit_code: int, cli_environment: dict[str, str], tmp_path: Path
) -> None:
    program = (
        "import atexit, sys\n"
        "say = lambda: sys.stderr.write('TORCH' if 'torch' in sys.modules else 'LIGHT')\n"
        "atexit.register(say)\n"
        "sys.argv[0] = 'modcodec'\n"
        "from cli.app import run\n"
        "run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=cli_environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.endswith("LIGHT"), done.stderr
    assert done.returncode == exit_code, done.stderr


def test_decoding_a_still_to_png_imports_no_other_media_library(
    cli_environment: dict[str, str], tmp_path: Path
) -> None:
    program = (
        "import atexit, sys\n"
        "heavy = {'torch', 'av', 'rich', 'imageio', 'PIL'}\n"
        "atexit.register(lambda: sys.stderr.write(str(sorted(heavy & set(sys.modules)))))\n"
        "from cli.app import run\n"
        "run()\n"
    )
    still = ROOT / "tests" / "golden" / "still.modc"
    done = subprocess.run(
        [sys.executable, "-c", program, "decode", str(still), "-o", "still.png"],
        env=cli_environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.endswith("[]"), done.stderr
    assert (tmp_path / "still.png").exists()


def test_importing_codec_is_light(cli_environment: dict[str, str]) -> None:
    program = (
        "import codec, sys; print(sorted({'torch', 'numba', 'numpy', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=cli_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def installed_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel of a clean copy of the tree was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(tree)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("modcodec-*.whl")
    target = folder / "site"
    install = [*pip, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return target


def _run_installed(site: Path, *arguments: str, cwd: Path) -> str:
    script = next((site / "bin").glob("modcodec*"))
    done = subprocess.run(
        [sys.executable, "-P", str(script), *arguments],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_works_outside_the_checkout(installed_wheel: Path, tmp_path: Path) -> None:
    presets = json.loads(_run_installed(installed_wheel, "presets", "--json", cwd=tmp_path))
    in_the_tree = {path.stem for path in (ROOT / "configs").glob("*.toml")}
    assert {preset["name"] for preset in presets} == in_the_tree
    assert "encode" in _run_installed(installed_wheel, "--help", cwd=tmp_path)


def test_the_wheel_holds_all_modules_and_data(installed_wheel: Path) -> None:
    for package in PACKAGES:
        expected = {
            path.relative_to(ROOT)
            for path in (ROOT / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        held = {
            path.relative_to(installed_wheel)
            for path in (installed_wheel / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert expected == held
