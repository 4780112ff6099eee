"""Where data sets come from: the package itself, and torchvision."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regdrop_lite.course import fashion_mnist_mini
from regdrop_lite.course.extras import needs

__all__ = ["TORCHVISION", "Files", "read_mini", "read_torchvision"]

TORCHVISION = {
    "fashion-mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}
"""What torchvision calls the data sets that it reads."""

Part = tuple[Tensor, Tensor, Tensor]
"""Images, uint8, shape (N, C, H, W), their labels and their positions in the files."""


class Files(NamedTuple):
    """What the official files of a data set hold."""

    classes: tuple[str, ...]
    train: Part
    test: Part


def read_mini() -> Files:
    """Read the images that are embedded in the package."""
    arrays = fashion_mnist_mini.read_arrays()

    def part(kind: str) -> Part:
        images, labels, indices = (
            torch.from_numpy(arrays[f"{kind}_{name}"])
            for name in ("images", "labels", "indices")
        )
        return images[:, None], labels.long(), indices.long()  # one channel

    return Files(fashion_mnist_mini.CLASSES, part("train"), part("test"))


def read_torchvision(name: str, folder: Path, download: bool) -> Files:
    """Read a data set of torchvision; arguments as for ``load_data``."""
    with needs("data", "torchvision"):
        # Only those have it who ask for other data: it is in none of the groups.
        from torchvision import datasets  # pyright: ignore[reportMissingImports]
    kind = getattr(datasets, TORCHVISION[name])
    try:
        train, test = (kind(folder, train=t, download=download) for t in (True, False))
    except Exception as error:  # torchvision raises errors of many types
        if download:
            raise ConnectionError(
                f"the download of {name} into {folder} failed ({error}): check the "
                "connection and try again"
            ) from error
        raise FileNotFoundError(
            f"{name}: torchvision cannot read it from {folder} ({error}). With a "
            f"connection call load_data({name!r}, folder=..., download=True)"
        ) from error

    def part(found: Any) -> Part:
        images = torch.as_tensor(found.data)  # (N, H, W) or (N, H, W, C)
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
        labels = torch.as_tensor(found.targets)
        return images.contiguous(), labels, torch.arange(len(labels))

    return Files(tuple(train.classes), part(train), part(test))
