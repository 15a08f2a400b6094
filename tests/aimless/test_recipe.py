"""Recipes that are wrong end in one line, and published weights load by name."""

import pytest
import torch

from aimless import checkpoint
from aimless.errors import ConfigError, DataError
from aimless.models import HDemucs
from aimless.network import WaveformNetwork
from aimless.published import PUBLISHED
from aimless.sources import MDX_SOURCES

ARGUMENTS = {"sources": list(MDX_SOURCES), "channels": 4}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "demucs.safetensors"
    network = WaveformNetwork(
        HDemucs(**ARGUMENTS),
        MDX_SOURCES,
        class_path="aimless.models.HDemucs",
        init_args=ARGUMENTS,
    )
    checkpoint.export(network, path)
    return path


def load(tmp_path, text, **checkpoints):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return checkpoint.load(path, checkpoints=checkpoints)


REFINED = """
checkpoints: {demucs: PATH}
network:
  class_path: aimless.ensemble.WienerRefine
  init_args: {network: demucs, n_iter: 2}
engine: {overlap: 0.5}
"""


def test_paths_are_relative_to_the_recipe(exported, tmp_path):
    recipe = exported.parent / "recipe.yaml"
    recipe.write_text(REFINED.replace("PATH", exported.name))
    network = checkpoint.load(recipe)
    assert network.filter.n_iter == 2
    assert network.engine == {"overlap": 0.5}
    assert not network.training
    other = tmp_path / "other.yaml"
    other.write_text(REFINED.replace("PATH", "null"))
    assert checkpoint.load(other, checkpoints={"demucs": exported}).sources == MDX_SOURCES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("checkpoints: {a: x}", "a recipe has the keys"),
        ("network: a\nnetworks: b", "a recipe has the keys"),
        ("network: a", "'a' is no name of a checkpoint; known: none"),
        ("checkpoints: {a: null}\nnetwork: a", "checkpoints.a is not given; add --checkpoint"),
        ("network: {class_path: os.system}", "network.class_path: 'os.system' is not of"),
        ("network: {class_path: aimless.ensemble.Ensemble}", "is not of aimless.ensemble.Blend"),
        (
            "network: {class_path: aimless.ensemble.MidSide, init_args: {net: a}}",
            "network.init_args.net: unknown argument",
        ),
        ("network: {class_path: aimless.ensemble.MidSide}", "network: .*'network'"),
        (
            "checkpoints: {a: PATH}\nnetwork: {class_path: aimless.ensemble.MidSide, "
            "init_args: {network: a}}",
            "network: MidSide: needs a mono network, got 2",
        ),
        ("checkpoints: {a: PATH, b: c}\nnetwork: a", "checkpoints.b: no part of network uses it"),
    ],
)
def test_a_wrong_recipe_is_one_line(exported, tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, text.replace("PATH", str(exported)))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "recipe.yaml") in str(caught.value)


def test_named_checkpoints_are_for_recipes(exported, tmp_path):
    with pytest.raises(ConfigError, match="no typo; known: a"):
        load(tmp_path, "checkpoints: {a: null}\nnetwork: a", typo=exported)
    with pytest.raises(ConfigError, match="is no recipe"):
        checkpoint.load(exported, checkpoints={"a": exported})


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.ckpt: no such file"):
        load(tmp_path, "checkpoints: {a: gone.ckpt}\nnetwork: a")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_load_by_name(name, tmp_path, monkeypatch):
    """The files are plain state dicts of a Hybrid Demucs with torchaudio's names."""
    path = tmp_path / "weights.pt"
    torch.save(HDemucs(**ARGUMENTS).state_dict(), path)
    asked = []

    def fetch(url, sha256=None):
        asked.append(url)
        return path

    monkeypatch.setattr("aimless.download.fetch", fetch)
    network = checkpoint.load(name)
    assert asked == [PUBLISHED[name].url]
    assert network.sources == MDX_SOURCES
    assert (network.channels, network.sample_rate) == (2, 44100)
    loud = torch.randn(1, 2, 8000)
    with torch.no_grad():
        torch.testing.assert_close(network(loud), network(0.01 * loud) * 100, rtol=1e-3, atol=1e-4)
