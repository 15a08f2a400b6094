"""The page. Streamlit runs it from top to bottom after every click of its visitor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from aimless.errors import AimlessError
from web.demo_song import TITLE, find_demo_song
from web.house import house
from web.jobs import Job
from web.mixer import mixer
from web.models import Model
from web.session import forget_upload, page_is_open, upload_remover
from web.sniff import KINDS
from web.visit import Song, Visit

LOGO = Path(__file__).resolve().parents[2] / "docs" / "logo.svg"


def main() -> None:
    """The whole page."""
    st.set_page_config("Aimless: split songs", str(LOGO), layout="wide")
    st.image(str(LOGO), width=220, alt="aimless")
    visit = _visit()
    if visit.song is None:
        st.write("Split a song into its stems: listen to them, mix them anew, take them away.")
        _choose_song(visit)
    else:
        _show_song(visit, visit.song)
        take = visit.collect()
        if take is not None:
            mixer(take, visit.token, _base())
        if visit.job is not None:
            pause = _pause(visit, visit.job)
            st.fragment(_show_job, run_every=pause)(pause)
        else:
            _settings(visit, visit.song, again=take is not None)
    st.caption(
        "Your song and its stems are seen by nobody else, and are removed when you close the page."
    )


def _base() -> str:
    """Path of the app, such as `` or `/split`."""
    return ("/" + str(st.get_option("server.baseUrlPath")).strip("/")).rstrip("/")


def _visit() -> Visit:
    known = st.session_state.get("visit")
    if known is None or house().find(known.token) is None:  # it was away for long
        st.session_state.visit = house().welcome(page_is_open(), upload_remover())
    visit: Visit = st.session_state.visit
    return visit


def _choose_song(visit: Visit) -> None:
    limits = visit.limits
    st.subheader("1. Choose a song")
    error = st.session_state.pop("error", "")
    uploads = st.session_state.setdefault("uploads", 0)  # another key shows an empty uploader
    upload = st.file_uploader(
        f"{', '.join(KINDS)}, up to {limits.minutes}, {st.get_option('server.maxUploadSize')} MB",
        key=f"upload-{uploads}",
    )
    demo = find_demo_song()
    wants_demo = demo is not None and st.button("Take the demo song", help=TITLE)
    if error:
        st.error(_plain(error))
    if upload is None and not wants_demo:
        return
    try:
        with st.spinner("Reading the song ..."):
            if wants_demo and demo is not None:
                visit.open(TITLE, demo)
            elif upload is not None:
                visit.receive(Path(upload.name.replace("\0", "")).stem[:200], upload)
    except AimlessError as problem:
        st.session_state.error = str(problem)
    finally:  # also where Streamlit ends the page in the middle, as for a click
        if upload is not None:
            forget_upload(upload.file_id)
        st.session_state.uploads += 1
    st.rerun()


def _show_song(visit: Visit, song: Song) -> None:
    words, button = st.columns([4, 1], vertical_alignment="center")
    with words:
        st.text(song.name)  # as it is: a name may hold Markdown, or HTML
        channels = {1: "mono", 2: "stereo"}.get(song.channels, f"{song.channels} channels")
        st.caption(f"{song.kind}, {_clock(song.seconds)}, {song.rate} Hz, {channels}")
    if button.button("Another song", width="stretch"):
        visit.forget_song()
        st.rerun()


def _pause(visit: Visit, job: Job) -> float:
    """Seconds until the page looks at a job again: the longer the queue, the less often."""
    if job.state != "waiting":
        return 0.5
    return min(0.5 * (1 + visit.queue.position(job)), 5.0)


def _show_job(pause: float) -> None:
    visit: Visit = st.session_state.visit
    job = visit.job
    if job is None:
        st.rerun()
        return
    if job.finished and job.state != "done":
        visit.job = None
        st.session_state.problem = job.error
    if job.finished or _pause(visit, job) != pause:
        st.rerun()
    text, share = _progress(visit, job)
    st.progress(share, text)
    if st.button("Cancel"):
        visit.stop()
        st.rerun()


def _progress(visit: Visit, job: Job) -> tuple[str, float]:
    if job.state == "waiting":
        ahead = visit.queue.position(job)
        return f"Waiting: {ahead} {'song' if ahead == 1 else 'songs'} before yours.", 0.0
    if job.state == "loading":
        return "Getting the model ready ...", 0.0
    if job.state == "drawing":
        return "Getting the mixer ready ...", 1.0
    share = min(job.done / job.total, 1.0) if job.total else 0.0
    left = job.seconds_left
    if left is None:
        return "Splitting ...", share
    return f"Splitting: {share:.0%}, about {_clock(left)} left.", share


def _settings(visit: Visit, song: Song, again: bool) -> None:
    problem = st.session_state.pop("problem", "")
    if problem:
        st.error(_plain(problem))
    with st.expander("Split it again, in another way") if again else st.container():
        st.subheader("2. Split it")
        model = _choose_model()
        start, seconds = _choose_excerpt(song)
        settings = _advanced(model)
        ready = model is not None and st.button("Split", type="primary")
    if ready and model is not None:
        try:
            visit.split(model.source, settings, start, seconds)
        except AimlessError as error:
            st.session_state.problem = str(error)
        st.rerun()


def _choose_model() -> Model | None:
    catalogue = house().catalogue
    for model in catalogue.models("missing"):
        st.warning(_plain(f"{model.title}: {model.reason}."))
    looking = len(catalogue.models("looking"))  # first: what is found after this is ready, too
    models = {model.source: model for model in catalogue.models("ready")}
    if looking:
        st.session_state.looking = looking
        _wait_for_models()
    if not models:
        if not looking:
            st.error("There is no model here. Start the server with --models and a folder.")
        return None
    source = st.selectbox("Model", list(models), format_func=lambda key: models[key].title)
    st.caption(_plain(models[source].details))
    return models[source]


@st.fragment(run_every=1.0)
def _wait_for_models() -> None:
    looking = house().catalogue.models("looking")
    if st.session_state.looking != len(looking):
        st.rerun()
    if looking:
        names = ", ".join(model.title for model in looking)
        st.info(_plain(f"Being looked at, or downloaded: {names} ..."))


def _choose_excerpt(song: Song) -> tuple[float, float | None]:
    """Start in seconds, and length or None for the whole song."""
    whole, part = "The whole song", "An excerpt"
    if (
        song.seconds < 2
        or st.segmented_control("How much", [whole, part], default=whole, required=True) != part
    ):
        return 0.0, None
    last = int(song.seconds)
    first, end = st.slider(
        "From and to, in seconds", 0, last, (0, min(30, last)), step=1, format="%d s"
    )
    return float(first), float(max(end - first, 1))


def _advanced(model: Model | None) -> dict[str, Any]:
    """Settings of `aimless.Separator`."""
    with st.expander("Advanced"):
        stems = ["All stems", *(model.sources if model else ())]
        wanted = st.selectbox(
            "Stems", stems, format_func=lambda s: s if s == stems[0] else f"{s}, and the rest"
        )
        overlap = st.slider(
            "Overlap of segments", 0.0, 0.9, 0.25, 0.05, help="More is smoother and slower."
        )
        shifts = st.slider(
            "Passes",
            1,
            5,
            1,
            help="The mean of several passes is a little better; each takes as long as the first.",
        )
        precision = st.selectbox(
            "Precision", ["32", "bf16", "16"], help="Fewer bits are faster on many GPUs."
        )
        consistent = st.toggle(
            "Make the stems sum to the song",
            help="For models whose stems cover the whole of the song.",
        )
    settings: dict[str, Any] = {"shifts": shifts, "precision": precision, "overlap": overlap}
    settings["mixture_consistency"] = consistent
    settings["two_stems"] = None if wanted == stems[0] else wanted
    return settings


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _plain(text: str) -> str:
    """Text for places that take Markdown, without any meaning as such."""
    return "".join("\\" + sign if sign in r"\`*_{}[]()<>#+-.!|~$:" else sign for sign in text)


main()
