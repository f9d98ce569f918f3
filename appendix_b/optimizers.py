"""How a gradient becomes a step: SGD with momentum, Adam, AdamW, and clipping.

The updates are PyTorch's, number for number (Sutskever et al. 2013; Kingma & Ba 2015; Loshchilov &
Hutter 2019; Pascanu et al. 2013). The rate `lr` may be changed between steps: that is all a
schedule does.
"""

from collections.abc import Sequence

import numpy as np

from appendix_b.nn import Parameter


def clip_gradients(parameters: Sequence[Parameter], max_norm: float) -> float:
    """Scale all gradients down together so that their common length is at most `max_norm`; returns
    it as it was.

    Direction stays: only the step gets shorter. Parameters without a gradient do not count.
    """
    with_grad = [one for one in parameters if one.grad is not None]
    norm = float(np.sqrt(sum(float(np.vdot(one.grad, one.grad)) for one in with_grad)))
    if norm > max_norm:
        for one in with_grad:  # a new array: tensors may share the old one
            one.grad = one.grad * one.dtype.type(max_norm / norm)
    return norm


class Optimizer:
    """Base: `step` changes every parameter that has a gradient by `update`; each keeps arrays of
    its own.
    """

    kept: tuple[str, ...] = ()  # names of the arrays that are kept for each parameter

    def __init__(self, parameters: Sequence[Parameter], lr: float, weight_decay: float = 0.0):
        if lr <= 0:
            raise ValueError(f"the learning rate must be positive, not {lr}")
        self.parameters, self.lr, self.weight_decay = list(parameters), lr, weight_decay
        self.steps = 0
        self.memory = [
            {name: np.zeros_like(one.data) for name in self.kept} for one in self.parameters
        ]

    def step(self) -> None:
        """Change the parameters in place, then forget the gradients."""
        self.steps += 1
        for one, memory in zip(self.parameters, self.memory, strict=True):
            if one.grad is not None:
                self.update(one, one.grad, memory)
            one.grad = None

    def update(self, parameter: Parameter, grad: np.ndarray, memory: dict[str, np.ndarray]) -> None:
        raise NotImplementedError

    def state(self) -> dict[str, np.ndarray]:
        """What a run needs to go on exactly where it stopped."""
        kept = {
            f"{i}.{name}": array.copy()
            for i, memory in enumerate(self.memory)
            for name, array in memory.items()
        }
        return kept | {"steps": np.array(self.steps)}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take over what `state` returned."""
        self.steps = int(state["steps"])
        for i, memory in enumerate(self.memory):
            for name, array in memory.items():
                array[...] = state[f"{i}.{name}"]


class SGD(Optimizer):
    """Against the gradient; with momentum, against a running sum of gradients that forgets
    slowly.
    """

    kept = ("velocity",)

    def __init__(
        self,
        parameters: Sequence[Parameter],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr, weight_decay)
        self.momentum, self.nesterov = momentum, nesterov

    def update(self, parameter: Parameter, grad: np.ndarray, memory: dict[str, np.ndarray]) -> None:
        grad = grad + self.weight_decay * parameter.data
        velocity = memory["velocity"]
        velocity *= self.momentum
        velocity += grad
        parameter.data -= self.lr * (grad + self.momentum * velocity if self.nesterov else velocity)


class Adam(Optimizer):
    """Each number has a step of its own: its mean gradient divided by the root of its mean squared
    gradient.

    Both means start at zero and are corrected for it. Weight decay is added to the gradient.
    """

    kept = ("mean", "square")

    def __init__(
        self,
        parameters: Sequence[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr, weight_decay)
        self.betas, self.eps = betas, eps

    def update(self, parameter: Parameter, grad: np.ndarray, memory: dict[str, np.ndarray]) -> None:
        self.adapt(
            parameter,
            grad + self.weight_decay * parameter.data if self.weight_decay else grad,
            memory,
        )

    def adapt(self, parameter: Parameter, grad: np.ndarray, memory: dict[str, np.ndarray]) -> None:
        mean, square = memory["mean"], memory["square"]
        for average, new, beta in (
            (mean, grad, self.betas[0]),
            (square, grad * grad, self.betas[1]),
        ):
            average *= beta
            average += (1 - beta) * new
        corrections = [1 - beta**self.steps for beta in self.betas]
        root = np.sqrt(square)
        root /= np.sqrt(corrections[1], dtype=root.dtype)
        root += self.eps
        parameter.data -= (self.lr / corrections[0]) * mean / root


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameter itself and stays out of the means."""

    def update(self, parameter: Parameter, grad: np.ndarray, memory: dict[str, np.ndarray]) -> None:
        parameter.data *= 1 - self.lr * self.weight_decay
        self.adapt(parameter, grad, memory)
