"""A visitor without a browser: speaks with the server as Streamlit's page does.

Pages and servers of Streamlit exchange messages over a WebSocket (streamlit/proto). A visitor here
keeps what the page would show, asks for fragments again as often as it is told, and answers with
the clicks of a person. It costs next to nothing, so that many are a load for the server alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import requests
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Delta_pb2 import Delta
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import connect

#: Bytes of a message, at most.
_LARGEST = 64 << 20


@dataclass
class _Shown:
    """An element, and the run of the page that showed it."""

    element: Element
    run: str
    fragment: str


class Visitor:
    """One page that is open.

    Args:
        url: of the server.
        seconds: that anything waited for may take.
    """

    def __init__(self, url: str, seconds: float = 60.0) -> None:
        self.url, self.seconds = url, seconds
        self.web = requests.Session()
        self.web.get(f"{url}/_stcore/health", timeout=seconds).raise_for_status()  # gives a token
        self.session, self.finished = "", 0  # how often the page was shown to its end
        self._shown: dict[tuple[int, ...], _Shown] = {}
        self._timers: dict[str, tuple[float, float]] = {}  # fragment -> interval, time of the next
        self._urls: Any = None
        self._run = ""
        self._open = ExitStack()
        self._socket = self._open.enter_context(
            connect(
                f"ws://{urlsplit(url).netloc}/_stcore/stream",
                subprotocols=["streamlit"],  # type: ignore[list-item]
                max_size=_LARGEST,
                max_queue=None,  # a visitor does not listen while a file is on its way
                ping_interval=None,
                open_timeout=seconds,
            )
        )
        self._rerun()
        self.wait(lambda: self.finished)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the page."""
        self._open.close()
        self.web.close()

    def elements(self, kind: str) -> list[Any]:
        """What the page shows of a kind, such as `button`, from top to bottom."""
        shown = [self._shown[path].element for path in sorted(self._shown)]
        return [getattr(element, kind) for element in shown if element.WhichOneof("type") == kind]

    def text(self) -> str:
        """All that can be read on the page, and names of its parts."""
        return "\n".join(str(self._shown[path].element) for path in sorted(self._shown))

    def has_button(self, label: str) -> bool:
        """Whether there is one."""
        return any(button.label == label for button in self.elements("button"))

    def mixer(self) -> dict[str, Any] | None:
        """What the mixer is told, once it is there."""
        parts = self.elements("bidi_component")
        return json.loads(parts[0].json) if parts else None

    def intervals(self) -> list[float]:
        """How often its fragments are shown again, in seconds."""
        return [interval for interval, _ in self._timers.values()]

    def wait(self, condition: Callable[[], Any], seconds: float | None = None) -> Any:
        """Be a page until something is true; gives that.

        Raises:
            TimeoutError: it does not come about.
        """
        end = time.monotonic() + (self.seconds if seconds is None else seconds)
        while not (found := condition()):
            now = time.monotonic()
            if now > end:
                raise TimeoutError(f"not within its time; the page shows:\n{self.text()[-2000:]}")
            self._ask_again(now)
            due = min([end, *(when for _, when in self._timers.values())])
            try:
                message = self._socket.recv(timeout=max(due - now, 0.001))
            except TimeoutError:
                continue
            self._hear(ForwardMsg.FromString(message))
        return found

    def press(self, label: str) -> None:
        """Click a button that is there, or comes, and wait until the page is shown anew."""
        self.wait(lambda: self.has_button(label))
        (button,) = (button for button in self.elements("button") if button.label == label)
        before = self.finished
        self._rerun(WidgetState(id=button.id, trigger_value=True), self._fragment_of(button.id))
        self.wait(lambda: self.finished > before)

    def upload(self, name: str, content: bytes) -> None:
        """Give the page a file, and wait until it is shown anew."""
        address = self.upload_address(name)
        answer = self.web.put(
            self.url + address.upload_url,
            files={"file": (name, content)},
            headers=self.token(),
            timeout=self.seconds,
        )
        answer.raise_for_status()
        (uploader,) = self.elements("file_uploader")
        state = WidgetState(id=uploader.id)
        state.file_uploader_state_value.uploaded_file_info.add(
            name=name, size=len(content), file_id=address.file_id, file_urls=address
        )
        before = self.finished
        self._rerun(state)
        self.wait(lambda: self.finished > before)

    def upload_address(self, name: str) -> Any:
        """Where the server wants a file: `upload_url`, `file_id`."""
        self._urls = None
        message = BackMsg()
        message.file_urls_request.request_id = "files"
        message.file_urls_request.session_id = self.session
        message.file_urls_request.file_names.append(name)
        self._socket.send(message.SerializeToString())
        self.wait(lambda: self._urls)
        return self._urls.file_urls[0]

    def token(self) -> dict[str, str]:
        """The header that shows that an upload comes from the server's own page."""
        return {"X-Xsrftoken": str(self.web.cookies["_streamlit_xsrf"])}

    def download(self, path: str) -> bytes:
        """What the mixer's links give, such as `stem/1/flac`."""
        told = self.mixer()
        assert told is not None, "there is no mixer"
        answer = self.web.get(f"{self.url}{told['address']}/{path}", timeout=self.seconds)
        answer.raise_for_status()
        return answer.content

    def _rerun(
        self, state: WidgetState | None = None, fragment: str = "", again: bool = False
    ) -> None:
        message = BackMsg()
        message.rerun_script.fragment_id = fragment
        message.rerun_script.is_auto_rerun = again
        if state is not None:
            message.rerun_script.widget_states.widgets.append(state)
        message.rerun_script.context_info.url = self.url
        self._socket.send(message.SerializeToString())

    def _ask_again(self, now: float) -> None:
        """Ask for the fragments that want to be shown again by now."""
        for fragment, (interval, due) in self._timers.items():
            if due <= now:
                self._timers[fragment] = interval, now + interval
                self._rerun(fragment=fragment, again=True)

    def _fragment_of(self, widget: str) -> str:
        for shown in self._shown.values():
            if shown.element.WhichOneof("type") == "button" and shown.element.button.id == widget:
                return shown.fragment
        return ""

    def _hear(self, message: ForwardMsg) -> None:
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self.session = message.new_session.initialize.session_id
            self._run = message.metadata.run.script_run_id
            if not message.metadata.run.fragment_ids:
                self._timers.clear()
        elif kind == "delta":
            self._show(tuple(message.metadata.delta_path), message.delta)
        elif kind == "auto_rerun":
            interval = message.auto_rerun.interval
            self._timers[message.auto_rerun.fragment_id] = interval, time.monotonic() + interval
        elif kind == "file_urls_response":
            self._urls = message.file_urls_response
        elif kind == "script_finished":
            self._forget_the_old(message)

    def _show(self, path: tuple[int, ...], delta: Delta) -> None:
        if delta.WhichOneof("type") == "new_element":
            self._shown[path] = _Shown(delta.new_element, self._run, delta.fragment_id)
        elif delta.WhichOneof("type") == "add_block":
            self._shown.pop(path, None)

    def _forget_the_old(self, message: ForwardMsg) -> None:
        """Elements that the run which ends here did not show again are no longer there."""
        if message.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
            return
        fragments = set(message.metadata.run.fragment_ids)
        self.finished += not fragments
        self._shown = {
            path: shown
            for path, shown in self._shown.items()
            if shown.run == self._run or (fragments and shown.fragment not in fragments)
        }
