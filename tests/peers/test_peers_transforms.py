"""Generators, vmap, export, fx and TorchScript, on every side."""

import warnings

import pytest
import torch
from same_case import CHANGED, OURS, SIDES, every_side, peer, peer_raises
from torch import nn
from torch.export import Dim, export
from torch.func import vmap

from regdrop_lite import (
    DropBlock2d,
    drop_block,
    drop_path,
    set_generator,
    spatial_dropout,
)

X = torch.ones(4, 8, 14, 14)
TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])
needs_vmap = pytest.mark.skipif(
    TORCH < (2, 5), reason="a custom operator has no vmap rule before PyTorch 2.5"
)
guards_kept = pytest.mark.skipif(
    TORCH < (2, 14), reason="older exports do not keep the guards that tell"
)


def test_ours_takes_a_generator(generator) -> None:
    state = generator.get_state()
    for function, args in ((spatial_dropout, (0.5,)), (drop_path, (0.5,))):
        runs = []
        for seed in (1, 2):  # the global generator plays no part
            torch.manual_seed(seed)
            generator.set_state(state)
            runs.append(function(X, *args, generator=generator))
        assert torch.equal(*runs)
    layer = DropBlock2d(0.3, 3)
    set_generator(layer, generator.set_state(state))
    assert torch.equal(
        layer(X), drop_block(X, 0.3, 3, generator=generator.set_state(state))
    )


@pytest.mark.parametrize(
    ("module", "name", "args"),
    [
        ("torch.nn.functional", "dropout2d", (0.5,)),
        ("torchvision.ops", "stochastic_depth", (0.5, "row")),
        ("torchvision.ops", "drop_block2d", (0.5, 3)),
        ("timm.layers", "drop_path", (0.5, True)),
        ("timm.layers", "drop_block_2d", (0.5, 3)),
    ],
)
def test_no_peer_takes_a_generator(module, name, args) -> None:
    function = getattr(peer(module), name)
    function(X, *args)
    with peer_raises(TypeError, "unexpected keyword argument 'generator'"):
        function(X, *args, generator=torch.Generator())


@needs_vmap
@pytest.mark.parametrize("side", [*OURS, "torch channel", "timm path"])
def test_vmap_gives_each_example_its_own_mask(side) -> None:
    y = vmap(SIDES[side](0.5), randomness="different")(torch.ones(9, *X.shape))
    assert (y == 0).any()
    assert any(not torch.equal(y[0] != 0, other != 0) for other in y[1:])


@pytest.mark.parametrize(
    "side", ["torchvision path", "torchvision block", "timm block"]
)
def test_these_peers_refuse_different_masks_under_vmap(side) -> None:
    with peer_raises(RuntimeError, "different inplace randomness on an unbatched"):
        vmap(SIDES[side](0.5), randomness="different")(torch.ones(9, *X.shape))


@every_side
def test_export_with_a_fixed_shape_works(side) -> None:
    program = export(nn.Sequential(SIDES[side](0.3)), (X,)).module()
    masks = [program(X) != 0 for _ in range(9)]
    assert any(not torch.equal(masks[0], mask) for mask in masks[1:])


@every_side
def test_export_with_any_batch_size_works(side) -> None:
    dynamic = [{0: Dim("batch")}]
    program = export(nn.Sequential(SIDES[side](0.3)), (X,), dynamic_shapes=dynamic)
    y = program.module()(torch.ones(50, *X.shape[1:]))
    assert y.shape[0] == 50 and (y == 0).any()


def test_an_exported_block_of_ours_serves_every_map(assert_mean) -> None:
    """8,000 maps of each size; also maps smaller than the block."""
    x = torch.ones(8_000, 1, 14, 14)
    dynamic = [{2: Dim("height"), 3: Dim("width")}]
    layer = nn.Sequential(DropBlock2d(0.3, 7))
    program = export(layer, (x,), dynamic_shapes=dynamic).module()
    for size in ((14, 14), (21, 15), (5, 6)):
        shares = (program(torch.ones(8_000, 1, *size)) == 0).double().mean((1, 2, 3))
        assert_mean(shares, 0.3, shares.var())


@guards_kept
@pytest.mark.parametrize("side", ["torchvision block", "timm block"])
def test_an_exported_block_of_the_peers_serves_the_traced_map_only(side) -> None:
    """gamma is a constant of the program, and a guard says so."""
    dynamic = [{2: Dim.DYNAMIC, 3: Dim.DYNAMIC}]
    layer = nn.Sequential(SIDES[side](0.3))
    program = export(layer, (X,), dynamic_shapes=dynamic).module()
    assert (program(X) == 0).any()
    with peer_raises(AssertionError, "Guard failed"):
        program(torch.ones(4, 8, 21, 15))


@pytest.mark.parametrize(
    "side",
    [*OURS, "torch channel", "torchvision path", "torchvision block", "timm path"],
)
def test_fx_traces_all_but_one_as_they_are(side) -> None:
    traced = torch.fx.symbolic_trace(nn.Sequential(SIDES[side](0.5)))
    assert (traced(torch.ones(20, 8, 14, 14)) == 0).any(), CHANGED


def test_fx_has_to_be_told_that_the_block_of_timm_is_a_leaf() -> None:
    """timm tells its own tracer."""
    model = nn.Sequential(SIDES["timm block"](0.5))
    with peer_raises(torch.fx.proxy.TraceError, "control flow"):
        torch.fx.symbolic_trace(model)


@every_side
def test_torch_jit_trace_works(side) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        traced = torch.jit.trace(SIDES[side](0.5), X, check_trace=False)
    assert (traced(X) == 0).any()


@every_side
def test_torch_jit_script_compiles_most_peers_and_not_ours(side) -> None:
    layer = SIDES[side](0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if side == "torchvision block":
            with peer_raises(RuntimeError, "pad(Tensor input"):
                torch.jit.script(layer)
        elif side in OURS:
            refused = (RuntimeError, torch.jit.frontend.NotSupportedError)
            with pytest.raises(refused, match=r"def generator\(self, generator"):
                torch.jit.script(layer)
        else:
            assert (torch.jit.script(layer)(X) == 0).any(), CHANGED
