"""The page's logic, without a browser."""

from __future__ import annotations

import dataclasses

import pytest
import web.house
from streamlit.runtime.scriptrunner import StopException
from streamlit.testing.v1 import AppTest
from web import demo_song, session, visit
from web.jobs import Busy
from web.models import Model

from tests.web.conftest import SCRIPTS, song_bytes
from tests.web.running import wait_for


@pytest.fixture
def app(house, monkeypatch):
    """A visitor's page."""
    monkeypatch.setattr(web.house, "_house", house)
    app = AppTest.from_file(str(SCRIPTS / "web" / "page.py"), default_timeout=60)
    yield run(app)
    if "visit" in app.session_state:
        app.session_state.visit.close()


def run(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    return app


def words(app: AppTest) -> str:
    elements = [*app.text, *app.caption, *app.error, *app.warning, *app.markdown, *app.info]
    return "\n".join(element.value.replace("\\", "") for element in elements)


def button(app: AppTest, label: str):
    return next(button for button in app.button if button.label == label)


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def choose(app: AppTest, name: str = "song.wav", content: bytes | None = None) -> AppTest:
    content = song_bytes(3.0) if content is None else content
    app.file_uploader[0].set_value((name, content, "audio/wav"))
    return run(app)


def finish(app: AppTest) -> AppTest:
    visit = app.session_state.visit
    wait_for(lambda: visit.job is None or visit.job.finished, 60)
    return run(app)


def test_a_song_is_chosen_split_and_given_up(app):
    assert "up to 10 minutes" in app.file_uploader[0].label
    choose(app, "A *song*.wav")
    assert "A *song*" in [text.value for text in app.text]
    assert "WAV, 0:03, 44100 Hz, stereo" in words(app)
    assert "drums, bass, other, vocals" in words(app)
    assert "CC0, for tests" in words(app)
    button(app, "Split").click()
    run(app)
    finish(app)
    take = app.session_state.visit.take
    assert take.stems == ("drums", "bass", "other", "vocals")
    assert "Split" in labels(app)  # again, in another way
    button(app, "Another song").click()
    run(app)
    assert app.file_uploader
    assert not take.folder.exists()


def test_the_demo_song_is_offered_where_it_is(app, monkeypatch):
    if demo_song.find_demo_song() is None:
        pytest.skip("stempeg carries the song")
    button(app, "Take the demo song").click()
    run(app)
    assert demo_song.TITLE in words(app)
    monkeypatch.setattr(demo_song.importlib.util, "find_spec", lambda name: None)
    assert demo_song.find_demo_song() is None


def test_settings_reach_the_engine(app, monkeypatch):
    choose(app)
    asked = {}
    visit = app.session_state.visit
    monkeypatch.setattr(visit, "split", lambda *words: asked.update(words=words))
    app.segmented_control[0].set_value("An excerpt")
    run(app)
    excerpt = next(slider for slider in app.slider if "From" in slider.label)
    excerpt.set_value((1, 3))
    next(box for box in app.selectbox if box.label == "Stems").set_value("vocals")
    next(slider for slider in app.slider if "Overlap" in slider.label).set_value(0.5)
    next(slider for slider in app.slider if slider.label == "Passes").set_value(3)
    next(box for box in app.selectbox if box.label == "Precision").set_value("bf16")
    app.toggle[0].set_value(True)
    button(app, "Split").click()
    run(app)
    model, settings, start, seconds = asked["words"]
    assert model.endswith("small.safetensors")
    assert (start, seconds) == (1.0, 2.0)
    assert settings == {
        "overlap": 0.5,
        "shifts": 3,
        "precision": "bf16",
        "mixture_consistency": True,
        "two_stems": "vocals",
    }


def test_what_is_no_song_is_told_and_another_can_be_chosen(app):
    choose(app, "evil.wav", b"no song")
    assert "This is no audio file that can be read here" in words(app)
    choose(app, "good.wav")
    assert "good" in words(app)
    assert not app.error


def test_an_upload_is_forgotten_even_where_the_page_is_stopped(app, monkeypatch):
    forgotten = []
    monkeypatch.setattr(session, "forget_upload", forgotten.append)

    def stop(*words):
        raise StopException

    monkeypatch.setattr(app.session_state.visit, "receive", stop)
    choose(app)
    assert len(forgotten) == 1


def test_a_full_disk_is_told_once(app, monkeypatch):
    tried = []

    def fail(*words):
        tried.append(words)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(visit, "write", fail)
    choose(app)
    assert "The server has no room for a song just now." in words(app)
    run(app)
    assert len(tried) == 1
    assert app.file_uploader
    monkeypatch.undo()


def test_settings_that_would_take_for_ever_are_told(app):
    choose(app)
    next(slider for slider in app.slider if "Overlap" in slider.label).set_value(0.9)
    next(slider for slider in app.slider if slider.label == "Passes").set_value(5)
    button(app, "Split").click()
    run(app)
    assert "Overlap of segments 0.9 with 5 passes takes too long" in words(app)
    assert "Split" in labels(app)


def test_a_full_queue_asks_to_come_back(app, monkeypatch):
    choose(app)

    def busy(*words, **more):
        raise Busy("6 songs are being split or wait. Please try again in a minute.")

    monkeypatch.setattr(app.session_state.visit.queue, "submit", busy)
    button(app, "Split").click()
    run(app)
    assert "Please try again in a minute" in words(app)
    assert "Split" in labels(app)


def test_progress_and_cancel(app):
    choose(app, content=song_bytes(40.0, channels=1))
    button(app, "Split").click()
    run(app)
    assert "Cancel" in labels(app)
    visit = app.session_state.visit
    folder = visit.job.folder
    button(app, "Cancel").click()
    run(app)
    assert "Split" in labels(app)
    wait_for(lambda: not folder.exists())


def test_a_job_that_fails_says_why(app):
    choose(app)
    visit = app.session_state.visit
    visit.split("/no such file.ckpt", {})
    finish(app)
    assert "The model cannot be loaded now" in words(app)
    assert "no such file" not in words(app)
    assert "Split" in labels(app)


def test_models_that_are_missing_are_told(app, monkeypatch):
    choose(app)
    missing = Model("x", "Hybrid Demucs", "MIT", "much music", "missing", "it cannot be downloaded")
    catalogue = web.house.house().catalogue
    ready = catalogue.models("ready")
    found = {"ready": ready, "missing": [missing], "looking": []}
    monkeypatch.setattr(catalogue, "models", found.get)
    run(app)
    assert "Hybrid Demucs: it cannot be downloaded." in words(app)
    assert "Split" in labels(app)
    found["ready"] = []
    run(app)
    assert "There is no model here" in words(app)
    assert "Split" not in labels(app)
    found["looking"] = [dataclasses.replace(missing, state="looking")]
    run(app)
    assert "Being looked at, or downloaded: Hybrid Demucs" in words(app)


def test_each_page_has_a_visitor_of_its_own(app):
    other = run(AppTest.from_file(str(SCRIPTS / "web" / "page.py"), default_timeout=60))
    mine, theirs = app.session_state.visit, other.session_state.visit
    assert mine.token != theirs.token
    assert mine.folder != theirs.folder
    theirs.close()
