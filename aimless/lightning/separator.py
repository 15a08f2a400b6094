"""The training system: what all separators share.

    batch -> device augmentation -> mixture, target stems -> network -> loss, scores

Subclasses say how a mixture becomes estimates and what their loss looks at; everything else
(targets, augmentation, the four loops, logging, songs of any length) is here, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from aimless.augment import DeviceEffect, augment_in_turn
from aimless.draws import generator
from aimless.engine.fifo import collect
from aimless.errors import ConfigError, DataError
from aimless.evaluation.metric import SourceBSSEval
from aimless.lightning.collectives import add_up, average_batch, count_processes
from aimless.lightning.progress import AudioProgressBar
from aimless.lightning.writer import StemWriter
from aimless.metrics import SourceSDR, SourceSISDR
from aimless.network import audio_channels, name_outputs
from aimless.overlap_add import OverlapAdd
from aimless.separate import separate_blocks
from aimless.songs.song import Song
from aimless.sources import resolve_targets
from aimless.weights import adopt_parameter_order, compare_weights, network_weights

__all__ = ["SourceSeparator"]

#: (loss, parts to log, a call that gives the estimates)
LossOutput = tuple[Tensor, dict[str, Tensor], Callable[[], Tensor]]


class SourceSeparator(pl.LightningModule, ABC):
    """Base of all separators.

    Args:
        model: the network.
        criterion: the loss; returns (loss, parts to log).
        targets: sources that the network predicts, in any order; a list, or a mapping with
            null values as in `{vocals, drums}`. Estimates are in source order.
        target_track: list of sources that the targets belong to: mdx (drums, bass, other,
            vocals), sdx (music, sfx, speech) or se (speech, noise), or the sources themselves;
            null finds the list that holds all targets.
        transforms: augmentations on the training device, in this order.
        sample_rate: in Hz, of the audio that the network is trained on.
        overlap_add: how whole songs are cut for validation, test and predict.
        log_sdr_every_n_steps: training steps between two scores of the training batch; a score
            costs a frequency-domain separator a filter and an inverse STFT.
        seed: of the device augmentation; follows seed_everything.
        compile: the network, with `torch.compile`; needs a C++ compiler (CPU) or Triton (GPU).
        bss_eval: score BSSEval v4 in the test too, which takes seconds per minute of music.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: nn.Module,
        targets: list[str] | dict[str, Any] | None = None,
        target_track: str | list[str] | None = None,
        transforms: list[DeviceEffect] | None = None,
        sample_rate: int = 44100,
        overlap_add: OverlapAdd = OverlapAdd(),  # noqa: B008  (frozen)
        log_sdr_every_n_steps: int = 10,
        seed: int = 0,
        compile: bool = False,
        bss_eval: bool = False,
    ) -> None:
        super().__init__()
        self.sources, self.targets = resolve_targets(targets, target_track)
        self.target_indices = [self.sources.index(name) for name in self.targets]
        name_outputs(model, self.targets)
        self.model = model
        self.criterion = criterion
        self.transforms = nn.ModuleList(transforms or [])
        self.sample_rate = sample_rate
        self.overlap_add = overlap_add
        self.log_sdr_every_n_steps = log_sdr_every_n_steps
        self.seed = seed
        self._to_compile = compile
        self.scores = SourceSDR(self.targets)
        self.test_scores = nn.ModuleList([SourceSISDR(self.targets)])
        if bss_eval:
            self.test_scores.append(SourceBSSEval(self.targets, self.sources, sample_rate))
        self.losses = MeanMetric()

    @abstractmethod
    def forward(self, mixture: Tensor) -> Tensor:
        """Estimate the stems of a batch of segments.

        Shape:
            - mixture: (batch, channels, samples)
            - output: (batch, targets, channels, samples or fewer)
        """

    @abstractmethod
    def compute_loss(self, mixture: Tensor, stems: Tensor) -> LossOutput:
        """The loss of a batch.

        Shape:
            - mixture: (batch, channels, samples)
            - stems: (batch, targets, channels, samples), in the order of `targets`

        Returns:
            (loss, its parts, a call that gives the estimates as `forward` does)
        """

    # -- training -------------------------------------------------------------------------

    def training_step(self, batch: Sequence[Any], batch_idx: int) -> Tensor:
        """Augment, separate, compare."""
        mixture, stems = self._augment(batch[0], batch[1], batch_idx)
        stems = stems[:, self.target_indices]
        loss, parts, estimate = self.compute_loss(mixture, stems)
        scores = None
        if self.log_sdr_every_n_steps and batch_idx % self.log_sdr_every_n_steps == 0:
            scores = SourceSDR(self.targets).to(stems.device)
            with torch.no_grad():
                scores.update(estimate(), stems)
        self._log_training({"loss": loss, **parts}, scores)
        return loss

    def _augment(self, mixture: Tensor, stems: Tensor, batch_idx: int) -> tuple[Tensor, Tensor]:
        """Device augmentation, drawn from (seed, epoch, batch, rank) on the host."""
        rng = generator("device", self.seed, self.current_epoch, batch_idx, self.global_rank)
        with torch.no_grad():
            effects = cast("list[DeviceEffect]", list(self.transforms))
            stems, mixture = augment_in_turn(effects, stems, mixture, rng)
        return mixture, stems

    def _log_training(self, losses: dict[str, Tensor], scores: SourceSDR | None) -> None:
        """Log what was measured of a training batch; what goes to the loggers is of all ranks."""
        # scores are shown until there are others
        together = count_processes() > 1 and (scores is not None or self._is_logged())
        named = average_batch(losses, scores, together)
        for name, value in named.items():
            self.log(f"train/{name}", value, prog_bar=name in ("loss", "sdr"))

    def _is_logged(self) -> bool:
        """Whether this batch's values go to the loggers; all processes say the same."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        stepped = self.trainer.fit_loop.epoch_loop._batches_that_stepped
        return every > 0 and (stepped + 1) % every == 0

    # -- validation and test --------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Begin with empty scores."""
        self._reset_scores()

    def on_test_epoch_start(self) -> None:
        """Begin with empty scores."""
        self._reset_scores()

    def validation_step(self, batch: Sequence[Any], batch_idx: int) -> dict[str, Tensor]:
        """Score segments or whole songs; returns what the excerpts are made of."""
        return self._evaluate(batch)

    def test_step(self, batch: Sequence[Any], batch_idx: int) -> dict[str, Tensor]:
        """Score segments or whole songs."""
        evaluated = self._evaluate(batch)
        if evaluated:
            for score in self._test_metrics():
                whole = isinstance(score, SourceBSSEval)  # it needs what is not a target, too
                stems = evaluated["all_stems" if whole else "stems"]
                score.update(evaluated["estimates"], stems)
        return evaluated

    def on_validation_epoch_end(self) -> None:
        """Log the scores of all ranks."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of all ranks."""
        self._log_scores("test")
        for score in self._test_metrics():
            named = {f"test/{name}": value for name, value in score.compute().items()}
            self.log_dict(named, sync_dist=True)

    def _test_metrics(self) -> list[Metric]:
        return [metric for metric in self.test_scores if isinstance(metric, Metric)]

    def _reset_scores(self) -> None:
        self.scores.reset()
        for score in self._test_metrics():
            score.reset()
        self.losses.reset()

    def _evaluate(self, batch: Sequence[Any]) -> dict[str, Tensor]:
        mixture, all_stems = batch[0], batch[1]
        valid = getattr(batch, "valid", None)
        if valid is not None:  # items that only fill up the last batch of a rank
            mixture, all_stems = mixture[valid], all_stems[valid]
        if not len(mixture):
            return {}
        stems = all_stems[:, self.target_indices]
        if mixture.shape[-1] <= self._samples(self.overlap_add.segment):
            loss, _, estimate = self.compute_loss(mixture, stems)
            self.losses.update(loss, len(mixture))
            estimates = estimate()
        else:
            estimates = torch.stack([self._separate_song(song) for song in mixture])
        self.scores.update(estimates, stems)
        outputs = {"mixture": mixture, "stems": stems, "estimates": estimates}
        return {**outputs, "all_stems": all_stems}

    def _separate_song(self, mixture: Tensor) -> Tensor:
        return self.overlap_add(self, mixture, self.sample_rate, self.device)

    def _samples(self, seconds: float) -> int:
        return round(seconds * self.sample_rate)

    def _log_scores(self, stage: str) -> None:
        scores = {f"{stage}/{name}": value for name, value in self.scores.compute().items()}
        # the metrics are the same on all ranks already; sync_dist only quiets a warning
        self.log(f"{stage}/sdr", scores.pop(f"{stage}/sdr"), prog_bar=True, sync_dist=True)
        self.log_dict(scores, sync_dist=True)
        # all processes must say the same, also one that had nothing but long songs, or nothing
        counted = torch.tensor([float(self.losses.update_called)], device=self.device)
        if add_up(counted).item():
            if not self.losses.update_called:
                self.losses.update(0.0, 0.0)
            self.log(f"{stage}/loss", self.losses.compute(), prog_bar=True, sync_dist=True)

    # -- songs ----------------------------------------------------------------------------

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Separate one song, which has a `path`.

        Returns:
            Name of the stem -> its file, where a `StemWriter` is among the callbacks, or else its
            samples (channels, samples).
        """

        def report(done: float, seconds: float) -> None:
            for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, AudioProgressBar):
                    callback.song(batch.path, done, seconds)

        song = Song.open(batch.path)
        separated = separate_blocks(
            self,
            song,
            sample_rate=self.sample_rate,
            channels=self.channels,
            overlap_add=self.overlap_add,
            device=self.device,
            progress=report,
        )
        stems = (block for _, block in separated)
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, StemWriter):
                return callback.write(song, batch.path, self.targets, stems)
        return dict(zip(self.targets, collect(stems, song.frames)))

    @property
    def channels(self) -> int | None:
        """Audio channels of the network; None if its class does not say."""
        return audio_channels(self.model)

    # -- start: everything that can be wrong ----------------------------------------------

    def on_fit_start(self) -> None:
        """Compare the data with the targets, and send one segment through network and loss."""
        data = self._check_data()
        count = self.channels or "any number of"
        rank_zero_info(
            f"Separates {', '.join(self.targets)} of {', '.join(self.sources)}; "
            f"{count} channel{'s'[: count != 1]} at {self.sample_rate} Hz"
        )
        if (channels := getattr(data, "channels", None)) is not None:
            self._try_shapes(channels, self._samples(getattr(data, "seq_duration", None) or 1.0))
        self._compile_network()

    def on_train_start(self) -> None:
        """A learning rate that the config changed holds, also when a checkpoint brings another."""
        if self.trainer.lr_scheduler_configs:
            return
        for optimizer in self.trainer.optimizers:
            wanted = optimizer.defaults.get("lr")
            for group in optimizer.param_groups:
                if wanted is not None and group["lr"] != wanted:
                    rank_zero_info(f"learning rate {wanted:g}, was {group['lr']:g} before")
                    group["lr"] = wanted

    def on_validation_start(self) -> None:
        """Compare the data with the targets."""
        self._check_data()
        self._compile_network()

    on_test_start = on_validation_start

    def _compile_network(self) -> None:
        if self._to_compile:
            self.model.compile()  # in place: the keys of the state dict stay
            self._to_compile = False

    def _check_data(self) -> Any:
        data = getattr(self.trainer, "datamodule", None)
        for name, mine in (("sources", self.sources), ("sample_rate", self.sample_rate)):
            theirs = getattr(data, name, mine)
            theirs = tuple(theirs) if isinstance(theirs, list) else theirs
            if theirs != mine:
                raise ConfigError(
                    f"{name}: {type(data).__name__} gives {theirs}, but the model expects {mine}"
                )
        return data

    @torch.no_grad()
    def _try_shapes(self, channels: int, samples: int) -> None:
        """A wrong combination of network, loss and targets is an error, never a broadcast."""
        noise = 0.1 * generator("shapes", 0).standard_normal((1, channels, samples))
        mixture = torch.from_numpy(noise).to(self.device, torch.float32)  # (1, C, L)
        mixture = self.trainer.precision_plugin.convert_input(mixture)
        stems = mixture[:, None].expand(-1, len(self.targets), -1, -1) / len(self.targets)
        training = self.training
        self.eval()
        try:
            with self.trainer.precision_plugin.forward_context():
                self.compute_loss(mixture, stems)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            cause = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise ConfigError(
                f"model.init_args: {type(self.model).__name__} with {type(self.criterion).__name__}"
                f" cannot work on a mixture of shape {tuple(mixture.shape)} and {len(self.targets)}"
                f" target(s) {', '.join(self.targets)}: {cause}"
            ) from error
        finally:
            self.train(training)

    # -- checkpoints ----------------------------------------------------------------------

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the network's weights, whatever wrote them; say shortly if they do not fit."""
        state = network_weights(checkpoint["state_dict"])
        faults = compare_weights(self.model.state_dict(), state)
        if faults:
            raise DataError(
                f"the checkpoint's weights do not fit {type(self.model).__name__}: {faults}"
            )
        adopt_parameter_order(checkpoint, state, self.model)
        checkpoint["state_dict"] = {f"model.{name}": value for name, value in state.items()}
