"""The script that runs the suite on the lowest and the highest versions."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "test_versions.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("version_ends", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_floors_are_the_series_that_the_lower_bounds_name(script: ModuleType) -> None:
    given = ["av>=13", "lightning!=2.6.2,>=2.6.6", "jsonargparse[signatures]<5,>=4.49", "tqdm"]
    given += ['numba>=0.61; extra == "train"', 'pytest>=8; extra == "dev"']
    assert script.floors(given) == [
        "av==13.*",
        "lightning==2.6.6.*",
        "jsonargparse==4.49.*",
        "numba==0.61.*",
    ]


def test_every_floor_is_a_version_that_is_allowed(script: ModuleType) -> None:
    requirements = [Requirement(text) for text in script.requirements()]
    allowed = {r.name: r.specifier for r in requirements if r.specifier}
    floors = [Requirement(line) for line in script.floors(list(map(str, requirements)))]
    assert {"torch", "lightning", "numpy", "torchaudio"} <= {floor.name for floor in floors}
    for floor in floors:
        (bound,) = floor.specifier
        assert allowed[floor.name].contains(bound.version.removesuffix(".*"))


PROJECT = """
[project]
dependencies = ["torch>=1.2", "tqdm"]
[project.optional-dependencies]
train = ["numba>=0.3"]
all = ["aimless[train]"]
"""


def test_pip_that_fails_ends_in_one_line(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "REPOSITORY", tmp_path)
    python = tmp_path / ".venv-floor" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (tmp_path / "pyproject.toml").write_text(PROJECT)

    def fail(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(7, command)

    monkeypatch.setattr(script.subprocess, "run", fail)
    assert script.main(["floor"]) == 7
    assert capfd.readouterr().err.count("\n") == 1
    constraints = (tmp_path / ".venv-floor" / "constraints.txt").read_text()
    assert constraints == "torch==1.2.*\nnumba==0.3.*\n"  # as the file has them, not as installed
