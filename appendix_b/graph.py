"""The graph that a tensor was computed by, drawn: inputs on the left, the result on the right."""

from matplotlib.figure import Figure

from appendix_b.tensor import Tensor


def _places(nodes: list[Tensor]) -> dict[int, tuple[float, float]]:
    """Where each node goes: x is minus the longest way to the result, y the mean of the nodes that
    use it, moved apart where two would overlap. `nodes` come in the order of `Tensor.graph`.
    """
    users: dict[int, list[int]] = {}
    depth = {id(nodes[-1]): 0}
    for node in reversed(nodes):
        for parent, _ in node.rules:
            users.setdefault(id(parent), []).append(id(node))
            depth[id(parent)] = max(depth.get(id(parent), 0), depth[id(node)] + 1)
    places = {id(nodes[-1]): (0.0, 0.0)}
    for level in range(1, max(depth.values()) + 1):
        here = [id(node) for node in nodes if depth[id(node)] == level]
        wanted = {
            one: sum(places[user][1] for user in users[one]) / len(users[one]) for one in here
        }
        here.sort(key=wanted.__getitem__)
        spread = [wanted[here[0]]]
        for one in here[1:]:
            spread.append(max(wanted[one], spread[-1] + 1))
        middle = sum(spread) / len(spread) - sum(wanted.values()) / len(here)
        places |= {one: (-float(level), y - middle) for one, y in zip(here, spread, strict=True)}
    return places


def _text(node: Tensor) -> str:
    def of(array) -> str:
        return f"{array.item():.4g}" if array.size == 1 else " × ".join(map(str, array.shape))

    lines = [node.name or "constant", of(node.data)]
    return "\n".join([*lines, f"grad {of(node.grad)}"] if node.grad is not None else lines)


def draw_graph(result: Tensor) -> Figure:
    """Every operation and input of `result`: its name, its number (or shape), and its gradient
    where it has one.

    Give leaves a `name`; call `result.backward(keep_all=True)` before, so that all gradients are
    there.
    """
    nodes = result.graph()
    places = _places(nodes)
    xs, ys = ([place[axis] for place in places.values()] for axis in (0, 1))
    figure = Figure(
        figsize=(1.2 * (1.5 - min(xs)), 0.75 * (max(ys) - min(ys) + 1.5)), layout="constrained"
    )
    axes = figure.subplots()
    boxes = {}
    for node in nodes:  # inputs come first, so that their boxes are there when an arrow leaves them
        colour = "#dfe8f5" if node.rules else "#fce3c5" if node.requires_grad else "#eeeeee"
        text = axes.text(
            *places[id(node)],
            _text(node),
            ha="center",
            va="center",
            fontsize=8,
            zorder=3,
            bbox={"boxstyle": "round,pad=0.4", "fc": colour, "ec": "#555555"},
        )
        boxes[id(node)] = text.get_bbox_patch()
        inputs = [id(parent) for parent, _ in node.rules]
        for i, one in enumerate(inputs):
            # apart where one comes twice
            bend = 0.5 * (inputs[:i].count(one) - 0.5 * (inputs.count(one) - 1))
            axes.annotate(
                "",
                places[id(node)],
                places[one],
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
