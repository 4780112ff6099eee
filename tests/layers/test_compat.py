"""Each private question of PyTorch is asked in every situation that it tells apart."""

import functools
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functionalize, grad, jvp, linearize, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import checkpoint as checkpointing
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from regdrop_lite import _compat

X = torch.ones(2, 3)


class Spy(torch.autograd.Function):
    """Asks the question in the forward and in the backward pass."""

    @staticmethod
    def forward(ctx, input, ask):
        ctx.ask = ask
        ask(input)
        return input * 1

    @staticmethod
    def backward(ctx, grad):
        ctx.ask(grad)
        return grad, None


def asked_inside(ask, run) -> list[bool]:
    """What ``ask`` says inside of ``run``, which gets a function to call there."""
    answers = []

    def probe(x: Tensor) -> Tensor:
        answers.append(ask(x))
        return x * 1

    run(probe)
    assert answers
    return answers


def inference(probe) -> None:
    with torch.inference_mode():
        probe(torch.ones(2))


def context(make):
    def run(probe) -> None:
        with make():
            probe(X)

    return run


def dual(probe) -> None:
    with forward_ad.dual_level():
        probe(forward_ad.make_dual(X, X))


def autograd_function(probe) -> None:
    x = X.clone().requires_grad_()
    Spy.apply(x, probe).sum().backward()


PLAIN = {
    "alone": lambda probe: probe(X),
    "a parameter": lambda probe: probe(nn.Parameter(X)),
    "no grad": context(torch.no_grad),
    "inference mode": inference,
    "autocast": context(lambda: torch.autocast("cpu", torch.bfloat16)),
    "default device": context(lambda: torch.device("meta")),
    "dual numbers": dual,
    "an autograd function": autograd_function,
}


def fake(probe) -> None:
    with FakeTensorMode() as mode:
        probe(mode.from_tensor(X))


def legacy_vmap(probe) -> None:
    x = X.clone().requires_grad_()
    asked = []
    y = Spy.apply(x, lambda t: asked.append(t))
    asked.clear()

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, input):
            return input * 1

        @staticmethod
        def backward(ctx, grad):
            return probe(grad)

    y = Twice.apply(x)
    torch.autograd.grad(y, x, torch.ones(4, 2, 3), is_grads_batched=True)


def selective(probe) -> None:
    contexts = functools.partial(
        checkpointing.create_selective_checkpoint_contexts, [torch.ops.aten.mul.Tensor]
    )
    x = X.clone().requires_grad_()
    checkpoint(probe, x, use_reentrant=False, context_fn=contexts).sum().backward()


def traced_with_autocast(probe) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        torch.jit.trace(probe, X, check_trace=False)


NOT_PLAIN = {
    "jit.trace": lambda probe: torch.jit.trace(probe, X, check_trace=False),
    "jit.trace under autocast": traced_with_autocast,
    "make_fx": lambda probe: make_fx(probe)(X),
    "make_fx, fake": lambda probe: make_fx(probe, tracing_mode="fake")(X),
    "make_fx, symbolic": lambda probe: make_fx(probe, tracing_mode="symbolic")(X),
    "make_fx, early": lambda probe: make_fx(probe, pre_dispatch=True)(X),
    "FakeTensorMode": fake,
    "FlopCounterMode": context(lambda: FlopCounterMode(display=False)),
    "vmap": lambda probe: vmap(probe)(X),
    "vmap of something else": lambda probe: vmap(lambda x: probe(X) * x.sum())(X),
    "grad": lambda probe: grad(lambda x: probe(x).sum())(X),
    "jvp": lambda probe: jvp(probe, (X,), (X,)),
    "functionalize": lambda probe: functionalize(probe)(X),
    "grads batched": legacy_vmap,
    "another device": lambda probe: probe(X.to("meta")),
}
if hasattr(checkpointing, "CheckpointPolicy"):  # since PyTorch 2.5
    NOT_PLAIN["selective checkpointing"] = selective


@pytest.mark.parametrize("place", PLAIN)
def test_a_tensor_in_eager_mode_is_plain(place) -> None:
    assert all(asked_inside(_compat.is_plain, PLAIN[place]))


@pytest.mark.parametrize("place", NOT_PLAIN)
def test_whatever_is_at_work_is_noticed(place) -> None:
    assert not any(asked_inside(_compat.is_plain, NOT_PLAIN[place]))


def test_the_recording_pass_of_linearize_is_noticed() -> None:
    assert not all(asked_inside(_compat.is_plain, lambda run: linearize(run, X)))


def test_a_subclass_and_a_compiled_tensor_are_not_plain() -> None:
    class Named(Tensor):
        pass

    assert not _compat.is_plain(X.as_subclass(Named))
    seen = []

    def backend(graph, inputs):
        seen.append(graph)
        return graph.forward

    run = torch.compile(
        lambda x: x * (2 if _compat.is_plain(x) else 3), backend=backend, fullgraph=True
    )
    assert torch.equal(run(X), X * 3)
    assert len(seen) == 1


def test_vmap_alone_is_vmap() -> None:
    ask = lambda x: _compat.is_vmapped()  # noqa: E731
    assert all(asked_inside(ask, NOT_PLAIN["vmap"]))
    assert all(asked_inside(ask, NOT_PLAIN["vmap of something else"]))
    for place in ("grad", "jvp", "functionalize", "make_fx"):
        assert not any(asked_inside(ask, NOT_PLAIN[place]))


def test_tracers_alone_are_tracers() -> None:
    ask = lambda x: _compat.is_traced()  # noqa: E731
    for place in ("jit.trace", "make_fx", "make_fx, fake", "make_fx, symbolic"):
        assert all(asked_inside(ask, NOT_PLAIN[place]))
    for place in ("vmap", "grad", "FakeTensorMode", "FlopCounterMode"):
        assert not any(asked_inside(ask, NOT_PLAIN[place]))


def test_a_backward_pass_is_noticed() -> None:
    assert not _compat.is_inside_backward()
    x, seen = X.clone().requires_grad_(), []
    y = x * 1
    y.register_hook(lambda grad: seen.append(_compat.is_inside_backward()))
    y.sum().backward()
    assert seen == [True]
    assert not _compat.is_inside_backward()


def test_all_private_names_stand_in_one_file() -> None:
    """Of the layers. The course needs one, to watch what a learner's code makes."""
    watch = "from torch.utils._python_dispatch import TorchDispatchMode\n"
    private = re.compile(r"\btorch(\.\w+)*\._[a-zA-Z]|fx\.experimental|_dynamo\b")
    for path in Path(_compat.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf8")
        if path.match("course/check/core.py"):
            assert text.count(watch) == 1
            text = text.replace(watch, "")
        found = private.search(text)
        assert bool(found) == (path.name == "_compat.py"), (path, found)
