"""The app in a real browser: upload, split, listen, take away."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aimless import Separator
from tests.web.conftest import song_bytes, split, upload
from tests.web.running import wait_for

pytestmark = pytest.mark.slow

SECONDS = 8.0  # more than one piece
STEMS = ("drums", "bass", "other", "vocals")

# Plays in the page's own player, as fast as it can, into a buffer; gives its samples as bytes.
RENDER = """async ([levels, start, loop]) => {
  const { Player } = await import(`${location.origin}/aimless-static/player.js`);
  const find = (root) => {
    for (const element of root.querySelectorAll("*")) {
      if (element.player) return element.player;
      const inner = element.shadowRoot && find(element.shadowRoot);
      if (inner) return inner;
    }
  };
  const { source } = find(document);
  const frames = loop ? 3 * source.rate : source.frames - start;
  const context = new OfflineAudioContext(2, frames, source.rate);
  const player = new Player(source, context);
  player.setLevels(levels);
  player.loop = loop;
  await player.fill(start, frames / source.rate);
  const sound = await context.startRendering();
  return [0, 1].map((channel) => {
    const bytes = new Uint8Array(sound.getChannelData(channel).buffer);
    let text = "";
    for (let at = 0; at < bytes.length; at += 32768) {
      text += String.fromCharCode(...bytes.subarray(at, at + 32768));
    }
    return btoa(text);
  });
}"""


@pytest.fixture(scope="module")
def song() -> bytes:
    return song_bytes(SECONDS)


@pytest.fixture(scope="module")
def expected(song, models, tmp_path_factory) -> dict[str, np.ndarray]:
    """What the engine makes of the song: (samples, channels)."""
    path = tmp_path_factory.mktemp("song") / "song.wav"
    path.write_bytes(song)
    stems = Separator.load(models / "small.safetensors").separate(path)
    return {name: stem.numpy().T for name, stem in stems.items()}


def downloaded(page, link: str) -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.get_by_role("link", name=link, exact=True).click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def samples(content: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0]


def heard(page, levels: list[float], start: int = 0, loop: list[int] | None = None) -> np.ndarray:
    """What the page plays, with these levels: (samples, channels)."""
    channels = page.evaluate(RENDER, [levels, start, loop])
    return np.stack([np.frombuffer(base64.b64decode(c), np.float32) for c in channels], axis=1)


def choose_format(page, name: str) -> None:
    page.get_by_label("Download as").select_option(label=name)


def test_a_song_is_split_heard_and_taken_away(page, song, expected):
    split(page, "My <img src=x onerror=alert(1)>.wav", song)
    assert page.get_by_text("My <img src=x onerror=alert(1)>", exact=True).is_visible()
    original, _ = soundfile.read(io.BytesIO(song), dtype="float32")

    name, content = downloaded(page, "Download vocals")
    assert name == "My _img src=x onerror=alert(1)_ - vocals.wav"
    np.testing.assert_allclose(samples(content), expected["vocals"], atol=1e-6)

    _, content = downloaded(page, "All stems (ZIP)")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sorted(archive.namelist()) == sorted(f"{stem}.wav" for stem in STEMS)
        for stem in STEMS:
            found = samples(archive.read(f"{stem}.wav"))
            np.testing.assert_allclose(found, expected[stem], atol=1e-6)

    # all stems at once, to the sample, across the edges of pieces
    played = heard(page, [0, 1, 1, 1, 1])
    np.testing.assert_allclose(played, sum(expected.values()), atol=4 / 32768)
    played = heard(page, [0, 0, 0, 0, 1], start=12345)
    np.testing.assert_allclose(played, expected["vocals"][12345:], atol=1 / 32768)
    played = heard(page, [1, 0, 0, 0, 0], start=1000, loop=[1000, 45100])
    np.testing.assert_allclose(played, np.tile(original[1000:45100], (3, 1)), atol=1 / 32768)


def test_the_mix_follows_the_controls(page, song, expected):
    split(page, "song.wav", song)
    page.get_by_role("button", name="Mute drums").click()
    page.get_by_role("slider", name="Level of bass").fill("-6")
    _, content = downloaded(page, "This mix")
    mix = expected["bass"] * 10 ** (-6 / 20) + expected["other"] + expected["vocals"]
    np.testing.assert_allclose(samples(content), mix, atol=1e-6)

    page.get_by_role("button", name="Solo vocals").click()
    page.get_by_text("Difference", exact=True).click()
    choose_format(page, "FLAC, 24-bit")
    name, content = downloaded(page, "This mix")
    original, _ = soundfile.read(io.BytesIO(song), dtype="float32")
    assert name == "song - mix.flac"
    np.testing.assert_allclose(samples(content), original - expected["vocals"], atol=2**-22)

    page.get_by_role("button", name="Solo vocals").click()
    for stem in ("bass", "other", "vocals"):
        page.get_by_role("button", name=f"Mute {stem}").click()
    page.get_by_text("Mix", exact=True).click()
    assert page.get_by_role("link", name="This mix").get_attribute("aria-disabled") == "true"


def position(page) -> float:
    return float(page.get_by_role("slider", name="Position").input_value())


def test_it_plays_seeks_and_loops_by_keys(page, song):
    split(page, "song.wav", song)
    assert position(page) == 0
    page.keyboard.press("Space")
    page.get_by_role("button", name="Pause").wait_for()
    wait_for(lambda: position(page) > 0.3)
    page.keyboard.press("ArrowRight")
    assert 5 < position(page) < 8
    page.keyboard.press("Space")
    page.get_by_role("button", name="Play").wait_for()
    stopped = position(page)
    page.keyboard.press("]")
    page.keyboard.press("Home")
    assert page.get_by_role("button", name="Loop", exact=True).get_attribute("aria-pressed") == (
        "true"
    )
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    seen = []
    wait_for(lambda: seen.append(position(page)) or seen[-1] < 1)  # it went round
    assert max(seen) <= stopped + 0.01
    page.keyboard.press("Space")
    page.get_by_role("button", name="Play").wait_for()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("[")  # at the very end: no loop, and not an empty one either
    page.keyboard.press("l")
    shares = "element => ['from', 'to'].map((e) => element.style.getPropertyValue(`--loop-${e}`))"
    assert page.locator(".mixer").evaluate(shares) == ["0", "1"]
    page.keyboard.press("1")
    assert page.get_by_role("button", name="Mute drums").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Shift+Digit2")
    assert page.get_by_role("button", name="Solo bass").get_attribute("aria-pressed") == "true"


def test_what_is_no_song_gets_one_line(page, server):
    upload(page, "song.mp3", b"these are words and no sound\n" * 100)
    page.get_by_text("This is no audio file that can be read here").wait_for()
    upload(page, "empty.wav", b"")
    page.get_by_text("The file is empty (0 bytes).").wait_for()
    assert "Traceback" not in page.content()
    assert server.alive()


def test_cancel_ends_the_job(page, server):
    upload(page, "long.wav", song_bytes(60, channels=1))
    page.get_by_role("button", name="Split", exact=True).click()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Split", exact=True).wait_for()
    wait_for(lambda: len(server.files()) == 1, 10)  # the song itself stays
    assert not page.get_by_role("button", name="Play").is_visible()


def test_a_closed_page_ends_the_job_and_leaves_no_file(page, server):
    upload(page, "long.wav", song_bytes(100, channels=1))
    page.get_by_role("button", name="Split", exact=True).click()
    page.get_by_role("button", name="Cancel").wait_for()
    assert server.files()
    page.close()
    wait_for(lambda: not server.files(), 10)
