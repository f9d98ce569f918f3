"""What a layer is: an object with parameters, a `forward` method and a mode (training or not).

The interface is that of `torch.nn`. A module finds its parameters and sub-modules by inspecting its
attributes, so a layer has nothing to register. A state dict maps dotted names to NumPy arrays.
"""

from collections.abc import Iterator
from typing import Self

import numpy as np

from appendix_b.tensor import Tensor


class Parameter(Tensor):
    """A trainable tensor. It copies its data, because optimizers update it in place."""

    def __init__(self, data: np.ndarray):
        super().__init__(np.array(data), requires_grad=True)


class Module:
    """Base class of all layers: subclasses assign parameters and layers to attributes and define
    `forward`.
    """

    training = True

    def __call__(self, *inputs):
        return self.forward(*inputs)

    def forward(self, *inputs):
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        """The sub-modules among the attributes, also those inside lists, with their names."""
        for name, value in vars(self).items():
            # blocks = [a, b] gives "blocks.0" and "blocks.1"
            entries = (
                [(f"{name}.{i}", one) for i, one in enumerate(value)]
                if isinstance(value, list)
                else [(name, value)]
            )
            yield from (entry for entry in entries if isinstance(entry[1], Module))

    def modules(self) -> Iterator["Module"]:
        """This module and all modules below it."""
        yield self
        for _, child in self.named_children():
            yield from child.modules()

    def _named(self, kind: type, prefix: str = "") -> dict:
        """All attributes of one type, in this module and below, by dotted name."""
        found = {
            prefix + name: value for name, value in vars(self).items() if isinstance(value, kind)
        }
        for name, child in self.named_children():
            found |= child._named(kind, f"{prefix}{name}.")
        return found

    def named_parameters(self) -> dict[str, Parameter]:
        """All parameters by dotted name; a shared one appears under each of its names."""
        return self._named(Parameter)

    def named_buffers(self) -> dict[str, np.ndarray]:
        """The arrays that belong to the state but are not trained, such as running means."""
        return self._named(np.ndarray)

    def parameters(self) -> list[Parameter]:
        """All parameters; one that two layers share is listed once."""
        return list({id(one): one for one in self.named_parameters().values()}.values())

    def n_parameters(self) -> int:
        """The number of trainable numbers."""
        return sum(one.data.size for one in self.parameters())

    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout and batch statistics on) or, with False, evaluation mode."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """`train(False)`."""
        return self.train(False)

    def _state_arrays(self) -> dict[str, np.ndarray]:
        parameters = {name: one.data for name, one in self.named_parameters().items()}
        return parameters | self.named_buffers()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers by name."""
        return {name: array.copy() for name, array in self._state_arrays().items()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Copy a state dict into this module; ValueError names missing, unknown and misshapen
        entries.
        """
        own = self._state_arrays()
        if set(own) != set(state):
            raise ValueError(
                f"this state is of another model: missing {sorted(set(own) - set(state))}, "
                f"unknown {sorted(set(state) - set(own))}"
            )
        for name, array in own.items():
            if array.shape != state[name].shape:
                raise ValueError(
                    f"{name} has shape {state[name].shape} in the state, {array.shape} in the model"
                )
        # All shapes are checked first, so that a refused state leaves the module unchanged.
        for name, array in own.items():
            array[...] = state[name]


class Sequential(Module):
    """Layers applied one after another."""

    def __init__(self, *layers: Module):
        self.layers = list(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x
