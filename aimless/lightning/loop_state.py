"""Where in its loops a run is when it is saved, so that Lightning goes on from just there.

Lightning can be saved at many points, between a batch and its validation, in a validation or at
an epoch's end, and infers on resuming from its counters which of them it was; from some it
skips a validation or counts an epoch twice. Here the point is stated (`Place`), and the counters
are written so that Lightning's inference comes to the right end.
"""

from __future__ import annotations

from typing import Any, Literal

import lightning.pytorch as pl

__all__ = ["Place", "restart_loops", "write_place"]

#: What has happened since the last optimizer step:
#: `stepped`: nothing; a validation that is due is still to come.
#: `validated`: the validation that was due.
#: `begun`: the next batch was begun, which is as good as not.
#: `finished`: the epoch ended.
Place = Literal["stepped", "validated", "begun", "finished"]

_ALL = ("ready", "started", "processed", "completed")


def write_place(loops: dict[str, Any], place: Place, batches: int, whole: bool) -> None:
    """Rewrite the counters of a checkpoint.

    Args:
        loops: `checkpoint["loops"]["fit_loop"]`, changed in place.
        place: where the run is.
        batches: of the epoch, up to the last optimizer step.
        whole: whether these are all batches of the epoch. A run that was stopped by its number
            of steps ends an epoch before its time; it goes on in its middle.
    """
    ended = place == "finished" and whole
    for counter in loops["epoch_progress"].values():
        started = counter["ready"]
        finished = started if ended else started - 1
        counter.update(started=started, processed=finished, completed=finished)
    progress = loops["epoch_loop.batch_progress"]
    begun = progress["current"]["ready"] - batches
    for counter in (progress["current"], progress["total"]):
        counter.update(dict.fromkeys(_ALL, counter["ready"] - begun))
    progress["is_last_batch"] = progress["is_last_batch"] and begun == 0
    optimizer = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    for tracker in optimizer.values():
        for counter in tracker.values():
            counter.update(dict.fromkeys(counter, counter["completed"]))
    _write_validation(loops["epoch_loop.val_loop.batch_progress"], pending=place == "stepped")


def _write_validation(progress: dict[str, Any], pending: bool) -> None:
    """Pending is written as broken off in its first batch: Lightning begins it anew, if due."""
    for counter in (progress["current"], progress["total"]):
        done = dict.fromkeys(_ALL, 0 if pending else counter["ready"])
        counter.update({**done, "ready": 1, "started": 1} if pending else done)
    progress["is_last_batch"] = False


def restart_loops(trainer: pl.Trainer, finished: bool) -> None:
    """Correct what Lightning has inferred, when training is about to go on.

    Args:
        trainer: that loaded counters which `write_place` wrote.
        finished: the run was saved after an epoch's end.
    """
    fit_loop = trainer.fit_loop
    # What "restarting" would leave out at the end of this epoch: schedules that follow a metric.
    fit_loop._restarting = False
    if finished:  # the next epoch is an epoch like any other
        fit_loop.epoch_loop.restarting = False
        fit_loop.epoch_loop.update_lr_schedulers("epoch", update_plateau_schedulers=True)
