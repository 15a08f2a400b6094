"""Numbers of the published system that ours must reproduce.

`gold.npz` holds float32 results of the published version on a CPU, `spec.json` the arguments
they were made with. Inputs and weights are drawn by the rule in `drawn.py`. Run with -s to
see the largest errors.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from aimless.augment import RandomPitch, SpeedPerturb
from aimless.config import import_class
from aimless.loss import CLoss, L1Loss, MDLoss, NegativeSDR
from aimless.models import X_UMX, BandSplitRNN, DemucsSplit, RelTDemucs
from aimless.transforms import STFT
from aimless.utils import MWF
from tests.parity.drawn import drawn_state, normal

HERE = Path(__file__).parent
SPEC = json.loads((HERE / "spec.json").read_text())
MODELS = {
    "xumx_small": (X_UMX, lambda: normal((2, 2, 257, 20), 1).abs()),
    "bsrnn_small": (BandSplitRNN, lambda: normal((2, 2, 257, 20), 3).abs()),
    "demucs_split_small": (DemucsSplit, lambda: normal((2, 2, 11000), 6)),
    "rel_tdemucs_small": (RelTDemucs, lambda: normal((2, 2, 11000), 8)),
}
STEMS = (2, 4, 2, 6100)


@pytest.fixture(scope="module")
def gold() -> dict[str, np.ndarray]:
    with np.load(HERE / "gold.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def agree(record_property):
    """Compare with a stored result and record the largest error."""

    def compare(case: str, actual: Tensor, expected: Tensor) -> None:
        assert actual.shape == expected.shape
        error = (actual - expected).abs().max().item()
        record_property(f"{case} max abs error", error)
        print(f"\n{case}: max abs error {error:.2e} of {expected.abs().max().item():.2e}")
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-3)

    return compare


@pytest.fixture(scope="module")
def scene() -> dict[str, Tensor]:
    """The masks, spectrograms and waveforms that losses and filters were run on."""
    stft = STFT(512, 128)
    gt = 0.1 * normal(STEMS, 21)
    cut = gt[..., :6016]
    mix = cut.sum(1)
    return {
        "pred": 0.1 * normal((2, 4, 2, 6000), 20),
        "gt": gt,
        "cut": cut,
        "mix": mix,
        "mask": 0.4 * normal((2, 4, 2, 257, 48), 22).abs(),
        "gt_spec": stft(cut),
        "mix_spec": stft(mix),
    }


@pytest.mark.parametrize("case", MODELS)
def test_model(case, gold, agree):
    build, draw_input = MODELS[case]
    spec = SPEC["models"][case]
    model = build(**spec["init_args"]).eval()
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == spec["state_dict"]
    assert sum(p.numel() for p in model.parameters()) == spec["parameters"]
    model.load_state_dict(drawn_state(model, case), strict=True)
    with torch.no_grad():
        agree(case, model(draw_input()), torch.from_numpy(gold[case]))


@pytest.mark.parametrize("config", SPEC["full_size"])
def test_full_size(config):
    spec = SPEC["full_size"][config]
    with torch.device("meta"):
        model = import_class(spec["class"])(**spec["init_args"])
    assert sum(p.numel() for p in model.parameters()) == spec["parameters"]
    assert len(model.state_dict()) == spec["n_state_dict_keys"]


@pytest.mark.parametrize("case", ["mwf_0", "mwf_1", "mwf_res_1"])
def test_wiener_filter(case, gold, agree, scene):
    spec = SPEC["models"][case]
    y = MWF(**spec["init_args"])(scene["mask"], scene["mix_spec"])
    assert list(y.shape) == spec["output_shape"]
    agree(case, y[..., ::4], torch.from_numpy(gold[case]))


@pytest.mark.parametrize("case", ["time.L1Loss", "time.NegativeSDR"])
def test_time_loss(case, agree, scene):
    loss = {"time.L1Loss": L1Loss, "time.NegativeSDR": NegativeSDR}[case]()
    value, _ = loss(scene["pred"], scene["gt"], scene["gt"].sum(1))
    agree(case, value, torch.tensor(SPEC["values"][case]))


def test_combination_loss(agree, scene):
    arguments = [scene[name] for name in ("mask", "gt_spec", "mix_spec", "cut", "mix")]
    loss, parts = CLoss(mcoeff=10, n_fft=512, hop_length=128)(*arguments)
    expected = SPEC["values"]["freq.CLoss_nomwf"]
    assert set(parts) | {"loss"} == set(expected)
    for name, value in {"loss": loss, **parts}.items():
        agree(f"freq.CLoss_nomwf {name}", value, torch.tensor(expected[name]))


def test_multi_domain_loss(agree, scene):
    """Source 0, whose axis the published loss did not have."""
    mask, gt_spec, gt = (scene[name][:, 0] for name in ("mask", "gt_spec", "cut"))
    criterion = MDLoss(mcoeff=10, n_fft=512, hop_length=128)
    loss, parts = criterion(mask, gt_spec, scene["mix_spec"], gt, scene["mix"])
    expected = SPEC["values"]["freq.MDLoss"]
    assert set(parts) | {"loss"} == set(expected)
    for name, value in {"loss": loss, **parts}.items():
        agree(f"freq.MDLoss {name}", value, torch.tensor(expected[name]))


@pytest.mark.parametrize(
    ("case", "augment", "choice"),
    [("speed_90", SpeedPerturb, 90), ("pitch_1", RandomPitch, 1), ("pitch_-2", RandomPitch, -2)],
)
def test_augmentation(case, augment, choice, gold, agree):
    x = normal((3, 2, 22050), 30)
    agree(case, augment().transform(x, choice), torch.from_numpy(gold[case]))
