"""PyTorch's computation graph: the nodes that `backward` visits, and a drawing of them.

PyTorch keeps no list of operations. Each result points to the node that computes its gradient step
(`grad_fn`), and each node points to the nodes of its inputs (`next_functions`). The node of a leaf
holds the leaf itself.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Node = Any  # torch.autograd.graph.Node; the node of a leaf has the leaf as `variable`


def topological_order(result: Tensor) -> list[Node]:
    """All nodes of the graph of `result`, each before the nodes of its inputs: an order in which
    `backward` can visit them.
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


def node_gradients(result: Tensor) -> dict[Node, Tensor]:
    """Run `backward` from a single number and record the gradient that arrives at each node: that
    of `result` with respect to the tensor which this node computed. The graph is kept.
    """
    gradients: dict[Node, Tensor] = {}
    hooks = [
        node.register_prehook(lambda grads, node=node: gradients.__setitem__(node, grads[0]))
        for node in topological_order(result)
    ]
    result.backward(retain_graph=True)
    for hook in hooks:
        hook.remove()
    return gradients


def _edges(nodes: list[Node]) -> list[tuple[Node, Node]]:
    """Pairs (node of an input, node that uses it)."""
    return [
        (parent, node) for node in nodes for parent, _ in node.next_functions if parent is not None
    ]


def _layout(nodes: list[Node]) -> dict[Node, tuple[float, float]]:
    """x: minus the length of the longest path to the result; y: evenly spaced among equal x."""
    depth = dict.fromkeys(nodes, 0)
    for parent, node in _edges(nodes):
        depth[parent] = max(depth[parent], depth[node] + 1)
    levels = {
        level: [node for node in nodes if depth[node] == level] for level in set(depth.values())
    }
    return {
        node: (-level, (len(column) - 1) / 2 - i)
        for level, column in levels.items()
        for i, node in enumerate(column)
    }


def _value_or_shape(x: Tensor) -> str:
    return f"{x.item():.4g}" if x.numel() == 1 else str(tuple(x.shape))


def _title(node: Node, names: dict[str, Tensor]) -> str:
    leaf = getattr(node, "variable", None)
    if leaf is None:
        return node.name().removesuffix("0").removesuffix("Backward")
    name = next((name for name, tensor in names.items() if tensor is leaf), "leaf")
    return f"{name} = {_value_or_shape(leaf)}"


def draw_graph(result: Tensor, names: dict[str, Tensor]) -> "Figure":
    """The graph of a single number, inputs on the left, with the gradient that arrives at each
    node. `names` labels the leaves. As in every backward pass, gradients are added to the leaves.
    """
    from matplotlib.figure import Figure

    nodes, gradients = topological_order(result), node_gradients(result)
    positions = _layout(nodes)
    xs, ys = zip(*positions.values(), strict=True)
    size = (2.0 + 1.45 * (max(xs) - min(xs)), 1.0 + 0.8 * (max(ys) - min(ys)))
    figure = Figure(figsize=size, layout="constrained")
    axes, boxes = figure.subplots(), {}
    for node, (x, y) in positions.items():
        is_leaf = hasattr(node, "variable")
        boxes[node] = axes.text(
            x,
            y,
            f"{_title(node, names)}\ngradient {_value_or_shape(gradients[node])}",
            ha="center",
            va="center",
            fontsize=8.5,
            bbox={
                "boxstyle": "round,pad=0.45",
                "fc": "#F4D9A6" if is_leaf else "#A9CFE8",
                "ec": "#555",
            },
        ).get_bbox_patch()
    for parent, node in _edges(nodes):
        axes.annotate(
            "",
            positions[node],
            positions[parent],
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
