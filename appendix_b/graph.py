"""Draws the graph that a tensor was computed by: inputs on the left, the result on the right."""

from matplotlib.figure import Figure

from appendix_b.tensor import Tensor


def _layout(nodes: list[Tensor]) -> dict[int, tuple[float, float]]:
    """The (x, y) position of each node by its id; `nodes` are in topological order.

    x is minus the length of the longest path to the result. y is the mean over the nodes that use
    this one, and nodes that would overlap are moved apart.
    """
    users: dict[int, list[int]] = {}
    depth = {id(nodes[-1]): 0}
    for node in reversed(nodes):
        for parent, _ in node.vjps:
            users.setdefault(id(parent), []).append(id(node))
            depth[id(parent)] = max(depth.get(id(parent), 0), depth[id(node)] + 1)
    positions = {id(nodes[-1]): (0.0, 0.0)}
    for level in range(1, max(depth.values()) + 1):
        here = [id(node) for node in nodes if depth[id(node)] == level]
        ideal = {
            one: sum(positions[user][1] for user in users[one]) / len(users[one]) for one in here
        }
        here.sort(key=ideal.__getitem__)
        ys = [ideal[here[0]]]
        for one in here[1:]:
            ys.append(max(ideal[one], ys[-1] + 1))  # at least 1 above its neighbour
        shift = sum(ys) / len(ys) - sum(ideal.values()) / len(here)  # keep the level centred
        positions |= {one: (-float(level), y - shift) for one, y in zip(here, ys, strict=True)}
    return positions


def _text(node: Tensor) -> str:
    def value_or_shape(array) -> str:
        return f"{array.item():.4g}" if array.size == 1 else " × ".join(map(str, array.shape))

    lines = [node.name or "constant", value_or_shape(node.data)]
    if node.grad is not None:
        lines.append(f"grad {value_or_shape(node.grad)}")
    return "\n".join(lines)


def draw_graph(result: Tensor) -> Figure:
    """All inputs and operations of `result`, each with its name, value (or shape) and gradient.

    Give leaves a `name`, and call `result.backward(retain_grads=True)` first, so that intermediate
    results have gradients too.
    """
    nodes = result.topological_order()
    positions = _layout(nodes)
    xs, ys = zip(*positions.values(), strict=True)
    size = (1.2 * (1.5 - min(xs)), 0.75 * (max(ys) - min(ys) + 1.5))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    boxes = {}
    for node in nodes:  # inputs come first, so an arrow always finds the box that it starts from
        colour = "#dfe8f5" if node.vjps else "#fce3c5" if node.requires_grad else "#eeeeee"
        text = axes.text(
            *positions[id(node)],
            _text(node),
            ha="center",
            va="center",
            fontsize=8,
            zorder=3,
            bbox={"boxstyle": "round,pad=0.4", "fc": colour, "ec": "#555555"},
        )
        boxes[id(node)] = text.get_bbox_patch()
        inputs = [id(parent) for parent, _ in node.vjps]
        for i, one in enumerate(inputs):
            # An input that is used twice (x * x) gets two arrows, bent apart.
            bend = 0.5 * (inputs[:i].count(one) - 0.5 * (inputs.count(one) - 1))
            axes.annotate(
                "",
                positions[id(node)],
                positions[one],
                zorder=1,
                arrowprops={
                    "arrowstyle": "->",
                    "color": "#555555",
                    "patchA": boxes[one],
                    "patchB": boxes[id(node)],
                    "connectionstyle": f"arc3,rad={bend}",
                },
            )
    axes.set(xlim=(min(xs) - 0.5, 0.5), ylim=(min(ys) - 0.6, max(ys) + 0.6))
    axes.axis("off")
    return figure
