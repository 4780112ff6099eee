"""DTensor: each rank drops in the shard that it holds, with numbers of its own."""

from collections.abc import Callable, Collection

from torch import Tensor


def on_shards(
    function: Callable[[Tensor], Tensor], input: Tensor, free: Collection[int]
) -> Tensor:
    """``function`` of the local part of a DTensor.

    ``free`` are the dimensions along which masks are independent, so that they may be
    sharded. Replicas draw from the generator of their rank: seed them alike, as for
    ``nn.Dropout2d`` on a CPU mesh.
    """
    from torch.distributed.tensor import DTensor, Partial, Shard

    assert isinstance(input, DTensor)
    for placement in input.placements:
        fits = not isinstance(placement, (Shard, Partial)) or (
            isinstance(placement, Shard) and placement.dim % input.dim() in free
        )
        if not fits:
            raise ValueError(
                "expected a DTensor that is replicated, or sharded along a dimension "
                f"with independent masks, {sorted(free)}, but got {placement}: "
                "redistribute it first"
            )
    return DTensor.from_local(
        function(input.to_local()),
        input.device_mesh,
        input.placements,
        run_check=False,
        shape=input.shape,
        stride=input.stride(),
    )
