"""Which checkpoint a run goes on from: the newest that is whole, of the same experiment."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from torch import distributed

from aimless.config import parse_yaml
from aimless.errors import ConfigError, DataError
from aimless.lightning.collectives import count_processes
from aimless.weights import read_checkpoint

__all__ = ["check_agreement", "check_checkpoint", "choose_checkpoint", "find_newest", "run_folders"]

logger = logging.getLogger(__name__)


def choose_checkpoint(word: str, config: Mapping[str, Any], training: bool) -> Path | None:
    """The file that `--ckpt_path` stands for.

    Args:
        word: `last`, the newest checkpoint that is whole; `auto`, the same, or none where there
            is none; or a path.
        config: of the run, with its `trainer` and `model`.
        training: whether training is to go on; then weights alone are not enough.

    Returns:
        The file; None to begin from the start.

    Raises:
        DataError: there is none, or what is there is damaged or does not serve.
    """
    folders = run_folders(config.get("trainer") or {})
    if word not in ("last", "auto"):
        _check_named(word, folders, config, training)
        return Path(word)
    found, passed_over = find_newest(folders, config, training)
    if found is not None:
        rank_zero_info(f"Goes on from {found}" if training else f"Uses {found}")
        return found
    where = " and ".join(str(folder) for folder in folders) or "the folders of the run"
    if passed_over:
        raise DataError(f"--ckpt_path {word}: no intact checkpoint in {where}; {passed_over[0]}")
    if word == "last":
        hint = "; --ckpt_path auto would begin from the start" if training else ""
        raise DataError(f"--ckpt_path last: no checkpoint of this experiment in {where}{hint}")
    if not training:
        raise ConfigError("--ckpt_path auto: there is nothing trained yet; auto is for fit")
    rank_zero_info(f"No checkpoint of this experiment in {where}: begins from the start")
    return None


def check_checkpoint(path: str | os.PathLike[str], training: bool = False) -> dict[str, Any]:
    """Read a checkpoint to go on from, or to use.

    Raises:
        DataError: it is missing, damaged, more than data, without network weights, or to be
            trained on and without the state of an optimizer.
    """
    checkpoint = read_checkpoint(path)
    if "state_dict" not in checkpoint:
        raise DataError(f"{path}: not a training checkpoint (no 'state_dict' in it)")
    if training and "optimizer_states" not in checkpoint:
        raise DataError(f"{path}: holds weights only, training cannot go on from it")
    return checkpoint


def check_agreement(path: str | os.PathLike[str] | None) -> None:
    """Make sure that all processes, which each have chosen a file, go on from the same.

    Args:
        path: of this process; None: it begins from the start.

    Raises:
        DataError: in all of them, if they differ.
    """
    if count_processes() == 1:
        return
    mine = None
    if path is not None:
        size = os.path.getsize(path) if os.path.isfile(path) else 0  # or it has an address
        mine = os.path.basename(path), size
    chosen: list[tuple[str, int] | None] = [None] * count_processes()
    distributed.all_gather_object(chosen, mine)
    for rank, other in enumerate(chosen):
        if other != chosen[0]:
            begins, differs = (one[0] if one else "the start" for one in (chosen[0], other))
            raise DataError(
                f"--ckpt_path: process 0 would begin from {begins}, process {rank} from {differs}"
                f"{' of another size' * (begins == differs)}; all need to see the same folder"
            )


def run_folders(trainer: Mapping[str, Any]) -> list[Path]:
    """Folders with checkpoints of runs that a trainer's config makes.

    Args:
        trainer: its config: `default_root_dir`, loggers with a `save_dir`, callbacks with a
            `dirpath`.

    Returns:
        Those that exist.
    """
    root = Path(trainer.get("default_root_dir") or ".")
    found = [root / "checkpoints", *root.glob("lightning_logs/*/checkpoints")]
    for logger_config in _listed(trainer.get("logger")):
        if save_dir := _argument(logger_config, "save_dir"):
            found += Path(save_dir).glob("*/*/checkpoints")
    for callback in _listed(trainer.get("callbacks")):
        if dirpath := _argument(callback, "dirpath"):
            found.append(Path(dirpath))
    return sorted({folder for folder in found if folder.is_dir()})


def find_newest(
    folders: Iterable[Path], config: Mapping[str, Any], training: bool
) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that serves; those that are damaged are passed over with a line.

    Args:
        folders: that hold checkpoints.
        config: of the run. Checkpoints of another network or other data are left out.
        training: as for `choose_checkpoint`.

    Returns:
        (the file or None, what is wrong with newer ones)
    """
    files = [file for folder in folders for file in folder.glob("*.ckpt") if file.is_file()]
    damaged = []
    for file in sorted(files, key=lambda file: file.stat().st_mtime_ns, reverse=True):
        try:
            checkpoint = read_checkpoint(file)
        except DataError as error:
            damaged.append(str(error))
            if getattr(rank_zero_only, "rank", 0) == 0:
                logger.warning("%s; passed over", error)
            continue
        wanted = ("state_dict", "optimizer_states") if training else ("state_dict",)
        whole = all(key in checkpoint for key in wanted)
        if whole and _same_experiment(checkpoint, config, training):
            return file, damaged
    return None, damaged


def _check_named(path: str, folders: list[Path], config: Mapping[str, Any], training: bool) -> None:
    try:
        check_checkpoint(path, training)
    except DataError as error:
        beside = {*folders, Path(path).parent}
        newest, _ = find_newest(beside, config, training) if Path(path).is_file() else (None, [])
        more = f"; newest intact: {newest}" if newest else ""
        raise DataError(f"--ckpt_path {error}{more}") from error


def _same_experiment(
    checkpoint: Mapping[str, Any], config: Mapping[str, Any], training: bool
) -> bool:
    """Whether network and, to train, data module are the config's, as far as the file tells."""
    text = checkpoint.get("config")
    if not isinstance(text, str):
        return True
    theirs = parse_yaml(text)
    same_data = _class_of(theirs.get("data")) == _class_of(config.get("data"))
    return _network(theirs) == _network(config) and (same_data or not training)


def _network(config: Mapping[str, Any]) -> Any:
    return ((config.get("model") or {}).get("init_args") or {}).get("model")


def _class_of(entry: Any) -> Any:
    return entry.get("class_path") if isinstance(entry, Mapping) else None


def _listed(value: Any) -> list[Mapping[str, Any]]:
    values = value if isinstance(value, (list, tuple)) else [value]
    return [one for one in values if isinstance(one, Mapping)]


def _argument(config: Mapping[str, Any], name: str) -> Any:
    return (config.get("init_args") or {}).get(name)
