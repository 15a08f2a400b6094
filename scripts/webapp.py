"""The web app: split songs in the browser.

    streamlit run scripts/webapp.py
    streamlit run scripts/webapp.py -- --models DIR

Then open http://localhost:8501/. See docs/web.md.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from web.guard import AsIs, OriginGuard, SafeHeaders, UploadGuard
from web.house import close_house, open_house
from web.options import parse
from web.routes import routes
from web.session import (
    end_within,
    forget_earlier_uploads,
    keep_sessions,
    known_hosts,
    prepare,
    uploaded_bytes,
)

from aimless.errors import AimlessError

try:
    options = parse(sys.argv[1:])
except AimlessError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
keep_sessions(options.limits.keep_seconds)  # st.App looks at it
BASE = ("/" + str(st.get_option("server.baseUrlPath")).strip("/")).rstrip("/")


@asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[None]:
    """The models and the queue, as long as the server runs."""
    end_within(seconds=5)
    open_house(options)
    prepare()
    try:
        yield
    finally:
        close_house()


app = st.App(
    Path(__file__).resolve().parent / "web" / "page.py",
    lifespan=lifespan,
    routes=routes(BASE),
    middleware=[
        Middleware(OriginGuard, known=known_hosts()),
        Middleware(SafeHeaders),
        Middleware(AsIs, prefix=BASE + "/aimless/"),
        Middleware(
            UploadGuard,
            most=options.limits.uploads,
            largest=st.get_option("server.maxUploadSize") << 20,
            most_bytes=options.limits.upload_bytes,
            held=uploaded_bytes,
            arrived=forget_earlier_uploads,
        ),
    ],
)
