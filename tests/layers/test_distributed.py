"""DTensor, fully_shard and DDP, with two processes on this machine."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from regdrop_lite import (
    DropBlock2d,
    DropPath,
    SpatialDropout2d,
    drop_path,
    drop_residual,
)

OLDEST = torch.__version__.startswith("2.4.")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available(), reason="PyTorch without distributed"),
]


class Block(nn.Module):
    """A residual block of which one sample is kept or none."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.branch, self.p = nn.Linear(6, 6), p

    def forward(self, x: Tensor) -> Tensor:
        return drop_residual(x, self.branch, self.p, always_call=True)


def no_rank_waits(rank: int) -> None:
    """Each rank has one sample: at p = .5 most steps see a rank that keeps none."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (2,))
    torch.manual_seed(0)
    net = nn.Sequential(Block(), Block(1.0))
    for block in net:
        fully_shard(block.branch, mesh=mesh)
    fully_shard(net, mesh=mesh)
    parallel = DistributedDataParallel(nn.Sequential(Block(), Block()))
    for model in (net, parallel):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        torch.manual_seed(100 + rank)
        kept = 0
        x = torch.ones(1, 6)
        for _ in range(12):
            y = model(x)
            kept += not torch.equal(y, x)
            y.square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert 0 < kept < 12


def shards_draw_their_own(rank: int) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import (
        DTensor,
        Partial,
        Replicate,
        Shard,
        distribute_tensor,
    )

    mesh = init_device_mesh("cpu", (2,))
    x = torch.full((8, 6, 8, 9), 2.0)
    layers = {
        SpatialDropout2d(0.5): (0, 1),
        SpatialDropout2d(0.5, channel_dim=-1): (0, 3),
        DropPath(0.5): (0,),
        DropPath(0.5, batch_dim=1): (1,),
        DropPath(0.5, mode="batch"): (),
        DropBlock2d(0.3, 3): (0, 1),
        DropBlock2d(0.3, 3, shared=True): (0,),
        DropBlock2d(0.3, 3, normalize="batch"): (),
    }
    for layer, free in layers.items():
        for dim in range(4):
            leaf = distribute_tensor(x, mesh, [Shard(dim)]).requires_grad_()
            if dim not in free:
                with pytest.raises(
                    ValueError, match=r"independent masks.*redistribute"
                ):
                    layer(leaf)
                continue
            torch.manual_seed(rank)
            y = layer(leaf)
            assert isinstance(y, DTensor)
            assert y.placements == leaf.placements
            assert y.shape == x.shape
            torch.manual_seed(rank)
            assert torch.equal(y.to_local(), layer(leaf.to_local()))
            y.to_local().sum().backward()
            torch.testing.assert_close(leaf.grad.to_local() * 2, y.to_local())
            halves = y.full_tensor().chunk(2, dim)
            assert not torch.equal(*halves)
            assert layer.eval()(leaf) is leaf
            layer.train()
        torch.manual_seed(0)
        y = layer(distribute_tensor(x, mesh, [Replicate()]))
        torch.manual_seed(0)
        assert torch.equal(y.to_local(), layer(x))
        partial = DTensor.from_local(x, mesh, [Partial()])
        with pytest.raises(ValueError, match="redistribute"):
            layer(partial)
    sharded = distribute_tensor(x, mesh, [Shard(0)])
    with pytest.raises(TypeError, match=r"subset.*takes no DTensor.*mode='row'"):
        drop_residual(sharded, torch.sin, 0.5)
    y = drop_residual(sharded, torch.sin, 0.5, mode="row")
    assert y.placements == sharded.placements


def worker(rank: int, folder: str, name: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    limit = timedelta(seconds=60)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", store, limit, world_size=2, rank=rank)
    globals()[name](rank)
    dist.barrier()
    os._exit(0)  # at once: taking gloo down may hang


@pytest.mark.skipif(OLDEST, reason="fully_shard is public since PyTorch 2.6")
@pytest.mark.parametrize("name", ["no_rank_waits", "shards_draw_their_own"])
def test_two_processes(name, tmp_path) -> None:
    mp.spawn(worker, args=(Path(tmp_path).as_posix(), name), nprocs=2)


class Masks(Dataset):
    """A mask drawn in the process of a worker."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Tensor:
        return drop_path(torch.ones(64, 1), 0.5)


def test_the_workers_of_a_data_loader_draw_their_own_masks() -> None:
    """From the global generator, which PyTorch seeds anew in each worker."""
    torch.manual_seed(1)
    first, second = DataLoader(Masks(), batch_size=None, num_workers=2)
    assert not torch.equal(first, second)
