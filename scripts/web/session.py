"""The few places where Streamlit's runtime is asked what its pages cannot tell."""

from __future__ import annotations

import functools
import importlib
import math
import signal
from collections.abc import Callable

import uvicorn
from streamlit import config, net_util
from streamlit.runtime import Runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.url_util import get_hostname

__all__ = [
    "end_within",
    "forget_earlier_uploads",
    "forget_upload",
    "keep_sessions",
    "known_hosts",
    "page_is_open",
    "prepare",
    "upload_remover",
    "uploaded_bytes",
]


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


def upload_remover() -> Callable[[], None]:
    """Frees the memory of all uploads of the page that runs now, asked from any thread."""
    context = get_script_run_ctx()
    if context is None or not isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        return lambda: None
    return functools.partial(context.uploaded_file_mgr.remove_session_files, context.session_id)


def forget_earlier_uploads(session: str, file_id: str) -> None:
    """Free the memory of a page's uploads before this one: it shows no more than one."""
    manager = Runtime.instance().uploaded_file_mgr if Runtime.exists() else None
    if not isinstance(manager, MemoryUploadedFileManager):
        return
    uploads = list(manager.file_storage.get(session, ()))
    if file_id in uploads:  # otherwise it was refused
        for upload in uploads:
            if upload != file_id:
                manager.remove_file(session, upload)


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


def known_hosts() -> frozenset[str] | None:
    """Names that the server goes by besides the one it is asked under; None for any.

    They are Streamlit's, but for its address as seen from outside. For that Streamlit asks another
    server, and lets all visitors wait meanwhile.
    """
    if not config.get_option("server.enableCORS"):
        return None
    addresses = ["localhost", "0.0.0.0", "127.0.0.1", net_util.get_internal_ip() or ""]
    addresses += config.get_option("server.corsAllowedOrigins")
    if config.is_manually_set("browser.serverAddress"):
        addresses.append(config.get_option("browser.serverAddress"))
    return frozenset(filter(None, (get_hostname(address.strip()) for address in addresses)))


def keep_sessions(seconds: float) -> None:
    """Let Streamlit keep pages that lost their connection for so long, or as long as it is told."""
    name = "server.disconnectedSessionTTL"
    config.set_option(name, max(config.get_option(name), math.ceil(seconds)))


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
