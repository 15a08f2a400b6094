"""From a file to a network that is ready to separate.

    load("last.ckpt")            our checkpoints: they carry their config
    load("lightning_logs/...")   a folder: the checkpoint in it, and the config.yaml beside it
    load("model.safetensors")    what `export` writes
    load("hdemucs.pt")           plain weights of torchaudio's or Demucs' Hybrid Demucs
    load("https://...")          any of them, downloaded once
    load("hdemucs_high_musdb")   weights that others publish, see `aimless.published`
    load("recipe.yaml", checkpoints={...})   several networks together, see `aimless.recipe`

Nothing that is loaded runs: pickles are read with `weights_only=True`, and classes that a
checkpoint names are taken from `aimless` only, unless the caller trusts more.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from aimless.config import import_class, parse_yaml, read_yaml, share_settings
from aimless.ensemble import Normalised
from aimless.errors import ConfigError, DataError
from aimless.network import AudioNetwork, MaskNetwork, SeparationNetwork, WaveformNetwork
from aimless.published import PUBLISHED
from aimless.recognise import recognise
from aimless.sources import resolve_targets
from aimless.weights import compare_weights, network_weights, read_checkpoint

__all__ = ["export", "load"]

#: Weights in a folder, the first that is there wins.
_IN_FOLDERS = ("model.safetensors", "last.ckpt", "checkpoints/last.ckpt")
#: Classes that are the same network under another name.
_SAME_CLASS = {
    "torchaudio.models.HDemucs": "aimless.models.HDemucs",
    "torchaudio.models._hdemucs.HDemucs": "aimless.models.HDemucs",
}
#: Settings of a separator on spectrograms, see `aimless.network.MaskNetwork`.
_PIPELINE = ("n_fft", "hop_length", "residual_model", "softmask", "alpha", "n_iter")
_FORMAT = "aimless-network-1"


def load(
    source: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    trusted: Iterable[str] = (),
    checkpoints: Mapping[str, str | os.PathLike[str]] | None = None,
) -> AudioNetwork:
    """Load a network, with its sources, sample rate and channels, on the CPU in eval mode.

    Args:
        source: a file, a folder, an http(s) URL, or a name of `aimless.published`. A URL may end
            in `#sha256=<hex digits>`.
        sha256: what the file must hash to; for downloads.
        trusted: top packages besides `aimless` whose classes a checkpoint may name, for networks
            of your own.
        checkpoints: name -> file, folder or URL, for a recipe.

    Returns:
        (batch, channels, samples) -> (batch, sources, channels, samples or fewer), in float32.

    Raises:
        DataError: missing, damaged, holding code, without a config, not finite, or with
            weights that do not fit the network that its config describes.
        ConfigError: a config that cannot be built.
    """
    text = os.fspath(source)
    if Path(text).suffix in (".yaml", ".yml") and not _is_url(text):
        from aimless.recipe import load_recipe

        return load_recipe(text, checkpoints, trusted)
    if checkpoints:
        raise ConfigError(f"{text}: is no recipe (.yaml), so that it takes no named checkpoints")
    if text in PUBLISHED:
        published = PUBLISHED[text]
        network = load(published.url, sha256=sha256 or published.sha256)
        return Normalised(network).eval() if published.normalise else network
    path = _fetch(text, sha256) if _is_url(text) else _find_file(Path(text))
    return _load_file(path, frozenset({"aimless", *trusted}))


def _load_file(path: Path, trust: frozenset[str]) -> SeparationNetwork:
    state, description = _read(path, trust)
    stored, state = state, network_weights(state)
    if description is None:
        state, description = recognise(path, state)
    network = _build(description, path, trust)
    if stored.keys() == network.model.state_dict().keys():
        state = stored  # the names that wrappers add may be a network's own
    faults = compare_weights(network.model.state_dict(), state)
    if faults:
        kind = type(network.model).__name__
        raise DataError(f"{path}: the weights do not fit {kind}: {faults}")
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise DataError(f"{path}: {name} holds numbers that are not finite")
    network.model.load_state_dict(state, strict=True)
    return network.float().eval()


def export(network: AudioNetwork, path: str | os.PathLike[str], half: bool = False) -> None:
    """Write a network as one safetensors file that `load` reads, without training state.

    Args:
        network: as `load` gives it.
        path: written under a temporary name, then renamed.
        half: float16 weights, half the size.

    Raises:
        ConfigError: the network does not know how it was built.
        DataError: the file cannot be written.
    """
    from safetensors.torch import save_file

    if not isinstance(network, SeparationNetwork) or network.class_path is None:
        raise ConfigError("export: no class path; give a single network, from a checkpoint")
    description = {
        "format": _FORMAT,
        "kind": "mask" if isinstance(network, MaskNetwork) else "waveform",
        "class_path": network.class_path,
        "init_args": network.init_args,
        "targets": list(network.targets),
        "sample_rate": network.sample_rate,
        "pipeline": network.pipeline_args(),
    }
    state = {
        name: (value.half() if half and value.is_floating_point() else value).contiguous().clone()
        for name, value in network.model.state_dict().items()
    }
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(state, temporary, metadata={"aimless": json.dumps(description)})
        temporary.chmod(mode)  # safetensors makes files that nobody else may read
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _is_url(text: str) -> bool:
    return re.match(r"https?://", text) is not None


def _fetch(url: str, sha256: str | None) -> Path:
    from aimless.download import fetch

    return fetch(url, sha256)


def _find_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in _IN_FOLDERS:
        if (path / name).is_file():
            return path / name
    found = sorted([*path.glob("*.ckpt"), *path.glob("*.safetensors")])
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(file.name for file in found)
        raise DataError(f"{path}: holds several checkpoints, name one: {names}")
    raise DataError(f"{path}: no checkpoint in this folder (looked for {', '.join(_IN_FOLDERS)})")


def _read(path: Path, trust: frozenset[str]) -> tuple[Mapping[str, Any], dict[str, Any] | None]:
    """State dict, and the description of its network if there is one."""
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    content = read_checkpoint(path)
    state = content.get("state_dict", content)
    if isinstance(content.get("config"), str):
        return state, _describe(parse_yaml(content["config"]), path, trust)
    for folder in (path.parent, path.parent.parent):
        if state is not content and (folder / "config.yaml").is_file():
            config = folder / "config.yaml"
            return state, _describe(read_yaml(config), config, trust)
    return state, None


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        description = json.loads(metadata["aimless"]) if "aimless" in metadata else None
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: damaged or not a safetensors file: {error}") from error
    if description is not None and description.get("format") != _FORMAT:
        raise DataError(f"{path}: of a later version of aimless ({description.get('format')})")
    return state, description


def _describe(config: Any, path: Path, trust: frozenset[str]) -> dict[str, Any]:
    """What an experiment's config says about its network."""
    try:
        separator = config["model"]
        kind = _kind(separator["class_path"])
        args = dict(separator["init_args"])
        model = {"init_args": {}, **args["model"]}
        model["class_path"] = _trusted_class(model["class_path"], path, trust)
        # the network's part of the experiment alone: its data are not needed to use it
        parts = {
            name: args[name] for name in (*_PIPELINE, "targets", "target_track") if name in args
        }
        if args.get("use_sdx_targets"):
            parts["target_track"] = "sdx"
        experiment = {"class_path": separator["class_path"], "init_args": {**parts, "model": model}}
        share_settings({"model": experiment})
        _, targets = resolve_targets(args.get("targets"), parts.get("target_track"))
        return {
            "kind": kind,
            **experiment["init_args"]["model"],
            "targets": list(targets),
            "sample_rate": args.get("sample_rate", 44100),
            "pipeline": {n: args[n] for n in _PIPELINE if n in args} if kind == "mask" else {},
        }
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: its config does not describe a separator ({error!r})") from error


def _trusted_class(class_path: str, path: Path, trust: frozenset[str]) -> str:
    """The class path, under the name that we have it; refused if its package is not trusted."""
    class_path = _SAME_CLASS.get(class_path, class_path)
    package = class_path.partition(".")[0]
    if package not in trust:
        raise DataError(
            f"{path}: names the class {class_path}, which is not of aimless; "
            f"pass trusted=['{package}'] if you trust it"
        )
    return class_path


def _kind(class_path: str) -> str:
    known = {"MaskPredictor": "mask", "WaveformSeparator": "waveform"}
    name = class_path.rpartition(".")[2]
    if name not in known or not class_path.startswith("aimless."):
        raise DataError(f"cannot tell how {class_path} separates; known: {', '.join(known)}")
    return known[name]


def _build(description: Mapping[str, Any], path: Path, trust: frozenset[str]) -> SeparationNetwork:
    class_path = _trusted_class(description["class_path"], path, trust)
    init_args = _plain(description["init_args"], path)
    cls = import_class(class_path)
    if not issubclass(cls, nn.Module):
        raise DataError(f"{path}: {class_path} is not a network")
    try:
        model = cls(**init_args)
    except TypeError as error:
        raise DataError(f"{path}: {class_path} cannot be built: {error}") from error
    wrapper = MaskNetwork if description["kind"] == "mask" else WaveformNetwork
    return wrapper(
        model,
        description["targets"],
        sample_rate=description["sample_rate"],
        class_path=class_path,
        init_args=init_args,
        **description.get("pipeline", {}),
    )


def _plain(init_args: Mapping[str, Any] | None, path: Path) -> dict[str, Any]:
    """Arguments as they are; nested classes are not built from a stranger's file."""
    for name, value in (init_args or {}).items():
        if isinstance(value, dict) and "class_path" in value:
            raise DataError(f"{path}: {name} is a class of its own; such networks are not loaded")
    return dict(init_args or {})
