"""Faults of the statistics and of the layers that chapter 5 has to catch."""

from faults import Fault

MAIN = "05_which_one"
STATISTICS = "course/study/statistics.py"
PRODUCT = "return input.mul_(weights) if inplace else input * weights"

FAULTS = [
    Fault(
        "study: control minus treatment",
        STATISTICS,
        "treatment[seed] - control[seed]",
        "control[seed] - treatment[seed]",
        MAIN,
        "assert all(f.low > 0 for c in CONTROLS",
    ),
    Fault(
        "study: intervals of 5 %",
        STATISTICS,
        "CONFIDENCE = 0.95",
        "CONFIDENCE = 0.05",
        MAIN,
        "assert not any(f.low > 0 for c in CONTROLS",
    ),
    Fault(
        "study: verdicts in the place of corrected p values",
        STATISTICS,
        "corrected = holm(np.array([result.p_value for result in results]))",
        "corrected = np.array([result.p_value < 0.05 for result in results])",
        MAIN,
        '"planned"',
    ),
    Fault(
        "study: ends of intervals exchanged",
        STATISTICS,
        "return float(interval.low), float(interval.high)\n\n\ndef mean_interval",
        "return float(interval.high), float(interval.low)\n\n\ndef mean_interval",
        MAIN,
        "before_the_norm.low < 0",
    ),
    Fault(
        "mask: large values are cut",
        "_product.py",
        PRODUCT,
        "return input.clamp(max=0.05) * weights",
        MAIN,
        "one output",
    ),
    Fault(
        "mask: a gradient that does not know it",
        "_product.py",
        PRODUCT,
        "return input + (input * weights - input).detach()",
        MAIN,
        "one gradient",
    ),
]
