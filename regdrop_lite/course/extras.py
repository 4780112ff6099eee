"""What to install where a module of the course needs more than PyTorch."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needs"]


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Let imports that fail say what to install.

    Args:
        extra: the extra of the package that brings it, or several, with commas.
        what: what is imported, as readers call it.

    Raises:
        ImportError: in the place of any error of the import: one that does not fit
            PyTorch raises a RuntimeError, for instance.

    Example:
        >>> with needs("course", "NumPy"):
        ...     import numpy
    """
    try:
        yield
    except Exception as error:
        raise ImportError(
            f"{what} cannot be imported ({error}): "
            f'python -m pip install "regdrop-lite[{extra}]"'
        ) from error
