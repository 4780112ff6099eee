"""Where a mask stands: chapter 5's second and third exercise, chapter 4's seventh.

The modules are judged by what comes out of them. A branch is known from the learner's
own weights, so that each sample tells exactly which of its branches fell.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regdrop_lite import DropBlock2d
from regdrop_lite.course.check.core import (
    Hopeless,
    Report,
    Wrong,
    ask,
    judge,
    rate_bound,
    require,
    show,
    signed,
    the_class,
)
from regdrop_lite.course.check.properties import as_list, as_number, require_blocks

__all__ = ["place_and_train", "place_block", "place_path"]

# --- exercise 2: DropPath in a block --------------------------------------------------

_SAMPLES, _P = 2000, 0.25


def _made(made_by: Callable[..., Any], name: str, *args: Any, **named: Any) -> Any:
    """The learner's module in float64."""
    block = ask(the_class(made_by, name), *args, **named)
    if not isinstance(block, nn.Module):
        raise Hopeless(f"expected the class {name}, got a function of {show(block)}")
    return block.double()


def _branches(block: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """What the two branches add, by the block's own weights."""
    with torch.no_grad():
        try:
            y = block.norm(x)
            mixed = block.mix(y.transpose(1, 2)).transpose(1, 2)
            return block.scale1 * mixed, block.scale2 * block.mlp(y)
        except AttributeError as error:
            raise Hopeless(
                f"expected the parts of the block under their names, but {error}"
            ) from error


def place_path(my_block: Callable[..., Any]) -> Report:
    """Check the exercise "Place DropPath in a block that you have not met".

    Args:
        my_block: the class, made as ``my_block(dim, p)`` or
            ``my_block(dim, p, skip=False)``.

    Returns:
        A report of eight checks. Each looks at a batch of 2,000 samples.
    """
    x = signed(_SAMPLES, 5, 6)
    seen: dict[tuple[float, bool], tuple[Any, Tensor, Tensor, Tensor]] = {}

    def run(p: float, skip: bool = True) -> tuple[Any, Tensor, Tensor, Tensor]:
        if (p, skip) not in seen:
            block = _made(my_block, "MyBlock", 6, p, skip=skip)
            with torch.no_grad():  # biases and scales that no sum hides
                block.mlp[-1].bias.fill_(0.7)
            a, b = _branches(block, x)
            y = ask(block.train(), x.clone())
            if not isinstance(y, Tensor) or y.shape != x.shape:
                raise Hopeless(f"expected the shape of x, got {show(y)}")
            seen[p, skip] = block, a, b, y.detach()
        return seen[p, skip]

    def shares() -> tuple[Tensor, Tensor]:
        """For each sample by what its two branches were multiplied."""
        _, a, b, y = run(_P)
        parts = torch.stack([a, b], -1).flatten(1, 2)  # (N, 30, 2)
        found = torch.linalg.lstsq(parts, (y - x).flatten(1)[..., None]).solution
        return found[:, 0, 0], found[:, 1, 0]

    def check_place() -> None:
        _, a, b, y = run(_P)
        if torch.allclose(y, x + a + b):
            raise Hopeless("not written yet: in training nothing falls")
        first, second = shares()
        built = x + first[:, None, None] * a + second[:, None, None] * b
        odd = (~torch.isclose(built, y).all(dim=2)).any(dim=1)
        if not odd.any():
            return
        text = "expected x and whole branches, got samples that are something else: "
        if (y.flatten(1) == 0).all(dim=1).any():
            raise Hopeless(text + "all zeros: the mask takes the skip, too")
        gone = (y - x)[odd].abs() < 1e-9
        if gone.any():
            raise Hopeless(text + "single values or tokens fall, not whole branches")
        without = (y[odd] - a[odd] - b[odd]).abs().flatten(1).amax(dim=1) < 1e-9
        if without.any():
            raise Hopeless(text + "the branches without x: the mask is on the skip")
        raise Hopeless(
            text + "a branch adds something after it fell: a mask in front of a norm, "
            "or of a layer with a bias, does not silence it"
        )

    def falls_as_one() -> bool:
        """Whether all samples of a batch share their fate, in each of 40 calls."""
        block, *_ = run(_P)
        outputs = ask(block, x[:4].clone(), times=40)
        added = torch.stack(outputs).detach() - x[:4]  # (40, 4, T, C)
        whole = added.flatten(2).abs().amax(dim=2) < 1e-9
        return bool(whole.any() and torch.equal(whole, whole[:, :1].expand_as(whole)))

    def check_own() -> None:
        if falls_as_one():
            return  # what falls together is told by the check of the samples
        first, second = shares()
        fell = [share.abs() < 1e-6 for share in (first, second)]
        for name, one in zip(("mix", "mlp"), fell, strict=True):
            require(one.any(), f"expected two masks, but the branch of {name} stays")
            require(not one.all(), f"the branch of {name} falls in every sample")
        require(
            not torch.equal(*fell),
            "expected a coin for each branch, got both falling together: one mask for "
            "their sum, or one draw used twice",
        )
        both = (fell[0] & fell[1]).double().mean().item()
        alone = fell[0].double().mean().item() * fell[1].double().mean().item()
        require(
            abs(both - alone) < rate_bound(0.1, _SAMPLES),
            f"expected independent coins, but both fall in {both:.2f} of the samples, "
            f"not in {alone:.2f}",
        )

    def check_rate() -> None:
        if falls_as_one():
            return
        for name, share in zip(("mix", "mlp"), shares(), strict=True):
            got = (share.abs() < 1e-6).double().mean().item()
            if got == 0 or abs(got - _P) < rate_bound(_P, _SAMPLES):
                continue
            known = {
                1 - _P: "p is the probability to drop, not to keep",
                1 - (1 - _P) ** 2: "two masks in a row, or one that is called twice",
                _P / 2: "the rate was halved: each branch has the full one",
            }
            text = f"expected that the branch of {name} falls with {_P}, got {got:.3f}"
            for rate, cause in known.items():
                if abs(got - rate) < rate_bound(rate, _SAMPLES):
                    raise Wrong(f"{text}: {cause}")
            raise Wrong(f"{text}: is p handed on to the layer?")

    def check_scale() -> None:
        q = 1 - _P
        known = {
            1.0: "no scale, so that evaluation is too loud",
            1 / q**2: "it was scaled twice",
            q: "it was multiplied by q instead of divided",
            1 / _P: "it was divided by p",
        }
        for name, share in zip(("mix", "mlp"), shares(), strict=True):
            for got in share[share.abs() > 1e-6][:50].tolist():
                if math.isclose(got, 1 / q) or (share.abs() > 1e-6).all():
                    continue
                text = f"expected a kept branch of {name} times {1 / q:.4f}, got "
                text += f"{got:.4f}"
                for scale, cause in known.items():
                    if math.isclose(got, scale):
                        raise Wrong(f"{text}: {cause}")
                raise Wrong(f"{text}: what multiplies it?")

    def check_samples() -> None:
        require(
            not falls_as_one(),
            "expected a coin for each sample, got one for the whole batch",
        )

    def check_evaluation() -> None:
        block, a, b, _ = run(_P)
        y = ask(block.eval(), x.clone())
        block.train()
        require(
            torch.allclose(y, x + a + b),
            "expected x plus both branches in evaluation, got something else: is the "
            "mask a layer, and does eval() reach it?",
        )

    def check_no_skip() -> None:
        _, a, b, y = run(_P, skip=False)
        if torch.allclose(y, a + b):
            return
        require(
            not (y.flatten(1) == 0).all(dim=1).any(),
            "without a skip expected both branches whole, got samples that are lost: "
            "nothing goes around the mask",
        )
        raise Wrong("without a skip expected the sum of both branches, without a mask")

    def check_ends() -> None:
        _, a, b, y = run(0.0)
        require(torch.allclose(y, x + a + b), "at p = 0 expected that nothing falls")
        *_, y = run(1.0)
        require(not y.isnan().any(), "at p = 1 expected x, got NaN: 0 times 1/0")
        require(torch.allclose(y, x), "at p = 1 expected x alone, got more")

    return judge(
        {
            "place": check_place,
            "own coins": check_own,
            "rate": check_rate,
            "scale": check_scale,
            "samples": check_samples,
            "evaluation": check_evaluation,
            "no skip": check_no_skip,
            "ends": check_ends,
        }
    )


# --- exercise 3: DropBlock in a U-Net -------------------------------------------------


@contextmanager
def _watched(net: nn.Module) -> Iterator[dict[str, Tensor]]:
    """What goes into the parts of the net, and out of them."""
    seen: dict[str, Tensor] = {}

    def hook(name: str, args: Any, output: Any) -> None:
        seen[f"{name} in"], seen[f"{name} out"] = args[0].detach(), output.detach()

    handles = []
    for name in ("down1", "down2", "bottom", "up2", "up1", "head"):
        part = getattr(net, name, None)
        if not isinstance(part, nn.Module):
            raise Hopeless(f"expected the part {name} of the net under its name")
        handles.append(
            part.register_forward_hook(lambda _, a, y, name=name: hook(name, a, y))
        )
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def place_block(my_unet: Callable[..., Any]) -> Report:
    """Check the exercise "Put DropBlock where the maps are coarse".

    Args:
        my_unet: the class, made as ``my_unet(p, k)``.

    Returns:
        A report of eight checks, on 200 images of 16 x 16.
    """
    p, k, x = 0.2, 3, signed(200, 1, 16, 16)
    found: dict[bool, tuple[dict[str, Tensor], Tensor]] = {}

    def run(training: bool = True) -> tuple[dict[str, Tensor], Tensor]:
        if training not in found:
            net = _made(my_unet, "MyUNet", p, k)
            with _watched(net) as seen:
                with torch.no_grad():  # positive maps: only a mask makes zeros
                    for name in ("down1", "down2", "bottom", "up2", "up1"):
                        getattr(net, name).bias.fill_(9.0)
                        getattr(net, name).weight.mul_(0.2)
                output = ask(net.train(training), x.clone())
            if not isinstance(output, Tensor) or output.shape != x.shape:
                raise Hopeless(f"expected a map like x, got {show(output)}")
            missing = [n for n in ("up2", "up1", "head") if f"{n} out" not in seen]
            require(not missing, f"expected that all parts are used, not {missing}")
            found[training] = seen, output.detach()
        return found[training]

    def fell(name: str, training: bool = True) -> Tensor:
        """Where the maps from below that reach ``name`` are zero, (N, C, H, W)."""
        seen, _ = run(training)
        below = {"up2": seen["bottom out"], "up1": seen["up2 out"]}[name]
        arrived: Tensor = seen[f"{name} in"][:, : below.shape[1], ::2, ::2] == 0
        return arrived

    def check_bottom() -> None:
        if not any((run()[0][f"{n} in"] == 0).any() for n in ("up2", "up1", "head")):
            seen, output = run()
            whole = not any((seen[f"{n} in"] == 0).any() for n in ("down2", "bottom"))
            if whole and torch.equal(output, seen["head out"]):
                raise Hopeless("not written yet: in training nothing falls")
        require(
            fell("up2").any(),
            "expected that blocks of the deepest maps fall before they are enlarged, "
            "but none does",
        )

    def check_decoder() -> None:
        require(
            fell("up1").any(),
            "expected that blocks fall after up2, but its maps arrive whole in up1",
        )

    def check_skips() -> None:
        seen, _ = run()
        for name, down in (("up2", "down2"), ("up1", "down1")):
            skip = F.relu(seen[f"{down} out"])
            arrived = seen[f"{name} in"][:, -skip.shape[1] :]
            require(
                torch.equal(arrived, skip),
                f"expected the long skip from {down} to {name} whole, got it masked: "
                "the mask stands in front of the skip, or after the concatenation",
            )

    def check_rest() -> None:
        seen, output = run()
        require(
            torch.equal(seen["down1 in"], x), "expected the image whole, not masked"
        )
        for name, before in (("down2", "down1"), ("bottom", "down2")):
            pooled = F.max_pool2d(F.relu(seen[f"{before} out"]), 2)
            require(
                torch.equal(seen[f"{name} in"], pooled),
                f"expected that {name} gets whole maps, but the mask stands in the "
                "encoder",
            )
        require(
            torch.equal(seen["head in"], F.relu(seen["up1 out"])),
            "expected that the head gets whole maps, but a mask stands in front of it",
        )
        require(
            torch.equal(output, seen["head out"]),
            "expected the answer of the head as it is, but pixels of the answer fall",
        )

    def check_blocks(name: str, side: int) -> None:
        mask = fell(name)
        require(mask.any(), "nothing falls here, so there are no blocks to look at")
        try:
            require_blocks(mask.flatten(0, 1), side)
        except Wrong as wrong:
            more = ": here maps are twice as large, and so is the block"
            raise Wrong(f"{wrong}{more if name == 'up1' else ''}") from None

    def check_rate() -> None:
        for name, part in (("up2", "bottom"), ("up1", "up2")):
            shares = fell(name).double().mean(dim=(2, 3)).flatten()
            got, error = shares.mean().item(), shares.std().item() / len(shares) ** 0.5
            if got and abs(got - p) > 5 * error:
                known = {
                    1 - p: "p is the probability to drop",
                    p / 2: "the rate was halved",
                    1 - (1 - p) ** 2: "the mask is there twice",
                }
                text = f"expected that {p} of the maps of {part} fall, got {got:.3f}"
                for rate, cause in known.items():
                    if abs(got - rate) < 5 * error:
                        raise Wrong(f"{text}: {cause}")
                raise Wrong(f"{text}: is p handed on?")

    def check_evaluation() -> None:
        require(
            not fell("up2", False).any() and not fell("up1", False).any(),
            "expected whole maps in evaluation, but blocks fall: is the mask a layer?",
        )

    return judge(
        {
            "bottom": check_bottom,
            "decoder": check_decoder,
            "skips": check_skips,
            "rest": check_rest,
            "blocks at the bottom": partial(check_blocks, "up2", k),
            "blocks in the decoder": partial(check_blocks, "up1", 2 * k),
            "rate": check_rate,
            "evaluation": check_evaluation,
        }
    )


# --- chapter 4, exercise 7: DropBlock in a net that is trained ------------------------


def _recorded(net: nn.Module) -> tuple[dict[str, Tensor], list[tuple[float, ...]]]:
    """Tensors of the last pass by the parts' names; the rates of all passes."""
    seen: dict[str, Tensor] = {}
    rates: list[tuple[float, ...]] = []
    parts = dict(net.named_modules())
    drops = [part for part in parts.values() if isinstance(part, DropBlock2d)]
    for name, part in parts.items():
        if name in ("conv1", "conv2", "head") or isinstance(part, DropBlock2d):

            def hook(_: nn.Module, args: Any, y: Tensor, name: str = name) -> None:
                seen[f"{name} in"], seen[f"{name} out"] = args[0].detach(), y.detach()

            part.register_forward_hook(hook)
    net.register_forward_hook(lambda *_: rates.append(tuple(d.p for d in drops)))
    return seen, rates


def place_and_train(my_net: Callable[..., Any], train: Callable[..., Any]) -> Report:
    """Check the exercise "Put it into a net, and train it".

    Args:
        my_net: the class, made as ``my_net(p, k)``, with the parts ``conv1``, ``conv2``
            and ``head``.
        train: called as ``train(net, images, labels, steps)``; returns the rate of each
            step.
    """
    p, k, steps, x = 0.2, 6, 12, signed(16, 1, 28, 28)
    labels = torch.arange(16) % 10

    def made() -> tuple[nn.Module, dict[int, str]]:
        """The net, and the names of its DropBlocks by the width of their maps."""
        net = _made(my_net, "MyNet", p, k)
        parts = net.named_modules()
        names = [name for name, part in parts if isinstance(part, DropBlock2d)]
        if not names:
            raise Hopeless("not written yet: there is no DropBlock2d in the net")
        missing = {"conv1", "conv2", "head"} - {name for name, _ in net.named_modules()}
        if missing:
            raise Hopeless(f"expected the parts {sorted(missing)} under their names")
        seen, _ = _recorded(net)
        ask(net.train(), x)
        used = [name for name in names if f"{name} in" in seen]
        return net, {seen[f"{name} in"].shape[-1]: name for name in used}

    def check_place(conv: str, width: int) -> None:
        net, drops = made()
        require(
            width in drops,
            f"expected a DropBlock2d on the maps that are {width} wide, got none",
        )
        seen, _ = _recorded(net)
        ask(net.train(), x)
        require(
            torch.equal(seen[f"{drops[width]} in"], F.relu(seen[f"{conv} out"])),
            f"expected that the mask gets what the ReLU after {conv} gives",
        )
        masked = seen[f"{drops[width]} out"]
        if width == 14:
            arrived = torch.equal(seen["conv2 in"], masked)
        else:
            arrived = torch.allclose(seen["head in"], masked.mean(dim=(2, 3)))
        require(
            arrived, f"expected that the masked maps of {conv} are used, got others"
        )

    def check_sizes() -> None:
        net, drops = made()
        require(len(drops) == 2, "expected a DropBlock2d in each of the two stages")
        sizes = {w: net.get_submodule(name).block_size for w, name in drops.items()}
        right = {14: k, 7: k // 2}
        require(
            sizes != {14: k, 7: k},
            f"expected a smaller block on the maps that are 7 wide, got {k} on both: "
            "there it covers twice as much of the image",
        )
        require(sizes == right, f"expected sides {right} by width, got {sizes}")

    def check_evaluation() -> None:
        net, _ = made()
        with torch.no_grad():
            y = ask(net.eval(), x)
            first = F.relu(net.get_submodule("conv1")(x))
            maps = F.relu(net.get_submodule("conv2")(first))
            plain = net.get_submodule("head")(maps.mean(dim=(2, 3)))
        require(torch.allclose(y, plain), "expected that in evaluation nothing changes")

    def trained() -> tuple[Any, list[tuple[float, ...]]]:
        net, _ = made()
        _, used = _recorded(net)
        rates = ask(train, net.train(), x, labels, steps)
        require(
            len(used) == steps,
            f"expected {steps} passes of the net for {steps} steps, got {len(used)}",
        )
        return rates, used

    def same(got: Sequence[tuple[float, ...]], right: Sequence[float]) -> bool:
        pairs = zip(got, right, strict=True)
        return all(math.isclose(a, b, abs_tol=1e-9) for r, b in pairs for a in r)

    def check_ramp() -> None:
        _, used = trained()
        half, times = steps // 2, range(steps)
        if same(used, [p * min(t / half, 1) for t in times]):
            return
        known = {
            "the rate does not move: is ramp.step() called?": [0.0] * steps,
            "the full rate all the time: is there a ramp?": [p] * steps,
            "one step early: the first step is trained at rate 0, so the ramp moves "
            "after it": [p * min((t + 1) / half, 1) for t in times],
            "the ramp takes all steps, not the first half": [
                p * t / steps for t in times
            ],
        }
        for cause, slip in known.items():
            require(not same(used, slip), cause)
        shown = [round(rates[0], 3) for rates in used[:3]]
        raise Wrong(
            f"expected the rates 0, {p / half:.3f}, …, got {shown} at the start"
        )

    def check_log() -> None:
        answer, used = trained()
        rates = as_list(answer, "a list of rates")
        require(
            len(rates) == steps, f"expected {steps} rates in the log, got {len(rates)}"
        )
        log = [(as_number(rate),) for rate in rates]
        right = [one[0] for one in used]
        require(
            not (same(log[:-1], right[1:]) and not same(log, right)),
            "the log has the rate of the next step: read it before the ramp moves",
        )
        require(
            same(log, right),
            "expected in the log the rates with which the steps were trained",
        )

    return judge(
        {
            "first stage": partial(check_place, "conv1", 14),
            "second stage": partial(check_place, "conv2", 7),
            "block sizes": check_sizes,
            "evaluation": check_evaluation,
            "ramp": check_ramp,
            "log": check_log,
        }
    )
