"""How effects are configured, and what happens where packages are missing."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import jsonargparse
import numpy as np
import pytest

import data.augment
from aimless.draws import Range, Ranges, generator
from aimless.errors import ConfigError
from data.augment import (
    Compose,
    CPUBase,
    LimitAug,
    LoudnessNormalize,
    RandomParametricEQ,
    RandomPedalboardChorus,
    RandomPedalboardCompressor,
    RandomPedalboardLimiter,
    RandomPedalboardPhaser,
    RandomPedalboardReverb,
    RandomSoxReverb,
)
from data.kernels.jit import jit

REPOSITORY = Path(__file__).parents[2]
CLASSES = [getattr(data.augment, name) for name in data.augment.__all__]
EFFECTS = [cls for cls in CLASSES if cls.__name__.startswith(("Random", "L", "M"))]


def parser() -> jsonargparse.ArgumentParser:
    made = jsonargparse.ArgumentParser(exit_on_error=False)
    made.add_argument("--effect", type=CPUBase)
    return made


@pytest.mark.parametrize("cls", EFFECTS)
def test_every_argument_can_be_set_by_name(cls: type[CPUBase]) -> None:
    path = f"data.augment.{cls.__name__}"
    made = parser()
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.default is None:
            continue
        config = made.parse_args([f"--effect={path}", f"--effect.{name}={parameter.default}"])
        assert config.effect.init_args[name] == parameter.default
        assert made.instantiate_classes(config).effect.__class__ is cls


@pytest.mark.parametrize("cls", EFFECTS)
def test_a_wrong_name_is_refused(cls: type[CPUBase]) -> None:
    with pytest.raises((jsonargparse.ArgumentError, SystemExit)):
        parser().parse_args([f"--effect=data.augment.{cls.__name__}", "--effect.min_wrong=1"])


@pytest.mark.parametrize("cls", EFFECTS)
def test_every_argument_is_documented(cls: type[CPUBase]) -> None:
    for name in inspect.signature(cls).parameters:
        assert f"        {name}: " in (cls.__doc__ or "")


def test_ranges_draw_constants_and_clip_rounding() -> None:
    rng = np.random.default_rng(0)
    drawn = Ranges(object(), a=Range(2, 2), b=Range(3, 3, 1, log=True)).draw(rng)
    assert drawn == {"a": 2, "b": 3}


MISSING = {
    "numba": (
        LimitAug,
        LoudnessNormalize,
        RandomParametricEQ,
        RandomPedalboardCompressor,
        RandomPedalboardLimiter,
        RandomPedalboardReverb,
        RandomSoxReverb,
    ),
    "pedalboard": (RandomPedalboardChorus, RandomPedalboardPhaser),
}


@pytest.mark.parametrize(("package", "extra"), [("numba", "train"), ("pedalboard", "pedalboard")])
def test_a_missing_package_is_named_at_the_start(
    package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )
    for cls in EFFECTS:
        if cls in MISSING[package]:
            with pytest.raises(ConfigError) as error:
                cls()
            assert f"{cls.__name__} needs {package}" in str(error.value)
            assert f"pip install 'aimless[{extra}]'" in str(error.value)
        elif cls not in MISSING["pedalboard"] or find("pedalboard"):
            cls()


def test_the_import_of_effects_loads_neither_compiler_nor_plugins() -> None:
    code = (
        "import sys, data.augment, data.loudness; data.augment.RandomParametricEQ()\n"
        "assert not {'numba', 'pedalboard', 'scipy', 'torchaudio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_without_a_folder_for_the_cache_functions_compile_all_the_same() -> None:
    """A function that has no file has no place for its machine code either."""
    space: dict = {}
    exec("def add(a, b):\n    return a + b", space)
    assert jit(space["add"])(2, 3) == 5


def test_another_process_makes_the_same_bytes() -> None:
    """One that starts anew, as data loader workers do on macOS and Windows."""
    chain = Compose([cls() for cls in MISSING["numba"]])
    given = generator("process").standard_normal((2, 2, 30000)).astype(np.float32)
    here = chain(None, given, generator("effects"))
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        there = pool.submit(chain, None, given, generator("effects")).result(timeout=120)
    for a, b in zip(here, there):
        np.testing.assert_array_equal(a, b)
