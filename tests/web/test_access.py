"""The page for those who see little, use a keyboard or a phone, in light and dark."""

from __future__ import annotations

import re

import pytest

from tests.web.conftest import song_bytes, split

pytestmark = pytest.mark.slow

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
CONTROLS = ("button", "link", "slider", "radio", "combobox", "checkbox", "switch", "textbox")

# Ink and paper of every word of the mixer that stands on a button, as CSS colours.
COLOURS = """() => {
  const find = (root) => {
    for (const element of root.querySelectorAll("*")) {
      if (element.matches(".mixer")) return element;
      const inner = element.shadowRoot && find(element.shadowRoot);
      if (inner) return inner;
    }
  };
  const words = find(document).querySelectorAll(".all, .mix, .loop, .mute, .choice span");
  return [...words].map((word) => {
    const style = getComputedStyle(word);
    return [word.textContent, style.color, style.backgroundColor];
  });
}"""

# What has the focus, within shadow roots too.
FOCUSED = """() => {
  let element = document.activeElement;
  while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
  return element?.getAttribute("aria-label") ?? element?.textContent ?? "";
}"""


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it, of `rgb(r, g, b)`."""
    shares = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(ink: str, paper: str) -> float:
    """From 1 to 21."""
    dark, light = sorted((luminance(ink), luminance(paper)))
    return (light + 0.05) / (dark + 0.05)


def unnamed_controls(page) -> list[str]:
    """Roles of the controls that a screen reader has no name for."""
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")
    nodes = [node for node in tree["nodes"] if not node["ignored"]]
    controls = [node for node in nodes if node["role"]["value"] in CONTROLS]
    assert controls
    return [
        node["role"]["value"]
        for node in controls
        if not node.get("name", {}).get("value", "").strip()
    ]


@pytest.mark.parametrize(
    ("scheme", "size"), [("light", DESKTOP), ("dark", PHONE)], ids=["desktop", "phone"]
)
def test_all_can_be_read_named_and_reached(browser, server, scheme, size):
    context = browser.new_context(viewport=size, color_scheme=scheme)
    context.set_default_timeout(90_000)
    page = context.new_page()
    page.goto(server.url)
    page.get_by_text("1. Choose a song").wait_for()
    assert unnamed_controls(page) == []
    split(page, "song.wav", song_bytes(2.0))
    page.get_by_role("button", name="Mute bass").click()
    page.get_by_role("button", name="Loop", exact=True).click()
    assert unnamed_controls(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    pale = {word: contrast(ink, paper) for word, ink, paper in page.evaluate(COLOURS)}
    assert min(pale.values()) >= 4.5, pale

    page.get_by_role("button", name="Play").focus()
    reached = []
    while (focused := page.evaluate(FOCUSED)).strip() != "This mix" and len(reached) < 60:
        reached.append(focused)
        page.keyboard.press("Tab")
    for stem in ("drums", "bass", "other", "vocals"):
        controls = [f"Mute {stem}", f"Solo {stem}", f"Level of {stem}", f"Download {stem}"]
        places = [reached.index(control) for control in controls]
        assert places == sorted(places)
    assert {"Play", "Position", "All stems (ZIP)"} <= set(reached)
    context.close()
