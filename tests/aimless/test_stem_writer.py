"""`predict` streams songs from their files into the files of their stems."""

from __future__ import annotations

from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from aimless.errors import ConfigError, DataError
from aimless.lightning.waveform import WaveformSeparator
from aimless.lightning.writer import StemWriter
from aimless.loss.time import L1Loss
from aimless.overlap_add import OverlapAdd
from tests.aimless.engine_parts import Levels, listing, noise, read, write


def predict(songs, *callbacks):
    separator = WaveformSeparator(
        Levels([0.75, 0.25]),
        L1Loss(),
        targets=["drums", "vocals"],
        sample_rate=8000,
        overlap_add=OverlapAdd(segment=1.0, shifts=2),
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=list(callbacks),
    )
    batches = [SimpleNamespace(path=str(song)) for song in songs]
    return trainer.predict(separator, DataLoader(batches, batch_size=None))


def test_stems_go_into_files_and_not_into_memory(tmp_path, capsys):
    song = write(tmp_path / "song.wav", noise(20_001), 8000)
    (result,) = predict([song], StemWriter(str(tmp_path / "out"), format="flac", bits="16"))
    assert result == {n: tmp_path / "out" / "song" / f"{n}.flac" for n in ("drums", "vocals")}
    assert soundfile.info(result["drums"]).subtype == "PCM_16"
    assert np.abs(read(result["drums"]) - 0.75 * noise(20_001)).max() < 2**-14
    assert "drums.flac, vocals.flac" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"already holds drums\.flac.*--stems\.overwrite true"):
        predict([song], StemWriter(str(tmp_path / "out"), format="flac"))


def test_without_a_writer_stems_are_returned(tmp_path):
    (stems,) = predict([write(tmp_path / "song.wav", noise(20_001), 8000)])
    assert list(stems) == ["drums", "vocals"]
    assert torch.allclose(stems["vocals"], 0.25 * torch.from_numpy(noise(20_001)), atol=1e-6)


def test_a_bad_song_is_named_and_leaves_nothing(tmp_path):
    audio = noise(20_001)
    audio[0, 15_000] = np.nan
    song = write(tmp_path / "song.wav", audio, 8000)
    with pytest.raises(DataError, match=r"song\.wav: frame 15000"):
        predict([song], StemWriter(str(tmp_path / "out")))
    assert listing(tmp_path) == ["song.wav"]


def test_formats_that_do_not_exist():
    with pytest.raises(ConfigError, match="format: 'aiff'"):
        StemWriter(format="aiff")
