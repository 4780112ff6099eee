"""A small Vision Transformer, trained from start to end with DropPath.

Run it by `python train.py`, or by `torchrun --nproc_per_node=2 train.py`. Called again
with the same options, it goes on from its checkpoint. Replace what is marked `# yours`.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from regdrop_lite import LinearRamp, drop_path_rates
from regdrop_lite.course.data import as_tensors, load_data
from regdrop_lite.tools import audit, replace_layers

RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
DTYPE = torch.bfloat16  # float16 needs the scaler below, bfloat16 does not
LR = 3e-3  # yours: this is from scratch; to fine-tune a ViT-B, begin with 5e-5
CUDA = torch.cuda.is_available()
DEVICE = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if CUDA else "cpu")


class Block(nn.Module):  # yours
    """A Transformer block; like timm's, it has places for DropPath."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(dim, 64), nn.GELU(), nn.Linear(64, dim))
        self.drop_path1, self.drop_path2 = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.drop_path1(self.attention(y, y, y, need_weights=False)[0])
        return x + self.drop_path2(self.mlp(self.norm2(x)))


class ViT(nn.Module):  # yours
    """Sixteen patches of 7 x 7 pixels, four blocks, a mean, a classifier."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, dim, 7, stride=7)
        self.place = nn.Parameter(torch.zeros(1, 16, dim))
        self.blocks = nn.Sequential(*(Block(dim) for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.norm(self.blocks(x)).mean(1))


def batch_at(step: int, n: int, size: int = 60) -> Tensor:
    """Which images: a function of the step, so that no checkpoint needs the order."""
    epoch, k = divmod(step, n // size)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(epoch))
    return order[k * size : (k + 1) * size][RANK::WORLD]


def save(file: Path, step: int, parts: dict[str, Any]) -> None:
    """One file for all ranks, written by the first, and never half a file."""
    own = [torch.get_rng_state()] + ([torch.cuda.get_rng_state()] if CUDA else [])
    random = [own] * WORLD
    if WORLD > 1:
        dist.all_gather_object(random, own)
    if RANK == 0:
        state = {name: part.state_dict() for name, part in parts.items()}
        torch.save({"step": step, "random": random, **state}, file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)


def load(file: Path, parts: dict[str, Any]) -> int:
    """Bring everything back; returns the number of steps done."""
    state = torch.load(file, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["random"][RANK][0])
    if CUDA:
        torch.cuda.set_rng_state(state["random"][RANK][1])
    return state["step"]


def main() -> None:
    """Train, and evaluate the moving average of the weights."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--until", type=int, help="stop early, as a time limit does")
    parser.add_argument("--file", type=Path, default=Path("checkpoint.pt"))
    args = parser.parse_args()
    if CUDA:
        torch.cuda.set_device(DEVICE)
    if WORLD > 1:
        dist.init_process_group("nccl" if CUDA else "gloo")
    data = load_data()  # yours, and the next two lines
    images, labels = (part.to(DEVICE) for part in as_tensors(data.train, torch.float32))
    unseen = as_tensors(data.validation, torch.float32)
    torch.manual_seed(0)  # to repeat a run; DDP copies the weights of rank 0
    # Fine-tuning? Replace the next two lines, LR, data, evaluation; leave out the ramp:
    #   net = timm.create_model("vit_base_patch16_224.mae", pretrained=True,
    #       num_classes=10, drop_path_rate=0.1).to(DEVICE); replace_layers(net)
    net = ViT().to(DEVICE)  # yours
    replace_layers(net, drop_path_rates(0.2, 4), fill=True)  # yours: one rate a block
    torch.manual_seed(1 + RANK)  # other masks on every rank
    for text in audit(net, images[:8], draws=20).warnings:  # it compares the ranks
        print("warning:", text)
    ramp = LinearRamp(net, 0.0, "present", max(args.steps // 4, 1))  # yours
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=0.05)  # yours
    curve = OneCycleLR(optimizer, LR, total_steps=args.steps)
    scaler = torch.amp.GradScaler(DEVICE.type, enabled=DTYPE is torch.float16)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.98))  # yours
    # All weights get gradients (with drop_residual by its always_call=True).
    model = DistributedDataParallel(net) if WORLD > 1 else net
    parts = {"net": net, "average": average, "optimizer": optimizer, "scaler": scaler}
    parts |= {"curve": curve, "ramp": ramp}
    start = load(args.file, parts) if args.file.exists() else 0
    stop = args.until or args.steps
    for step in range(start, stop):
        chosen = batch_at(step, len(images))
        with torch.autocast(DEVICE.type, dtype=DTYPE):
            loss = F.cross_entropy(model.train()(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        curve.step()
        ramp.step()
        average.update_parameters(net)
        if (step + 1) % 40 == 0 or step + 1 == stop:
            save(args.file, step + 1, parts)
    images, labels = (part[RANK::WORLD].to(DEVICE) for part in unseen)  # yours
    with torch.no_grad():
        right = (average.eval()(images).argmax(1) == labels).double().mean()
    if WORLD > 1:
        dist.all_reduce(right)
        dist.destroy_process_group()
    if RANK == 0:
        print(f"steps {start} to {stop}, accuracy {right.item() / WORLD:.3f}")


if __name__ == "__main__":
    main()
