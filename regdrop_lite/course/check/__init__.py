"""Checkers for the learners' code: what is wrong, in words that help.

Each chapter has a module here, and each of its exercises a function there, named by
what the learner builds. It takes the answer, calls it with fixed inputs and explicit
generators, and returns a :class:`~regdrop_lite.course.check.core.Report`: how many
public checks hold, and one diagnosis for each that does not. It never says that an
answer is right: checks can only find what is wrong.

They guard against slips and short cuts, not against a determined attacker: answers of
strangers are graded in a container.

Example:
    >>> from regdrop_lite.course.check import chapter_1 as check
    >>> check.trace([5.0, 0.0, -2.0, 0.0])
    public checks 2/2
"""

from regdrop_lite.course.check.core import Report

__all__ = ["Report"]
