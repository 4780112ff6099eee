"""Where a layer stands: on a branch, on the skip, or on the only way.

Autograd's graph of one forward pass is asked. It knows which values were added and what
went into them, whatever the modules are called.
"""

import re
from collections import deque
from collections.abc import Iterable
from typing import Any

from torch import Tensor

_NORM = re.compile(r"(Batch|Layer|Group|Instance|Rms|RMS)_?Norm")
_JOIN = re.compile(r"(Add|Sub|Cat|Stack)Backward")
Node = Any


class Graph:
    """The graph behind some outputs; it keeps the nodes alive, so that `is` works."""

    def __init__(self, outputs: Iterable[Tensor]) -> None:
        self.consumers: dict[Node, list[Node]] = {}
        self.order: list[Node] = []  # inputs before outputs
        for output in outputs:
            if output.grad_fn is not None:
                self._walk(output.grad_fn)

    def _walk(self, root: Node) -> None:
        stack: list[tuple[Node, bool]] = [(root, False)]
        while stack:
            node, done = stack.pop()
            if done:
                self.order.append(node)
            elif node not in self.consumers:
                self.consumers[node] = []
                stack.append((node, True))
                stack += [(n, False) for n in _inputs(node)]
        # Every edge once, when all nodes are known.
        for nodes in self.consumers.values():
            nodes.clear()
        for node in self.order:
            for source in dict.fromkeys(_inputs(node)):
                self.consumers[source].append(node)

    def place(self, tag: Node | None, weights: set[int]) -> str:
        """The place of the layer whose output has the node ``tag``.

        ``weights`` are the ids of the parameters. The layer is followed to the first
        sum (or concatenation) that it reaches by some of the terms only, and whose
        other terms come from a common source with it. If only the terms with the layer
        have parameters of their own, it is on a branch; if only the others have, it is
        on the skip. Where both have, or at a concatenation, something goes around the
        layer, and more is not said. Without such a sum everything goes through it.
        """
        if tag is None or tag not in self.consumers:
            return "unknown"
        after = self._reach([tag], self.consumers.__getitem__)
        source = self._reach([tag], _inputs)
        for node in self.order:
            if node is tag or node not in after or not _JOIN.match(node.name()):
                continue
            terms = list(_inputs(node))
            through = self._reach([t for t in terms if t in after], _inputs)
            around = self._reach([t for t in terms if t not in after], _inputs)
            common = {n for n in source & around if not _is_leaf(n, weights)}
            if not common:  # nothing goes around, or a position embedding is added
                continue
            mine = any(_is_leaf(n, weights) for n in through - around)
            theirs = any(_is_leaf(n, weights) for n in around - through)
            if (mine and theirs) or not node.name().startswith(("Add", "Sub")):
                return "branch, weights around"
            if theirs or (not mine and not len((source - around) - {tag})):
                return "skip"
            return "branch"
        return "main path"

    def norm(self, tag: Node | None) -> str:
        """The kind of the nearest normalisation after the layer, or ``"-"``."""
        if tag is None or tag not in self.consumers:
            return "unknown"
        seen, queue = {tag}, deque([tag])
        while queue:
            node = queue.popleft()
            found = _NORM.search(node.name())
            if found:
                return found.group(0).replace("_", "")
            for consumer in self.consumers[node]:
                if consumer not in seen:
                    seen.add(consumer)
                    queue.append(consumer)
        return "-"

    def _reach(self, starts: list[Node], step: Any) -> set[Node]:
        seen, stack = set(starts), list(starts)
        while stack:
            for node in step(stack.pop()):
                if node not in seen:
                    seen.add(node)
                    stack.append(node)
        return seen


def _inputs(node: Node) -> Iterable[Node]:
    return [source for source, _ in node.next_functions if source is not None]


def _is_leaf(node: Node, weights: set[int]) -> bool:
    return id(getattr(node, "variable", None)) in weights
