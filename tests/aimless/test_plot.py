import io

import matplotlib.image
import numpy as np
import torch

from aimless.plot import png_bytes, spectrogram_figure


def pixels(rows, rate=8000):
    return matplotlib.image.imread(io.BytesIO(png_bytes(spectrogram_figure(rows, rate, "title"))))


def test_a_tone_is_a_line_at_its_height():
    """1 kHz lies above 200 Hz, so that its bright rows come earlier in the picture."""
    time = torch.arange(8000) / 8000
    heights = []
    for frequency in (200, 1000):
        picture = pixels({"tone": {"a": 0.5 * torch.sin(2 * torch.pi * frequency * time)[None]}})
        bright = picture[:, picture.shape[1] // 3 : picture.shape[1] // 2, 0].mean(1)
        inside = bright * (bright < 1)  # the page around the axes is white
        heights.append(int(np.argmax(inside)))
    assert heights[1] < heights[0]


def test_silence_short_and_many_channel_sounds_can_be_drawn():
    for sound in (torch.zeros(2, 8000), torch.randn(1, 1), torch.randn(6, 300)):
        picture = pixels({"a": {"x": sound, "y": sound}, "b": {"x": sound, "y": sound}})
        assert picture.ndim == 3
