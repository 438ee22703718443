"""Counts the nodes of a graph of MLX without computing it.

node: a primitive of MLX in the graph; each replay of a compiled function is counted.
view: a node that only describes its input's data in another way (`VIEWS`). A Reshape is counted as
    one, though it copies transposed data: a graph does not show which it is.
kernel: a node that is not a view; a Concatenate is one per input, since each is copied.
    rms_norm, rope and attention of mx.fast are one each, and so is a fused elementwise kernel,
    though MLX splits one of more than 24 arrays.
cast: an AsType outside fused kernels; weight cast: one of a parameter or of a view of one.
"""

import io
import re
from collections import Counter

import mlx.core as mx

VIEWS = set(
    "AsStrided Broadcast BroadcastAxes Copy ExpandDims Flatten Reshape Slice Split Squeeze "
    "StopGradient Transpose Unflatten View".split()
)

evaluate = mx.eval
"""MLX's own, whatever takes its place later."""


def leaf(like: mx.array, dtype: mx.Dtype | None = None) -> mx.array:
    """Evaluated zeros with the shape of `like` and the memory of one number."""
    value = mx.broadcast_to(mx.array(0, dtype=dtype or like.dtype), like.shape)
    evaluate(value)
    return value


def arrays_in(tree: object) -> list[mx.array]:
    """Arrays in containers and caches, but not those of modules."""
    if isinstance(tree, mx.array):
        return [tree]
    if callable(tree):  # as every module is
        return []
    if not isinstance(tree, list | tuple):
        tree = (tree if isinstance(tree, dict) else getattr(tree, "__dict__", {})).values()
    return [array for child in tree for array in arrays_in(child)]


def cut(*trees: object) -> list[mx.array]:
    """Turns all arrays into leaves of the graph, in place; returns them."""
    arrays = arrays_in(trees)
    for array in arrays:
        array[()] = leaf(array)
    evaluate(arrays)  # the assignment may leave views behind
    return arrays


def count_nodes(arrays: list[mx.array], weights: dict[str, mx.array]) -> Counter:
    """Counts of nodes, kernels and casts in the arrays' graph, and of casts by "weight NAME"."""
    text, named = io.StringIO(), {f"weight {name}": value for name, value in weights.items()}
    mx.export_to_dot(text, *arrays, **named)
    nodes: list[tuple[str, list[str], list[str]]] = []  # label, inputs, outputs
    for line in text.getvalue().splitlines():
        # Replays of a compiled function share the ids of their nodes, so lines are counted.
        if node := re.match(r'\{ \d+ \[label ="(\w+)"', line):
            nodes.append((node[1], [], []))
        elif edge := re.match(r'"(.+)" -> \d+', line):
            nodes[-1][1].append(edge[1])
        elif edge := re.match(r'\d+ -> "(.+)"', line):
            nodes[-1][2].append(edge[1])
    counts, weight_of = Counter(nodes=len(nodes)), {name: name for name in named}
    for label, inputs, outputs in nodes:
        counts["kernels"] += len(inputs) if label == "Concatenate" else label not in VIEWS
        read = [weight_of[name] for name in inputs if name in weight_of]
        if label in VIEWS:
            weight_of.update((output, weight) for weight in read for output in outputs)
        elif label == "AsType":
            counts.update(["casts", *read])
    return counts
