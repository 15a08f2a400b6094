"""Child process: says what checkpoints hold, by loading them; one line of JSON for each."""

from __future__ import annotations

import json
import sys
from typing import Any

from aimless.checkpoint import load
from aimless.download import fetch
from aimless.errors import AimlessError, DataError
from aimless.published import PUBLISHED
from web.child import keep_stdout

__all__ = ["describe", "main"]


def describe(source: str) -> dict[str, Any]:
    """Load a network and say what it is: `sources`, `rate`, `bytes` of its weights; or `error`."""
    try:
        network = _load_published(source) if source in PUBLISHED else load(source)
    except AimlessError as error:
        return {"error": str(error)}
    size = sum(p.numel() * p.element_size() for p in network.parameters())
    return {"sources": list(network.sources), "rate": network.sample_rate, "bytes": size}


def _load_published(name: str) -> Any:
    """Like `load`, but weights that arrived damaged are not kept for the next start."""
    published = PUBLISHED[name]
    path = fetch(published.url, published.sha256)
    try:
        return load(name)
    except DataError as error:
        path.unlink(missing_ok=True)
        raise DataError(f"{published.url}: what came is no network: {error}") from error


def main() -> None:
    """Describe what stands in the lines of the input, as they come."""
    parent = keep_stdout()
    for line in sys.stdin:
        source = json.loads(line)
        print(json.dumps({"source": source, **describe(source)}), file=parent, flush=True)


if __name__ == "__main__":
    main()
