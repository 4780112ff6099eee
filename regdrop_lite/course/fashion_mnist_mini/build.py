"""Select the embedded images from the official files of Fashion-MNIST.

The first 400 images of each class in the training files and the first 200 of each
class in the test files, all in file order, with their positions in those files::

    python -m regdrop_lite.course.fashion_mnist_mini.build FOLDER

``FOLDER`` holds the four official ``.gz`` files, as in ``/usr/share/datasets/
fashion-mnist`` with Debian's package ``dataset-fashion-mnist``, or as fetched from
https://github.com/zalandoresearch/fashion-mnist. A rebuild gives the same arrays; the
bytes of the compressed file may differ with the version of zlib.
"""

import argparse
import gzip
import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np

from regdrop_lite.course.fashion_mnist_mini import FILE, SHA256, content_sha256

SOURCES = {
    "train-images-idx3-ubyte.gz": (
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"
    ),
    "train-labels-idx1-ubyte.gz": (
        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"
    ),
}
"""The official files and the SHA-256 of each."""


def select(folder: Path) -> dict[str, np.ndarray]:
    """Read the official files and select the images.

    Args:
        folder: where the four official files are.

    Returns:
        For ``train`` and ``test``, the arrays ``…_images`` (uint8, (N, 28, 28)),
        ``…_labels`` (uint8, (N,)) and ``…_indices`` (int32, (N,)).

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is not the official one.
    """
    for name, expected in SOURCES.items():
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != expected:
            raise ValueError(
                f"{folder / name}: expected the SHA-256 {expected}, but got {found}"
            )
    arrays = {}
    for kind, stem, each in (("train", "train", 400), ("test", "t10k", 200)):
        # IDX files: a header of 4 bytes and 4 more for each dimension, then the values.
        images, labels = (
            np.frombuffer(gzip.decompress((folder / name).read_bytes()), np.uint8)
            for name in (f"{stem}-images-idx3-ubyte.gz", f"{stem}-labels-idx1-ubyte.gz")
        )
        images, labels = images[16:].reshape(-1, 28, 28), labels[8:]
        first = [np.flatnonzero(labels == label)[:each] for label in range(10)]
        indices = np.sort(np.concatenate(first))
        arrays[f"{kind}_images"] = images[indices]
        arrays[f"{kind}_labels"] = labels[indices]
        arrays[f"{kind}_indices"] = indices.astype("<i4")
    return arrays


def write(arrays: dict[str, np.ndarray], target: Path) -> None:
    """Write the arrays to a compressed file, which appears whole or not at all."""
    descriptor, scratch = tempfile.mkstemp(dir=target.parent, suffix=".npz")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)
        os.chmod(scratch, 0o644)  # mkstemp's files are its owner's alone
        os.replace(scratch, target)
    except BaseException:
        os.unlink(scratch)
        raise


def main(argv: list[str] | None = None) -> None:
    """Build the file; ``--target`` builds it somewhere else."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the four official .gz files")
    parser.add_argument("--target", type=Path, default=FILE, help="file to write")
    options = parser.parse_args(argv)
    arrays = select(options.folder)
    digest = content_sha256(arrays)
    if digest != SHA256:
        raise SystemExit(f"expected the content {SHA256}, but got {digest}")
    write(arrays, options.target)
    print(f"{options.target}: content {digest}")


if __name__ == "__main__":
    main()
