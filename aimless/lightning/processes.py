"""Several processes that end together: soon, and with the error of the one that failed first."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import distributed
from torch.distributed.distributed_c10d import _set_pg_timeout

from aimless.errors import AimlessError, ConfigError
from aimless.lightning.launcher import Failure, ScriptLauncher
from aimless.lightning.messages import unwrap
from aimless.lightning.peers import Peers

__all__ = ["Processes", "RankError", "is_lost"]

_LOST = re.compile(
    r"gloo|NCCL|pair closure|Connection (closed|reset) by peer|Broken pipe|Timed out"
)
_SILENT = re.compile(r"[Tt]im(ed )?e?out")
_LAST = 30.0  # seconds for the others to leave after this process has failed
_JOINING = 600.0  # seconds to join, which begins with imports from a disk that may be slow


class RankError(AimlessError):
    """What ended a process of several.

    Args:
        failure: of this process or another.
        more: what comes of it.
    """

    def __init__(self, failure: Failure, more: str = "") -> None:
        super().__init__(f"rank {failure.rank}: {failure.message}{more}")
        self.exit_code = failure.status


class Processes(pl.Callback):
    """Sees to it that the processes of a run end together.

    When one fails, the others learn of it, save the last step if it could not, and leave within
    some seconds with its error and exit status, whoever started them: Lightning, `torchrun` or
    SLURM. See `Peers`.

    Args:
        timeout: seconds that a process waits in a collective operation before it takes the
            others for dead. It must be longer than anything that one of them does alone while
            the others wait, such as writing a checkpoint. A strategy that is configured with a
            timeout keeps its own.

    Raises:
        ConfigError: a timeout that is not above 0.
    """

    def __init__(self, timeout: float = 120.0) -> None:
        if not timeout > 0:
            raise ConfigError(f"processes.timeout: {timeout}; must be above 0")
        self.timeout = timeout
        self._peers: Peers | None = None

    @contextlib.contextmanager
    def together(self, trainer: pl.Trainer) -> Iterator[None]:
        """A context in which all processes run a trainer, and that all leave.

        Raises:
            RankError: this process failed with an error of one line, or another one failed.
        """
        self._prepare(trainer)
        try:
            yield
        except RankError:
            self._end(trainer, well=False)
            raise
        except BaseException as error:
            failure = Failure(trainer.global_rank, *_told(error))
            self._announce(failure, error)
            self._end(trainer, well=False)
            if self._peers is not None and isinstance(error, AimlessError):
                raise RankError(failure) from error
            raise
        else:
            self._end(trainer, well=True)

    def lost(self, trainer: pl.Trainer, error: BaseException, stopped: bool) -> RankError | None:
        """What to end with after an error that another process may be the cause of.

        Args:
            trainer: of this process.
            error: that was raised here.
            stopped: whether this process was asked to end; perhaps the others have ended, too.

        Returns:
            The error of the process that failed; None if it is an error of this one.
        """
        if self._peers is None or not is_lost(error):
            return None
        silent = bool(_SILENT.search(str(error)))
        for _ in range(1 if silent else 10):
            time.sleep(0.2)  # a process that ends lets go of its connections first
            if failure := self._peers.failure():
                break
        rank = trainer.global_rank
        if failure is not None:
            return RankError(failure, f"; rank {rank} ends with it")
        if stopped:
            return None
        what = "another process is gone"
        if silent:
            what = (
                "another process gave no answer; if it was only slow, raise processes.timeout "
                f"({self.timeout:g} s)"
            )
        failure = Failure(rank, 1, f"{what}: {' '.join(str(error).split())}")
        self._peers.announce(failure)
        return RankError(failure)

    def may_save(self, trainer: pl.Trainer) -> bool:
        """Whether this process is the one that saves the last step, when it fails with others."""
        if self._peers is None:
            return True
        if trainer.global_rank:
            time.sleep(1)  # process 0 goes first
        return self._peers.first("save")

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Have the time that saving takes."""
        if self._peers is not None:
            self._peers.leaving.set()

    def __getstate__(self) -> dict[str, Any]:
        """The setting alone, which is all that another process needs."""
        return {**vars(self), "_peers": None}

    def _prepare(self, trainer: pl.Trainer) -> None:
        # Lightning's own broadcast from wherever a signal comes, in the middle of an operation too;
        # those of `stoppable` and of `SaveRun` do not.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        strategy: Any = trainer.strategy
        own = getattr(strategy, "_timeout", None) != default_pg_timeout
        if not own:
            strategy._timeout = timedelta(seconds=self.timeout)
        if trainer.world_size == 1:
            return
        launcher = strategy.launcher
        environment = getattr(strategy, "cluster_environment", None)
        if type(launcher) is _SubprocessScriptLauncher:
            about = launcher.cluster_environment, launcher.num_processes, launcher.num_nodes
            strategy._launcher = launcher = ScriptLauncher(*about)
        self._peers = Peers(
            trainer.global_rank,
            trainer.world_size,
            self.timeout,
            launcher if isinstance(launcher, ScriptLauncher) else None,
            child=isinstance(environment, LightningEnvironment) and trainer.local_rank > 0,
        )
        self._peers.begin()
        if launcher is None or isinstance(launcher, ScriptLauncher):  # others pickle the strategy
            if not own:
                strategy._timeout = timedelta(seconds=max(self.timeout, _JOINING))
            _call_after(strategy, "setup_environment", lambda: self._begin(strategy, own))

    def _begin(self, strategy: Any, own: bool) -> None:
        """All have joined: get to know the others, and wait for them no longer than asked."""
        assert self._peers is not None
        self._peers.meet()
        if not own:
            strategy._timeout = timedelta(seconds=self.timeout)
            _set_pg_timeout(strategy._timeout)

    def _announce(self, failure: Failure, error: BaseException) -> None:
        if self._peers is not None:
            self._peers.announce(failure)
            if "TORCHELASTIC_ERROR_FILE" in os.environ:  # torchrun quotes it
                from torch.distributed.elastic.multiprocessing.errors import get_error_handler

                get_error_handler().record_exception(error)

    def _end(self, trainer: pl.Trainer, well: bool) -> None:
        if self._peers is None:
            return
        failure = self._peers.end(well)
        launcher = trainer.strategy.launcher
        if isinstance(launcher, ScriptLauncher):
            late = launcher.wait(self.timeout if well and failure is None else _LAST)
            failure = failure or (late[0] if late else None)
        if well and failure is not None:
            raise RankError(failure)


def _call_after(owner: Any, method: str, then: Callable[[], None]) -> None:
    """Have a method of an object do something more; no hook comes before the data are set up."""
    first = getattr(owner, method)

    def both() -> None:
        first()
        then()

    setattr(owner, method, both)


def is_lost(error: BaseException) -> bool:
    """Whether a collective operation failed, because of another process or the network."""
    if isinstance(error, distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and bool(_LOST.search(str(error)))


def _told(error: BaseException) -> tuple[int, str]:
    """Exit status and line of an error."""
    if isinstance(error, AimlessError):
        return error.exit_code, unwrap(error)
    if isinstance(error, SystemExit):
        return int(error.code or 0), getattr(error, "message", "") or "was asked to end"
    if isinstance(error, KeyboardInterrupt):
        return 130, "was interrupted"
    lines = str(error).strip().splitlines() or [""]
    return (
        1,
        f"{type(error).__name__}: {lines[-1] if 'Original Traceback' in str(error) else lines[0]}",
    )
