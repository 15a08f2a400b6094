"""One line for a mistake in a config, out of the pages that parsers and loaders print."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
from collections.abc import Iterable

from aimless.config import accepted_arguments
from aimless.errors import AimlessError

__all__ = ["explain", "suggest", "unwrap"]

_KEY = re.compile(r"Parser key \"([^\"]+)\"")
_CLASS = re.compile(r"Problem with given class_path '([^']+)'")
_OPTION = re.compile(r"Option '([^']+)' is not accepted")
_UNKNOWN = re.compile(
    r"(?:No action for key|Group '[^']+' does not accept nested key) \"?'?([\w.]+)"
)
_VALUE = re.compile(r"Expected (?:a|an|to be of type) (.+?)\.? Got value: (.*)")
_MISSING_NAME = re.compile(r"has no attribute '([^']+)'|No module named '([^']+)'")
_NOISE = ("Does not validate against", "Subtypes:", "Errors:", "Given value", "Expected a path")


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'? Known: a, b, c`, as much of it as helps."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    shown = ", ".join(known[:40]) + (", …" if len(known) > 40 else "")
    return f"{hint}{' Known' if near else '; known'}: {shown}" if known else hint


def explain(message: str) -> str:
    """Reduce jsonargparse's nested report to its innermost cause, with its full key."""
    keys: list[str] = []
    class_path = None
    for line in (line.strip(" -") for line in message.splitlines()):
        if match := _KEY.search(line):
            keys.append(match[1])
        if match := _CLASS.search(line):
            class_path = match[1]
        key = ".init_args.".join(keys)
        if match := _OPTION.search(line):
            return _unknown_argument(key, match[1], class_path)
        if class_path and (match := _MISSING_NAME.search(line)):
            return f"{key}: unknown class path '{class_path}'{_siblings(class_path)}"
        if match := _VALUE.search(line):
            if "NoneType" not in match[1]:
                return f"{key}: {match[2]} is not allowed; expected {_plain_type(match[1])}"
        elif line.startswith("Expected a dot import path string:"):
            name = line.rpartition(":")[2].strip()
            return f"{key}: unknown class '{name}'; give its full class path, as in a.b.{name}"
    return " ".join(
        line.strip() for line in message.splitlines() if not line.strip(" -").startswith(_NOISE)
    ).strip()


def _unknown_argument(key: str, name: str, class_path: str | None) -> str:
    full = f"{key}.init_args.{name}" if key else name
    if class_path is None:
        return f"{full}: unknown key"
    return f"{full}: no argument of {class_path}{suggest(name, accepted_arguments(class_path))}"


def _plain_type(text: str) -> str:
    return re.sub(r"<class '([\w.]+)'>", lambda match: match[1].rpartition(".")[2], text)


def _siblings(class_path: str) -> str:
    """Class names near a mistyped one: those of the deepest module on the way that exists."""
    parts = class_path.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:depth]))
        except ImportError:
            continue
        if depth == len(parts) - 1:
            names = {name for name, value in vars(module).items() if isinstance(value, type)}
        else:
            names = {info.name for info in pkgutil.iter_modules(getattr(module, "__path__", []))}
        return f" ({module.__name__} has no '{parts[depth]}'){suggest(parts[depth], names)}"
    return f" (no module named '{parts[0]}')"


def unwrap(error: AimlessError) -> str:
    """The message of an error; of one that a loader's worker raised, without its traceback."""
    text = str(error)
    if "Original Traceback" not in text:
        return text
    lines = [line for line in text.splitlines() if line.strip()]
    return re.sub(r"^[\w.]*(Error|Exception): ", "", lines[-1])
