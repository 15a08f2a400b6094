"""The few places where Streamlit's runtime is asked what its pages cannot tell."""

from __future__ import annotations

from collections.abc import Callable

from streamlit.runtime import Runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

__all__ = ["forget_upload", "page_is_open", "uploaded_bytes"]


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
