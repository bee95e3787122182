"""Requests as one trie of tokens, so that shared tokens are computed once.

A few-shot header, an item, its options, the truncations of a chain of thought: all share prefixes. Each node
is a sequence of tokens without a branch; the path from the root to a node spells a request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from solon.models.base import Tokens

ScoreRequest = tuple[Tokens, Tokens]  # a prompt and the reply to score after it


@dataclass(slots=True, eq=False)
class Node:
    """A sequence of tokens that begins at `depth`. Those at `scored_from` or deeper belong to a reply."""

    tokens: Tokens
    depth: int
    scored_from: int
    children: list[Node] = field(default_factory=list)
    size: int = 0  # tokens of the node and all below it

    @property
    def end(self) -> int:
        """The depth after its last token."""
        return self.depth + len(self.tokens)

    def walk(self) -> Iterator[Node]:
        """Yield the node and all below it, parents first, each subtree in one piece."""
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
        """The number of tokens that are computed."""
        return self.root.size


def build_trie(requests: Sequence[ScoreRequest]) -> Trie:
    """Build the trie of requests.

    >>> trie = build_trie([((1, 2), (3,)), ((1, 2), (4, 5)), ((1, 2), (3, 6))])
    >>> [(node.tokens, node.depth, node.size) for node in trie.root.walk()]
    [((1, 2), 0, 6), ((3,), 2, 2), ((6,), 3, 1), ((4, 5), 2, 2)]
    >>> trie.unique_tokens, [len(path) for path in trie.paths]
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
        node = Node(first[depth:shared], depth, min(len(requests[index][0]) for index in order[low:high]))
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

    `positions` are depths in the whole trie. `ends[i]` is the index after the last descendant of token i, so
    token j attends to token i exactly when i <= j < ends[i]. `parents[i]` is the index of token i's parent,
    -1 outside the row. `starts` are the indices of the first tokens of `nodes`.
    """

    nodes: list[Node]
    starts: list[int]
    tokens: Tokens
    positions: Tokens
    ends: Tokens
    parents: Tokens


def build_row(tops: Sequence[Node], above: Sequence[Node] = ()) -> TrieRow:
    """One row of subtrees with the same ancestors; the nodes of `above` come before them.

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

    def append(node: Node, parent: int, size: int) -> int:
        """Append a node with `size` tokens in and below it; returns the index of its last token."""
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
        last = append(node, last, whole - len(tokens))
    stack = [(top, last) for top in reversed(tops)]
    while stack:
        node, parent = stack.pop()
        last = append(node, parent, node.size)
        stack += [(child, last) for child in reversed(node.children)]
    return TrieRow(nodes, starts, tuple(tokens), tuple(positions), tuple(ends), tuple(parents))
