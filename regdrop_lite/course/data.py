"""Data sets behind one interface, with fixed training, validation and test splits.

The default, ``"fashion-mnist-mini"``, is embedded in the package: 6,000 photographs of
Fashion-MNIST (28 x 28 pixels, MIT licence, see ``fashion_mnist_mini/LICENSE``), so that
every chapter runs without a connection. Fashion-MNIST in full, CIFAR-10 and CIFAR-100
are those of ``torchvision.datasets``.

One rule cuts the validation split of every data set: *the last quarter of each class's
training images, in file order*. The official test images are never touched by it.

>>> data = load_data()
>>> data
Dataset('fashion-mnist-mini', 10 classes, 3000 train, 1000 validation, 2000 test)
>>> data.train
Split(3000 images, 1 x 28 x 28)
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from regdrop_lite.course.sources import TORCHVISION, Files, read_mini, read_torchvision

__all__ = [
    "DATASETS",
    "Dataset",
    "Split",
    "as_tensors",
    "load_data",
    "make_generator",
    "subset",
]

DATASETS = ("fashion-mnist-mini", *TORCHVISION)
"""The names that :func:`load_data` knows."""


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set: images, their labels, and where they come from.

    Attributes:
        images: uint8, shape (N, C, H, W), pixel values 0 to 255.
        labels: int64, shape (N,), class numbers from 0.
        indices: int64, shape (N,), positions in the pool the images were taken from:
            the official training files (train, validation) or test files (test).
        mean: per channel, the mean of the *training* split's pixels, on the scale
            0 to 1. All three splits and their subsets carry the same figures.
        std: per channel, the standard deviation, likewise.

    Raises:
        ValueError: if a shape, a dtype or a length does not fit.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != torch.uint8:
            raise ValueError(
                "images: expected uint8 of shape (N, C, H, W), "
                f"but got {_describe(self.images)}"
            )
        for name, values in (("labels", self.labels), ("indices", self.indices)):
            if values.shape != (len(self.images),) or values.dtype != torch.int64:
                raise ValueError(
                    f"{name}: expected int64 of shape ({len(self.images)},), "
                    f"but got {_describe(values)}"
                )
        channels = self.images.shape[1]
        if not len(self.mean) == len(self.std) == channels:
            raise ValueError(
                f"mean and std: expected one number for each of the {channels} "
                f"channels, but got {len(self.mean)} and {len(self.std)}"
            )
        if not all(s > 0 for s in self.std):
            raise ValueError(f"std: expected numbers above 0, but got {self.std}")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.images.shape[1:]))
        return f"Split({len(self)} images, {shape})"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three disjoint splits with the names of their classes.

    To train on fewer images, put another training split into a copy:

    Example:
        >>> from dataclasses import replace
        >>> data = load_data()
        >>> replace(data, train=subset(data.train, 500, seed=0))
        Dataset('fashion-mnist-mini', 10 classes, 500 train, 1000 validation, 2000 test)

    Attributes:
        name: the name given to :func:`load_data`.
        classes: the class names; label ``i`` means ``classes[i]``.
        train: the images to learn from.
        validation: the images to choose settings with.
        test: the images to report on, once everything is chosen.

    Raises:
        ValueError: if a label has no class name.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            labels = getattr(self, name).labels
            if len(labels) and not 0 <= labels.min() <= labels.max() < self.num_classes:
                raise ValueError(
                    f"{name}: expected labels from 0 to {self.num_classes - 1}, "
                    f"but got {int(labels.min())} to {int(labels.max())}"
                )

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}, {self.num_classes} classes, {len(self.train)} "
            f"train, {len(self.validation)} validation, {len(self.test)} test)"
        )


def load_data(
    name: str = "fashion-mnist-mini",
    *,
    folder: str | Path | None = None,
    download: bool = False,
) -> Dataset:
    """Load a data set by name.

    Args:
        name: one of :data:`DATASETS`. ``"fashion-mnist-mini"`` is embedded and takes
            neither of the other arguments.
        folder: for the others, where torchvision keeps its data sets (its ``root``).
        download: whether torchvision may fetch what is not there.

    Returns:
        The data set. Its validation split is the last quarter (rounded down) of each
        class's images in the official training files.

    Raises:
        ValueError: for an unknown name, or arguments that do not fit it.
        FileNotFoundError: if the folder lacks the data, or they are damaged.
        ImportError: if torchvision is needed and cannot be imported.
        ConnectionError: if the download fails.

    Example:
        >>> data = load_data()
        >>> data.validation.images.shape
        torch.Size([1000, 1, 28, 28])
        >>> data.validation.labels.bincount().tolist()
        [100, 100, 100, 100, 100, 100, 100, 100, 100, 100]
    """
    if name not in DATASETS:
        raise ValueError(
            f"name: expected one of {', '.join(DATASETS)}, but got {name!r}"
        )
    if name == "fashion-mnist-mini":
        if folder is not None or download:
            raise ValueError(
                f"{name} is embedded in the package: leave out folder and download"
            )
        return _assemble(name, read_mini())
    if folder is None:
        raise ValueError(
            f"{name} is not embedded: give folder=..., where torchvision has it, and "
            "download=True to have it fetched into it"
        )
    return _assemble(name, read_torchvision(name, Path(folder).expanduser(), download))


def subset(split: Split, n: int, *, seed: int) -> Split:
    """Draw ``n`` images of a split, the same number of each class, without repetition.

    Args:
        split: where to draw from.
        n: how many images, a multiple of the number of classes in the split.
        seed: the draw depends on it and on nothing else.

    Returns:
        A split with the drawn images in the order they have in ``split``. It keeps the
        ``mean`` and ``std`` of ``split``.

    Raises:
        ValueError: if ``n`` is no such multiple or a class has too few images.

    Example:
        >>> few = subset(load_data().train, 20, seed=0)
        >>> few.labels.bincount().tolist()
        [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    """
    classes, sizes = split.labels.unique(return_counts=True)
    if not len(classes):
        raise ValueError("split: expected at least one image, but got none")
    each, rest = divmod(n, len(classes))
    if each < 1 or rest:
        raise ValueError(
            f"n: expected a positive multiple of {len(classes)}, the number of "
            f"classes, but got {n}"
        )
    if each > sizes.min():
        raise ValueError(
            f"n: {n} takes {each} images of each class, the smallest has {sizes.min()}"
        )
    generator = make_generator(seed, "subset")
    drawn = []
    for label in classes:
        members = (split.labels == label).nonzero().flatten()
        drawn.append(members[torch.randperm(len(members), generator=generator)[:each]])
    return _take(split, torch.cat(drawn).sort().values)


def as_tensors(
    split: Split, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Normalise the images of a split: ``(pixel / 255 - mean) / std`` per channel.

    ``mean`` and ``std`` are those of the *training* split, whichever split is given:
    a net must see validation and test images through the same glasses.

    Args:
        split: the images and labels.
        dtype: a floating-point dtype. The arithmetic is float64's, rounded once.

    Returns:
        Images of shape (N, C, H, W) and labels of shape (N,).

    Raises:
        TypeError: if ``dtype`` is no floating-point dtype.

    Example:
        >>> images, labels = as_tensors(load_data().train)
        >>> images.dtype, abs(images.mean().item()) < 1e-12
        (torch.float64, True)
    """
    if not dtype.is_floating_point:
        raise TypeError(f"dtype: expected a floating-point dtype, but got {dtype}")
    shape = (-1, 1, 1)  # (C, 1, 1), broadcast over the images and over H and W
    mean = torch.tensor(split.mean, dtype=torch.float64).view(shape)
    std = torch.tensor(split.std, dtype=torch.float64).view(shape)
    images = torch.empty(split.images.shape, dtype=dtype)
    # In slices, so that a large split never exists in float64 as a whole.
    for out, raw in zip(images.split(1000), split.images.split(1000), strict=True):
        out.copy_((raw.double() / 255 - mean) / std)
    return images, split.labels


def make_generator(seed: int, purpose: str) -> torch.Generator:
    """Give a run's generator for one purpose, independent of those for the others.

    Its state comes from the SHA-256 hash of the text ``"seed/purpose"``. So one seed
    governs a run, yet drawing more numbers for one purpose (say, masks) shifts none of
    the numbers for another (say, the order of the images). The generator lives on the
    CPU: every machine and device then sees the same numbers.

    Args:
        seed: the seed of the run.
        purpose: what the numbers are for, such as ``"order"``.

    Example:
        >>> a, b = make_generator(0, "order"), make_generator(0, "order")
        >>> torch.randperm(100, generator=a).equal(torch.randperm(100, generator=b))
        True
        >>> c = make_generator(0, "masks")
        >>> torch.randperm(100, generator=a).equal(torch.randperm(100, generator=c))
        False
    """
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    # 63 bits: every one of these numbers is a valid seed.
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


# --- from official files to splits ----------------------------------------------------


def _assemble(name: str, files: Files) -> Dataset:
    """Cut the official files into the three splits."""
    for kind, (images, labels, _) in (("train", files.train), ("test", files.test)):
        if len(images) != len(labels) or not len(images):
            raise ValueError(
                f"{name}, {kind}: expected images, with one label for each, "
                f"but got {len(images)} images and {len(labels)} labels"
            )
    images, labels, _ = files.train
    is_validation = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        is_validation[members[len(members) - len(members) // 4 :]] = True
    statistics = _channel_statistics(images[~is_validation])
    pool = Split(*files.train, *statistics)
    return Dataset(
        name=name,
        classes=files.classes,
        train=_take(pool, (~is_validation).nonzero().flatten()),
        validation=_take(pool, is_validation.nonzero().flatten()),
        test=Split(*files.test, *statistics),
    )


def _take(split: Split, positions: Tensor) -> Split:
    parts = ("images", "labels", "indices")
    return replace(split, **{part: getattr(split, part)[positions] for part in parts})


def _channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, on the scale 0 to 1.

    The sums run over integers and are therefore exact, on every machine.
    """
    mean, std = [], []
    for channel in images.unbind(dim=1):
        counts = channel.flatten().bincount(minlength=256)
        powers = (torch.arange(256) ** k for k in range(3))
        n, first, second = (int((counts * power).sum()) for power in powers)
        mean.append(first / (255 * n))
        std.append((n * second - first**2) ** 0.5 / (255 * n))
    return tuple(mean), tuple(std)


def _describe(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}"
