"""The mixer in the page: a component of static files, and what it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from web.pictures import FLOOR_DB, LOWEST
from web.visit import Take

__all__ = ["mixer"]

STATIC = Path(__file__).resolve().parent / "static"
_component = st.components.v2.component(
    "aimless_mixer",
    html=(STATIC / "mixer.html").read_text(),
    css=(STATIC / "mixer.css").read_text(),
    js=(STATIC / "loader.js").read_text(),
)


def mixer(take: Take, token: str, base: str) -> None:
    """Show stems to play, mix and download.

    Args:
        take: what came out.
        token: the visitor's secret.
        base: path of the app, such as `` or `/split`.
    """
    _component(key=f"mixer-{take.folder.name}", data=_told(take, token, base))


def _told(take: Take, token: str, base: str) -> dict[str, Any]:
    preview = take.preview
    return {
        "modules": f"{base}/aimless-static",
        "address": f"{base}/aimless/{token}",
        "version": take.folder.name,
        "name": take.name,
        "tracks": ["mixture", *take.stems],
        "rate": preview["rate"],
        "frames": preview["frames"],
        "piece": preview["piece"],
        "peaks": preview["peaks"],
        "outlines": preview["outlines"],
        "formats": take.formats(),
        "lowest": LOWEST,
        "highest": take.rate / 2,
        "floor": FLOOR_DB,
    }
