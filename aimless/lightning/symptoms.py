"""What the numbers of a training run say about its health; numbers in, sentences out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Levels", "Sample", "find_still_parts", "is_constant", "is_falling", "judge_output"]

_SAMPLES = 3  # in a row, before a gradient or weight counts as still
_SIGMAS = 2.0
_MAD_TO_SIGMA = 1.4826  # for normal noise, as is the next one
_MEDIAN_ERROR = 1.2533  # standard error of a median, in standard errors of the mean
_SAME_DB, _OTHER_DB, _SILENT_DB = -40.0, -30.0, -60.0


class Sample(NamedTuple):
    """A look at a network's parts: name -> value.

    Attributes:
        gradients: norms; 0 where no gradient arrived.
        moved: whether the weights differ from those of the sample before; None at the first.
    """

    gradients: dict[str, float]
    moved: dict[str, bool] | None


def find_still_parts(samples: Sequence[Sample]) -> tuple[list[str], list[str]]:
    """Parts whose gradients were 0, and parts whose weights have not moved, in the last samples.

    Returns:
        (no gradient, gradient but no movement); nothing before there are enough samples.
    """
    last = samples[-_SAMPLES:]
    if len(last) < _SAMPLES:
        return [], []
    names = list(last[-1].gradients)
    dead = [name for name in names if all(sample.gradients[name] == 0 for sample in last)]
    still = [
        name
        for name in names
        if name not in dead
        and all(sample.moved is not None and not sample.moved[name] for sample in last)
    ]
    return dead, still


def is_constant(losses: Sequence[float], threshold: float) -> bool:
    """Whether a loss is the same for ever, whatever the batch.

    The medians of ten parts of the window must lie within `threshold`, relative to the largest
    magnitude among them; a few outliers do not count. Losses that vary from batch to batch are
    never constant, so that a run that has converged is not accused.
    """
    size = len(losses) // 10
    if size == 0:
        return False
    parts = [losses[begin : begin + size] for begin in range(0, 10 * size, size)]
    medians = [statistics.median(part) for part in parts]
    center = statistics.median(losses)
    spread = statistics.median(abs(loss - center) for loss in losses)
    scale = max(map(abs, medians))
    return max(max(medians) - min(medians), spread) <= threshold * scale


def is_falling(losses: Sequence[float]) -> bool:
    """Whether a loss at the end of a window is below that at its beginning, beyond its noise.

    The median of the last fifth is compared with that of the first, and with that of the first
    tenth of it, for losses that fall fast and then hardly; the noise is twice the standard error
    of the difference, from the median absolute deviation.
    """
    size = len(losses) // 5
    last = losses[-size:]
    if size < 2 or not all(map(math.isfinite, (*losses[:size], *last))):
        return True
    return any(_is_below(last, losses[:count]) for count in (size, max(size // 10, 2)))


def _is_below(some: Sequence[float], others: Sequence[float]) -> bool:
    medians = [statistics.median(part) for part in (some, others)]
    squares = 0.0
    for part, center in zip((some, others), medians):
        deviation = statistics.median(abs(loss - center) for loss in part)
        squares += (_MEDIAN_ERROR * _MAD_TO_SIGMA * deviation) ** 2 / len(part)
    return medians[0] < medians[1] - _SIGMAS * math.sqrt(squares)


class Levels(NamedTuple):
    """Energies of a target over a validation.

    Attributes:
        mixture: of the mixture.
        stem: of the reference.
        estimate: of the estimate.
        estimate_off: of the estimate minus the mixture.
        stem_off: of the reference minus the mixture.
    """

    mixture: float
    stem: float
    estimate: float
    estimate_off: float
    stem_off: float


def judge_output(target: str, levels: Levels) -> str | None:
    """What is wrong with the estimates of a target, if they are the mixture or silence."""
    apart = _db(levels.estimate_off, levels.mixture)
    if apart < _SAME_DB and _db(levels.stem_off, levels.mixture) > _OTHER_DB:
        return (
            f"the estimates of {target} are the mixture ({apart:.0f} dB apart): the network "
            "passes it through, as masks that stay at 1 do, or a skip connection around layers "
            "whose output is 0"
        )
    level = _db(levels.estimate, levels.stem)
    if levels.stem > 0 and level < _SILENT_DB:
        return (
            f"the estimates of {target} are silent ({max(level, -999):.0f} dB below the stems): "
            "masks that stay at 0, dead activations, or silent targets in training"
        )
    return None


def _db(energy: float, reference: float) -> float:
    if energy <= 0:
        return -math.inf
    return 10 * math.log10(energy / reference) if reference > 0 else math.inf
