"""Data sets: the embedded one, the official files, the download, and the splits."""

import builtins
import gzip
import hashlib
import importlib.util
import math
import os
import struct
import sys
import types
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from regdrop_lite.course import fashion_mnist_mini
from regdrop_lite.course.augmentation import shift_flip
from regdrop_lite.course.data import (
    DATASETS,
    Dataset,
    Split,
    as_tensors,
    load_data,
    make_generator,
    subset,
)
from regdrop_lite.course.fashion_mnist_mini import build


@pytest.fixture(scope="module")
def mini():
    return load_data()


def sha256(image):
    return hashlib.sha256(bytes(image.flatten().tolist())).hexdigest()


# --- the embedded data set ------------------------------------------------------------


def test_mini_has_the_promised_sizes_and_types(mini):
    sizes = {"train": 3000, "validation": 1000, "test": 2000}
    for name, size in sizes.items():
        split = getattr(mini, name)
        assert split.images.shape == (size, 1, 28, 28)
        assert split.images.dtype == torch.uint8
        assert split.labels.shape == split.indices.shape == (size,)
        assert split.labels.dtype == split.indices.dtype == torch.int64
        assert split.labels.bincount().tolist() == [size // 10] * 10, name
    assert mini.name == "fashion-mnist-mini"
    assert mini.num_classes == len(set(mini.classes)) == 10
    assert repr(mini).endswith("10 classes, 3000 train, 1000 validation, 2000 test)")


@pytest.mark.parametrize(
    ("split", "index", "label", "digest"),
    [  # the images at these places of the official files, hashed with other code
        (
            "train",
            0,
            "Ankle boot",
            "5bd44e331a6d6998daf675700cd0c13dcd7af8ab954b7585124124da61459e7b",
        ),
        (
            "validation",
            4363,
            "T-shirt/top",
            "09b478dd20851868fb1515c50237e9fbe9600218e5c30692adc4c603e4be3daa",
        ),
        (
            "test",
            0,
            "Ankle boot",
            "ffc7351ed0f8bae542820866086177fa4e0b366b97bf9d998dffdb8dbe138787",
        ),
        (
            "test",
            2087,
            "Ankle boot",
            "c6d1c6d30b02c5b3fc1072c70c6e7161a6bda1e9b8a4c8d61f90339c77c42016",
        ),
    ],
)
def test_mini_holds_the_official_images(mini, split, index, label, digest):
    split = getattr(mini, split)
    (position,) = (split.indices == index).nonzero().flatten().tolist()
    assert sha256(split.images[position]) == digest
    assert mini.classes[split.labels[position]] == label


def test_mini_starts_with_the_first_official_labels(mini):
    pool = sorted(
        (index, label)
        for split in (mini.train, mini.validation)
        for index, label in zip(
            split.indices.tolist(), split.labels.tolist(), strict=True
        )
    )
    # 4,000 of the first 4,364: classes that reached 400 early are skipped later on.
    assert [label for _, label in pool[:12]] == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9]
    assert [index for index, _ in pool[:12]] == list(range(12))
    assert pool[-1][0] == 4363
    assert mini.test.labels[:12].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7, 4, 5]


def test_splits_are_disjoint_and_in_file_order(mini):
    train, validation = mini.train, mini.validation
    assert not set(train.indices.tolist()) & set(validation.indices.tolist())
    for split in (train, validation, mini.test):
        assert (split.indices.diff() > 0).all()
    images = [sha256(i) for s in (train, validation, mini.test) for i in s.images]
    assert len(set(images)) == 6000, "an image stands in two splits"


def test_validation_is_the_last_quarter_of_each_class(mini):
    for label in range(10):
        learnt = mini.train.indices[mini.train.labels == label]
        held_out = mini.validation.indices[mini.validation.labels == label]
        assert (len(learnt), len(held_out)) == (300, 100)
        assert learnt.max() < held_out.min()


def test_every_call_gives_fresh_and_equal_data(mini):
    first = load_data()
    first.train.images.zero_()
    assert torch.equal(load_data().train.images, mini.train.images)


def test_splits_and_data_sets_are_frozen(mini):
    with pytest.raises(FrozenInstanceError):
        mini.train = mini.test
    with pytest.raises(FrozenInstanceError):
        mini.train.labels = mini.test.labels


def test_damaged_embedded_data_are_noticed(monkeypatch, tmp_path):
    name = "fashion_mnist_mini.npz"
    embedded = fashion_mnist_mini.FILE
    official = embedded.read_bytes()
    monkeypatch.setattr(fashion_mnist_mini, "FILE", tmp_path / name)
    with pytest.raises(FileNotFoundError, match="install regdrop-lite again"):
        load_data()
    (tmp_path / name).write_bytes(official[:100_000])
    with pytest.raises(ValueError, match="cannot be read"):
        load_data()
    with np.load(embedded) as archive:
        arrays = dict(archive)
    arrays["train_images"][7, 14, 14] ^= 1  # a single bit
    np.savez(tmp_path / name, **arrays)
    with pytest.raises(ValueError, match="damaged: expected the SHA-256"):
        load_data()


def test_licence_stands_beside_the_images():
    notice = fashion_mnist_mini.FILE.with_name("LICENSE").read_text(encoding="utf-8")
    assert "Copyright (c) 2017 Zalando SE, https://tech.zalando.com" in notice
    assert "Permission is hereby granted" in notice
    assert 'THE SOFTWARE IS PROVIDED "AS IS"' in notice
    assert fashion_mnist_mini.FILE.stat().st_size < 2_700_000


def test_content_hash_sees_names_shapes_dtypes_and_values():
    values = np.arange(6, dtype=np.uint8)
    variants = [
        {"a": values},
        {"b": values},
        {"a": values.reshape(2, 3)},
        {"a": values.view(np.int8)},
        {"a": values[::-1]},
        {"a": values, "b": values},
    ]
    hashes = [fashion_mnist_mini.content_sha256(v) for v in variants]
    assert len(set(hashes)) == len(variants)


# --- the build script -----------------------------------------------------------------

OFFICIAL = os.environ.get("FASHION_MNIST_FOLDER")


@pytest.mark.skipif(not OFFICIAL, reason="FASHION_MNIST_FOLDER names no folder")
def test_rebuild_gives_the_same_arrays(tmp_path, capsys):
    for name in ("a.npz", "b.npz"):
        build.main([OFFICIAL, "--target", str(tmp_path / name)])
    with (
        np.load(tmp_path / "a.npz") as rebuilt,
        np.load(fashion_mnist_mini.FILE) as embedded,
    ):
        assert sorted(rebuilt.files) == sorted(embedded.files)
        for name in embedded.files:
            assert rebuilt[name].dtype == embedded[name].dtype
            assert np.array_equal(rebuilt[name], embedded[name]), name
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert fashion_mnist_mini.SHA256 in capsys.readouterr().out


def test_build_refuses_files_that_are_not_the_official_ones(tmp_path):
    write_fashion(tmp_path, packed=True)
    with pytest.raises(
        ValueError, match=r"train-images.*expected the SHA-256 b0564c3e"
    ):
        build.main([str(tmp_path), "--target", str(tmp_path / "new.npz")])
    assert not (tmp_path / "new.npz").exists()


def test_build_selects_in_file_order_and_checks_the_result(tmp_path, monkeypatch):
    write_fashion(tmp_path, packed=True)
    hashes = {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in build.SOURCES
    }
    monkeypatch.setattr(build, "SOURCES", hashes)
    arrays = build.select(tmp_path)  # fewer than 400 of each class: all of them
    assert arrays["train_labels"].tolist() == LABELS
    assert arrays["train_indices"].tolist() == list(range(12))
    assert arrays["test_images"].tobytes() == pixels(3, 784, seed=2).tobytes()
    target = tmp_path / "new.npz"
    with pytest.raises(SystemExit, match=r"expected the content 6f2e18ef.*but got"):
        build.main([str(tmp_path), "--target", str(target)])
    assert not target.exists()
    build.write(arrays, target)
    with np.load(target) as written:
        assert fashion_mnist_mini.content_sha256(
            written
        ) == fashion_mnist_mini.content_sha256(arrays)


def test_build_leaves_no_partial_file(tmp_path, monkeypatch):
    target = tmp_path / "new.npz"
    target.write_text("old")

    def fail(stream, **arrays):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(build.np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        build.write({}, target)
    assert [p.name for p in tmp_path.iterdir()] == ["new.npz"]
    assert target.read_text() == "old"


# --- the data sets of torchvision --------------------------------------------------

# In file order: class 0 has eight images, class 1 four. A quarter of each is held out.
LABELS = [0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0]
TRAIN, VALIDATION = [0, 1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11]
TEST_LABELS = [1, 0, 1]


def pixels(n, size, seed):
    """Give ``n`` random images as rows of bytes."""
    return np.random.default_rng(seed).integers(0, 256, (n, size), dtype=np.uint8)


def idx(values, *shape):
    header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return header + bytes(values)


def write_fashion(folder, *, packed):
    folder.mkdir(parents=True, exist_ok=True)
    for stem, labels, seed in (("train", LABELS, 1), ("t10k", TEST_LABELS, 2)):
        n = len(labels)
        contents = {
            f"{stem}-images-idx3-ubyte": idx(pixels(n, 784, seed).tobytes(), n, 28, 28),
            f"{stem}-labels-idx1-ubyte": idx(labels, n),
        }
        for name, content in contents.items():
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)


def check_splits(data, rows, test_rows, shape):
    for split, indices in ((data.train, TRAIN), (data.validation, VALIDATION)):
        assert split.indices.tolist() == indices
        assert split.labels.tolist() == [LABELS[i] for i in indices]
        assert split.images.shape == (len(indices), *shape)
        assert split.images.flatten().tolist() == rows[indices].flatten().tolist()
    assert data.test.indices.tolist() == [0, 1, 2]
    assert data.test.labels.tolist() == TEST_LABELS
    assert data.test.images.shape == (3, *shape)
    assert data.test.images.flatten().tolist() == test_rows.flatten().tolist()


@pytest.fixture
def torchvision(monkeypatch):
    """Put a stand-in for torchvision in its place, which keeps what it is asked for."""
    calls = []

    def make(classes, shape, images, n_train):
        def read(root, train, download):
            calls.append((Path(root), train, download))
            if read.error is not None:
                raise read.error
            labels, seed = (LABELS[:n_train], 1) if train else (TEST_LABELS, 2)
            found = images(
                pixels(len(LABELS if train else labels), np.prod(shape), seed)
            )
            return types.SimpleNamespace(data=found, targets=labels, classes=classes)

        read.error = None
        return read

    grey = make(
        ["a", "b"],
        (28, 28),
        lambda rows: torch.from_numpy(rows.reshape(-1, 28, 28)),
        len(LABELS),
    )
    # As torchvision gives CIFAR: channels last, in NumPy.
    colour = make(
        ["cat", "dog"],
        (3, 32, 32),
        lambda rows: rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1),
        len(LABELS),
    )
    package = types.ModuleType("torchvision")
    package.datasets = types.SimpleNamespace(
        FashionMNIST=grey, CIFAR10=colour, CIFAR100=colour
    )
    package.calls = calls
    monkeypatch.setitem(sys.modules, "torchvision", package)
    return package


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("fashion-mnist", (1, 28, 28)),
        ("cifar10", (3, 32, 32)),
        ("cifar100", (3, 32, 32)),
    ],
)
def test_images_of_torchvision_are_cut_by_the_same_rule(
    torchvision, tmp_path, name, shape
):
    data = load_data(name, folder=tmp_path)
    size = math.prod(shape)
    check_splits(data, pixels(12, size, 1), pixels(3, size, 2), shape)
    assert data.classes == (("a", "b") if shape[0] == 1 else ("cat", "dog"))
    assert torchvision.calls == [(tmp_path, True, False), (tmp_path, False, False)]
    assert data.train.images.is_contiguous()
    load_data(name, folder=str(tmp_path), download=True)
    assert torchvision.calls[2:] == [(tmp_path, True, True), (tmp_path, False, True)]


def test_a_data_set_that_is_not_there_is_named_with_the_remedy(torchvision, tmp_path):
    torchvision.datasets.CIFAR10.error = RuntimeError("Dataset not found or corrupted")
    with pytest.raises(FileNotFoundError, match=r"cifar10: .*corrupted.*download=True"):
        load_data("cifar10", folder=tmp_path)
    torchvision.datasets.CIFAR10.error = OSError("no route to host")
    with pytest.raises(ConnectionError, match="no route to host"):
        load_data("cifar10", folder=tmp_path, download=True)
    torchvision.datasets.CIFAR10.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        load_data("cifar10", folder=tmp_path, download=True)


def test_files_that_do_not_fit_each_other_are_refused(
    torchvision, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        torchvision.datasets,
        "CIFAR10",
        lambda root, train, download: types.SimpleNamespace(
            data=np.zeros((12, 32, 32, 3), np.uint8), targets=[0] * 11, classes=["a"]
        ),
    )
    with pytest.raises(ValueError, match="but got 12 images and 11 labels"):
        load_data("cifar10", folder=tmp_path)


@pytest.mark.parametrize("error", [ImportError, RuntimeError])
def test_without_torchvision_the_remedy_is_named(monkeypatch, tmp_path, error):
    def fail(name, *others):
        if name == "torchvision":
            raise error("it does not fit PyTorch")
        return real(name, *others)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", fail)
    remedy = r'does not fit PyTorch\): python -m pip install "regdrop-lite\[data\]"'
    with pytest.raises(ImportError, match=remedy):
        load_data("cifar10", folder=tmp_path)


def test_fashion_mnist_by_torchvision_itself(tmp_path):
    """Hand-made official files; runs where a torchvision that fits is installed."""
    pytest.importorskip("torchvision", exc_type=Exception)
    write_fashion(tmp_path / "FashionMNIST/raw", packed=False)
    data = load_data("fashion-mnist", folder=tmp_path)
    check_splits(data, pixels(12, 784, 1), pixels(3, 784, 2), (1, 28, 28))
    assert data.classes == load_data().classes
    with pytest.raises(FileNotFoundError, match=r"cifar10.*download=True"):
        load_data("cifar10", folder=tmp_path)


# --- what to say when something is missing --------------------------------------------


def test_unknown_names_and_unfitting_arguments():
    with pytest.raises(ValueError, match="cifar10, cifar100, but got 'mnist'"):
        load_data("mnist")
    with pytest.raises(ValueError, match="leave out folder"):
        load_data(folder=".")
    with pytest.raises(ValueError, match="leave out folder and download"):
        load_data(download=True)
    for name in DATASETS[1:]:
        with pytest.raises(ValueError, match=f"{name} is not embedded: give folder"):
            load_data(name, download=True)


def test_missing_numpy_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)  # makes the import fail
    spec = importlib.util.spec_from_file_location("copy", fashion_mnist_mini.__file__)
    with pytest.raises(ImportError, match=r'pip install "regdrop-lite\[course\]"'):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


# --- subsets and tensors --------------------------------------------------------------


def test_subset_is_balanced_and_drawn_from_the_split(mini):
    few = subset(mini.train, 1000, seed=5)
    assert few.labels.bincount().tolist() == [100] * 10
    assert (few.indices.diff() > 0).all(), "file order, without repetition"
    rows = torch.isin(mini.train.indices, few.indices)
    assert torch.equal(few.images, mini.train.images[rows])
    assert torch.equal(few.labels, mini.train.labels[rows])
    assert (few.mean, few.std) == (mini.train.mean, mini.train.std)


def test_subset_depends_on_its_seed_alone(mini):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = subset(mini.train, 100, seed=5).indices
    assert torch.equal(torch.get_rng_state(), before), "the global generator moved"
    torch.manual_seed(2)
    assert torch.equal(subset(mini.train, 100, seed=5).indices, first)
    assert not torch.equal(subset(mini.train, 100, seed=6).indices, first)


def test_subset_draws_every_image_equally_often(mini):
    """Chi-square of the draws of 300 images in 400 subsets of 30 of each 300."""
    counts = torch.zeros(60_000)
    for seed in range(400):
        counts[subset(mini.train, 300, seed=seed).indices] += 1
    counts = counts[mini.train.indices]  # each is binomial(400, .1): mean 40, var 36
    # Their squared deviations from 40 add up to 3000 * 36 on average. The counts of a
    # class have a fixed sum, so 2,990 of the 3,000 are free: the standard deviation of
    # the mean square is about 36 * sqrt(2 / 2990) = .93.
    assert counts.mean() == 40
    assert abs((counts - 40).square().mean().item() - 36) < 4 * 0.93


@pytest.mark.parametrize(
    ("n", "message"),
    [
        (0, "positive multiple of 10"),
        (-10, "positive multiple of 10"),
        (1001, "positive multiple of 10, the number of classes, but got 1001"),
        (3010, "3010 takes 301 images of each class, the smallest has 300"),
    ],
)
def test_subset_refuses_impossible_sizes(mini, n, message):
    with pytest.raises(ValueError, match=message):
        subset(mini.train, n, seed=0)


def test_subset_of_nothing_is_refused(mini):
    empty = replace(
        mini.train,
        images=mini.train.images[:0],
        labels=mini.train.labels[:0],
        indices=mini.train.indices[:0],
    )
    with pytest.raises(ValueError, match="expected at least one image"):
        subset(empty, 10, seed=0)


def test_as_tensors_normalises_with_the_training_statistics(mini):
    pixels = mini.train.images.numpy() / 255
    assert mini.train.mean == pytest.approx([pixels.mean()], rel=1e-12)
    assert mini.train.std == pytest.approx([pixels.std()], rel=1e-12)
    for split in (mini.train, mini.validation, mini.test):
        images, labels = as_tensors(split)
        assert images.dtype == torch.float64
        assert labels is split.labels
        expected = (split.images.numpy() / 255 - pixels.mean()) / pixels.std()
        np.testing.assert_allclose(images.numpy(), expected, rtol=0, atol=1e-12)


def test_as_tensors_normalises_each_channel(torchvision, tmp_path):
    split = load_data("cifar10", folder=tmp_path).train
    images, _ = as_tensors(split)
    for channel in images.unbind(1):
        assert channel.mean().item() == pytest.approx(0, abs=1e-12)
        assert channel.std(correction=0).item() == pytest.approx(1, abs=1e-12)


def test_as_tensors_rounds_once(mini):
    wide, _ = as_tensors(mini.test)
    for dtype in (torch.float32, torch.bfloat16):
        narrow, _ = as_tensors(mini.test, dtype)
        assert torch.equal(narrow, wide.to(dtype))
    with pytest.raises(TypeError, match="expected a floating-point dtype"):
        as_tensors(mini.test, torch.uint8)


# --- checks of hand-made splits -------------------------------------------------------


def make_split(**changes):
    fields = {
        "images": torch.zeros(4, 3, 5, 5, dtype=torch.uint8),
        "labels": torch.tensor([0, 1, 0, 1]),
        "indices": torch.arange(4),
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
    }
    return Split(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(4, 3, 5, 5)}, "uint8 .* but got float32"),
        (
            {"images": torch.zeros(4, 5, 5, dtype=torch.uint8)},
            r"\(N, C, H, W\), but got uint8 of shape \(4, 5, 5\)",
        ),
        (
            {"labels": torch.arange(3)},
            r"labels: .*\(4,\), but got int64 of shape \(3,\)",
        ),
        ({"labels": torch.zeros(4)}, "labels: expected int64 .* but got float32"),
        ({"indices": torch.arange(5)}, "indices: expected int64"),
        ({"mean": (0.0,)}, "each of the 3 channels, but got 1 and 3"),
        ({"std": (1.0, 0.0, 1.0)}, "std: expected numbers above 0"),
    ],
)
def test_split_checks_itself(changes, message):
    with pytest.raises(ValueError, match=message):
        make_split(**changes)


def test_data_set_checks_its_labels():
    good, bad = make_split(), make_split(labels=torch.tensor([0, 1, -1, 1]))
    assert repr(good) == "Split(4 images, 3 x 5 x 5)"
    Dataset("mine", ("a", "b"), good, good, good)
    with pytest.raises(ValueError, match=r"test: .* from 0 to 1, but got -1 to 1"):
        Dataset("mine", ("a", "b"), good, good, bad)
    with pytest.raises(ValueError, match=r"train: .* from 0 to 0, but got 0 to 1"):
        Dataset("mine", ("a",), good, good, good)


# --- generators -----------------------------------------------------------------------


def test_generators_follow_the_documented_rule():
    digest = hashlib.sha256(b"3/masks").digest()
    seed = struct.unpack(">Q", digest[:8])[0] // 2
    expected = torch.rand(5, generator=torch.Generator().manual_seed(seed))
    generator = make_generator(3, "masks")
    assert generator.device.type == "cpu"
    assert torch.equal(torch.rand(5, generator=generator), expected)


def test_generators_differ_by_seed_and_purpose():
    draws = {
        torch.rand(1, generator=make_generator(seed, purpose)).item()
        for seed in range(50)
        for purpose in ("order", "masks", "noise", "weights")
    }
    assert len(draws) == 200


# --- augmentation ---------------------------------------------------------------------


def test_shift_flip_moves_whole_images_and_repeats_the_edges(assert_law):
    """Each image is one of the 5 x 5 x 2 possible ones, all with the same chance."""
    n, most = 10_000, 2
    image = torch.arange(2 * 4 * 5.0).view(2, 4, 5)
    padded = torch.nn.functional.pad(image[None], (most,) * 4, mode="replicate")[0]
    possible = [
        padded[:, most - down : most - down + 4, most - right : most - right + 5]
        for down in range(-most, most + 1)
        for right in range(-most, most + 1)
    ]
    possible += [shifted.flip(2) for shifted in possible]
    images = image.expand(n, 2, 4, 5)
    moved = shift_flip(images, torch.Generator().manual_seed(1), most)
    counts = [(moved == one).flatten(1).all(dim=1).sum().item() for one in possible]
    assert sum(counts) == n
    assert_law(counts, [1 / 50] * 50)
    assert torch.equal(images[0], image), "the input is left alone"
