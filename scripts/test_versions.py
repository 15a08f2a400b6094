"""Run the test suite on the lowest or on the highest versions that this package supports.

`floor` installs for every dependency the release series that its lower bound in pyproject.toml
names, `ceiling` the newest that may be installed. Each has a virtual environment of its own,
`.venv-floor` and `.venv-ceiling`, which is brought up to date and used again. What follows goes to
pytest.

    python scripts/test_versions.py floor
    python scripts/test_versions.py ceiling tests/data -k index
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings its forerunner
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parent.parent
#: torchaudio is only compared with, and has no release beside the newest torch.
EXTRAS = {"floor": "dev,torchaudio", "ceiling": "dev"}
#: Of these, the lower bounds are no promise to users: they only check the code.
TOOLS = frozenset({"pytest"})


def requirements() -> list[str]:
    """What pyproject.toml asks for, with all extras.

    An installed package's metadata would be that of the day on which it was installed.
    """
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *chain(*project["optional-dependencies"].values())]


def floors(requirements: Sequence[str]) -> list[str]:
    """A constraint for each requirement with a lower bound: the release series that it names.

    `av>=13` becomes `av==13.*`, `lightning>=2.6.6,!=2.6.2` becomes `lightning==2.6.6.*`.

    Args:
        requirements: as pyproject.toml states them.
    """
    parsed = [Requirement(text) for text in requirements]
    return [
        f"{requirement.name}=={bound.version}.*"
        for requirement in parsed
        for bound in requirement.specifier
        if bound.operator == ">=" and requirement.name not in TOOLS
    ]


def install(end: str, folder: Path) -> Path:
    """Make the environment of an end, or bring it up to date.

    Returns:
        Its Python.

    Raises:
        CalledProcessError: pip failed, and has said why.
    """
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    constraints = folder / "constraints.txt"
    lines = floors(requirements()) if end == "floor" else []
    constraints.write_text("".join(line + "\n" for line in lines))
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    newest = ["--upgrade", "--upgrade-strategy", "eager"]
    subprocess.run(
        [*command, *newest, "-c", str(constraints), "-e", f".[{EXTRAS[end]}]"],
        cwd=REPOSITORY,
        check=True,
    )
    return python


def report(python: Path) -> None:
    """Print the versions that matter most."""
    names = ["torch", "torchaudio", "lightning", "torchmetrics", "numpy", "jsonargparse"]
    lines = subprocess.run(
        [str(python), "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True
    ).stdout.splitlines()
    print(*[line for line in lines if line.partition("==")[0] in names], flush=True)


def test(python: Path, folder: Path, words: Sequence[str]) -> int:
    """Run pytest; compiled kernels are kept apart from those of other versions.

    Returns:
        Its exit status.
    """
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "numba")}
    command = [str(python), "-m", "pytest", *words]
    return subprocess.run(command, cwd=REPOSITORY, env=environment).returncode


def main(words: Sequence[str] | None = None) -> int:
    """Install one end and test it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("end", choices=sorted(EXTRAS))
    options, rest = parser.parse_known_args(words)
    folder = REPOSITORY / f".venv-{options.end}"
    try:
        python = install(options.end, folder)
    except subprocess.CalledProcessError as error:
        print(f"error: pip could not install the {options.end} in {folder}", file=sys.stderr)
        return error.returncode
    report(python)
    return test(python, folder, rest)


if __name__ == "__main__":
    sys.exit(main())
