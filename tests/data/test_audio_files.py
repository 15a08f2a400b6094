"""Files to separate: found, checked before the first, and passed on one song at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import soundfile

from aimless.draws import generator
from aimless.errors import ConfigError, DataError
from data import sampling
from data.lightning import AudioFiles
from data.lightning.audio_files import Song


def write(path: Path, rate: int = 44100, channels: int = 2, seconds: float = 0.2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = generator("files", path.stem).uniform(-0.5, 0.5, (round(rate * seconds), channels))
    soundfile.write(path, samples, rate)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "songs"
    write(root / "b.wav")
    write(root / "a.flac", rate=48000)
    write(root / "c.ogg", channels=1)
    write(root / "album" / "d.mp3")
    write(root / ".hidden.wav")
    write(root / ".trash" / "e.wav")
    (root / "notes.txt").write_text("no audio")
    return root


def found(*paths: Path | str, **settings: Any) -> list[str]:
    datamodule = AudioFiles([str(path) for path in paths], **settings)
    datamodule.setup("predict")
    return [Path(song.path).name for song in datamodule.predict_dataloader()]


def test_folders_are_searched_in_order(folder: Path) -> None:
    assert found(folder) == ["a.flac", "b.wav", "c.ogg", "d.mp3"]
    assert found(folder, recursive=False) == ["a.flac", "b.wav", "c.ogg"]


def test_files_in_the_given_order_and_once(folder: Path) -> None:
    assert found(folder / "c.ogg", folder / "b.wav") == ["c.ogg", "b.wav"]
    assert found(folder / "c.ogg", folder) == ["c.ogg", "a.flac", "b.wav", "d.mp3"]


def test_songs_are_handed_over_by_their_files(folder: Path) -> None:
    """However long they are: nothing is decoded here."""
    datamodule = AudioFiles(str(folder))
    datamodule.setup()
    songs = list(datamodule.predict_dataloader())
    assert all(isinstance(song, Song) for song in songs)
    assert [song.path for song in songs] == [
        str(folder / name) for name in ("a.flac", "b.wav", "c.ogg", "album/d.mp3")
    ]


def test_missing_paths_and_folders_without_audio(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.init_args\.paths: .*nope.*no such file"):
        found(tmp_path / "nope")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no audio in it"):
        found(tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"data\.init_args\.paths: none given"):
        AudioFiles([])


def test_bad_files_are_all_listed(folder: Path) -> None:
    (folder / "bad.wav").write_text("text")
    with pytest.raises(DataError, match=r"bad\.wav: not readable audio") as error:
        found(folder)
    assert "\n" not in str(error.value)
    (folder / "empty.mp3").touch()
    with pytest.raises(DataError) as error:
        found(folder)
    head, *lines = str(error.value).splitlines()
    assert head == "2 of 6 files are bad:"
    assert [Path(line.split(":")[0].strip()).name for line in lines] == ["bad.wav", "empty.mp3"]


def test_equal_names_would_overwrite_each_other(folder: Path) -> None:
    write(folder / "album" / "b.flac")
    with pytest.raises(ConfigError, match=r"b\.wav and .*b\.flac would both be written") as error:
        found(folder)
    assert error.value.exit_code == 2


def test_ranks_share_the_songs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for rank in range(3):
        monkeypatch.setattr(sampling, "rank_and_world_size", lambda rank=rank: (rank, 3))
        shares.append(found(folder))
    assert [len(share) for share in shares] == [2, 1, 1]
    assert sorted(name for share in shares for name in share) == [
        "a.flac",
        "b.wav",
        "c.ogg",
        "d.mp3",
    ]


class Echo(pl.LightningModule):
    def predict_step(self, batch: Song) -> str:
        return batch.path


def test_a_trainer_gets_one_song_at_a_time(folder: Path) -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )
    results = trainer.predict(Echo(), AudioFiles(str(folder / "album")))
    assert results is not None
    assert results == [str(folder / "album" / "d.mp3")]
