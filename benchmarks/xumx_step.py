"""A training step of cfg/xumx.yaml with our loss and Wiener filter, and with plain ones.

X_UMX(4096, 512, 1487, 2, 3) and CLoss(10, n_iter=1) on noise, batch 4, 6 s, from the waveforms
to the gradients. Network and STFT are the same in both; the plain step filters in complex128
and loops over all combinations of sources (see loss.py and mwf.py beside this file).

    python benchmarks/xumx_step.py
"""

from __future__ import annotations

import torch
from loss import plain_mse, plain_wsdr
from mwf import plain_filter
from torch import Tensor
from turns import in_turns, options, report

from aimless.loss import CLoss
from aimless.models import X_UMX
from aimless.transforms import STFT


def main() -> None:
    """Time both steps."""
    parsed = options(__doc__, repeats=5)
    stft = STFT(4096, 1024)
    network = X_UMX(4096, 512, 1487, 2, 3)
    stems = 0.1 * torch.randn(4, 4, 2, 6 * 44100)
    mix = stems.sum(1)
    ours = CLoss(10, n_iter=1)

    def plain(mask: Tensor, gt_spec: Tensor, mix_spec: Tensor, gt: Tensor, mix: Tensor) -> Tensor:
        estimate = plain_filter(mask, mix_spec)
        waveforms = stft.inverse(estimate, gt.shape[-1])
        return plain_mse(estimate, gt_spec) + 10 * (1 + plain_wsdr(waveforms, gt, mix))

    def step(criterion) -> None:
        network.zero_grad()
        spectrogram = stft(mix)
        masks = network(spectrogram.abs())
        criterion(masks, stft(stems), spectrogram, stems, mix).backward()

    forms = {
        "plain": lambda: step(plain),
        "ours": lambda: step(lambda *inputs: ours(*inputs)[0]),
    }
    report("training step", parsed.threads, in_turns(forms, parsed.repeats), "plain")


if __name__ == "__main__":
    main()
