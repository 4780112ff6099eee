"""Every private name of PyTorch that this package uses, and why.

Seen in PyTorch 2.4, 2.13 and 2.14. `tests/layers/test_compat.py` asks each question in
every situation that it is meant to tell apart, so that a new version which answers
differently is noticed.
"""

import sys
from typing import Any

import torch
from torch import Tensor, nn

_STRAIGHT_TO_CPU = {"CPU", "ADInplaceOrView", "AutogradCPU", "AutocastCPU"}


def is_plain(input: Tensor) -> bool:
    """Whether ``input`` is an ordinary CPU tensor in plain eager mode.

    Painting writes into memory by its layout, which is right for such a tensor only: a
    compiler or tracer would record the writes as constants, and torch.func or a
    dispatch mode hands in tensors that stand for others.

    The dispatcher knows. Whatever is at work puts a key of its own in front of the
    keys that lead to the CPU's kernels: vmap, grad and functionalize; FakeTensorMode,
    make_fx, selective checkpointing and every other mode. (BackendSelect is there in
    inference mode, where autograd is not.) There is no public question for this.
    """
    if torch.compiler.is_compiling() or type(input) not in (Tensor, nn.Parameter):
        return False
    if torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
        return False
    # Private: torch._C._dispatch_*.
    keys = torch._C._dispatch_keys(input) | torch._C._dispatch_tls_local_include_set()
    keys = keys - torch._C._dispatch_tls_local_exclude_set()
    backend_select = torch._C.DispatchKey.BackendSelect
    if keys.has(backend_select):
        keys = keys.remove(backend_select)
    return keys.highestPriorityTypeId().name in _STRAIGHT_TO_CPU


def transforms() -> set[str]:
    """The transforms of torch.func at work: "Vmap", "Grad", "Jvp", "Functionalize".

    Not for code that is being compiled.
    """
    # Private: the stack of transforms. torch.rand(..., generator=g) does not refuse.
    functorch: Any = getattr(torch._C, "_functorch")  # noqa: B009  no stub has it
    return {level.key().name for level in functorch.get_interpreter_stack() or ()}


def is_vmapped() -> bool:
    """Whether torch.func.vmap is at work. Not for code that is being compiled."""
    return "Vmap" in transforms()


def is_traced() -> bool:
    """Whether torch.jit.trace or make_fx records what is done."""
    # Private: the mode of make_fx. An explicit generator would become a constant.
    from torch.fx.experimental import proxy_tensor

    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    # The name in PyTorch 2.4, and the one since then, where the first means less.
    old = proxy_tensor.get_innermost_proxy_mode
    mode = getattr(proxy_tensor, "get_proxy_mode", old)()
    return tracing or mode is not None


def is_inside_backward() -> bool:
    """Whether a backward pass is running, as in the second pass of a checkpoint."""
    # Private: -1 outside. There is no public question.
    return bool(torch._C._current_graph_task_id() != -1)


def version(input: Tensor) -> int:
    """How often ``input`` was written in place; 0 where nobody counts."""
    # Private: Tensor._version. Inference tensors and compilers keep no count.
    if torch.compiler.is_compiling() or input.is_inference():
        return 0
    return int(input._version)


def is_dtensor(input: Any) -> bool:
    """Whether ``input`` is a DTensor; does not import torch.distributed."""
    # Not private since PyTorch 2.5, but its import takes half a second.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(input, getattr(module, "DTensor", ()))
