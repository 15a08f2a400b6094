"""What all augmentations on the training device share: draws, and effects in a row."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from aimless import draws
from aimless.augment.lazy import LazyStems, on_device
from aimless.errors import ConfigError
from aimless.transforms import at_least_float32

__all__ = ["CudaBase", "DeviceEffect", "augment_in_turn", "fit"]


class DeviceEffect(nn.Module):
    """An effect on a batch of stems, each stem drawn independently.

    All draws are made on the host, so that nothing waits for the device. A stem that is not
    drawn costs nothing and keeps its bits. What is drawn for a stem depends on the generator
    and on the place of the stem in the batch, not on how many items there are.

    A subclass says in `numbers` how many random numbers a stem takes, and in `change` what they
    do; it may neither write to what it gets nor draw anything else.

    Args:
        p: probability that a stem is drawn, 0 to 1.

    Raises:
        ConfigError: p is out of range.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        draws.require(self, "p", p, 0, 1)
        self.p = p
        self._own_rng = draws.generator("augment", 0)

    def extra_repr(self) -> str:
        """What `print` shows of the module."""
        return f"p={self.p}"

    def numbers(self, samples: int) -> int:
        """How many uniform numbers a stem of so many samples takes."""
        raise NotImplementedError

    def change(
        self, stems: LazyStems, chosen: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> None:
        """Change the chosen stems (n) according to uniform numbers (n, `numbers`) from 0 to 1."""
        raise NotImplementedError

    def forward(self, stems: Tensor, rng: np.random.Generator | None = None) -> Tensor:
        """Augment stems.

        Args:
            stems: (batch, sources, channels, samples).
            rng: where the draws come from; they are the same for the same state of it. None
                takes a stream of the module's own, which is the same in all modules and
                processes: with several processes, give each its own `rng`.

        Returns:
            The same shape and dtype, cut or padded with zeros at the end. `stems` itself,
            where no stem changes; it is never written to.
        """
        lazy = LazyStems(stems)
        self._draw_and_apply(lazy, stems, rng)
        return lazy.result()

    def augment(
        self, stems: Tensor, mixture: Tensor, rng: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Augment stems together with their mixture.

        An effect on the mixture, such as a limiter, overrides this.

        Args:
            stems: (batch, sources, channels, samples).
            mixture: (batch, channels, samples). It need not be the sum of the stems, for
                instance after a limiter.
            rng: see `forward`.

        Returns:
            Stems and mixture. The mixture is the sum of the stems for items of which a stem
            changed; others keep the one that they came with.
        """
        return _augment_together([self], stems, mixture, rng)

    def _draw_and_apply(
        self, lazy: LazyStems, stems: Tensor, rng: np.random.Generator | None
    ) -> None:
        """Draw which stems change, and how; stems of no sample never do."""
        # One number from `rng` whatever the batch: the next effect's draws do not depend on it.
        key = int((self._own_rng if rng is None else rng).integers(2**63))
        count = stems.shape[0] * stems.shape[1]
        numbers = 1 + self.numbers(lazy.samples)
        table = draws.generator("stems", key).random((count, numbers))
        chosen = np.flatnonzero(table[:, 0] < self.p)
        if len(chosen) and lazy.samples and lazy.channels:
            self.change(lazy, chosen, table[chosen, 1:])


class CudaBase(DeviceEffect):
    """Augmentation by one of several choices.

    A subclass says what its choices are and what `transform` does with one. Stems with the same
    choice are transformed together; a choice that changes nothing costs nothing. Works on any
    device, the name is historical.

    Args:
        choices: values to draw from, with equal probability each; a value named twice counts
            twice.
        p: probability that a stem is drawn, 0 to 1.

    Raises:
        ConfigError: there are no choices or p is out of range.
    """

    def __init__(self, choices: Sequence[Any], p: float) -> None:
        super().__init__(p)
        if not choices:
            raise ConfigError(f"{type(self).__name__}: there is nothing to draw from")
        self.choices = tuple(choices)

    def extra_repr(self) -> str:
        """What `print` shows of the module."""
        return f"choices={self.choices}, p={self.p}"

    def transform(self, x: Tensor, choice: Any) -> Tensor:
        """What one choice does to waveforms, (N, channels, samples) -> (N, channels, any)."""
        raise NotImplementedError

    def is_identity(self, choice: Any) -> bool:
        """Whether a choice changes nothing, so that it need not be done."""
        return False

    def numbers(self, samples: int) -> int:
        """One, which picks the choice."""
        return 1

    def change(
        self, stems: LazyStems, chosen: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> None:
        """Transform the stems of each choice together."""
        plan: dict[Any, list[int]] = {}
        for stem, pick in zip(chosen, self.picks(uniform)):
            if not self.is_identity(self.choices[pick]):
                plan.setdefault(self.choices[pick], []).append(int(stem))
        for choice, indices in plan.items():
            stems.replace(
                np.array(indices),
                lambda x, choice=choice: fit(self.transform(x, choice), x.shape[-1]),  # type: ignore[misc]
            )

    def picks(self, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """Indices of the choices that uniform numbers (n, 1) stand for."""
        return (uniform[:, 0] * len(self.choices)).astype(np.int64)


def fit(x: Tensor, samples: int) -> Tensor:
    """Cut (..., any) to a number of samples, or pad it with zeros at the end."""
    return F.pad(x[..., :samples], (0, max(0, samples - x.shape[-1])))


def augment_in_turn(
    effects: Iterable[DeviceEffect], stems: Tensor, mixture: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Apply effects one after the other, as their `augment` would, linear ones joined.

    Args:
        effects: first to last.
        stems: (batch, sources, channels, samples).
        mixture: (batch, channels, samples).
        rng: where all draws come from.

    Returns:
        Stems and mixture, see `DeviceEffect.augment`.
    """
    for plain, group in itertools.groupby(effects, _changes_only_stems):
        if plain:
            stems, mixture = _augment_together(group, stems, mixture, rng)
        else:
            for effect in group:
                stems, mixture = effect.augment(stems, mixture, rng)
    return stems, mixture


def _changes_only_stems(effect: DeviceEffect) -> bool:
    """Whether `augment` is the common one, so that the mixture can wait."""
    return type(effect).augment is DeviceEffect.augment


def _augment_together(
    effects: Iterable[DeviceEffect],
    stems: Tensor,
    mixture: Tensor,
    rng: np.random.Generator | None,
) -> tuple[Tensor, Tensor]:
    lazy = LazyStems(stems)
    for effect in effects:
        effect._draw_and_apply(lazy, stems, rng)
    if not lazy.changed:
        return stems, mixture
    result = lazy.result()
    items = np.unique(np.array(sorted(lazy.changed)) // stems.shape[1])
    index = on_device(items, mixture)
    remixed = at_least_float32(result.index_select(0, index)).sum(1).to(mixture.dtype)
    return result, mixture.index_copy(0, index, remixed)
