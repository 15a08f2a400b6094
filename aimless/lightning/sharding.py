"""Training with weights, gradients and optimizer state spread over the processes: FSDP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.overrides.distributed import _sync_module_states
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.optim import Optimizer

from aimless.errors import ConfigError

__all__ = ["ShardedStrategy"]


class ShardedStrategy(DDPStrategy):
    """`--trainer.strategy fsdp2`: each process keeps its share of the network.

    Weights, gradients and the state of the optimizer are cut into as many parts as there are
    processes (torch's `fully_shard`; Rajbhandari et al., "ZeRO: memory optimizations toward
    training trillion parameter models", SC 2020). The weights are put together for the forward
    pass, and the gradients cut after the backward pass. What is computed, and so the result, is
    that of DDP. It works with CUDA and on CPUs.

    Checkpoints are whole, one file as of any other run: training goes on from them with any
    strategy and number of processes. Process 0 needs the memory for it, on the host. Validation,
    test and predict without training keep the whole network in each process.

    Args:
        as those of Lightning's `DDPStrategy`; what is for the DDP wrapper has no effect.

    Raises:
        ConfigError: when training begins, with averaged weights, or with trainable weights
            outside of the network.
    """

    strategy_name = "fsdp2"

    def setup(self, trainer: pl.Trainer) -> None:
        """Refuse what cannot be sharded, then set up."""
        if any(isinstance(one, WeightAveraging) for one in trainer.callbacks):  # type: ignore[attr-defined]
            raise ConfigError(
                "trainer.strategy: fsdp2 cannot average weights; use ddp, or no callback "
                "EMAWeightAveraging"
            )
        super().setup(trainer)

    def _setup_model(self, model: nn.Module) -> nn.Module:  # type: ignore[override]
        """Shard the network in place; the separator around it stays as it is."""
        network = model.get_submodule("model")
        inside = {id(weight) for weight in network.parameters()}
        for name, weight in model.named_parameters():
            if weight.requires_grad and id(weight) not in inside:
                raise ConfigError(
                    f"trainer.strategy: fsdp2 trains the network only, but {name} is to be "
                    "trained too; use ddp"
                )
        _sync_module_states(model)  # all begin with the weights of process 0
        self._whole: dict[nn.Parameter, str] = {
            weight: name for name, weight in model.named_parameters()
        }
        fully_shard(network, mesh=init_device_mesh(self.root_device.type, (self.world_size,)))
        return model

    def setup_optimizers(self, trainer: pl.Trainer) -> None:
        """Let the optimizers, which a command line makes at once, have the shards."""
        super().setup_optimizers(trainer)
        assert self.lightning_module is not None
        shards = dict(self.lightning_module.named_parameters())
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["params"] = [
                    shards[self._whole[weight]] if weight in self._whole else weight
                    for weight in group["params"]
                ]
        self._whole = {}

    def _register_ddp_hooks(self) -> None:
        """There is no DDP wrapper to have any."""

    def on_validation_start(self) -> None:
        """Put the weights together, also for a process that has no item to validate on."""
        assert self.lightning_module is not None
        network = self.lightning_module.get_submodule("model")
        if isinstance(network, FSDPModule):
            network.unshard()

    # -- checkpoints: all processes call these together; process 0 gets the whole ----------

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole weights on the host; nothing but in process 0."""
        return get_model_state_dict(self._sharded(), options=_whole())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state, as an optimizer of one process writes it; nothing but in process 0."""
        optimizer = _bare(optimizer)
        state: Any = get_optimizer_state_dict(self._sharded(), optimizer, options=_whole())
        if not state:
            return state
        names = [name for group in state["param_groups"] for name in group["params"]]
        return _rename(state, {name: number for number, name in enumerate(names)})

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's share of what `optimizer_state` wrote, or any other run."""
        module = self._sharded()
        names = {id(weight): name for name, weight in module.named_parameters()}
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"]):
            optimizer = _bare(optimizer)
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            named = {number: names[id(weight)] for number, weight in enumerate(weights)}
            set_optimizer_state_dict(module, optimizer, _rename(saved, named), options=_whole())

    def _sharded(self) -> pl.LightningModule:
        """The separator, its weights cut: a validation leaves them together."""
        assert self.lightning_module is not None
        network = self.lightning_module.get_submodule("model")
        if isinstance(network, FSDPModule):
            network.reshard()
        return self.lightning_module


def _whole() -> StateDictOptions:
    return StateDictOptions(full_state_dict=True, cpu_offload=True)


def _bare(optimizer: Optimizer) -> Optimizer:
    return optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer


def _rename(state: Mapping[str, Any], names: Mapping[Any, Any]) -> dict[str, Any]:
    """An optimizer's state with its weights called otherwise."""
    groups = [
        {**group, "params": [names[name] for name in group["params"]]}
        for group in state["param_groups"]
    ]
    values = {names[name]: value for name, value in state["state"].items()}
    return {"state": values, "param_groups": groups}


StrategyRegistry.register(
    ShardedStrategy.strategy_name,
    ShardedStrategy,
    description="weights, gradients and optimizer state spread over the processes (FSDP 2)",
)
