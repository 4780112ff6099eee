"""What the model answers say of the code that they hand out is true."""

import re
from pathlib import Path

import torch

ANSWERS = Path(__file__).parents[2] / "book" / "teach" / "answers"
P, N, C = 0.3, 400, 64


def versions():
    """The functions that chapter 1's sheet hands out, by their letter."""
    text = (ANSWERS / "chapter_1.md").read_text(encoding="utf-8")
    names = {"torch": torch}
    for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S):
        exec(block, names)
    return {name[-1]: f for name, f in names.items() if name.startswith("version_")}


def test_each_version_breaks_what_the_answer_says():
    """N * C = 25,600 masks: a share is off by 0.003 once in a standard deviation."""
    x = torch.ones(N, C, 2, 2)
    y = {
        letter: f(x, P, generator=torch.Generator().manual_seed(1))
        for letter, f in versions().items()
    }
    assert set(y) == {"a", "b", "c"}
    fell = {letter: (out == 0).all(dim=(2, 3)) for letter, out in y.items()}
    # A: all channels of a sample together, at the right rate and with the right mean.
    assert (fell["a"].all(1) | ~fell["a"].any(1)).all()
    assert abs(fell["a"].float().mean() - P) < 4 * (P * (1 - P) / N) ** 0.5
    assert torch.allclose(y["a"][~fell["a"]], torch.tensor(1 / (1 - P)))
    # B: the right channels without the scale.
    assert abs(fell["b"].float().mean() - P) < 0.012
    assert torch.equal(y["b"].unique(), torch.tensor([0.0, 1.0]))
    # C: keep and drop are swapped.
    assert abs(fell["c"].float().mean() - (1 - P)) < 0.012
    assert abs(y["c"].mean() - P / (1 - P)) < 0.02
