"""DropBlock's draw as an operator of PyTorch.

How many seeds fall is random, so a compiler, a tracer or a transform cannot look inside
the draw. An operator is a box that they need not open: it has a name, the shapes of its
results and a rule for vmap. What it returns is new in every call.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from regdrop_lite._block_mask import Blocks, block_mask, paint
from regdrop_lite._compat import is_vmapped, transforms
from regdrop_lite._product import wide

HAS_VMAP = hasattr(torch.library, "register_vmap")  # since PyTorch 2.5
# Two calls are two masks. PyTorch 2.4 knows no tags here.
_RANDOM: dict[str, Any] = (
    {"tags": (torch.Tag.nondeterministic_seeded,)}
    if "tags" in inspect.signature(custom_op).parameters
    else {}
)


def draw(input: Tensor, blocks: Blocks) -> tuple[Tensor, float | Tensor]:
    """:func:`block_mask` where something is at work that must not look inside."""
    like = input.detach()
    if not (HAS_VMAP or torch.compiler.is_compiling()) and transforms() & {
        "Grad",
        "Jvp",
    }:
        return block_mask(like, blocks)  # PyTorch 2.4 takes no operator here
    if not torch.compiler.is_compiling() and is_vmapped():
        if not HAS_VMAP:
            raise RuntimeError(
                "drop_block needs PyTorch 2.5 or newer under torch.func.vmap"
            )
        # vmap batches a random tensor with randomness="different" and refuses it with
        # "error". This one has no elements: it takes no number from the generator.
        like = like + torch.rand(0, device=like.device, dtype=like.dtype).sum()
    # p as a tensor, computed and not created: a graph then serves every p.
    p = torch.zeros((), dtype=torch.float64, device="cpu") + blocks.p
    if torch.compiler.is_dynamo_compiling() and HAS_VMAP:
        # A compiler joins two calls that look alike, whatever their tag says, but never
        # a random operator: this one draws nothing and makes them differ. (PyTorch 2.4
        # cannot checkpoint a graph with such an operator.)
        p = p + torch.randperm(0, device="cpu").sum()
    keep, scale = operator(like, p, *blocks[1:])
    return keep, scale


@custom_op(  # PyTorch 2.4 cannot read the annotations
    "regdrop_lite::block_mask",
    mutates_args=(),
    schema="(Tensor input, Tensor p, SymInt[] block_size, str border, bool shared, "
    "str normalize) -> (Tensor, Tensor)",
    **_RANDOM,
)
def operator(
    input: Tensor,
    p: Tensor,
    block_size: Sequence[int],
    border: str,
    shared: bool,
    normalize: str,
) -> tuple[Tensor, Tensor]:
    """``keep`` and ``scale`` of one draw, ``scale`` as a tensor in a wide dtype."""
    blocks = Blocks(p.item(), block_size, border, shared, normalize)
    keep, scale = block_mask(input, blocks)
    if isinstance(scale, Tensor):
        return keep, scale.to(wide(input.dtype))
    return keep, input.new_full((), scale, dtype=wide(input.dtype))


@operator.register_fake
def _(
    input: Tensor,
    p: Tensor,
    block_size: Sequence[int],
    border: str,
    shared: bool,
    normalize: str,
) -> tuple[Tensor, Tensor]:
    like = input[:, :1] if shared else input
    table = border == "valid" and normalize == "expected" and input.numel() > 0
    size = input.shape[2:] if table else ()
    scale = input.new_empty(size, dtype=wide(input.dtype))
    return torch.empty_like(like, dtype=torch.bool), scale


def _vmap(
    info: Any, in_dims: tuple[int | None, ...], input: Tensor, p: Tensor, *settings: Any
) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
    """Masks under torch.func.vmap: one for all, or one for each example."""
    if in_dims[1] is not None:  # a random tensor's doing; p is the same for all
        p = p.select(in_dims[1], 0)
    examples = [input] * info.batch_size
    if in_dims[0] is not None:
        examples = list(input.movedim(in_dims[0], 0))
    if info.randomness == "same":
        return operator(examples[0], p, *settings), (None, None)
    masks = [operator(example, p, *settings) for example in examples]
    return tuple(torch.stack(parts) for parts in zip(*masks, strict=True)), (0, 0)


if HAS_VMAP:
    operator.register_vmap(_vmap)


@custom_op(
    "regdrop_lite::block_keep",
    mutates_args=(),
    schema="(Tensor seeds, SymInt[] shape, SymInt[] block_size, str border) -> Tensor",
)
def keep_of_seeds(
    seeds: Tensor, shape: Sequence[int], block_size: Sequence[int], border: str
) -> Tensor:
    """The mask that known seeds make, for a backward pass that is being compiled."""
    keep = torch.ones(shape, dtype=torch.bool, device=seeds.device)
    # What is painted depends on the block and the border alone.
    return paint(keep, seeds, Blocks(0.5, block_size, border, False, "expected"))


@keep_of_seeds.register_fake
def _(
    seeds: Tensor, shape: Sequence[int], block_size: Sequence[int], border: str
) -> Tensor:
    return seeds.new_empty(shape, dtype=torch.bool)
