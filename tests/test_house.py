"""The house: who imports whom, what is installed, that every file of it parses."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

REPOSITORY = Path(__file__).resolve().parent.parent
METADATA = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("path", sorted((REPOSITORY / "aimless").rglob("*.py")), ids=str)
def test_aimless_needs_neither_data_nor_torchaudio(path):
    assert not [n for n in imports(path) if within(n, "data") or within(n, "torchaudio")]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "data").rglob("*.py")), ids=str)
def test_data_uses_only_the_light_modules_of_aimless(path):
    allowed = ("aimless.errors", "aimless.sources", "aimless.draws", "aimless.songs")
    for name in imports(path):
        assert not within(name, "torchaudio")
        assert not within(name, "aimless") or any(within(name, module) for module in allowed), name


def package(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9_.-]+", requirement)[0].lower().replace("_", "-")


def test_everything_that_the_metadata_names_is_pinned():
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = {package(line) for line in lines if line and not line.startswith("#")}
    wanted = list(METADATA["dependencies"])
    for extra in METADATA["optional-dependencies"].values():
        wanted += [name for name in extra if not name.startswith("aimless")]
    assert {package(name) for name in wanted} <= pinned
    assert not [line for line in lines if "://" in line or "@" in line]


def test_the_conda_environment_installs_the_pinned_set():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert "-c constraints.txt" in pip
    extras = re.search(r"-e \.\[(.+)\]", " ".join(pip))[1].split(",")
    assert set(extras) <= METADATA["optional-dependencies"].keys()
    assert {"pip", "make"} <= {e for e in environment["dependencies"] if isinstance(e, str)}


def test_make_help_lists_every_target():
    done = subprocess.run(["make", "help"], capture_output=True, text=True, cwd=REPOSITORY)
    text = (REPOSITORY / "Makefile").read_text()
    phony = set(re.search(r"\.PHONY: (.+)", text)[1].split())
    assert done.returncode == 0
    assert set(re.findall(r"^  make ([\w-]+)", done.stdout, re.MULTILINE)) == phony


@pytest.mark.parametrize("path", sorted((REPOSITORY / "cfg").rglob("*.yaml")), ids=lambda p: p.stem)
def test_configs_hold_decisions_only(path):
    text = path.read_text()
    assert len(text.splitlines()) < 90
    assert "root:" not in text  # where the data is differs on every machine
    assert "/home" not in text


def test_no_word_of_a_registry_or_a_machine():
    tracked = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, cwd=REPOSITORY, check=False
    ).stdout.split("\n")
    for name in filter(None, tracked):
        path = REPOSITORY / name
        if (
            path.suffix in {".ckpt", ".npz", ".png"}
            or not path.is_file()
            or path.name == Path(__file__).name
        ):
            continue
        text = path.read_text()
        for word in ("/" + "work/", "--index" + "-url", "find" + "-links"):
            assert word not in text, name
