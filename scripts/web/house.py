"""The one object of the server process: models, the queue, the visitors.

It is no `st.cache_resource`: any visitor can have that emptied, by a message of Streamlit's
protocol, and would have the model loaded twice.
"""

from __future__ import annotations

import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable

from web.child import Children
from web.downloads import Maker
from web.jobs import Queue
from web.models import Catalogue
from web.options import Options
from web.visit import Visit
from web.workplace import Workplace

__all__ = ["House", "close_house", "house", "open_house"]

#: Seconds after which a visitor without stems, whose page is closed, is taken to be gone. At once
#: would be too soon: a connection may break and come back.
_GRACE = 4.0


class House:
    """All that visitors share.

    Args:
        options: see there.

    Raises:
        DataError: there is no folder to work in.
    """

    def __init__(self, options: Options) -> None:
        self.options, limits = options, options.limits
        self.workplace = Workplace(options.work, limits.disk_bytes)
        children = (limits.children, limits.memory_bytes, limits.cpu_seconds)
        self.decoders = Children(*children)
        self.maker = Maker(self.workplace, Children(*children), limits.children)
        self.queue = Queue(options.device, limits.waiting)
        self.catalogue = Catalogue(options.models, options.published)
        self._visits: dict[str, Visit] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="visits", daemon=True)
        self._thread.start()

    def welcome(self, alive: Callable[[], bool], left: Callable[[], None] = lambda: None) -> Visit:
        """A new visitor.

        Args:
            alive: whether the page is open.
            left: called when the visitor is gone.
        """
        limits = self.options.limits
        visit = Visit(self.workplace, self.queue, self.decoders, limits, alive, left)
        with self._lock:
            self._visits[visit.token] = visit
        return visit

    def find(self, token: str) -> Visit | None:
        """The visitor with this secret; all secrets are compared, in constant time."""
        found = None
        with self._lock:
            for known, visit in self._visits.items():
                if secrets.compare_digest(known.encode(), token.encode()):
                    found = visit
        return found

    def close(self) -> None:
        """Stop and remove everything."""
        self._closed.set()
        self._thread.join()
        self.catalogue.close()
        self.queue.close()
        self.workplace.close()

    def _watch(self) -> None:
        """Show out who left."""
        while not self._closed.wait(1.0):
            with self._lock:
                visits = list(self._visits.values())
            for visit in visits:
                try:
                    self._look_after(visit)
                except Exception:  # the others have to be shown out all the same
                    sys.stderr.write(traceback.format_exc())

    def _look_after(self, visit: Visit) -> None:
        if visit.alive():
            visit.seen = time.monotonic()
        grace = _GRACE if visit.take is None else self.options.limits.keep_seconds
        if time.monotonic() - visit.seen > grace:
            with self._lock:
                del self._visits[visit.token]
            visit.close()


_house: House | None = None


def open_house(options: Options) -> House:
    """Make the house of this process."""
    global _house
    _house = House(options)
    return _house


def house() -> House:
    """The house of this process, which `open_house` made."""
    assert _house is not None, "the app starts by scripts/webapp.py"
    return _house


def close_house() -> None:
    """Stop and remove everything."""
    global _house
    if _house is not None:
        _house.close()
        _house = None
