"""Checkpoints of the published training code load, and give the outputs they gave then."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from aimless.config import import_class
from aimless.errors import DataError

FOLDER = Path(__file__).parent / "checkpoints"
CASES = ["xumx", "cdx_hdemucs"]


def build(node):
    """What a config describes."""
    if isinstance(node, dict) and "class_path" in node:
        return import_class(node["class_path"])(**build(node.get("init_args", {})))
    if isinstance(node, dict):
        return {key: build(value) for key, value in node.items()}
    return [build(value) for value in node] if isinstance(node, list) else node


def separator(case):
    if case == "cdx_hdemucs":
        pytest.importorskip("torchaudio")
    config = yaml.safe_load((FOLDER / case / "config.yaml").read_text())
    return build(config["model"]).eval()


def checkpoint(case):
    return torch.load(FOLDER / case / "last.ckpt", map_location="cpu", weights_only=True)


def mixture(channels):
    noise = np.random.default_rng(77).standard_normal((1, channels, 44100))
    return torch.from_numpy((0.1 * noise).astype(np.float32))


@pytest.mark.parametrize("case", CASES)
def test_weights_load_strictly_and_outputs_agree(case, record_property):
    module, gold = separator(case), np.load(FOLDER / "gold.npz")
    saved = checkpoint(case)
    module.on_load_checkpoint(saved)
    module.load_state_dict(saved["state_dict"], strict=True)

    x = mixture(2 if case == "xumx" else 1)
    with torch.inference_mode():
        output = module.model(module.spec(x).abs() if case == "xumx" else x)
        stems = module(x)
    error = float((output - torch.from_numpy(gold[case])).abs().max())
    record_property("max_abs_error", error)
    print(f"{case}: largest difference of the network {error:.1e}")
    assert error < 1e-4

    if case == "xumx":
        expected = torch.from_numpy(gold["xumx_stems"])
        assert stems.shape == (1, 4, 2, 44100)  # the published inverse lost the last frame's end
        stems = stems[..., : expected.shape[-1]]
        error_db = 10 * torch.log10((stems - expected).square().sum() / expected.square().sum())
        print(f"{case}: through the Wiener filter {error_db:.0f} dB")
        assert error_db < -60
    else:
        assert stems.shape == (1, 3, 1, 44100)


def test_weights_that_do_not_fit_are_listed_shortly():
    module, saved = separator("xumx"), checkpoint("xumx")
    state = saved["state_dict"]
    state["model.extra"] = state.pop("model.input_means")
    state["model.input_scale"] = torch.zeros(3)
    with pytest.raises(DataError) as caught:
        module.on_load_checkpoint(saved)
    message = str(caught.value)
    assert "missing input_means" in message
    assert "unexpected extra" in message
    assert "input_scale is (3,) instead of" in message
    assert "\n" not in message
