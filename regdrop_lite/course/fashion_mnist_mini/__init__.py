"""The embedded data set: 6,000 images of Fashion-MNIST, selected by ``build.py``."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from regdrop_lite.course.extras import needs

with needs("course", "NumPy"):
    import numpy as np

__all__ = ["CLASSES", "FILE", "SHA256", "content_sha256", "read_arrays"]

FILE = Path(__file__).with_name("fashion_mnist_mini.npz")
"""Where the arrays are."""

SHA256 = "6f2e18efaf0cb4b5c3a02d33d9ed02bbf91dd3187ddaf76ff7921aef8f608cde"
"""What :func:`content_sha256` gives for the embedded arrays."""

CLASSES = (
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


def read_arrays() -> dict[str, np.ndarray]:
    """Read the embedded arrays.

    Raises:
        FileNotFoundError: if their file is missing.
        ValueError: if it is damaged.
    """
    remedy = "install regdrop-lite again"
    try:
        with FILE.open("rb") as stream, np.load(stream) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the embedded data are missing: {remedy}") from error
    except Exception as error:  # damaged archives raise errors of many types
        raise ValueError(f"the embedded data cannot be read: {remedy}") from error
    if (found := content_sha256(arrays)) != SHA256:
        raise ValueError(
            f"the embedded data are damaged: expected the SHA-256 {SHA256}, "
            f"but got {found}: {remedy}"
        )
    return arrays
