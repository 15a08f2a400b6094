"""Warm-up and cosine."""

from __future__ import annotations

import math
import pickle
from types import SimpleNamespace

import pytest
import torch

from aimless.errors import ConfigError
from aimless.lightning.cli import SeparationCLI
from aimless.schedules import WarmupCosine


def optimizer(*rates):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))], "lr": rate} for rate in rates]
    return torch.optim.Adam(groups)


def rates(schedule, steps):
    """Learning rates of the first group before each of the steps."""
    seen = []
    for _ in range(steps):
        seen.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return seen


def test_against_torch_s_own_schedules_in_sequence():
    """Linear, then cosine annealing; torch's recursive forms agree to rounding."""
    warmup, total, peak, ratio = 10, 50, 0.3, 0.1
    ours = rates(WarmupCosine(optimizer(peak), warmup, total, ratio), total + 1)
    theirs = optimizer(peak)
    linear = torch.optim.lr_scheduler.LambdaLR(theirs, lambda step: step / warmup)
    expected = rates(linear, warmup)
    fresh = optimizer(peak)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(fresh, total - warmup, peak * ratio)
    expected += rates(cosine, total - warmup + 1)
    assert ours == pytest.approx(expected, rel=1e-6)


def test_its_corners():
    seen = rates(WarmupCosine(optimizer(2.0), 4, 14, 0.25), 30)
    assert seen[:5] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert seen[9] == pytest.approx(2 * (1 + 0.25) / 2)  # half of the way down
    assert seen[14:] == [0.5] * 16
    assert sorted(seen[4:15], reverse=True) == seen[4:15]


def test_without_warm_up_it_begins_at_the_peak():
    assert rates(WarmupCosine(optimizer(2.0), 0, 10), 1) == [2.0]


def test_each_group_has_its_own_peak():
    schedule = WarmupCosine(optimizer(1.0, 0.1), 2, 10)
    rates(schedule, 5)
    first, second = schedule.get_last_lr()
    assert first == pytest.approx(10 * second)
    assert first == pytest.approx((1 + math.cos(3 / 8 * math.pi)) / 2)


@pytest.mark.parametrize("stop", [0, 3, 7, 25])
def test_it_goes_on_where_it_stopped(stop):
    whole = rates(WarmupCosine(optimizer(0.5), 5, 20, 0.1), 40)
    first = WarmupCosine(optimizer(0.5), 5, 20, 0.1)
    rates(first, stop)
    state = pickle.loads(pickle.dumps((first.optimizer.state_dict(), first.state_dict())))
    second = WarmupCosine(optimizer(0.5), 5, 20, 0.1)
    second.optimizer.load_state_dict(state[0])
    second.load_state_dict(state[1])
    assert rates(second, 40 - stop) == whole[stop:]


def test_a_run_can_be_extended():
    """The lengths are the config's, not the checkpoint's."""
    first = WarmupCosine(optimizer(0.5), 5, 20)
    rates(first, 15)
    longer = WarmupCosine(optimizer(0.5), 5, 100)
    longer.load_state_dict(first.state_dict())
    longer.optimizer.load_state_dict(first.optimizer.state_dict())
    whole = rates(WarmupCosine(optimizer(0.5), 5, 100), 60)
    assert rates(longer, 40)[1:] == whole[16:55]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((-1, 10), "warmup_steps: -1; must be 0 or more"),
        ((10, 10), "total_steps: 10; must be above warmup_steps, 10"),
        ((0, 0), "total_steps: 0; must be above warmup_steps, 0"),
        ((1, 10, 1.5), "final_ratio: 1.5; must be from 0 to 1"),
        ((1, 10, -0.1), "final_ratio: -0.1; must be from 0 to 1"),
        ((1, 10, math.nan), "final_ratio: nan; must be from 0 to 1"),
    ],
)
def test_bad_arguments_are_named(arguments, said):
    with pytest.raises(ConfigError) as caught:
        WarmupCosine(optimizer(1.0), *arguments)
    assert str(caught.value) == f"lr_scheduler.init_args.{said}"


def test_the_command_line_steps_it_per_step_and_others_as_before():
    adam = optimizer(1.0)
    configure = SeparationCLI.configure_optimizers
    ours = WarmupCosine(adam, 1, 10)
    assert configure(SimpleNamespace(), adam, ours) == {
        "optimizer": adam,
        "lr_scheduler": {"scheduler": ours, "interval": "step"},
    }
    epochs = torch.optim.lr_scheduler.StepLR(adam, 3)
    assert configure(SimpleNamespace(), adam, epochs) == ([adam], [epochs])
    assert configure(SimpleNamespace(), adam) is adam
