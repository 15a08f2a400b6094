"""SDR and SI-SDR of whole songs, from sums over blocks: constant memory, double precision."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from aimless.loss.time import SILENT_RMS

__all__ = ["EPS", "SI_SDR_LIMIT", "EnergyRatios"]

#: Added to both energies of the SDR, as the challenge does: no infinity, no 0 / 0.
EPS = 1e-7
#: SI-SDR in dB is cut to plus and minus this, so that one perfect song is not the mean.
SI_SDR_LIMIT = 100.0


@dataclass
class EnergyRatios:
    """Energies of one stem and its estimate, added up block by block.

    The SI-SDR needs the error that is left after scaling the reference to fit. Where blocks i
    and j with scales a_i, a_j leave errors e_i, e_j, both together leave

        e_i + e_j + (a_i - a_j)^2 r_i r_j / (r_i + r_j),

    r being the references' energies: a sum without cancellation, so that a high ratio is as
    exact as a low one (after T. Chan, G. Golub and R. LeVeque, "Updating formulae and a pairwise
    algorithm for computing sample variances", 1979).

    Args:
        blocks: (signal, distortion) of each block, for `worst_stretch`.
    """

    samples: int = 0
    signal: float = 0.0
    distortion: float = 0.0
    cross: float = 0.0
    unscaled: float = 0.0
    blocks: list[tuple[float, float]] = field(default_factory=list)

    def add(self, reference: np.ndarray, estimate: np.ndarray) -> None:
        """Add a block, float64 (channels, samples) both."""
        ref, est = reference.ravel(), estimate.ravel()
        error = ref - est
        signal, distortion, cross = _dot(ref, ref), _dot(error, error), _dot(ref, est)
        scale = cross / signal if signal else 0.0
        rest = est - scale * ref
        self.unscaled += _dot(rest, rest)
        if signal and self.signal:
            apart = scale - self.cross / self.signal
            self.unscaled += apart**2 * signal * self.signal / (signal + self.signal)
        self.samples += ref.size
        self.signal += signal
        self.distortion += distortion
        self.cross += cross
        self.blocks.append((signal, distortion))

    @property
    def silent(self) -> bool:
        """Whether the reference has an RMS below -60 dB of full scale: it has no score."""
        return self.signal < SILENT_RMS**2 * self.samples

    @property
    def sdr(self) -> float:
        """10 log10((signal + 1e-7) / (distortion + 1e-7)); NaN for a silent reference.

        Over all channels and samples of the song, as in the Sound Demixing Challenge 2023
        (G. Fabbro et al., TISMIR 2024).
        """
        if self.silent:
            return math.nan
        return 10 * math.log10((self.signal + EPS) / (self.distortion + EPS))

    @property
    def si_sdr(self) -> float:
        """`aimless.metrics.si_sdr`, cut to +-100 dB; NaN for a silent reference."""
        if self.silent:
            return math.nan
        target = self.cross**2 / self.signal
        if not target:
            return -SI_SDR_LIMIT
        if not self.unscaled:
            return SI_SDR_LIMIT
        ratio = 10 * math.log10(target / self.unscaled)
        return min(max(ratio, -SI_SDR_LIMIT), SI_SDR_LIMIT)

    def worst_stretch(self, count: int) -> int:
        """First of the `count` blocks in a row with the lowest SDR, of those one can hear."""
        count = min(count, len(self.blocks))
        sums = np.vstack([np.zeros(2), np.cumsum(self.blocks, axis=0)])
        signal, distortion = (sums[count:] - sums[:-count]).clip(0).T
        audible = SILENT_RMS**2 * self.samples * count / len(self.blocks)
        ratios = np.log10(signal + EPS) - np.log10(distortion + EPS)
        return int(np.argmin(np.where(signal >= audible, ratios, np.inf)))


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    # not `a @ b`: on busy cores its threads wait for each other a thousand times longer
    return float(np.einsum("i,i", a, b))
