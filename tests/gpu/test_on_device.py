"""The layers on the device that ``REGDROP_DEVICE`` names; on the CPU a dry run.

``tests/gpu/check.sh`` runs this file on a graphics card, with the notebooks and times.
"""

import importlib.util
import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensorMode,
)

from regdrop_lite import (
    DropBlock2d,
    DropLayer,
    DropPath,
    SpatialDropout2d,
    drop_residual,
    set_generator,
)
from regdrop_lite.tools import audit

DEVICE = torch.device(os.environ.get("REGDROP_DEVICE", "cpu"))
LAYERS: list[DropLayer] = [
    SpatialDropout2d(0.3),
    DropPath(0.3),
    DropBlock2d(0.3, 3),
    DropBlock2d(0.3, 3, border="clip"),
    DropBlock2d(0.3, 3, shared=True),
]
on_cuda = pytest.mark.skipif(DEVICE.type != "cuda", reason="asks a CUDA device")
every_layer = pytest.mark.parametrize("layer", LAYERS, ids=repr)


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    yield
    for layer in LAYERS:
        layer.generator = None


def maps(n: int = 500, dtype: torch.dtype = torch.float32) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return (torch.rand(n, 4, 8, 8, generator=g) + 0.5).to(DEVICE, dtype)


@every_layer
def test_one_cpu_generator_gives_the_same_mask_everywhere(layer) -> None:
    masks = []
    for x in (maps(), maps().cpu()):
        set_generator(layer, torch.Generator().manual_seed(2))
        masks.append((layer(x) == 0).cpu())
    assert torch.equal(*masks) and masks[0].any() and not masks[0].all()


@every_layer
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rate_and_mean_in_each_precision(layer, dtype) -> None:
    x = maps(4000, dtype)
    y = layer(x)
    assert (y.dtype, y.device, y.shape) == (x.dtype, x.device, x.shape)
    rate = (y == 0).double().mean((1, 2, 3)).cpu()  # samples are independent
    mean = (y.double().mean((1, 2, 3)) / x.double().mean((1, 2, 3))).cpu()
    for value, found in ((0.3, rate), (1.0, mean)):
        error = found.std().item() / len(found) ** 0.5
        assert abs(found.mean().item() - value) < 4 * error


@every_layer
def test_gradient_layout_ends_and_evaluation(layer) -> None:
    x = maps(8).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = layer(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    y.sum().backward()
    assert torch.allclose(x.grad * x, y, rtol=1e-5), "the gradient is mask times scale"
    assert layer.eval()(x) is x
    layer.train()
    assert layer(maps(0)).shape == (0, 4, 8, 8)


def test_the_residual_computes_the_kept_samples() -> None:
    seen = []

    def branch(x: Tensor) -> Tensor:
        seen.append(len(x))
        return torch.ones_like(x)

    x = maps(100)
    g = torch.Generator().manual_seed(3)
    y = drop_residual(x, branch, 0.25, generator=g) - x
    assert seen == [75] and y.device == x.device
    rows = y.flatten(1)[:, 0].cpu()
    assert (rows > 0).sum() == 75
    assert torch.allclose(rows[rows > 0], torch.tensor(4 / 3), rtol=1e-5)


def test_the_audit_looks_at_a_model_on_the_device() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), SpatialDropout2d(0.3), nn.ReLU())
    (row,) = audit(model.to(DEVICE), maps(8)).rows
    assert row.low < 0.3 < row.high and row.falls == "channel"


@every_layer
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_nothing_of_a_layer_stays_on_the_host(layer, dtype) -> None:
    """On fake tensors, which have a device and no data, and need no card.

    A table left on the CPU, or a value that the host has to know, is an error there.
    """
    if getattr(layer, "shared", False) and not torch.backends.cuda.is_built():
        pytest.skip("its views ask PyTorch for CUDA, which this build does not have")
    with FakeTensorMode(), torch.no_grad():
        x = torch.empty(8, 4, 8, 8, device="cuda", dtype=dtype)
        y = layer(x)
        assert (y.device.type, y.dtype, y.shape) == ("cuda", dtype, x.shape)


def test_a_fake_device_notices_what_stays_on_the_host() -> None:
    with FakeTensorMode(), torch.no_grad():
        x = torch.empty(8, 4, device="cuda")
        with pytest.raises(RuntimeError, match="at least two devices"):
            x * torch.empty(8, 4)
        with pytest.raises(DataDependentOutputException):
            x.sum().item()


@on_cuda
@every_layer
def test_nobody_waits_for_the_device(layer) -> None:
    x = maps()
    layer(x)  # tables are made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        layer(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@on_cuda
@every_layer
def test_a_captured_graph_draws_new_masks(layer) -> None:
    x, side = maps(), torch.cuda.Stream()
    with torch.cuda.stream(side):
        layer(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = layer(x)
    outputs = []
    for _ in range(2):
        graph.replay()
        outputs.append(y.clone())
    assert not torch.equal(*outputs)


@on_cuda
@every_layer
def test_compiled_it_drops_as_much(layer) -> None:
    x = maps(4000)
    rate = (torch.compile(layer, fullgraph=True)(x) == 0).double().mean((1, 2, 3)).cpu()
    assert abs(rate.mean() - 0.3) < 4 * rate.std() / len(rate) ** 0.5


@pytest.mark.slow
@pytest.mark.skipif(DEVICE.type != "cpu", reason="a dry run; check.sh measures")
def test_the_bench_stores_times_with_their_origin(tmp_path, monkeypatch) -> None:
    path = Path(__file__).with_name("bench.py")
    spec = importlib.util.spec_from_file_location("gpu_bench", path)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    monkeypatch.setattr("sys.argv", ["bench", str(tmp_path / "bench.json")])
    bench.main()
    stored = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert stored["provenance"]["device"] == "cpu (dry run)"
    assert len(stored["rows"]) >= 2 * 4 + 12
    assert all(row["seconds"] > 0 for row in stored["rows"])
