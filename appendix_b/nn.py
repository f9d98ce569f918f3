"""What a layer is: an object with parameters, a forward pass, and a mode (training or not).

A module's parameters are found by looking through its attributes, so that a layer has nothing to
register. Its state is a dictionary of plain NumPy arrays by dotted names.
"""

from collections.abc import Iterator

import numpy as np

from appendix_b.tensor import Tensor


class Parameter(Tensor):
    """A tensor that learns; it owns its numbers, because optimizers change them in place."""

    def __init__(self, data: np.ndarray):
        super().__init__(np.array(data), requires_grad=True)


class Module:
    """Base of all layers: subclasses set parameters and layers as attributes and define
    `forward`.
    """

    training = True

    def __call__(self, *inputs):
        return self.forward(*inputs)

    def forward(self, *inputs):
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def children(self) -> Iterator[tuple[str, "Module"]]:
        """The modules among the attributes and in attributes that are lists, with their names."""
        for name, value in vars(self).items():
            for key, one in (
                ((f"{name}.{i}", one) for i, one in enumerate(value))
                if isinstance(value, list)
                else ((name, value),)
            ):
                if isinstance(one, Module):
                    yield key, one

    def modules(self) -> Iterator["Module"]:
        """This module and all below it."""
        yield self
        for _, child in self.children():
            yield from child.modules()

    def named(self, kind: type, prefix: str = "") -> dict[str, Parameter | np.ndarray]:
        """All attributes of a type, here and below, by dotted name."""
        found = {
            prefix + name: value for name, value in vars(self).items() if isinstance(value, kind)
        }
        for name, child in self.children():
            found |= child.named(kind, f"{prefix}{name}.")
        return found

    def parameters(self) -> list[Parameter]:
        """All parameters; one that two layers share comes once."""
        return list({id(one): one for one in self.named(Parameter).values()}.values())

    def n_parameters(self) -> int:
        """How many numbers learn."""
        return sum(one.data.size for one in self.parameters())

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for one in self.parameters():
            one.grad = None

    def train(self, mode: bool = True) -> "Module":
        """Switch dropout and batch statistics on, or off with False; returns the module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> "Module":
        """`train(False)`."""
        return self.train(False)

    def state(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and of the arrays that layers keep beside them (running
        means).
        """
        parameters = {name: one.data.copy() for name, one in self.named(Parameter).items()}
        return parameters | {name: one.copy() for name, one in self.named(np.ndarray).items()}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take over what `state` returned; ValueError names what is missing, unknown or of
        another shape.
        """
        places = {name: one.data for name, one in self.named(Parameter).items()} | self.named(
            np.ndarray
        )
        if set(places) != set(state):
            raise ValueError(
                f"this state is of another model: missing {sorted(set(places) - set(state))}, "
                f"unknown {sorted(set(state) - set(places))}"
            )
        for name, place in places.items():
            if place.shape != state[name].shape:
                raise ValueError(
                    f"{name} has shape {state[name].shape} in the state, {place.shape} in the model"
                )
        for name, place in places.items():
            place[...] = state[name]


class Sequential(Module):
    """Layers one after the other."""

    def __init__(self, *layers: Module):
        self.layers = list(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x
