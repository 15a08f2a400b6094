r"""The envelope of a compressor, in parallel.

The envelope follows the level l with one coefficient while it rises and one while it falls,

    e[n] = l[n] + c (e[n-1] - l[n]),    c = attack where l[n] > e[n-1], else release.

That is a recursion e[n] = f_n(e[n-1]) of increasing functions made of two straight lines. The
signal is cut into blocks that run side by side, each from a guess of the envelope where it
begins. A block's output, as a function of where it begins, is convex or concave and piecewise
linear, and the product of the coefficients is its slope. So one step of Newton's method on all
guesses is a linear recursion from block to block, which takes log2(blocks) steps by doubling.
Newton's method on increasing convex functions approaches from one side and is exact once it
has found on which line each sample lies (Ortega and Rheinboldt, "Iterative Solution of Nonlinear
Equations in Several Variables", 1970, section 13.3).

It starts from what would be if a block either forgot all before it or was nothing but release,
whichever is more: that is close from below while attack is faster than release, and exact for
an instant attack.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["follow"]

_BLOCK = 64  # samples

# Steps of Newton's method. A fixed number, since looking whether it has ended would wait for the
# device. After six the error is that of single precision, -98 dB of the loudest envelope for the
# slowest release; an instant attack needs none.
_STEPS = 6


def follow(level: Tensor, attack: Tensor, release: Tensor, instant: bool = False) -> Tensor:
    """The envelope of levels.

    Args:
        level: (signals, samples), 0 or more.
        attack: coefficient while the level is above the envelope, from 0 to below 1, (signals, 1).
        release: coefficient otherwise, (signals, 1).
        instant: all attacks are practically 0, which saves most of the work.

    Returns:
        (signals, samples)
    """
    signals, samples = level.shape
    blocks = -(-samples // _BLOCK)
    level = F.pad(level, (0, blocks * _BLOCK - samples)).view(signals, blocks, _BLOCK)
    # (block, signals, blocks): what runs side by side lies side by side
    steps = level.permute(2, 0, 1).contiguous()
    # not broadcast at every step, which would take half of the time
    attack, release = (c.expand_as(steps[0]).contiguous() for c in (attack, release))
    begin = _first_guess(steps, attack, release)
    for _ in range(0 if instant else _STEPS):
        end, slope = _run(steps, begin, attack, release)
        begin = _link(end - slope * begin, slope)
    envelope = torch.stack(_trace(steps, begin, attack, release), dim=-1)
    return envelope.flatten(1)[:, :samples]


def _first_guess(steps: Tensor, attack: Tensor, release: Tensor) -> Tensor:
    """Envelopes at the beginnings of blocks, (signals, blocks)."""
    forgot, _ = _run(steps, torch.zeros_like(steps[0]), attack, release)
    age = torch.arange(len(steps) - 1, -1, -1, dtype=steps.dtype, device=steps.device)
    # (block, signals, 1)
    first = release[:, :1]
    weight = (1 - first) * first ** age[:, None, None]
    return _link((steps * weight).sum(0), release ** len(steps), forgot)


def _run(steps: Tensor, begin: Tensor, attack: Tensor, release: Tensor) -> tuple[Tensor, Tensor]:
    """Envelopes at the ends of blocks, and their derivatives by those at the beginnings."""
    envelope, slope = begin, torch.ones_like(begin)
    for level in steps:
        above = envelope - level
        coefficient = torch.where(above < 0, attack, release)
        envelope = torch.addcmul(level, coefficient, above)
        slope = slope * coefficient
    return envelope, slope


def _trace(steps: Tensor, begin: Tensor, attack: Tensor, release: Tensor) -> list[Tensor]:
    """Envelopes of all samples."""
    envelope, trace = begin, []
    for level in steps:
        above = envelope - level
        envelope = torch.addcmul(level, torch.where(above < 0, attack, release), above)
        trace.append(envelope)
    return trace


def _link(offset: Tensor, slope: Tensor, least: Tensor | None = None) -> Tensor:
    """x[k+1] = offset[k] + slope[k] x[k], at least least[k], from x[0] = 0; by doubling.

    The functions max(least, offset + slope x) are closed under composition.

    Args:
        offset: (signals, blocks), 0 or more if there is `least`.
        slope: (signals, blocks), 0 or more.
        least: (signals, blocks); None: no limit.

    Returns:
        (signals, blocks)
    """
    blocks = offset.shape[-1]
    distance = 1
    while distance < blocks:

        def earlier(values: Tensor, distance: int = distance, start: float = 0.0) -> Tensor:
            return F.pad(values, (distance, 0), value=start)[..., :blocks]

        if least is not None:
            least = torch.maximum(least, torch.addcmul(offset, slope, earlier(least)))
        offset = torch.addcmul(offset, slope, earlier(offset))
        slope = slope * earlier(slope, start=1.0)
        distance *= 2
    x = offset if least is None else torch.maximum(least, offset)
    return F.pad(x, (1, 0))[..., :-1]
