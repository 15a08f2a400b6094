"""One line for a mistake in a config, out of the pages that parsers and loaders print."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from aimless.config import accepted_arguments
from aimless.errors import AimlessError

__all__ = ["explain", "suggest", "unwrap"]

_KEY = re.compile(r"Parser key \"([^\"]+)\"")
_CLASS = re.compile(r"Problem with given class_path '([^']+)'")
_OPTION = re.compile(r"Option '([^']+)' is not accepted")
_TOP_OPTION = re.compile(r"does not accept option '([^']+)'|unrecognized arguments: --([\w.]+)")
_REQUIRED = re.compile(r"the following arguments are required: (.+?)\.?$")
_VALUE = re.compile(r"Expected (?:an? )?(.+?)\.? Got value: (.*)")
_CHOICE = re.compile(r"Expected a typing\.Literal\[(.+)\]")
_GIVEN = re.compile(r"Given value: (.*)")
_MISSING_NAME = re.compile(r"has no attribute '([^']+)'|No module named '([^']+)'")
_NOISE = (
    "Does not validate",
    "Subtypes:",
    "Errors:",
    "Given value",
    "Expected a ",
    "Parser key",
    "Problem with given class_path",
)


def suggest(word: str, known: Iterable[str], show: bool = True) -> str:
    """`; did you mean 'x'? Known: a, b, c`, as much of it as helps; `show` lists the known."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    if not show:
        return hint
    shown = ", ".join(known[:40]) + (", …" if len(known) > 40 else "")
    return f"{hint}{' Known' if near else '; known'}: {shown}" if known else hint


def explain(message: str, known: Iterable[str] = ()) -> str:
    """Reduce jsonargparse's nested report to its innermost cause, with its full key.

    Args:
        message: the report; a message that is short already is returned as it is.
        known: keys that exist at the top, for a suggestion.
    """
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    keys: list[str] = []
    class_path = None
    for line in lines:
        if match := _KEY.search(line):
            keys.append(match[1])
        if match := _CLASS.search(line):
            class_path = match[1]
        if cause := _cause(line, ".init_args.".join(keys), class_path, known):
            return cause
    key = ".init_args.".join(keys)
    if (choices := _CHOICE.findall(message)) and (given := _GIVEN.search(message)):
        return f"{key}: {given[1]} is not allowed; known: {', '.join(choices)}"
    plain = [line for line in lines if not line.startswith(_NOISE)]
    if not plain:
        return " ".join(lines)
    return plain[0] if len(plain) < len(lines) else " ".join(plain)


def _cause(line: str, key: str, class_path: str | None, known: Iterable[str]) -> str | None:
    """The one line for a line of the report that holds a cause; None for the others."""
    if match := _OPTION.search(line):
        return _unknown_argument(key, match[1], class_path)
    if match := _TOP_OPTION.search(line):
        name = match[1] or match[2]
        return f"{name}: no such setting{suggest(name, known, show=False)}"
    if match := _REQUIRED.search(line):
        names = match[1].replace("fit.", "")
        full = f"{key}.init_args.{names}" if key and class_path else names
        return f"{full}: required, but not given"
    if class_path and _MISSING_NAME.search(line):
        return f"{key}: unknown class path '{class_path}'{_siblings(class_path)}"
    if (match := _VALUE.search(line)) and "NoneType" not in match[1]:
        return f"{key}: {match[2]} is not allowed; expected {_plain_type(match[1])}"
    if line.startswith("Expected a dot import path string:"):
        name = line.rpartition(":")[2].strip()
        return f"{key}: unknown class '{name}'; give its full class path, as in a.b.{name}"
    return None


def locate(message: str, files: Iterable[str], words: Iterable[str]) -> str:
    """Name the file and line in which the key stands that the message begins with.

    Args:
        message: `<key>: <what is wrong>`.
        files: the config files.
        words: the command line; a key that is set there is not looked for in the files.
    """
    leaf = message.partition(":")[0].rpartition(".")[2]
    if any(word.partition("=")[0].endswith(leaf) for word in words if word.startswith("--")):
        return message
    pattern = re.compile(rf"(^|[\s{{,]){re.escape(leaf)}\s*:")
    places = [
        f"{path}, line {number}"
        for path in files
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    return f"{message} ({places[0]})" if len(places) == 1 else message


def _unknown_argument(key: str, name: str, class_path: str | None) -> str:
    full = f"{key}.init_args.{name}" if key else name
    if class_path in (None, "lightning.LightningDataModule", "lightning.LightningModule"):
        return f"{full}: cannot be set, as no {key}.class_path is given"
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
            names = _classes_of(module)
        else:
            names = {info.name for info in pkgutil.iter_modules(getattr(module, "__path__", []))}
        return f" ({module.__name__} has no '{parts[depth]}'){suggest(parts[depth], names)}"
    return f" (no module named '{parts[0]}')"


def _classes_of(module: ModuleType) -> set[str]:
    """Names of the classes that a module offers."""
    public = getattr(module, "__all__", None)
    if public is not None:
        return {name for name in public if isinstance(getattr(module, name, None), type)}
    own = module.__name__
    return {n for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == own}


def unwrap(error: AimlessError) -> str:
    """The message of an error; of one that a loader's worker raised, without its traceback."""
    text = str(error)
    if "Original Traceback" not in text:
        return text
    lines = [line for line in text.splitlines() if line.strip()]
    return re.sub(r"^[\w.]*(Error|Exception): ", "", lines[-1])
