"""Boosted trees as plain arrays: read from XGBoost's own model, walked by torch, written as ONNX.

XGBoost compares float32 values with float32 thresholds, and so do torch and onnxruntime: all three take
the same way through a tree whatever the value is. They add up the leaves in another order and precision.
"""

import json
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_LEAST_SHARE = np.float32(1e-6)
"""Of the positive rows, and of the others, as XGBoost takes them."""
_CELLS = 2**23
"""Of a table of trees by outputs: 64 MB. Above it the leaves are added up without one."""
_WALKED = 2**24
"""Trees times rows that are walked at once, at most: about 500 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """The nodes of all trees, one after the other; a leaf's children are itself.

    Attributes:
        feature: int64 [n], the column that a node looks at; 0 at a leaf.
        threshold: float32 [n], a value below it goes left.
        left, right: int64 [n], children.
        missing_left: bool [n], where a missing value goes.
        value: float32 [n], of a leaf; 0 elsewhere.
        set_start, set_size: int64 [n], which part of `members` says what codes go right; of size 0 where
            the node compares numbers.
        members: bool [m].
        roots: int64 [T], first node of each tree.
        outputs: int64 [T], which output each tree adds to.
        base: float32 [W], what the outputs are without trees.
        depth: steps from a root to the farthest leaf.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    missing_left: np.ndarray
    value: np.ndarray
    set_start: np.ndarray
    set_size: np.ndarray
    members: np.ndarray
    roots: np.ndarray
    outputs: np.ndarray
    base: np.ndarray
    depth: int

    @property
    def is_leaf(self) -> np.ndarray:
        """Which nodes are leaves: bool [n]."""
        leaf: np.ndarray = self.left == np.arange(len(self.left))
        return leaf

    @property
    def leaves(self) -> int:
        """How many leaves there are."""
        return int(self.is_leaf.sum())

    def codes(self, node: int) -> np.ndarray:
        """The codes that go right at a node that looks at a category, increasing."""
        start = self.set_start[node]
        return np.flatnonzero(self.members[start : start + self.set_size[node]])


def read_nodes(model: bytes) -> Nodes:
    """The trees of an XGBoost model in its JSON form.

    Args:
        model: from `Booster.save_raw("json")`, of as many rounds as are to answer.
    """
    learner = json.loads(model)["learner"]
    boosted = learner["gradient_booster"]["model"]
    trees = [_read_tree(tree) for tree in boosted["trees"]]
    offsets = np.cumsum([0, *(len(tree["left"]) for tree in trees)])
    places = np.cumsum([0, *(len(tree["members"]) for tree in trees)])
    for tree, offset, place in zip(trees, offsets, places, strict=False):
        tree["left"] += offset
        tree["right"] += offset
        tree["set_start"] += place
    joined = {
        name: np.concatenate([tree[name] for tree in trees]) for name in trees[0] if name != "depth"
    }
    return Nodes(
        **joined,
        roots=offsets[:-1].astype(np.int64),
        outputs=np.array(boosted["tree_info"], np.int64),
        base=_base(learner),
        depth=max(tree["depth"] for tree in trees),
    )


def _base(learner: dict[str, Any]) -> np.ndarray:
    """The constant that each output begins with, before the link function: float32 [W]."""
    settings = learner["learner_model_param"]
    read = json.loads(settings["base_score"])
    scores = np.array(read if isinstance(read, list) else [read], np.float32)
    if learner["objective"]["name"] == "binary:logistic":
        # As XGBoost does it, in float32 and not beyond its bounds: where one class is rare its trees
        # begin with something else than the log-odds.
        scores = np.clip(scores, _LEAST_SHARE, 1 - _LEAST_SHARE)
        scores = -np.log(1 / scores - 1)
    width = max(1, int(settings["num_class"]), int(settings.get("num_target", 1)))
    return np.broadcast_to(scores, width).astype(np.float32)


def _read_tree(tree: dict[str, Any]) -> dict[str, Any]:
    left = np.array(tree["left_children"], np.int64)
    right = np.array(tree["right_children"], np.int64)
    condition = np.array(tree["split_conditions"], np.float32)
    leaf = left < 0
    itself = np.arange(len(left))
    count = len(left)
    start, size = np.zeros(count, np.int64), np.zeros(count, np.int64)
    members: list[np.ndarray] = []
    taken = 0
    for node, begin, length in zip(
        tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True
    ):
        codes = np.array(tree["categories"][begin : begin + length], np.int64)
        mask = np.zeros(int(codes.max()) + 1, bool)
        mask[codes] = True
        start[node], size[node] = taken, len(mask)
        taken += len(mask)
        members.append(mask)
    left, right = np.where(leaf, itself, left), np.where(leaf, itself, right)
    return {
        "feature": np.where(leaf, 0, np.array(tree["split_indices"], np.int64)),
        "threshold": np.where(leaf | (size > 0), np.float32(0), condition),
        "left": left,
        "right": right,
        "missing_left": np.array(tree["default_left"], bool),
        "value": np.where(leaf, condition, np.float32(0)),
        "set_start": start,
        "set_size": size,
        "members": np.concatenate(members) if members else np.zeros(0, bool),
        "depth": _depth(left, right),
    }


def _depth(left: np.ndarray, right: np.ndarray) -> int:
    """Steps from the root to the farthest leaf."""
    at, steps = np.array([0]), 0
    while True:
        inner = at[left[at] != at]
        if not len(inner):
            return steps
        at, steps = np.concatenate([left[inner], right[inner]]), steps + 1


def join_nodes(first: Nodes, second: Nodes) -> Nodes:
    """Two forests over the same columns as one, the outputs of the second after those of the first."""
    count, outputs = len(first.left), len(first.base)
    moved = {
        "left": second.left + count,
        "right": second.right + count,
        "roots": second.roots + count,
        "set_start": second.set_start + len(first.members),
        "outputs": second.outputs + outputs,
    }
    joined = {
        field.name: np.concatenate(
            [getattr(first, field.name), moved.get(field.name, getattr(second, field.name))]
        )
        for field in fields(Nodes)
        if field.name != "depth"
    }
    return Nodes(**joined, depth=max(first.depth, second.depth))


class Forest(nn.Module):
    """Walks all trees at once, a level a step.

    Args:
        nodes: the trees.
    """

    feature: Tensor
    threshold: Tensor
    ahead: Tensor
    missing_right: Tensor
    value: Tensor
    roots: Tensor
    adds: Tensor
    base: Tensor
    set_start: Tensor
    set_size: Tensor
    members: Tensor

    def __init__(self, nodes: Nodes) -> None:
        super().__init__()
        self.nodes = nodes
        self.has_sets = bool(nodes.set_size.any())
        trees, width = len(nodes.roots), len(nodes.base)
        self.is_wide = trees * width > _CELLS
        if self.is_wide:
            adds = nodes.outputs
        else:
            adds = np.zeros((trees, width))
            adds[np.arange(trees), nodes.outputs] = 1
        buffers = {
            "feature": nodes.feature,
            "threshold": nodes.threshold,
            # Side by side: a node's next one is at twice its place, and one more to the right.
            "ahead": np.stack([nodes.left, nodes.right], axis=1).reshape(-1),
            "missing_right": ~nodes.missing_left,
            "value": nodes.value,
            "roots": nodes.roots,
            "adds": adds,
            "base": nodes.base,
        }
        if self.has_sets:
            buffers |= {name: getattr(nodes, name) for name in ("set_start", "set_size", "members")}
        for name, array in buffers.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)))

    @property
    def rows_at_once(self) -> int:
        """How many rows `forward` may be given, so that memory is bounded whatever the trees."""
        return max(1, _WALKED // len(self.nodes.roots))

    def forward(self, matrix: Tensor) -> Tensor:
        """The outputs before the link function: [N, W], of the matrix's precision.

        Args:
            matrix: [N, F], as `tree_matrix` gives it.
        """
        at = self.roots.unsqueeze(0).expand(matrix.shape[0], -1)
        for _ in range(self.nodes.depth):
            value = matrix.gather(1, self.feature[at])
            right = value >= self.threshold[at]
            if self.has_sets:
                right = torch.where(self.set_size[at] > 0, self._is_member(value, at), right)
            right = torch.where(torch.isnan(value), self.missing_right[at], right)
            at = self.ahead[2 * at + right.to(torch.int64)]
        # In float64, so that the order does not matter.
        leaves = self.value[at].to(torch.float64)
        if self.is_wide:
            total = leaves.new_zeros(len(leaves), len(self.base)).index_add(1, self.adds, leaves)
        else:
            total = leaves @ self.adds
        return (total + self.base).to(matrix.dtype)

    def _is_member(self, value: Tensor, at: Tensor) -> Tensor:
        size = self.set_size[at]
        code = torch.where(torch.isnan(value), 0.0, value).to(torch.int64)
        # A number may be as large as a float can be, and negative: it is no code.
        known = (code >= 0) & (code < size)
        place = self.set_start[at] + torch.where(known, code, 0)
        return known & self.members[place.clamp(max=len(self.nodes.members) - 1)]
