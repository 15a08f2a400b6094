"""Train, test and use a separator on the song that the package `stempeg` carries.

Six seconds of music make a smoke run: they show that everything works and how to go on, not a
good separator. `make demo` calls this script; every step is a command of `main.py`, printed
before it runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import soundfile
import torch

from aimless.loss.time import sdr
from aimless.plot import png_bytes, spectrogram_figure
from aimless.sources import MDX_SOURCES

REPOSITORY = Path(__file__).resolve().parent.parent
SONG = "The Easton Ellises - Falcon 69"
#: The part of the song that is trained on, in seconds; the rest is only tested on.
TRAINED = 4.0


def find_song() -> Path:
    """The multitrack in stempeg's folder; stempeg itself would need ffmpeg to be imported."""
    spec = importlib.util.find_spec("stempeg")
    if spec is None or spec.origin is None:
        sys.exit("error: the demo song is part of stempeg: pip install 'aimless[demo]'")
    path = Path(spec.origin).parent / "data" / f"{SONG}.stem.mp4"
    if not path.is_file():
        sys.exit(f"error: {path}: not there; another release of stempeg?")
    return path


def decode(path: Path) -> tuple[dict[str, np.ndarray], int]:
    """All streams of a stem file: mixture and stems, (samples, channels) each, and the rate."""
    streams = {}
    for index, name in enumerate(("mixture", *MDX_SOURCES)):
        with av.open(str(path)) as container:
            stream = container.streams.audio[index]
            frames = [frame.to_ndarray() for frame in container.decode(stream)]
            rate = stream.rate
        streams[name] = np.concatenate(frames, axis=1).T
    return streams, rate


def write_dataset(root: Path, streams: dict[str, np.ndarray], rate: int) -> Path:
    """Lay the song out as MUSDB18-HQ: its first part in train, the rest in test."""
    cut = round(TRAINED * rate)
    parts = {
        root / "train" / f"{SONG} (first {TRAINED:g} s)": slice(0, cut),
        root / "test" / f"{SONG} (rest)": slice(cut, None),
    }
    for folder, part in parts.items():
        folder.mkdir(parents=True, exist_ok=True)
        for name, samples in streams.items():
            soundfile.write(folder / f"{name}.wav", samples[part], rate, subtype="PCM_16")
    song = root.parent / f"{SONG}.wav"
    soundfile.write(song, streams["mixture"], rate, subtype="PCM_16")
    return song


def run(*arguments: str | Path) -> None:
    """One command of main.py, shown before it runs."""
    words = ["main.py", *map(str, arguments)]
    print(f"\n$ python {shlex.join(words)}", flush=True)
    status = subprocess.run([sys.executable, *words], cwd=REPOSITORY).returncode
    if status:
        sys.exit(status)


def score(folder: Path, streams: dict[str, np.ndarray], rate: int) -> dict[str, list[float]]:
    """SDR of the written stems and of the mixture as estimate, on both parts of the song."""
    cut = round(TRAINED * rate)
    rows: dict[str, list[float]] = {}
    for name in MDX_SOURCES:
        estimate, _ = soundfile.read(folder / f"{name}.wav", dtype="float32")
        rows[name] = [
            float(
                sdr(
                    torch.from_numpy(guess[part])[None], torch.from_numpy(streams[name][part])[None]
                )
            )
            for part in (slice(0, cut), slice(cut, None))
            for guess in (streams["mixture"], estimate)
        ]
    rows["mean"] = [float(np.mean(column)) for column in zip(*rows.values())]
    return rows


def print_table(rows: dict[str, list[float]]) -> None:
    """Scores as text."""
    print(f"\nSDR in dB      first {TRAINED:g} s, trained on        rest, never seen")
    print("source       mixture  estimate    gain   mixture  estimate    gain")
    for name, (mixture, estimate, unseen_mixture, unseen) in rows.items():
        print(
            f"{name:<10}{mixture:>10.2f}{estimate:>10.2f}{estimate - mixture:>+8.2f}"
            f"{unseen_mixture:>10.2f}{unseen:>10.2f}{unseen - unseen_mixture:>+8.2f}"
        )


def draw(path: Path, folder: Path, streams: dict[str, np.ndarray], rate: int) -> None:
    """A picture of targets, estimates and what is between them."""
    rows = {}
    for name in MDX_SOURCES:
        estimate, _ = soundfile.read(folder / f"{name}.wav", dtype="float32")
        target = torch.from_numpy(streams[name].T)
        guess = torch.from_numpy(estimate.T)
        rows[name] = {"target": target, "estimate": guess, "residual": target - guess}
    title = f"{SONG}: the first {TRAINED:g} s were trained on, the rest was not"
    path.write_bytes(png_bytes(spectrogram_figure(rows, rate, title)))


def main() -> None:
    """The demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder (default: demo)")
    parser.add_argument("--steps", type=int, help="training steps (default: those of the config)")
    options = parser.parse_args()
    output = Path(os.path.abspath(options.output))
    began = time.monotonic()

    streams, rate = decode(find_song())
    root = output / "musdb18hq"
    song = write_dataset(root, streams, rate)
    print(f"Wrote {SONG} as a data set to {root}: train is its first {TRAINED:g} s, test the rest.")

    config = ["--config", "cfg/demo.yaml"]
    data = ["--data.init_args.root", root]
    run_folder = output / "run"
    shutil.rmtree(run_folder, ignore_errors=True)  # an earlier demo's
    steps = ["--trainer.max_steps", str(options.steps)] if options.steps else []
    run("fit", *config, *data, "--trainer.default_root_dir", run_folder, *steps)
    checkpoint = next(run_folder.glob("lightning_logs/*/checkpoints/last.ckpt"))
    quiet = ["--trainer.logger", "false"]
    run("test", *config, *data, "--ckpt_path", checkpoint, *quiet)
    stems = output / "stems"
    predict = ["--data", "data.lightning.AudioFiles", "--data.init_args.paths", song]
    writing = ["--stems.output_dir", stems, "--stems.overwrite", "true"]
    run("predict", *config, *predict, "--ckpt_path", checkpoint, *writing, *quiet)

    folder = stems / song.stem
    picture = output / "spectrograms.png"
    draw(picture, folder, streams, rate)
    rows = score(folder, streams, rate)
    print_table(rows)
    print(f"""
Six seconds of one song make a smoke run, not a good separator: the first part shows that
training works, the unseen rest that much more music is needed.

stems         {folder}
checkpoint    {checkpoint}
spectrograms  {picture}
curves        tensorboard --logdir {run_folder}

Next: train on MUSDB18-HQ (150 songs; see the README),
  python main.py fit --config cfg/xumx.yaml --data.init_args.root /path/to/musdb18hq
or separate a song of yours with the demo's weights,
  python main.py predict --config cfg/demo.yaml --ckpt_path {shlex.quote(str(checkpoint))} \\
    --data data.lightning.AudioFiles --data.init_args.paths song.mp3
({time.monotonic() - began:.0f} s in all)""")


if __name__ == "__main__":
    main()
