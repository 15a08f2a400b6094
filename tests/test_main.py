"""The command line, used as a user would, on small synthetic songs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from tests.helpers import REPOSITORY, SOURCES, experiment, main, metrics


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.fixture(scope="module")
def trained(musdb_root, tmp_path_factory):
    """The folder of a finished run, and its config."""
    folder = tmp_path_factory.mktemp("run")
    config = experiment(musdb_root, folder)
    before = os.getcwd()
    os.chdir(REPOSITORY)
    try:
        assert main("fit", "--config", config) == 0
    finally:
        os.chdir(before)
    return folder, config


@pytest.fixture(scope="module")
def checkpoint(trained):
    return next(trained[0].rglob("last.ckpt"))


class TestFit:
    def test_a_checkpoint_is_data_and_carries_its_config(self, checkpoint):
        saved = torch.load(checkpoint, weights_only=True)
        config = yaml.safe_load(saved["config"])
        assert config["model"]["init_args"]["model"]["init_args"]["n_fft"] == 512
        assert config["model"]["init_args"]["criterion"]["init_args"]["hop_length"] == 128
        assert all(key.startswith("model.") for key in saved["state_dict"])

    def test_the_resolved_config_lies_beside_the_checkpoint_and_runs_again(
        self, checkpoint, tmp_path
    ):
        config = checkpoint.parent / "config.yaml"
        assert config.is_file()
        words = ["--trainer.default_root_dir", tmp_path, "--trainer.logger", "false"]
        assert main("fit", "--config", config, *words, "--trainer.fast_dev_run", "1") == 0

    def test_loss_and_scores_are_logged_per_source(self, trained):
        values = metrics(trained[0])
        expected = {"train/loss", "train/loss_f", "train/loss_t", "val/loss"}
        for stage in ("train", "val"):
            expected |= {f"{stage}/sdr", *(f"{stage}/sdr_{name}" for name in SOURCES)}
        assert expected <= values.keys()
        assert all(np.isfinite(values[name]) for name in expected)
        mean = np.mean([values[f"val/sdr_{name}"] for name in SOURCES])
        assert values["val/sdr"] == pytest.approx(mean, abs=1e-4)

    def test_excerpts_can_be_heard_and_seen(self, trained):
        folder = next(trained[0].rglob("excerpt_0"))
        for name in SOURCES:
            for kind in ("target", "estimate"):
                samples, rate = soundfile.read(folder / f"{name}_{kind}.wav")
                assert (samples.shape, rate) == ((22050, 2), 44100)
        assert (folder / "spectrograms.png").read_bytes().startswith(b"\x89PNG")

    def test_tensorboard_is_the_default_and_gets_audio_and_pictures(self, musdb_root, tmp_path):
        config = experiment(musdb_root, tmp_path, trainer__logger=None)
        assert main("fit", "--config", config) == 0
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(next(tmp_path.rglob("events*"))))
        events.Reload()
        tags = events.Tags()
        assert {f"excerpt_0/{name}_estimate" for name in SOURCES} <= set(tags["audio"])
        assert "excerpt_0/spectrograms" in tags["images"]
        assert {"train/loss", "val/sdr_vocals"} <= set(tags["scalars"])

    def test_training_goes_on_from_a_checkpoint(self, trained, checkpoint, tmp_path):
        words = ["--trainer.default_root_dir", tmp_path, "--trainer.max_epochs", "2"]
        words += ["--trainer.logger.init_args.save_dir", tmp_path, "--ckpt_path", checkpoint]
        assert main("fit", "--config", trained[1], *words) == 0
        before = torch.load(checkpoint, weights_only=True)["global_step"]
        after = torch.load(next(tmp_path.rglob("last.ckpt")), weights_only=True)["global_step"]
        assert after == 2 * before > 0

    def test_one_target_out_of_four(self, musdb_root, tmp_path):
        config = experiment(
            musdb_root,
            tmp_path,
            model={
                "class_path": "aimless.lightning.waveform.WaveformSeparator",
                "init_args": {
                    "targets": {"vocals": None},
                    "model": {
                        "class_path": "aimless.models.demucs_split.DemucsSplit",
                        "init_args": {"channels": 4, "depth": 3},
                    },
                    "criterion": {"class_path": "aimless.loss.time.NegativeSDR"},
                },
            },
        )
        assert main("fit", "--config", config) == 0
        assert metrics(tmp_path)["val/sdr"] == metrics(tmp_path)["val/sdr_vocals"]

    @pytest.mark.parametrize(
        ("name", "sizes"),
        [
            ("xumx", ["--model.init_args.model.init_args.hidden_channels", "8"]),
            (
                "demucs",
                [
                    *("--model.init_args.model.init_args.channels", "2"),
                    *("--model.init_args.model.init_args.depth", "4"),
                ],
            ),
        ],
    )
    def test_the_published_configs_train_save_test_and_resume(
        self, name, sizes, musdb_root, tmp_path
    ):
        common = ["--config", f"cfg/{name}.yaml", "--data.init_args.root", musdb_root, *sizes]
        common += ["--data.init_args.seq_duration", "1", "--data.init_args.samples_per_track", "4"]
        common += ["--trainer.default_root_dir", tmp_path, "--trainer.logger", "false"]
        assert main("fit", *common, "--trainer.max_steps", "2") == 0
        last = next(tmp_path.rglob("last.ckpt"))
        assert torch.load(last, weights_only=True)["global_step"] == 2
        assert main("fit", *common, "--trainer.max_steps", "3", "--ckpt_path", last) == 0
        assert main("test", *common, "--ckpt_path", last) == 0


class TestEvaluate:
    def test_two_validations_give_the_same_numbers(self, trained, checkpoint, tmp_path, capsys):
        seen = []
        for _ in range(2):
            words = ["--trainer.logger", "false", "--ckpt_path", checkpoint]
            assert main("validate", "--config", trained[1], *words) == 0
            seen.append([line for line in capsys.readouterr().out.splitlines() if "sdr" in line])
        assert len(seen[0]) == 5
        assert seen[0] == seen[1]

    def test_whole_songs_or_segments(self, trained, checkpoint, tmp_path, capsys):
        words = ["--trainer.logger", "false", "--ckpt_path", checkpoint]
        words += ["--model.init_args.overlap_add.segment", "1.0"]
        for setting in ("null", "0.5"):
            length = ["--data.init_args.val_seq_duration", setting]
            assert main("validate", "--config", trained[1], *words, *length) == 0
            output = capsys.readouterr().out
            assert ("val/loss" in output) == (setting != "null")
            assert "val/sdr_vocals" in output


def sound(rate, channels, seconds):
    time = np.arange(int(rate * seconds)) / rate
    return 0.2 * np.stack([np.sin(2 * np.pi * 220 * (c + 1) * time) for c in range(channels)], 1)


class TestPredict:
    @pytest.mark.parametrize(
        ("name", "rate", "channels"),
        [("a.wav", 44100, 2), ("b.flac", 48000, 1), ("c.mp3", 44100, 2), ("d.ogg", 22050, 2)],
    )
    def test_stems_have_the_songs_rate_length_and_channels(
        self, trained, checkpoint, tmp_path, name, rate, channels
    ):
        song = tmp_path / name
        soundfile.write(song, sound(rate, channels, 1.3), rate)
        length = len(soundfile.read(song)[0])
        words = ["--data", "data.lightning.AudioFiles", "--data.init_args.paths", song]
        words += ["--stems.output_dir", tmp_path / "out", "--trainer.logger", "false"]
        common = ["predict", "--config", trained[1], "--ckpt_path", checkpoint, *words]
        assert main(*common) == 0
        folder = tmp_path / "out" / song.stem
        assert sorted(path.stem for path in folder.iterdir()) == sorted(SOURCES)
        for path in folder.iterdir():
            info = soundfile.info(path)
            assert (info.samplerate, info.channels, info.frames) == (rate, channels, length)

        assert main(*common) == 2  # nothing is overwritten unasked
        assert main(*common, "--stems.overwrite", "true") == 0

    def test_a_folder_of_songs(self, trained, checkpoint, tmp_path):
        songs = tmp_path / "songs"
        songs.mkdir()
        for name in ("one", "two"):
            soundfile.write(songs / f"{name}.wav", sound(44100, 2, 0.4), 44100)
        words = ["--data", "data.lightning.AudioFiles", "--data.init_args.paths", songs]
        words += ["--stems.output_dir", tmp_path / "out", "--trainer.logger", "false"]
        assert main("predict", "--config", trained[1], "--ckpt_path", checkpoint, *words) == 0
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one", "two"]

    @pytest.mark.parametrize("content", [b"", b"not audio at all" * 100])
    def test_what_is_no_audio(self, trained, checkpoint, tmp_path, capsys, content):
        song = tmp_path / "song.wav"
        song.write_bytes(content)
        words = ["--data", "data.lightning.AudioFiles", "--data.init_args.paths", song]
        words += ["--stems.output_dir", tmp_path / "out", "--trainer.logger", "false"]
        assert main("predict", "--config", trained[1], "--ckpt_path", checkpoint, *words) == 3
        assert "song.wav" in error_line(capsys)
        assert not (tmp_path / "out").exists()


def error_line(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


INIT = "model__init_args__"

MISTAKES = {
    "class path": ({INIT + "model__class_path": "aimless.models.X_UMZ"}, 2, ["X_UMZ", "X_UMX"]),
    "module": ({INIT + "model__class_path": "aimless.modles.X_UMX"}, 2, ["modles", "models"]),
    "optimizer": ({"optimizer__class_path": "torch.optim.Adamm"}, 2, ["Adamm", "'Adam'"]),
    "key of the model": ({INIT + "n_ftt": 512}, 2, ["n_ftt", "n_fft", "line"]),
    "key of the network": (
        {INIT + "model__init_args__hiden_channels": 8},
        2,
        ["hiden_channels", "hidden_channels", "experiment.yaml, line"],
    ),
    "key of the data": ({"data__init_args__bach_size": 8}, 2, ["bach_size", "batch_size"]),
    "key of the trainer": ({"trainer__max_step": 8}, 2, ["max_step", "trainer.max_steps"]),
    "key at the top": ({"modle": 8}, 2, ["modle", "'model'"]),
    "type": ({INIT + "n_fft": "big"}, 2, ["n_fft", "big", "int"]),
    "accelerator": ({"trainer__accelerator": "gpuu"}, 2, ["gpuu", "cpu"]),
    "target": ({INIT + "targets": ["vocal"]}, 2, ["'vocal'", "drums, bass, other, vocals"]),
    "empty targets": ({INIT + "targets": []}, 2, ["targets", "none given"]),
    "no targets": ({INIT + "targets": None}, 2, ["targets", "none given"]),
    "other data": (
        {INIT + "targets": ["speech", "music"]},
        2,
        ["MUSDB", "drums", "music"],
    ),
    "two sizes": ({INIT + "model__init_args__n_fft": 1024}, 2, ["n_fft", "512", "1024"]),
    "criterion": (
        {INIT + "criterion__class_path": "aimless.loss.time.L1Loss"},
        2,
        ["L1Loss", "X_UMX"],
    ),
    "channels": (
        {INIT + "model__init_args__nb_channels": 1, "data__init_args__channels": 2},
        2,
        ["channels", "1", "2"],
    ),
    "segment": ({"data__init_args__seq_duration": 0}, 2, ["data.init_args.seq_duration", "0"]),
    "negative segment": ({"data__init_args__seq_duration": -1}, 2, ["seq_duration", "-1"]),
    "batch": ({"data__init_args__batch_size": 64}, 2, ["8 samples, batch 64 x 1 rank"]),
    "root": ({"data__init_args__root": "/nope"}, 3, ["found 0 tracks under /nope", "drums.wav"]),
    "no root": ({"data__init_args__root": None}, 2, ["data.init_args.root", "required"]),
    "sample rate": (
        {"data__init_args__sample_rate": 48000},
        3,
        ["44100", "48000", "drums.wav"],
    ),
}


class TestMistakes:
    @pytest.mark.parametrize("name", MISTAKES)
    def test_a_mistake_is_one_line_before_the_first_step(self, name, musdb_root, tmp_path, capsys):
        overrides, status, words = MISTAKES[name]
        config = experiment(musdb_root, tmp_path, **overrides)
        assert main("fit", "--config", config) == status
        captured = capsys.readouterr()
        line = captured.err.splitlines()
        first = next(index for index, text in enumerate(line) if text.startswith("error: "))
        message = "\n".join(line[first:])
        assert all(word in message for word in words), message
        if status == 2:
            assert len(line[first:]) == 1, message
        assert "Traceback" not in captured.err
        assert not list(tmp_path.rglob("*.ckpt"))
        assert not list(tmp_path.rglob("metrics.csv"))

    def test_a_key_that_stands_twice(self, musdb_root, tmp_path, capsys):
        path = Path(experiment(musdb_root, tmp_path))
        path.write_text(path.read_text() + "\noptimizer: null\n")
        assert main("fit", "--config", path) == 2
        line = error_line(capsys)
        assert "'optimizer' stands twice" in line
        assert str(path) in line

    @pytest.mark.parametrize(
        ("words", "status", "said"),
        [
            (["fitt"], 2, "did you mean 'fit'"),
            (["fit", "--config", "nope.yaml"], 2, "nope.yaml"),
            (["fit", "--trainer.max_stepss", "3"], 2, "max_stepss"),
            (["fit", "--config", "cfg/xumx.yaml"], 2, "data.init_args.root"),
            (
                ["test", "--config", "cfg/xumx.yaml", "--data.init_args.root", "/x"],
                2,
                "--ckpt_path",
            ),
        ],
    )
    def test_words_of_the_command_line(self, words, status, said, capsys):
        assert main(*words) == status
        assert said in error_line(capsys)

    @pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text", "other weights", "code"])
    def test_checkpoints(self, trained, checkpoint, tmp_path, capsys, damage):
        path = tmp_path / "some.ckpt"
        whole = checkpoint.read_bytes()
        words = ["--trainer.logger", "false", "--ckpt_path", path]
        said = "some.ckpt"
        if damage == "empty":
            path.write_bytes(b"")
        elif damage == "cut":
            path.write_bytes(whole[: len(whole) // 2])
        elif damage == "text":
            path.write_text("state_dict: 3")
        elif damage == "other weights":
            path.write_bytes(whole)
            words += ["--model.init_args.model.init_args.nb_layers", "2"]
            said = "its nb_layers is 1, the config says 2"
        elif damage == "code":
            torch.save({"state_dict": {}, "marker": _Payload(str(tmp_path / "ran"))}, path)
        assert main("validate", "--config", trained[1], *words) == 3
        assert said in error_line(capsys)
        assert not (tmp_path / "ran").exists()

    def test_faults_in_training_and_validation_songs_are_listed_together(
        self, musdb_copy, tmp_path, capsys
    ):
        gone = [
            musdb_copy / "train" / "Synthetic - First Song" / "vocals.wav",
            musdb_copy / "train" / "Meaxic - Take A Step" / "drums.wav",  # a validation song
        ]
        for path in gone:
            path.unlink()
        (tmp_path / "run").mkdir()
        assert main("fit", "--config", experiment(musdb_copy, tmp_path / "run")) == 3
        message = capsys.readouterr().err
        assert all(f"{path}: missing" in message for path in gone)

    def test_a_bad_track_is_skipped_when_asked(self, musdb_copy, tmp_path, capsys):
        bad = musdb_copy / "train" / "Synthetic - First Song" / "vocals.wav"
        bad.write_bytes(bad.read_bytes()[:1000])
        run_folder = tmp_path / "run"
        run_folder.mkdir()
        config = experiment(musdb_copy, run_folder)
        assert main("fit", "--config", config) == 3
        assert "vocals.wav" in capsys.readouterr().err
        assert main("fit", "--config", config, "--data.init_args.on_bad_track", "skip") == 0


class _Payload:
    """Pickles to a call that makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


class TestShowing:
    def test_help_names_the_subcommands_without_heavy_imports(self):
        code = "import sys, main; main.run({}, ['--help']); print('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for word in ("fit", "validate", "test", "predict", "exit status"):
            assert word in done.stdout
        assert done.stdout.splitlines()[-1] == "False"

    @pytest.mark.parametrize("name", ["fit", "validate", "test", "predict"])
    def test_help_of_a_subcommand_names_options_that_exist(self, name, capsys):
        assert main(name, "--help") == 0
        text = capsys.readouterr().out
        with pytest.raises(SystemExit) as left:
            main(name, "--help_all")
        assert left.value.code == 0
        everything = capsys.readouterr().out
        named = set(re.findall(r"--[\w.]+", text)) - {"--KEY", "--help_all"}
        assert len(named) > 15
        for option in named:
            # what belongs to a class is told by the class
            known = re.match(r"--(model|data|optimizer)(?=\.init_args)", option)
            assert (known[0] if known else option) in everything, option
        assert max(map(len, text.splitlines())) <= 100

    @pytest.mark.parametrize(
        ("help_of", "options"),
        [
            ("--data.help=data.lightning.MUSDB", r"--data\.init_args\.(root|batch_\w+|on_\w+)"),
            ("--data.help=data.lightning.AudioFiles", r"--data\.init_args\.(paths)"),
        ],
    )
    def test_help_names_settings_that_the_classes_have(self, help_of, options, capsys):
        assert main("fit", "--help") == main("predict", "--help") == 0
        named = set(re.findall(options, capsys.readouterr().out))
        with pytest.raises(SystemExit):
            main("fit", help_of)
        text = capsys.readouterr().out
        assert named
        assert all(f"init_args.{name}" in text or f".{name} " in text for name in named), text

    def test_print_config_shows_what_will_run(self, capsys):
        words = ["--config", "cfg/xumx.yaml", "--data.init_args.root", "/x", "--print_config"]
        with pytest.raises(SystemExit):
            main("fit", *words, "--model.init_args.n_fft", "2048")
        config = yaml.safe_load(capsys.readouterr().out)
        separator = config["model"]["init_args"]
        assert separator["model"]["init_args"]["n_fft"] == 2048
        assert separator["criterion"]["init_args"]["n_fft"] == 2048
        assert separator["model"]["init_args"]["sources"] == SOURCES
        assert config["optimizer"]["init_args"]["lr"] == 1e-4

    def test_aimless_imports_without_the_rest(self):
        code = (
            "import sys, aimless, aimless.models, aimless.loss, aimless.augment, aimless.utils;"
            "import aimless.separate, aimless.overlap_add;"
            "print([name for name in ('data', 'lightning', 'torchaudio', 'musdb', 'stempeg',"
            "'matplotlib') if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd="/", timeout=60
        )
        assert done.stdout.strip() == "[]", done.stdout + done.stderr
