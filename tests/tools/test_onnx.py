"""A swapped net in ONNX: nothing random is left, and a runtime computes the same.

It needs onnx, onnxscript and onnxruntime: ``python -m pip install --group onnx``.
"""

import runpy
from pathlib import Path

import pytest
import torch

from regdrop_lite import DropBlock2d, SpatialDropout2d
from regdrop_lite.tools import drop_layers, replace_layers

TRAIN = Path(__file__).parents[2] / "book" / "recipes" / "train.py"
RANDOM = {
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}


def vit() -> torch.nn.Module:
    net = runpy.run_path(str(TRAIN))["ViT"]()
    replace_layers(net, 0.2, fill=True)
    return net


def convolutions() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3),
        torch.nn.BatchNorm2d(8),
        SpatialDropout2d(0.2),
        DropBlock2d(0.2, 3),
    )


@pytest.mark.slow
@pytest.mark.parametrize("build", [vit, convolutions])
def test_no_random_node_and_the_same_output(build) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    net = build().eval()
    assert drop_layers(net)
    shapes = ({0: torch.export.Dim("n")},)
    program = torch.onnx.export(
        net, (torch.rand(4, 1, 28, 28),), dynamo=True, dynamic_shapes=shapes
    )
    model = program.model_proto
    nodes = [node.op_type for node in model.graph.node]
    nodes += [node.op_type for f in model.functions for node in f.node]
    assert "Conv" in nodes, "there is something in the graph"
    assert not RANDOM.intersection(nodes)
    session = runtime.InferenceSession(model.SerializeToString())
    x = torch.rand(7, 1, 28, 28)  # another batch than the one that was traced
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), net(x), atol=1e-5, rtol=0)
