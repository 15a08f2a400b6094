"""The few places where Streamlit's runtime is asked what its pages cannot tell."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable

import uvicorn
from streamlit.runtime import Runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

__all__ = ["end_within", "forget_upload", "page_is_open", "prepare", "uploaded_bytes"]


def page_is_open() -> Callable[[], bool]:
    """Whether the page that runs now still has its connection, to be asked from any thread.

    A page cannot say so itself: browsers slow down the timers of tabs that lie behind others.
    """
    context = get_script_run_ctx()
    if context is None or not Runtime.exists():
        return lambda: True
    session, runtime = context.session_id, Runtime.instance()
    return lambda: runtime.is_active_session(session)


def forget_upload(file_id: str) -> None:
    """Free the memory of an upload; Streamlit would keep it as long as the page is open."""
    context = get_script_run_ctx()
    if context is not None and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        context.uploaded_file_mgr.remove_file(context.session_id, file_id)


def uploaded_bytes() -> int:
    """Bytes of all uploads in memory."""
    if not Runtime.exists():
        return 0
    families = Runtime.instance().stats_mgr.get_stats().values()
    stats = [stat for family in families for stat in family]
    return sum(
        getattr(stat, "byte_length", 0)
        for stat in stats
        if getattr(stat, "category_name", "") == "UploadedFileManager"
    )


def prepare() -> None:
    """Import now what Streamlit would import while the first visitor waits for the mixer."""
    importlib.import_module("pandas")


def end_within(seconds: int) -> None:
    """Let the server wait so long for downloads when it is told to end; it would wait for ever.

    Streamlit makes the server itself, with no setting for this. By now the server has asked the
    operating system for signals, which is how it is found.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(server, uvicorn.Server) and server.config.timeout_graceful_shutdown is None:
        server.config.timeout_graceful_shutdown = seconds
