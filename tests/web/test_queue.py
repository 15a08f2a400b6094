"""The queue, whatever its process does; the process here is a stand-in that answers at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time

import pytest
import web.house
from web import child, jobs
from web.jobs import Queue

from tests.web.running import wait_for

ANSWER = """
import json, sys, time
from pathlib import Path
for line in sys.stdin:
    folder = Path(json.loads(line)["folder"])
    {answer}
"""
DONE = """print('{"state": "done", "result": {}}', flush=True)"""


def says(line: str) -> str:
    return f"print({line!r}, flush=True)"


@pytest.fixture
def worker(monkeypatch):
    """Chooses what the process does with a job, from its next start on."""

    def choose(answer: str) -> None:
        command = [sys.executable, "-c", ANSWER.format(answer=answer)]
        monkeypatch.setattr(jobs, "python", lambda module: command)

    choose(DONE)
    return choose


@pytest.fixture
def queue(worker, monkeypatch):
    """Makes a queue, once the process is chosen."""
    queues = []

    def make() -> Queue:
        queues.append(Queue("cpu", 5))
        return queues[-1]

    yield make
    monkeypatch.undo()
    for queue in queues:
        queue.close()


def finished(job) -> str:
    wait_for(lambda: job.finished)
    return job.state


LINES = ("onednn_verbose,info", "3", "[]", '"ready"', "{}", '{"state": "odd"}', '{"state": []}')


@pytest.mark.parametrize("line", [*LINES, '{"state": "done"}', '{"state": "separating"}'])
def test_a_line_that_is_no_message_fails_its_job_alone(worker, queue, tmp_path, line):
    worker(f"{DONE} if (folder.parent / 'well').exists() else {says(line)}")
    rooms = queue()
    job = rooms.submit(tmp_path)
    assert finished(job) == "failed"
    assert "Try again" in job.error
    assert not job.folder.exists()
    (tmp_path / "well").touch()
    assert finished(rooms.submit(tmp_path)) == "done"


def test_a_process_that_cannot_be_started_is_tried_again(worker, queue, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_RETRY", 0.05)
    monkeypatch.setattr(jobs, "python", lambda module: ["/no/such/program"])
    rooms = queue()
    job = rooms.submit(tmp_path)
    time.sleep(0.2)
    assert job.state == "waiting"
    worker(DONE)
    assert finished(job) == "done"


def test_a_process_that_cannot_be_started_again_fails_the_job(worker, queue, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_RETRY", 0.05)
    rooms = queue()
    wait_for(lambda: rooms.process_id)
    monkeypatch.setattr(jobs, "python", lambda module: ["/no/such/program"])
    rooms._process.kill()
    rooms._process.wait()
    job = rooms.submit(tmp_path)
    assert finished(job) == "failed"
    worker(DONE)
    assert finished(rooms.submit(tmp_path)) == "done"


def test_a_queue_without_a_process_is_closed_at_once(queue, monkeypatch):
    monkeypatch.setattr(jobs, "_RETRY", 3600.0)
    monkeypatch.setattr(jobs, "python", lambda module: ["/no/such/program"])
    rooms = queue()
    closing = threading.Thread(target=rooms.close)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()


def test_a_process_that_says_nothing_is_ended(worker, queue, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_LONGEST_SILENCE", 0.3)
    worker("time.sleep(3600)")
    job = queue().submit(tmp_path)
    assert finished(job) == "failed"
    assert "stood still" in job.error


def test_a_job_that_is_done_after_it_was_stopped_leaves_nothing(worker, queue, tmp_path):
    worker(
        says('{"state": "loading"}')
        + "\n    while not (folder / 'stop').exists(): time.sleep(0.01)\n    "
        + DONE
    )
    rooms = queue()
    job = rooms.submit(tmp_path)
    wait_for(lambda: job.state == "loading")
    rooms.stop(job)
    assert finished(job) == "stopped"
    assert not job.folder.exists()


def test_a_job_whose_folder_is_gone_can_be_stopped(worker, queue, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_PATIENCE", 0.1)
    worker("time.sleep(3600)")
    rooms = queue()
    job = rooms.submit(tmp_path)
    wait_for(lambda: job.state == "loading")
    shutil.rmtree(job.folder)
    rooms.stop(job)
    assert finished(job) == "stopped"


def test_a_visitor_whose_leaving_fails_keeps_nobody_in(house, monkeypatch, capsys):
    there = [True]
    first, second = (house.welcome(lambda: there[0]) for _ in range(2))

    def fail():
        raise OSError("No space left on device")

    monkeypatch.setattr(first, "stop", fail)
    there[0] = False
    monkeypatch.setattr(web.house, "_GRACE", 0.0)
    wait_for(lambda: not second.folder.exists())
    assert not first.folder.exists()
    assert house._thread.is_alive()
    assert "No space left" in capsys.readouterr().err


def test_only_messages_reach_the_server():
    """Whatever libraries print while the worker works."""
    script = """
import os, sys
from web import separate
def run(self, job):
    os.write(1, b"noise of C\\n")
    os.system("echo noise of a process")
    print("noise of Python")
    return {"fine": True}
separate.Worker.run = run
sys.argv = ["separate", "cpu"]
separate.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        input='{"folder": "x"}\n',
        env=child.ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert messages == [{"state": "ready"}, {"state": "done", "result": {"fine": True}}]
    assert done.stderr.count("noise") == 3
