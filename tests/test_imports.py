"""The arrows between the packages, and what a recorder's start may cost."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("capture", "engine_bridges", "realmaster", "daemon")
HEAVY = ("torch", "OpenEXR", "rerun", "diffusers", "transformers", "peft", "av", "fastapi", "panda3d", "scipy")

ALLOWED = {
    "capture": set(),
    "engine_bridges": {"capture"},
    "realmaster": {"capture"},
    "daemon": {"capture", "realmaster"},
}
# The roof may import everything. The recipe of the embedded model and its evaluation run on the embedded engine.
ROOF = ("realmaster/cli.py", "realmaster/commands/", "realmaster/models/", "realmaster/train/")

GUESTS = ("capture/export/import_to_blender.py",)
"""Scripts that run inside another program, which has the modules that they import."""

DISTRIBUTIONS = {
    "huggingface_hub": "huggingface-hub", "PIL": "pillow", "zmq": "pyzmq", "panda3d": "panda3d", "direct": "panda3d",
    "starlette": "fastapi", "rerun": "rerun-sdk", "prometheus_client": "prometheus-client",
}  # fmt: skip
"""Where the name that is imported is not the name that is installed."""


def imports(path: Path) -> Iterator[str]:
    """Top-level names of everything that a module imports anywhere, relative imports left out."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).split(".")[0]


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_between_packages(package: str) -> None:
    wrong = []
    for path in modules(package):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(ROOF):
            continue
        others = {other for other in imports(path) if other in PACKAGES} - {package} - ALLOWED[package]
        wrong += [f"{name} imports {other}" for other in sorted(others)]
    assert not wrong


def test_bridges_do_not_know_each_other() -> None:
    bridges = [folder.name for folder in (ROOT / "engine_bridges").iterdir() if (folder / "__init__.py").is_file()]
    assert {"city", "panda3d"} <= set(bridges)
    for bridge in bridges:
        for path in (ROOT / "engine_bridges" / bridge).rglob("*.py"):
            others = re.findall(r"engine_bridges\.(\w+)", path.read_text("utf-8"))
            assert set(others) <= {bridge}, f"{path} knows {set(others) - {bridge}}"


def test_every_third_party_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]
    declared = {re.match(r"[\w-]+", line)[0] for line in lines}
    own = {*PACKAGES, *sys.stdlib_module_names, "__future__"}
    for package in PACKAGES:
        for path in modules(package):
            if path.relative_to(ROOT).as_posix() in GUESTS:
                continue
            for name in set(imports(path)) - own:
                assert DISTRIBUTIONS.get(name, name) in declared, f"{path.relative_to(ROOT)} imports {name}"


def test_every_dependency_is_bounded_on_both_sides() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]
    for line in lines:
        assert line.startswith("realmaster[") or (">=" in line and "<" in line), line


@pytest.mark.parametrize(
    "code",
    [
        "import capture; capture.FrameSender; capture.Take",
        "import realmaster",
        "import daemon",
        "from realmaster.lift.profiles import load_profile; load_profile('embedded')",
        "from realmaster.pairs.dataset import Dataset",
        "from realmaster.cli import build_parser; build_parser()",
    ],
)
def test_light_imports_stay_light(code: str) -> None:
    """Recorders and `--help` start at once: none of the heavy libraries may be loaded."""
    probe = f"import sys\n{code}\nprint(*sorted(set({HEAVY!r}) & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []
