r"""All-pass filters in series, with feedback and coefficients that move, in parallel.

Each sample is a linear function of the state before it and of the input. The signal is cut
into blocks that run side by side, once with the input from a state of zero and once without it
from each unit state, which gives the matrix that carries a state over the block. The states at
the beginnings of blocks then follow from one another by doubling, and the blocks run again from
there. That is exact but for rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["all_passes"]

_BLOCK = 64  # samples


def all_passes(x: Tensor, coefficient: Tensor, feedback: Tensor, stages: int) -> Tensor:
    """First-order all-pass filters in topology-preserving form (Zavalishin, 2012), fed back.

    A stage with state s turns u into 2 (v + s) - u, v = g (u - s), and its state into s + 2 v. The
    first stage gets the input less the last output times the feedback.

    Args:
        x: (signals, channels, samples).
        coefficient: g of all stages, tan(w) / (1 + tan(w)) for w = pi frequency / rate,
            (signals, samples).
        feedback: (signals).
        stages: how many filters.

    Returns:
        (signals, channels, samples)
    """
    samples = x.shape[-1]
    blocks = -(-samples // _BLOCK)
    room = (0, blocks * _BLOCK - samples)
    # (block, signals, columns, blocks): what runs side by side lies side by side
    x = F.pad(x, room).unflatten(-1, (blocks, _BLOCK)).permute(3, 0, 1, 2).contiguous()
    g = F.pad(coefficient, room).unflatten(-1, (blocks, _BLOCK)).permute(2, 0, 1)
    g = g.unsqueeze(2).contiguous()
    feedback = feedback[:, None, None]
    _, offset = _run(x, g, feedback, [torch.zeros_like(x[0])] * (stages + 1))
    unit = torch.eye(stages + 1, dtype=x.dtype, device=x.device)[:, None, :, None]
    columns = x.new_zeros(_BLOCK, x.shape[1], stages + 1, blocks)
    _, carried = _run(columns, g, feedback, list(unit.expand(-1, *columns.shape[1:])))
    begin = _link(torch.stack(carried, 1), torch.stack(offset, 1))
    y, _ = _run(x, g, feedback, list(begin.unbind(1)))
    return torch.stack(y, -1).flatten(-2)[..., :samples]


def _run(
    x: Tensor, g: Tensor, feedback: Tensor, state: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """All blocks from their states; the last state is the output before.

    Returns:
        Outputs of each sample, and the states after the last.
    """
    outputs = []
    *filters, last = state
    for sample, coefficient in zip(x, g):
        u = torch.addcmul(sample, feedback, last, value=-1)
        for number, s in enumerate(filters):
            step = coefficient * (u - s)
            low = step + s
            filters[number] = low + step
            u = 2 * low - u
        last = u
        outputs.append(u)
    return outputs, [*filters, last]


def _link(carried: Tensor, offset: Tensor) -> Tensor:
    """States at the beginnings of blocks, the first zero, by doubling.

    Args:
        carried: (signals, states, states, blocks), from the state before a block, third axis, to
            the state after it.
        offset: (signals, states, channels, blocks), what the block's input adds.

    Returns:
        (signals, states, channels, blocks)
    """
    blocks = offset.shape[-1]
    distance = 1
    while distance < blocks:
        late = carried[..., distance:]
        added = offset[..., distance:] + _product(late, offset[..., :-distance])
        offset = torch.cat([offset[..., :distance], added], dim=-1)
        over_both = _product(late, carried[..., :-distance])
        carried = torch.cat([carried[..., :distance], over_both], dim=-1)
        distance *= 2
    return F.pad(offset, (1, 0))[..., :-1]


def _product(late: Tensor, early: Tensor) -> Tensor:
    """Matrix products over the second and third axes; not by matmul, which may round to less."""
    total = late[:, :, 0, None] * early[:, None, 0]
    for middle in range(1, early.shape[1]):
        total = torch.addcmul(total, late[:, :, middle, None], early[:, None, middle])
    return total
