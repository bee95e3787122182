"""Requests laid in one trie of tokens, so that what they share is computed once.

A few-shot header, an item, its options, the truncations of a chain of thought: all are prefixes of one
another's sequences. Each node holds a run of tokens without a branch; a path from the root spells a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from solon.models.base import Tokens

ScoreRequest = tuple[Tokens, Tokens]  # a prompt, and the reply to be scored after it


@dataclass(slots=True, eq=False)
class Node:
    """A run of tokens from `depth` on. Those at `scored_from` or deeper belong to a reply of some request."""

    tokens: Tokens
    depth: int
    scored_from: int
    children: list[Node] = field(default_factory=list)
    size: int = 0  # tokens of the node and all below it

    @property
    def end(self) -> int:
        """The depth one past its last token."""
        return self.depth + len(self.tokens)

    def walk(self) -> Iterator[Node]:
        """The node and all below it, parents first and subtrees together."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack += reversed(node.children)


@dataclass(frozen=True, slots=True)
class Trie:
    """The root, and for each request the nodes from the root to its last token."""

    root: Node
    paths: list[list[Node]]

    @property
    def unique_tokens(self) -> int:
        """How many tokens are computed."""
        return self.root.size


def build_trie(requests: Sequence[ScoreRequest]) -> Trie:
    """Lay requests in a trie.

    >>> found = build_trie([((1, 2), (3,)), ((1, 2), (4, 5)), ((1, 2), (3, 6))])
    >>> [(node.tokens, node.depth, node.size) for node in found.root.walk()]
    [((1, 2), 0, 6), ((3,), 2, 2), ((6,), 3, 1), ((4, 5), 2, 2)]
    >>> found.unique_tokens, [len(path) for path in found.paths]
    (6, [2, 2, 3])
    """
    if not requests:
        return Trie(Node((), 0, 0), [])
    sequences = [prompt + reply for prompt, reply in requests]
    order = sorted(range(len(requests)), key=sequences.__getitem__)
    paths: list[list[Node]] = [[] for _ in requests]
    root = Node((), 0, 0)
    # ranges of `order` that share the path so far
    waiting: list[tuple[int, int, list[Node]]] = [(0, len(order), [])]
    while waiting:
        low, high, path = waiting.pop()
        depth = path[-1].end if path else 0
        first, last = sequences[order[low]], sequences[order[high - 1]]
        shared = depth + sum(
            1
            for _ in takewhile(
                lambda pair: pair[0] == pair[1], zip(first[depth:], last[depth:], strict=False)
            )
        )
        node = Node(first[depth:shared], depth, min(len(requests[place][0]) for place in order[low:high]))
        if path:
            path[-1].children.append(node)
        else:
            root = node
        path = [*path, node]
        while low < high and len(sequences[order[low]]) == shared:  # these end here
            paths[order[low]] = path
            low += 1
        ranges = []
        while low < high:
            token, stop = sequences[order[low]][shared], low + 1
            while stop < high and sequences[order[stop]][shared] == token:
                stop += 1
            ranges.append((low, stop, path))
            low = stop
        waiting += reversed(ranges)
    for node in reversed(list(root.walk())):
        node.size = len(node.tokens) + sum(child.size for child in node.children)
    return Trie(root, paths)


@dataclass(frozen=True, slots=True)
class TrieRow:
    """Subtrees in one row, parents before children, each subtree in one piece.

    `positions` are depths in the whole trie; `ends[i]` is one past the last place of what stands below token
    i, so that place j sees i exactly when i <= j < ends[i]; `parents[i]` is the place before it on its path,
    -1 outside the row.
    """

    nodes: list[Node]
    starts: list[int]
    tokens: Tokens
    positions: Tokens
    ends: Tokens
    parents: Tokens


def build_row(tops: Sequence[Node], above: Sequence[Node] = ()) -> TrieRow:
    """One row of subtrees that stand below the same nodes, the nodes of `above` before them.

    >>> row = build_row([build_trie([((1, 2), (3,)), ((1, 2), (4, 5))]).root])
    >>> row.tokens, row.positions, row.ends, row.parents
    ((1, 2, 3, 4, 5), (0, 1, 2, 2, 3), (5, 5, 3, 5, 5), (-1, 0, 1, 1, 3))
    """
    nodes: list[Node] = []
    starts: list[int] = []
    tokens: list[int] = []
    positions: list[int] = []
    ends: list[int] = []
    parents: list[int] = []

    def put(node: Node, parent: int, size: int) -> int:
        """Add a node with `size` tokens in and below it; returns the place of its last token."""
        start = len(tokens)
        nodes.append(node)
        starts.append(start)
        tokens.extend(node.tokens)
        positions.extend(range(node.depth, node.end))
        ends.extend([start + size] * len(node.tokens))
        parents.extend([parent, *range(start, len(tokens) - 1)][: len(node.tokens)])
        return len(tokens) - 1 if node.tokens else parent

    whole, last = sum(len(node.tokens) for node in above) + sum(top.size for top in tops), -1
    for node in above:
        last = put(node, last, whole - len(tokens))
    stack = [(top, last) for top in reversed(tops)]
    while stack:
        node, parent = stack.pop()
        last = put(node, parent, node.size)
        stack += [(child, last) for child in reversed(node.children)]
    return TrieRow(nodes, starts, tuple(tokens), tuple(positions), tuple(ends), tuple(parents))
