"""What all tests share: one seed, and bounds of four sigma.

The seed was fixed before any test ran. A test that fails at four sigma has found
something; another seed is never the remedy.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist

import pytest
import torch
from hypothesis import settings
from torch import Tensor

SEED = 20261122
TAIL = 2.0 * NormalDist().cdf(-4.0)  # 6.3e-5

# A quarter of the examples is enough while somebody works; CI takes them all.
for name, examples in (("local", 50), ("ci", 200)):
    settings.register_profile(
        name, max_examples=examples, derandomize=True, deadline=None, database=None
    )
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def seed_the_global_generator() -> None:
    """No test depends on the one before it, or on luck."""
    torch.manual_seed(SEED)


@pytest.fixture
def float64() -> Iterator[None]:
    """The notebooks of the book work in float64; the other tests do not."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def generator() -> torch.Generator:
    """A fresh CPU generator."""
    return torch.Generator().manual_seed(SEED)


@pytest.fixture
def assert_law() -> Callable[[Sequence[int], Sequence[float]], None]:
    """Pearson's test of counts against exact probabilities, which sum to 1."""

    def check(counts: Sequence[int], probabilities: Sequence[float]) -> None:
        assert abs(sum(probabilities) - 1.0) < 1e-9
        total = sum(counts)
        cells, seen, mean = [], 0, 0.0  # cells that expect less than 10 are joined
        for probability, count in sorted(zip(probabilities, counts, strict=True)):
            assert probability > 0 or count == 0, "something impossible came"
            seen, mean = seen + count, mean + total * probability
            if mean >= 10:
                cells.append((seen, mean))
                seen, mean = 0, 0.0
        assert len(cells) > 1, "nothing to test"
        statistic = sum((seen - mean) ** 2 / mean for seen, mean in cells)
        freedom = torch.tensor((len(cells) - 1) / 2, dtype=torch.float64)
        tail = torch.special.gammaincc(freedom, torch.tensor(statistic / 2).double())
        assert tail > TAIL, f"chi-square {statistic:.1f} with {len(cells)} cells"

    return check


@pytest.fixture
def assert_mean() -> Callable[[Tensor, Tensor | float, Tensor | float], None]:
    """The mean over the first dimension against its expectation, for each element.

    ``variance`` is that of one draw. The bound is four sigma for the whole family of
    elements (Bonferroni).
    """

    def check(draws: Tensor, expected: Tensor | float, variance: Tensor | float):
        draws = draws.double()
        error = (draws.mean(0) - expected).abs()
        variance = torch.as_tensor(variance, dtype=torch.float64)
        bound = -NormalDist().inv_cdf(TAIL / 2 / error.numel())
        sigma = (variance / draws.shape[0]).sqrt()
        excess = (error / sigma).max()
        assert excess <= bound, f"{excess:.2f} sigma, allowed are {bound:.2f}"

    return check
