"""Faults that the chapters have to catch, one file for each chapter."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A replacement in one file, and the words of the assertion that has to fail."""

    name: str
    file: str
    old: str
    new: str
    notebook: str
    words: str
    cell: str = ""  # how to find the cell, where its source lacks the words
