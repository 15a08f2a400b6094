"""Every kind of file that a network is loaded from, and every kind that is refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from aimless.checkpoint import export, load
from aimless.cli import main
from aimless.errors import ConfigError, DataError
from aimless.models import X_UMX, DemucsSplit
from aimless.network import MaskNetwork, WaveformNetwork
from aimless.weights import adopt_parameter_order, network_weights, read_checkpoint

GOLDEN = Path(__file__).resolve().parent.parent / "parity" / "checkpoints"
SIZES = {"channels": 4, "depth": 2, "nb_sources": 2}


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = DemucsSplit(**SIZES)
    return WaveformNetwork(
        model,
        ["drums", "vocals"],
        sample_rate=22050,
        class_path="aimless.models.demucs_split.DemucsSplit",
        init_args=SIZES,
    ).eval()


@pytest.fixture
def exported(network, tmp_path):
    path = tmp_path / "model.safetensors"
    export(network, path)
    return path


def config_of(network):
    return {
        "model": {
            "class_path": "aimless.lightning.waveform.WaveformSeparator",
            "init_args": {
                "targets": {"vocals": None, "drums": None},
                "sample_rate": network.sample_rate,
                "model": {"class_path": network.class_path, "init_args": network.init_args},
            },
        }
    }


def save(network, path, config=True, prefix="model.", convert=lambda value: value, **more):
    state = {prefix + k: convert(v) for k, v in network.model.state_dict().items()}
    content = {"state_dict": state, **more}
    if config:
        content["config"] = yaml.safe_dump(config_of(network))
    torch.save(content, path)
    return path


def same(a, b, tolerance=0.0):
    x = torch.randn(1, 2, 3000, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return float((a(x) - b(x)).abs().max()) <= tolerance


def test_an_exported_network_is_the_same(network, exported):
    loaded = load(exported)
    assert loaded.sources == ("drums", "vocals")
    assert loaded.sample_rate == 22050
    assert loaded.channels == 2
    assert not loaded.training
    assert same(loaded, network)


def test_a_mask_network_keeps_its_filter(tmp_path):
    args = {"n_fft": 256, "hidden_channels": 8, "nb_layers": 1, "sources": ["bass", "vocals"]}
    network = MaskNetwork(
        X_UMX(**args),
        ["bass", "vocals"],
        n_fft=256,
        hop_length=64,
        n_iter=2,
        class_path="aimless.models.X_UMX",
        init_args=args,
    ).eval()
    export(network, tmp_path / "m.safetensors")
    loaded = load(tmp_path / "m.safetensors")
    assert loaded.filter.n_iter == 2
    assert loaded.spec.hop_length == 64
    assert same(loaded, network)


def test_our_checkpoints_rebuild_their_network(network, tmp_path):
    path = save(network, tmp_path / "last.ckpt", optimizer_states=[])
    assert same(load(path), network)
    assert load(path).sources == ("drums", "vocals")
    assert same(load(tmp_path), network)  # the folder


def test_a_checkpoint_with_its_config_beside_it(network, tmp_path):
    folder = tmp_path / "version_0" / "checkpoints"
    folder.mkdir(parents=True)
    save(network, folder / "last.ckpt", config=False)
    with pytest.raises(DataError, match=r"put the config.yaml of the run beside it"):
        load(tmp_path / "version_0")
    (tmp_path / "version_0" / "config.yaml").write_text(yaml.safe_dump(config_of(network)))
    for path in (tmp_path / "version_0", folder, folder / "last.ckpt"):
        assert same(load(path), network)


@pytest.mark.parametrize(
    "prefix",
    ["", "model.", "module.", "_orig_mod.", "module.model.", "model._orig_mod.", "model.module."],
)
def test_prefixes_of_wrappers(network, tmp_path, prefix):
    assert same(load(save(network, tmp_path / "a.ckpt", prefix=prefix)), network)


def test_compiled_parts_inside_a_network():
    state = {
        "model._orig_mod.encoder._orig_mod.weight": torch.zeros(1),
        "targets_idx": torch.ones(2),
    }
    assert list(network_weights(state)) == ["encoder.weight"]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-2), (torch.bfloat16, 1e-2)])
def test_half_precision_becomes_float32(network, tmp_path, dtype, tolerance):
    def convert(value):
        return value.to(dtype) if value.is_floating_point() else value

    loaded = load(save(network, tmp_path / "half.ckpt", convert=convert))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert same(loaded, network, tolerance)
    export(network, tmp_path / "half.safetensors", half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * sum(
        4 * value.numel() for value in network.model.state_dict().values()
    ) + 20000
    assert same(load(tmp_path / "half.safetensors"), network, 1e-2)


@pytest.mark.parametrize("case", ["xumx", "cdx_hdemucs"])
def test_checkpoints_of_the_published_team(case, record_property):
    loaded = load(GOLDEN / case)
    gold = np.load(GOLDEN / "gold.npz")
    noise = np.random.default_rng(77).standard_normal((1, loaded.channels, 44100))
    x = torch.from_numpy((0.1 * noise).astype(np.float32))
    with torch.inference_mode():
        output = loaded.model(loaded.spec(x).abs() if case == "xumx" else x)
    error = float((output - torch.from_numpy(gold[case])).abs().max())
    record_property("max_abs_error", error)
    assert error < 1e-4
    expected = (
        ("drums", "bass", "other", "vocals") if case == "xumx" else ("music", "sfx", "speech")
    )
    assert loaded.sources == expected
    assert loaded.sample_rate == 44100


def hdemucs(**changes):
    from aimless.models import HDemucs

    torch.manual_seed(0)
    args = {"sources": ["drums", "bass", "other", "vocals"], "channels": 8, **changes}
    return HDemucs(**args).eval()


@pytest.mark.parametrize(
    "changes",
    [{}, {"audio_channels": 1, "sources": ["music", "sfx", "speech"]}, {"nfft": 2048, "depth": 5}],
    ids=str,
)
def test_plain_weights_of_hybrid_demucs(tmp_path, changes):
    model = hdemucs(**changes)
    torch.save(model.state_dict(), tmp_path / "torchaudio.pt")
    parts = {"freq_encoder": "encoder", "freq_decoder": "decoder"}
    parts |= {"time_encoder": "tencoder", "time_decoder": "tdecoder"}
    renamed = {}
    for name, value in model.state_dict().items():
        part, _, rest = name.partition(".")
        renamed[f"{parts.get(part, part)}.{rest}"] = value
    torch.save(renamed, tmp_path / "demucs.th")
    for name in ("torchaudio.pt", "demucs.th"):
        loaded = load(tmp_path / name)
        assert loaded.sources == tuple(model.sources)
        x = torch.randn(1, loaded.channels, 9000)
        with torch.inference_mode():
            assert torch.equal(loaded(x), model(x))


def test_weights_of_torchaudio_itself(tmp_path):
    torchaudio = pytest.importorskip("torchaudio")
    torch.manual_seed(0)
    model = torchaudio.models.HDemucs(["drums", "bass", "other", "vocals"], channels=8).eval()
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    x = torch.randn(1, 2, 9000)
    with torch.inference_mode():
        assert torch.allclose(load(tmp_path / "plain.pt")(x), model(x), atol=1e-5)


def test_a_list_of_sources_in_another_order_is_named_by_the_targets(tmp_path):
    """The published MDX runs list vocals first, and yet output i is the i-th target."""
    model = hdemucs(sources=["vocals", "drums", "bass", "other"])
    config = {
        "model": {
            "class_path": "aimless.lightning.waveform.WaveformSeparator",
            "init_args": {
                "targets": {"vocals": None, "drums": None, "bass": None, "other": None},
                "target_track": "mdx",
                "model": {
                    "class_path": "torchaudio.models.HDemucs",
                    "init_args": {"sources": ["vocals", "drums", "bass", "other"], "channels": 8},
                },
            },
        }
    }
    state = {f"model.{k}": v for k, v in model.state_dict().items()}
    torch.save({"state_dict": state, "config": yaml.safe_dump(config)}, tmp_path / "a.ckpt")
    loaded = load(tmp_path / "a.ckpt")
    assert loaded.sources == ("drums", "bass", "other", "vocals")
    assert tuple(loaded.model.sources) == loaded.sources


class _Runs:
    """Pickles to a call that makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_code_in_a_checkpoint_never_runs(network, tmp_path):
    marker = tmp_path / "ran"
    payloads = {
        "reduce": {"marker": _Runs(marker)},
        "instantiator": {"hyper_parameters": {"_instantiator": _Runs(marker)}},
    }
    for name, more in payloads.items():
        path = save(network, tmp_path / f"{name}.ckpt", **more)
        with pytest.raises(DataError, match="holds more than weights"):
            load(path)
    scripted = tmp_path / "jit.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), scripted)
    with pytest.raises(DataError):
        load(scripted)
    link = tmp_path / "link.ckpt"
    link.symlink_to(tmp_path / "reduce.ckpt")
    with pytest.raises(DataError):
        load(link)
    assert not marker.exists()


def test_classes_of_strangers_are_not_imported(network, tmp_path, monkeypatch):
    package = tmp_path / "stranger"
    package.mkdir()
    (package / "__init__.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom aimless.models import DemucsSplit as Net\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    network.class_path = "stranger.Net"
    path = save(network, tmp_path / "a.ckpt")
    with pytest.raises(DataError, match=r"trusted=\['stranger'\]"):
        load(path)
    assert not (tmp_path / "ran").exists()
    assert same(load(path, trusted=["stranger"]), network)


def test_a_network_may_have_parts_that_are_called_as_wrappers_call_it(
    network, tmp_path, monkeypatch
):
    (tmp_path / "parts.py").write_text(
        "import torch\nfrom aimless.models import DemucsSplit\n"
        "class Net(DemucsSplit):\n"
        "    def __init__(self, **kwargs):\n"
        "        super().__init__(**kwargs)\n"
        "        self.model, self.module = torch.nn.Linear(2, 2), torch.nn.Linear(3, 3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    network.class_path = "parts.Net"
    network.model.model, network.model.module = torch.nn.Linear(2, 2), torch.nn.Linear(3, 3)
    path = tmp_path / "a.safetensors"
    export(network, path)
    loaded = load(path, trusted=["parts"])
    assert same(loaded, network)
    assert torch.equal(loaded.model.module.weight, network.model.module.weight)


def test_truncated_and_flipped_files_are_found(network, tmp_path):
    path = save(network, tmp_path / "a.ckpt")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    broken = tmp_path / "broken.ckpt"
    for cut in rng.integers(0, len(whole), 20):
        broken.write_bytes(whole[:cut])
        with pytest.raises(DataError):
            load(broken)
    names = {info.filename: info for info in zipfile.ZipFile(path).infolist()}
    largest = max(names.values(), key=lambda info: info.file_size)
    for offset in rng.integers(0, largest.file_size, 20):
        flipped = bytearray(whole)
        flipped[whole.index(largest.filename.encode()) + 200 + int(offset) % 500] ^= 0x10
        broken.write_bytes(flipped)
        with pytest.raises(DataError, match="damaged"):
            load(broken)


def test_weights_that_are_not_finite_are_refused(network, tmp_path):
    with torch.no_grad():
        network.model.encoder[0][0].weight[0, 0, 0] = float("nan")
    with pytest.raises(DataError, match=r"encoder.0.0.weight holds numbers that are not finite"):
        load(save(network, tmp_path / "a.ckpt"))


def test_a_network_of_another_size_gets_a_short_list(network, tmp_path):
    network.init_args = {**SIZES, "channels": 8}
    with pytest.raises(DataError, match="do not fit DemucsSplit") as caught:
        load(save(network, tmp_path / "a.ckpt"))
    assert "and" in str(caught.value)
    assert "more" in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04broken", b"\x80\x02}q\x00."])
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_what_is_no_checkpoint(tmp_path, content, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=path.name):
        load(path)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "no.ckpt")
    with pytest.raises(DataError, match="no checkpoint in this folder"):
        load(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        read_checkpoint(tmp_path / "no.ckpt")


def test_a_network_without_a_class_path_is_not_exported(tmp_path):
    with pytest.raises(ConfigError, match="no class path"):
        export(WaveformNetwork(DemucsSplit(**SIZES), ["a", "b"]), tmp_path / "a.safetensors")


def test_others_may_read_an_exported_file(network, tmp_path):
    export(network, tmp_path / "model.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_failed_export_leaves_the_old_file(network, exported, monkeypatch):
    import safetensors.torch

    before = exported.read_bytes()

    def full_disk(state, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full_disk)
    with pytest.raises(DataError, match="No space left"):
        export(network, exported)
    assert exported.read_bytes() == before
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]


def test_the_format_says_its_version(exported):
    from safetensors.torch import load_file, save_file

    description = {"format": "aimless-network-99"}
    save_file(load_file(exported), exported, metadata={"aimless": json.dumps(description)})
    with pytest.raises(DataError, match="later version"):
        load(exported)


class TestCommand:
    def test_export_and_info(self, network, tmp_path, capsys):
        path = save(network, tmp_path / "last.ckpt")
        assert main(["export", str(path)]) == 0
        assert Path(capsys.readouterr().out.strip()) == tmp_path / "last.safetensors"
        assert same(load(tmp_path / "last.safetensors"), network)
        assert main(["export", str(path)]) == 3
        assert "--overwrite" in capsys.readouterr().err
        assert main(["export", str(path), "--overwrite", "--half"]) == 0
        capsys.readouterr()

        assert main(["info", str(tmp_path / "last.safetensors")]) == 0
        text = capsys.readouterr().out
        for word in ("DemucsSplit", "drums, vocals", "22050 Hz", "channels=4"):
            assert word in text

    def test_one_line_for_a_mistake(self, tmp_path, capsys):
        assert main(["info", str(tmp_path / "no.ckpt")]) == 3
        assert capsys.readouterr().err.splitlines() == [f"error: {tmp_path}/no.ckpt: no such file"]


def test_published_training_goes_on_in_the_optimizers_order(tmp_path):
    """Moments follow their parameter's name, in whatever order another code numbered them."""
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 3), "b": torch.nn.Linear(4, 5)})
    names = ["b.weight", "b.bias", "a.weight", "a.bias"]
    shapes = {name: p.shape for name, p in model.named_parameters()}
    moments = {i: {"exp_avg": torch.zeros(shapes[name])} for i, name in enumerate(names)}
    checkpoint = {
        "optimizer_states": [{"state": moments, "param_groups": [{"params": [0, 1, 2, 3]}]}]
    }
    adopt_parameter_order(checkpoint, names, model)
    for index, (_, parameter) in enumerate(model.named_parameters()):
        assert checkpoint["optimizer_states"][0]["state"][index]["exp_avg"].shape == parameter.shape


def test_golden_moments_fit_the_parameters():
    saved = read_checkpoint(GOLDEN / "xumx" / "last.ckpt")
    network = load(GOLDEN / "xumx")
    state = saved["optimizer_states"][0]["state"]
    shapes = [p.shape for p in network.model.parameters()]
    weights = network_weights(saved["state_dict"])
    own = {name for name, _ in network.model.named_parameters()}
    order = [name for name in weights if name in own]
    assert len(state) == len(shapes) == len(order)
    assert all(state[i]["exp_avg"].shape == weights[name].shape for i, name in enumerate(order))


def test_a_folder_with_several_checkpoints_asks_for_one(network, tmp_path):
    first = save(network, tmp_path / "a.ckpt")
    shutil.copy(first, tmp_path / "b.ckpt")
    with pytest.raises(DataError, match=r"several checkpoints, name one: a.ckpt, b.ckpt"):
        load(tmp_path)
