"""PyTorch's computation graph, walked and drawn: what `backward` goes through.

Torch keeps no list of operations. Every result points to the node that can undo it (`grad_fn`),
every node to those of its inputs (`next_functions`), and a leaf's node to the leaf.
"""

from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

Node = Any  # torch.autograd.graph.Node; a leaf's has the leaf as `variable`


def nodes_of(result: Tensor) -> list[Node]:
    """All nodes behind a result, each before those of its inputs: the order in which `backward`
    can visit them.
    """
    order, seen = [], set()

    def visit(node: Node) -> None:
        if node is not None and node not in seen:
            seen.add(node)
            for parent, _ in node.next_functions:
                visit(parent)
            order.append(node)

    visit(result.grad_fn)
    return order[::-1]


def arriving_gradients(result: Tensor) -> dict[Node, Tensor]:
    """Run `backward` from one number, and note what arrives at each node: the gradient of the
    result with respect to what this node made. A leaf's is what is added to its `grad`. The graph
    is kept.
    """
    arrived = {}
    hooks = [
        node.register_prehook(lambda grads, node=node: arrived.__setitem__(node, grads[0]))
        for node in nodes_of(result)
    ]
    result.backward(retain_graph=True)
    for hook in hooks:
        hook.remove()
    return arrived


def _edges(nodes: list[Node]) -> list[tuple[Node, Node]]:
    """(node of an input, node of what used it), in the order of the users."""
    return [
        (parent, node) for node in nodes for parent, _ in node.next_functions if parent is not None
    ]


def _places(nodes: list[Node]) -> dict[Node, tuple[float, float]]:
    """x: minus the longest way to the result; y: evenly apart among those of one x."""
    depth = dict.fromkeys(nodes, 0)
    for parent, node in _edges(nodes):
        depth[parent] = max(depth[parent], depth[node] + 1)
    levels = {
        level: [node for node in nodes if depth[node] == level] for level in set(depth.values())
    }
    return {
        node: (-level, (len(row) - 1) / 2 - place)
        for level, row in levels.items()
        for place, node in enumerate(row)
    }


def draw_graph(result: Tensor, names: dict[str, Tensor]) -> Figure:
    """The graph of one number, inputs on the left, with the gradient that arrives at each node.

    `names` gives leaves their names. Like any call of backward it adds to the leaves' `grad`.
    """
    nodes, arrived = nodes_of(result), arriving_gradients(result)
    where = _places(nodes)
    xs, ys = zip(*where.values(), strict=True)
    figure = Figure(
        figsize=(2.0 + 1.45 * (max(xs) - min(xs)), 1.0 + 0.8 * (max(ys) - min(ys))),
        layout="constrained",
    )
    axes, boxes = figure.subplots(), {}
    for node, (x, y) in where.items():
        leaf = getattr(node, "variable", None)
        title = node.name().removesuffix("0").removesuffix("Backward")
        if leaf is not None:
            name = next((name for name, tensor in names.items() if tensor is leaf), "leaf")
            title = (
                f"{name} = {leaf.item():.4g}"
                if leaf.numel() == 1
                else f"{name} {tuple(leaf.shape)}"
            )
        grad = (
            f"{arrived[node].item():.4g}"
            if arrived[node].numel() == 1
            else str(tuple(arrived[node].shape))
        )
        box = {
            "boxstyle": "round,pad=0.45",
            "fc": "#F4D9A6" if leaf is not None else "#A9CFE8",
            "ec": "#555",
        }
        boxes[node] = axes.text(
            x, y, f"{title}\ngradient {grad}", ha="center", va="center", fontsize=8.5, bbox=box
        ).get_bbox_patch()
    for parent, node in _edges(nodes):
        # drawn after the boxes that it ends at
        axes.annotate(
            "",
            where[node],
            where[parent],
            zorder=4,
            arrowprops={
                "arrowstyle": "-|>",
                "color": "#555",
                "shrinkA": 0,
                "shrinkB": 0,
                "patchA": boxes[parent],
                "patchB": boxes[node],
            },
        )
    axes.set(xlim=(min(xs) - 0.5, max(xs) + 0.5), ylim=(min(ys) - 0.5, max(ys) + 0.5))
    axes.axis("off")
    return figure
