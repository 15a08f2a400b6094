"""Batch norm over processes on CPUs, against torch's on all items in one."""

from __future__ import annotations

import multiprocessing

import pytest
import torch
from torch import distributed, nn

from aimless.lightning.sync_batch_norm import HostSyncBatchNorm, SyncBatchNorm, layer_sync

pytestmark = pytest.mark.timeout(120)

ITEMS = (1, 3)  # of the two processes


def cases():
    """Layers with their batches: usual ones, and each with something else about it."""
    yield nn.BatchNorm1d(5), (sum(ITEMS), 5, 7)
    yield nn.BatchNorm1d(5, momentum=None), (sum(ITEMS), 5)
    yield nn.BatchNorm2d(3, affine=False), (sum(ITEMS), 3, 4, 2)
    yield nn.BatchNorm1d(4, track_running_stats=False, eps=0.1), (sum(ITEMS), 4, 9)


def compute(norm, batches, share):
    """What a process, whose items are a share, gets of two batches."""
    for batch in batches:
        mine = batch[share].clone().requires_grad_()
        output = norm(mine)
        (output * torch.linspace(-1, 1, batch.numel()).view_as(batch)[share]).sum().backward()
    gradients = [weight.grad for weight in norm.parameters()]
    return {
        "output": output.detach(),
        "input": mine.grad,
        "weights": gradients,
        **norm.state_dict(),
    }


def prepare():
    generator = torch.Generator().manual_seed(0)
    for norm, shape in cases():
        batches = [10 + torch.randn(shape, generator=generator).double() for _ in range(2)]
        yield norm.double(), batches


def be_process(rank, store, path):
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=len(ITEMS))
    share = slice(0, ITEMS[0]) if rank == 0 else slice(ITEMS[0], None)
    results = []
    for norm, batches in prepare():
        norm.__class__ = HostSyncBatchNorm
        results.append(compute(norm, batches, share))
        norm.eval()
        results[-1]["evaluated"] = norm(batches[0]).detach()
    norm = HostSyncBatchNorm(2).bfloat16()
    results.append(norm(torch.ones(3, 2, 4, dtype=torch.bfloat16)).detach())
    torch.save(results, f"{path}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """What both processes compute."""
    folder = tmp_path_factory.mktemp("norm")
    context = multiprocessing.get_context("fork")
    started = [
        context.Process(target=be_process, args=(rank, folder / "store", folder))
        for rank in range(len(ITEMS))
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(len(ITEMS))]


@pytest.mark.parametrize("case", range(len(list(cases()))))
def test_outputs_gradients_and_statistics_are_those_of_all_items_in_one_process(processes, case):
    norm, batches = list(prepare())[case]
    whole = compute(norm, batches, slice(None))
    parts = [results[case] for results in processes]
    close = {"rtol": 1e-11, "atol": 1e-11}
    for key in ("output", "input"):  # of the items of each
        torch.testing.assert_close(torch.cat([part[key] for part in parts]), whole[key], **close)
    for number, gradient in enumerate(whole["weights"]):
        total = sum(part["weights"][number] for part in parts)  # DDP averages them
        torch.testing.assert_close(total, gradient, **close)
    for name, value in norm.state_dict().items():
        for part in parts:
            torch.testing.assert_close(part[name], value, **close)
    norm.eval()
    for part in parts:
        torch.testing.assert_close(part["evaluated"], norm(batches[0]), **close)


def test_half_precision_comes_out_as_it_went_in(processes):
    for results in processes:
        assert results[-1].dtype == torch.bfloat16
        assert torch.equal(results[-1], torch.zeros(3, 2, 4, dtype=torch.bfloat16))


def test_alone_it_is_batch_norm():
    x = torch.randn(4, 3, 5)
    assert torch.equal(HostSyncBatchNorm(3)(x), nn.BatchNorm1d(3)(x))


def test_the_plugin_is_there_if_it_is_asked_for():
    assert layer_sync(None) == layer_sync(False) == []
    assert [type(plugin) for plugin in layer_sync(True)] == [SyncBatchNorm]
