"""Data sets behind one interface, with fixed training, validation and test splits.

The default, ``"fashion-mnist-mini"``, is embedded in the package: 6,000 photographs of
Fashion-MNIST (28 x 28 pixels, MIT licence, see ``fashion_mnist_mini/LICENSE``), so that
every chapter runs without a connection. Fashion-MNIST in full, CIFAR-10 and CIFAR-100
are read from a folder with their official files, or fetched through torchvision.

One rule cuts the validation split of every data set: *the last quarter of each class's
training images, in file order*. The official test images are never touched by it.

>>> data = load_data()
>>> data
Dataset('fashion-mnist-mini', 10 classes, 3000 train, 1000 validation, 2000 test)
>>> data.train
Split(3000 images, 1 x 28 x 28)
"""

import gzip
import hashlib
import math
import pickle
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

try:
    import numpy as np
except ImportError as error:  # the layers need torch alone, the data sets NumPy too
    raise ImportError(
        'the course needs NumPy: python -m pip install "regdrop-lite[course]"'
    ) from error

__all__ = [
    "DATASETS",
    "Dataset",
    "Split",
    "as_tensors",
    "load_data",
    "make_generator",
    "shift_flip",
    "subset",
]

DATASETS = ("fashion-mnist-mini", "fashion-mnist", "cifar10", "cifar100")
"""The names that :func:`load_data` knows."""

MINI_SHA256 = "6f2e18efaf0cb4b5c3a02d33d9ed02bbf91dd3187ddaf76ff7921aef8f608cde"
"""What :func:`content_sha256` gives for the embedded arrays."""

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


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
        folder: for the others, a folder with the official files, either in it or in
            its subfolder ``fashion-mnist``, ``cifar-10-batches-py`` or
            ``cifar-100-python``. Fashion-MNIST may be packed (``.gz``) or not.
        download: whether to fetch files that ``folder`` lacks through torchvision
            (``pip install "regdrop-lite[data]"``). They arrive whole or not at all.

    Returns:
        The data set. Its validation split is the last quarter (rounded down) of each
        class's images in the official training files.

    Raises:
        ValueError: for an unknown name, arguments that do not fit it, or files whose
            content is damaged.
        FileNotFoundError: if the folder lacks a file and nothing may be downloaded.
        FileExistsError: if an incomplete folder stands where a download belongs.
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
        return _load_mini()
    if folder is None:
        raise ValueError(
            f"{name} is not embedded: give folder=..., a folder with the official "
            "files, and download=True to have them fetched into it"
        )
    folder = Path(folder).expanduser()
    source = _SOURCES[name]
    found = _find(source, folder)
    if found is None and download:
        found = _download(source, folder)
    if found is None:
        raise FileNotFoundError(
            f"{name}: expected the files {', '.join(source.files)} in {folder} or in "
            f"its subfolder {source.subfolder}. Put them there, or call "
            f"load_data({name!r}, folder=..., download=True) with a connection"
        )
    return _assemble(name, source.read(found))


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


def shift_flip(images: Tensor, generator: torch.Generator, most: int = 2) -> Tensor:
    """Shift each image at random, and mirror every second one: a larger training set.

    The shifts down and to the right are whole numbers from ``-most`` to ``most``, all
    with the same chance. What moves in over an edge repeats the pixels of that edge.

    Args:
        images: shape (N, C, H, W).
        generator: a CPU generator, draws the shifts and the mirrored images.
        most: the largest shift, in pixels.

    Returns:
        New images of the same shape.

    Example:
        >>> image = torch.arange(4.0).view(1, 1, 1, 4)
        >>> shift_flip(image, torch.Generator().manual_seed(0), most=1).tolist()
        [[[[2.0, 1.0, 0.0, 0.0]]]]
    """
    n, channels, height, width = images.shape
    down, right = torch.randint(-most, most + 1, (2, n, 1), generator=generator)
    mirrored = torch.randint(2, (n, 1), generator=generator).bool()
    # Where each row and each column of the result comes from, shapes (N, H) and (N, W).
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    columns = torch.where(mirrored, width - 1 - columns, columns)
    device = images.device
    return images[
        torch.arange(n, device=device).view(n, 1, 1, 1),
        torch.arange(channels, device=device).view(1, channels, 1, 1),
        rows.to(device).view(n, 1, height, 1),
        columns.to(device).view(n, 1, 1, width),
    ]


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


# --- from pools of images to splits ---------------------------------------------------


class _Pools(NamedTuple):
    """The official training and test images of a data set, as NumPy arrays."""

    classes: tuple[str, ...]
    train_images: np.ndarray  # uint8, (N, C, H, W)
    train_labels: np.ndarray  # (N,)
    test_images: np.ndarray
    test_labels: np.ndarray
    train_indices: np.ndarray | None = None  # None: the pool is the official file
    test_indices: np.ndarray | None = None


def _assemble(name: str, pools: _Pools) -> Dataset:
    """Cut the pools into the three splits."""
    for kind in ("train", "test"):
        n_images = len(getattr(pools, f"{kind}_images"))
        n_labels = len(getattr(pools, f"{kind}_labels"))
        if n_images != n_labels or not n_images:
            raise ValueError(
                f"{name}, {kind}: expected images, with one label for each, "
                f"but got {n_images} images and {n_labels} labels"
            )
    labels = torch.from_numpy(pools.train_labels.astype(np.int64))
    images = torch.from_numpy(pools.train_images)
    is_validation = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        is_validation[members[len(members) - len(members) // 4 :]] = True
    mean, std = _channel_statistics(images[~is_validation])
    pool = Split(images, labels, _indices(pools.train_indices, len(labels)), mean, std)
    test_labels = torch.from_numpy(pools.test_labels.astype(np.int64))
    return Dataset(
        name=name,
        classes=pools.classes,
        train=_take(pool, (~is_validation).nonzero().flatten()),
        validation=_take(pool, is_validation.nonzero().flatten()),
        test=Split(
            torch.from_numpy(pools.test_images),
            test_labels,
            _indices(pools.test_indices, len(test_labels)),
            mean,
            std,
        ),
    )


def _indices(given: np.ndarray | None, n: int) -> Tensor:
    return torch.arange(n) if given is None else torch.from_numpy(given.astype("i8"))


def _take(split: Split, positions: Tensor) -> Split:
    return replace(
        split,
        images=split.images[positions],
        labels=split.labels[positions],
        indices=split.indices[positions],
    )


def _channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, on the scale 0 to 1.

    The sums run over integers and are therefore exact, on every machine.
    """
    mean, std = [], []
    for channel in images.unbind(dim=1):
        counts = channel.flatten().bincount(minlength=256).tolist()
        n = sum(counts)
        first = sum(value * count for value, count in enumerate(counts))
        second = sum(value**2 * count for value, count in enumerate(counts))
        mean.append(first / (255 * n))
        std.append((n * second - first**2) ** 0.5 / (255 * n))
    return tuple(mean), tuple(std)


def _describe(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}"


# --- the embedded data set ------------------------------------------------------------


def content_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """Hash arrays by name, dtype, shape and values, not by the file around them.

    Two builds with different versions of zlib differ in their files, not in this.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = arrays[name]
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _load_mini() -> Dataset:
    file = resources.files("regdrop_lite.course.fashion_mnist_mini").joinpath(
        "fashion_mnist_mini.npz"
    )
    remedy = "install regdrop-lite again"
    try:
        with file.open("rb") as stream, np.load(stream) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the embedded data are missing: {remedy}") from error
    except Exception as error:  # damaged archives raise errors of many types
        raise ValueError(f"the embedded data cannot be read: {remedy}") from error
    if (found := content_sha256(arrays)) != MINI_SHA256:
        raise ValueError(
            f"the embedded data are damaged: expected the SHA-256 {MINI_SHA256}, "
            f"but got {found}: {remedy}"
        )
    for kind in ("train", "test"):
        arrays[f"{kind}_images"] = arrays[f"{kind}_images"][:, None]  # one channel
    return _assemble("fashion-mnist-mini", _Pools(FASHION_CLASSES, **arrays))


# --- official files -------------------------------------------------------------------


def read_idx(path: Path) -> np.ndarray:
    """Read a file of unsigned bytes in the IDX format, packed with gzip or not.

    The format: two zero bytes, the type (8 for unsigned bytes), the number of
    dimensions, each dimension's size in four bytes (big-endian), then the values.

    Raises:
        ValueError: if the file has another content.
    """
    raw = path.read_bytes()
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is damaged: fetch it again") from error
    ndim = raw[3] if len(raw) > 3 and raw[:3] == b"\0\0\x08" else 0
    header = 4 + 4 * ndim
    if not ndim or len(raw) < header:
        raise ValueError(f"{path} is no IDX file of unsigned bytes: fetch it again")
    shape = tuple(np.frombuffer(raw, ">u4", count=ndim, offset=4).tolist())
    if len(raw) - header != math.prod(shape):
        raise ValueError(
            f"{path}: expected {math.prod(shape)} values for the shape {shape}, "
            f"but got {len(raw) - header}: fetch it again"
        )
    # A copy, since a tensor needs memory that it may write to.
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape).copy()


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickle plain values and NumPy arrays, and refuse everything else.

    A pickle may name any function to be called. CIFAR's official files name three.
    """

    # Found through an array, since the function's module differs between versions.
    _rebuild = np.empty(0, np.uint8).__reduce__()[0]

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            if name == "_reconstruct":
                return self._rebuild
        elif module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _unpickle(path: Path, *keys: bytes) -> list[Any]:
    """Read a file of CIFAR, a pickled dictionary, and give the values of some keys."""
    try:
        with path.open("rb") as stream:
            # Written by Python 2: its strings are bytes.
            content = _ArrayUnpickler(stream, encoding="bytes").load()
        return [content[key] for key in keys]
    except Exception as error:  # damaged pickles raise errors of almost any type
        raise ValueError(
            f"{path} is damaged or no file of CIFAR ({error}): fetch it again"
        ) from error


def _read_fashion(folder: Path) -> _Pools:
    def read(stem: str) -> np.ndarray:
        return read_idx(_existing(folder, stem) or folder / stem)

    return _Pools(
        classes=FASHION_CLASSES,
        train_images=read(_FASHION_FILES[0])[:, None],  # (N, H, W) to (N, 1, H, W)
        train_labels=read(_FASHION_FILES[1]),
        test_images=read(_FASHION_FILES[2])[:, None],
        test_labels=read(_FASHION_FILES[3]),
    )


def _read_cifar10(folder: Path) -> _Pools:
    return _read_cifar(folder, _CIFAR10_FILES, b"labels", b"label_names")


def _read_cifar100(folder: Path) -> _Pools:
    return _read_cifar(folder, _CIFAR100_FILES, b"fine_labels", b"fine_label_names")


def _read_cifar(
    folder: Path, files: tuple[str, ...], label_key: bytes, name_key: bytes
) -> _Pools:
    *train_files, test_file, meta_file = files

    def read(*names: str) -> tuple[np.ndarray, np.ndarray]:
        images, labels = [], []
        for name in names:
            rows, given = _unpickle(folder / name, b"data", label_key)
            # Each row: 1024 red, 1024 green, 1024 blue values of a 32 x 32 image.
            images.append(np.asarray(rows, np.uint8).reshape(-1, 3, 32, 32))
            labels.append(np.asarray(given, np.int64))
        return np.concatenate(images), np.concatenate(labels)

    (names,) = _unpickle(folder / meta_file, name_key)
    return _Pools(
        tuple(name.decode() for name in names), *read(*train_files), *read(test_file)
    )


class _Source(NamedTuple):
    """Where the official files of a data set are, and how to read them."""

    files: tuple[str, ...]
    subfolder: str
    read: Callable[[Path], _Pools]
    torchvision_class: str
    torchvision_folder: str  # where that class puts the files, below its root


_FASHION_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_CIFAR10_FILES = (
    "data_batch_1",
    "data_batch_2",
    "data_batch_3",
    "data_batch_4",
    "data_batch_5",
    "test_batch",
    "batches.meta",
)
_CIFAR100_FILES = ("train", "test", "meta")

_SOURCES = {
    "fashion-mnist": _Source(
        _FASHION_FILES,
        "fashion-mnist",
        _read_fashion,
        "FashionMNIST",
        "FashionMNIST/raw",
    ),
    "cifar10": _Source(
        _CIFAR10_FILES,
        "cifar-10-batches-py",
        _read_cifar10,
        "CIFAR10",
        "cifar-10-batches-py",
    ),
    "cifar100": _Source(
        _CIFAR100_FILES,
        "cifar-100-python",
        _read_cifar100,
        "CIFAR100",
        "cifar-100-python",
    ),
}


def _existing(folder: Path, name: str) -> Path | None:
    """Give the file of that name, or its packed form, or None."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def _find(source: _Source, folder: Path) -> Path | None:
    """Give the folder that holds all files of a source, or None."""
    for candidate in (folder, folder / source.subfolder):
        if all(_existing(candidate, name) for name in source.files):
            return candidate
    return None


def _download(source: _Source, folder: Path) -> Path:
    """Fetch a source's files through torchvision, which checks their MD5 sums."""
    target = folder / source.subfolder
    if target.exists():
        raise FileExistsError(f"{target} is incomplete: remove it, then download again")
    try:
        from torchvision import datasets
    except Exception as error:  # one that does not fit torch raises a RuntimeError
        raise ImportError(
            f"the download needs torchvision, which cannot be imported ({error}): "
            'python -m pip install "regdrop-lite[data]", or put the files '
            f"{', '.join(source.files)} into {target} yourself"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the last step is one renaming: it happens or not.
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
        arrived = Path(scratch, source.torchvision_folder)
        try:
            getattr(datasets, source.torchvision_class)(root=scratch, download=True)
            missing = [n for n in source.files if not _existing(arrived, n)]
            if missing:
                raise RuntimeError(f"{', '.join(missing)} did not arrive")
        except Exception as error:
            raise ConnectionError(
                f"the download of {source.torchvision_class} failed ({error}); nothing "
                "was kept. Check the connection and try again, or put the files "
                f"{', '.join(source.files)} into {target} yourself"
            ) from error
        arrived.rename(target)
    return target
