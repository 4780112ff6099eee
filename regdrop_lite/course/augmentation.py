"""What a run does to its training set: images that move, and labels that are wrong."""

import torch
from torch import Tensor

__all__ = ["flip_labels", "shift_flip"]


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


def flip_labels(
    labels: Tensor, num_classes: int, share: float, generator: torch.Generator
) -> Tensor:
    """Replace a share of the labels by a different class, each with the same chance.

    Args:
        labels: int64, shape (N,), from 0 to ``num_classes - 1``, on the CPU.
        num_classes: the number of classes; at least 2 if any label is to change.
        share: exactly ``round(share * N)`` labels change.
        generator: chooses the labels and their new classes.

    Returns:
        A new tensor of the same shape.

    Raises:
        ValueError: if a label is to change and there is no other class.

    Example:
        >>> labels = torch.arange(10)
        >>> noisy = flip_labels(labels, 10, 0.3, torch.Generator().manual_seed(0))
        >>> (noisy != labels).sum().item()
        3
    """
    count = round(share * len(labels))
    noisy = labels.clone()
    if count:
        if num_classes < 2:
            raise ValueError(
                f"num_classes: expected at least 2 to change one, but got {num_classes}"
            )
        chosen = torch.randperm(len(labels), generator=generator)[:count]
        shift = torch.randint(1, num_classes, (count,), generator=generator)
        noisy[chosen] = (labels[chosen] + shift) % num_classes
    return noisy
