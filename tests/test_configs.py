"""Every shipped experiment: its full-size network, and the whole run with a small one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import yaml

from aimless.config import import_class, read_yaml, share_settings
from aimless.lightning.run import run
from aimless.sources import SDX_SOURCES, SE_SOURCES
from data.augment import CPUBase
from main import TRAINER_DEFAULTS

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for path in (REPOSITORY / "cfg").rglob("*.yaml")
    if path.parent.name != "separate"  # recipes, not experiments
)

NETWORK = "--model.init_args.model.init_args."
SMALL = {
    "X_UMX": ["hidden_channels", "8", "nb_layers", "1"],
    "DemucsSplit": ["channels", "2", "depth", "4"],
    "HDemucs": ["channels", "4"],
    "BandSplitRNN": ["hidden_size", "8", "num_layers", "1"],
    "BandSplitRNNMulti": ["hidden_size", "8", "num_layers", "1"],
}
#: Parameters of the published networks, as their checkpoints have them.
PARAMETERS = {
    "cfg/xumx.yaml": 35573392,
    "cfg/demucs.yaml": 191928152,
    "cfg/cdx_a/bandsplit_rnn.yaml": 9274755,
}


class StandIn(CPUBase):
    """An effect that is not there yet: takes any settings, changes nothing."""

    def __init__(self, p: float = 1.0, **settings: Any) -> None:
        super().__init__(p)

    def transform(self, stem, rng):
        return stem


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """The repository as working folder; stand-ins for parts that configs name in advance."""
    import data.augment

    monkeypatch.chdir(REPOSITORY)
    for config in CONFIGS:
        for effect in read_yaml(REPOSITORY / config)["data"]["init_args"].get("transforms", []):
            name = effect["class_path"].rpartition(".")[2]
            if not hasattr(data.augment, name):
                cls = type(name, (StandIn,), {"__module__": "data.augment"})
                monkeypatch.setattr(data.augment, name, cls, raising=False)


@pytest.fixture(scope="session")
def roots(tmp_path_factory, musdb_root, write_song):
    """Command-line options that say where a small data set of each kind is."""
    folder = tmp_path_factory.mktemp("sets")
    for seed, split in enumerate(("tr", "cv", "tt")):
        for track in range(2):
            write_song(
                folder / "dnr" / split / f"{split}{track}",
                channels=1,
                seed=10 * seed + track,
                sources=SDX_SOURCES,
                mixture="mix",
            )
            noisy = folder / "noisy" / ("valid" if split == "tt" else "train")
            write_song(noisy / f"{split}{track}", seed=10 * seed + track)
            for source in SE_SOURCES:
                write_song(folder / source / f"{split}{track}", sources=(source,), mixture=None)
    labels = folder / "labels.csv"
    labels.write_text("ID,Clean,Notes\ntr0,Y,\ntr1,,bleed\ncv0,Y,\n")
    root = "--data.init_args.root"
    return {
        "MUSDB": [root, musdb_root],
        "DnR": [root, folder / "dnr"],
        "LabelNoise": [root, folder / "noisy", "--data.init_args.labels", labels],
        "SpeechNoise": [
            *("--data.init_args.speech_root", folder / "speech"),
            *("--data.init_args.noise_root", folder / "noise"),
        ],
    }


def kind(config, part):
    return config[part]["class_path"].rpartition(".")[2]


@pytest.mark.parametrize("path", CONFIGS)
def test_the_full_size_network_is_built(path):
    config = read_yaml(path)
    share_settings(config)
    network = config["model"]["init_args"]["model"]
    with torch.device("meta"):
        model = import_class(network["class_path"])(**network["init_args"])
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == PARAMETERS.get(path, count)
    assert count > 1e6


@pytest.mark.parametrize("path", CONFIGS)
def test_a_small_run_trains_validates_saves_resumes_and_separates(path, roots, tmp_path, capsys):
    config = read_yaml(path)
    sizes = SMALL[config["model"]["init_args"]["model"]["class_path"].rpartition(".")[2]]
    words = ["--config", path, *roots[kind(config, "data")]]
    for name, value in zip(sizes[::2], sizes[1::2]):
        words += [NETWORK + name, value]
    words += ["--data.init_args.seq_duration", "1", "--data.init_args.samples_per_track", "8"]
    words += ["--data.init_args.batch_size", "2", "--trainer.accumulate_grad_batches", "1"]
    words += ["--trainer.logger", "false", "--trainer.default_root_dir", tmp_path]
    words += ["--trainer.val_check_interval", "1", "--trainer.check_val_every_n_epoch", "1"]
    words += ["--trainer.limit_val_batches", "1", "--trainer.enable_progress_bar", "false"]

    def main(subcommand, *more):
        return run(TRAINER_DEFAULTS, [str(word) for word in (subcommand, *words, *more)])

    assert main("fit", "--trainer.max_steps", "2") == 0
    last = next(tmp_path.rglob("last.ckpt"))
    saved = torch.load(last, weights_only=True)
    assert saved["global_step"] == 2
    assert main("validate", "--ckpt_path", last) == 0
    assert "val/sdr" in capsys.readouterr().out
    if not saved.get("optimizer_states"):  # weights only: nothing to go on training with
        assert "bandsplit_rnn" in path
    else:
        assert main("fit", "--trainer.max_steps", "3", "--ckpt_path", last) == 0
        assert torch.load(last, weights_only=True)["global_step"] == 3

    song = next(Path(roots["MUSDB"][1]).rglob("mixture.wav"))
    predict = ["--data", "data.lightning.AudioFiles", "--data.init_args.paths", song]
    status = run(
        TRAINER_DEFAULTS,
        [str(w) for w in ("predict", *_without_data(words), *predict, "--ckpt_path", last)]
        + ["--stems.output_dir", str(tmp_path / "stems")],
    )
    assert status == 0
    targets = list(config["model"]["init_args"]["targets"])
    for target in targets:
        info = soundfile.info(tmp_path / "stems" / "mixture" / f"{target}.wav")
        original = soundfile.info(song)
        assert (info.frames, info.samplerate, info.channels) == (
            original.frames,
            original.samplerate,
            original.channels,
        )


def _without_data(words):
    """The options that are not about the data set."""
    pairs = zip(words[::2], words[1::2])
    return [
        w for option, value in pairs if not option.startswith("--data.") for w in (option, value)
    ]


def test_the_second_stage_takes_its_own_learning_rate(roots, tmp_path, capsys):
    words = [*roots["LabelNoise"], NETWORK + "channels", "4"]
    words += ["--data.init_args.seq_duration", "1", "--data.init_args.samples_per_track", "8"]
    words += ["--data.init_args.batch_size", "2", "--trainer.accumulate_grad_batches", "1"]
    words += ["--trainer.logger", "false", "--trainer.limit_val_batches", "0"]

    def fit(name, folder, *more):
        options = ["fit", "--config", f"cfg/mdx_a/{name}.yaml", *words, *more]
        options += ["--trainer.default_root_dir", tmp_path / folder]
        assert run(TRAINER_DEFAULTS, [str(word) for word in options]) == 0
        return next((tmp_path / folder).rglob("last.ckpt"))

    first = fit("hdemucs", "one", "--trainer.max_steps", "1")
    second = fit("hdemucs_stage2", "two", "--trainer.max_steps", "2", "--ckpt_path", first)
    group = torch.load(second, weights_only=True)["optimizer_states"][0]["param_groups"][0]
    assert group["lr"] == 1e-3


def test_stage_two_differs_from_stage_one_only_where_it_is_said():
    one, two = (
        yaml.safe_load(Path(f"cfg/mdx_a/{n}.yaml").read_text())
        for n in ("hdemucs", "hdemucs_stage2")
    )
    for config in (one, two):
        config["trainer"].pop("accumulate_grad_batches")
        config["optimizer"]["init_args"].pop("lr")
    effects = zip(one["data"]["init_args"]["transforms"], two["data"]["init_args"]["transforms"])
    for before, after in effects:
        p, q = before["init_args"].pop("p"), after["init_args"].pop("p")
        assert q == pytest.approx(1.666 * p, rel=1e-3)
    assert one == two
    assert len(one["data"]["init_args"]["transforms"]) == 14


def test_training_goes_on_from_a_checkpoint_of_the_published_code(roots, tmp_path):
    """Lightning 1.9 wrote it, with the state of Adam; two steps become three."""
    golden = REPOSITORY / "tests" / "parity" / "checkpoints" / "xumx" / "last.ckpt"
    words = ["fit", "--config", "cfg/xumx.yaml", *roots["MUSDB"], "--ckpt_path", golden]
    words += ["--model.init_args.n_fft", "1024", "--model.init_args.hop_length", "256"]
    for name, value in {"hidden_channels": 16, "max_bins": 400, "nb_layers": 2}.items():
        words += [NETWORK + name, value]
    words += ["--data.init_args.seq_duration", "1", "--data.init_args.samples_per_track", "8"]
    words += ["--trainer.max_steps", "3", "--trainer.limit_val_batches", "0"]
    words += ["--trainer.logger", "false", "--trainer.default_root_dir", tmp_path]
    words += ["--optimizer.init_args.lr", "1e-6", "--optimizer.init_args.weight_decay", "0"]
    assert run(TRAINER_DEFAULTS, [str(word) for word in words]) == 0
    before = torch.load(golden, weights_only=True)
    after = torch.load(next(tmp_path.rglob("last.ckpt")), weights_only=True)
    assert after["global_step"] == before["global_step"] + 1 == 3
    steps = {float(state["step"]) for state in after["optimizer_states"][0]["state"].values()}
    assert steps == {3.0}
    for name, weight in after["state_dict"].items():
        if name.endswith("weight"):
            assert (weight - before["state_dict"][name]).abs().max() < 1e-5, name
