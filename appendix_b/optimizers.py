"""From a gradient to an update: SGD with momentum, Adam, AdamW, and gradient clipping.

The updates are PyTorch's, number for number (Sutskever et al. 2013; Kingma & Ba 2015; Loshchilov &
Hutter 2019; Pascanu et al. 2013). The learning rate `lr` may change between steps; that is all a
schedule does.
"""

from collections.abc import Sequence

import numpy as np

from appendix_b.nn import Parameter

State = dict[str, np.ndarray]


def clip_grad_norm(parameters: Sequence[Parameter], max_norm: float) -> float:
    """Scale all gradients by one factor so that their joint norm is at most `max_norm`; return the
    norm before clipping.

    The direction of the step stays the same, it only gets shorter.
    """
    grads = [one.grad for one in parameters if one.grad is not None]
    norm = float(np.sqrt(sum(np.vdot(grad, grad).item() for grad in grads)))
    if norm > max_norm:
        for one in parameters:
            if one.grad is not None:
                # A new array: in place, an array that two parameters share would shrink twice.
                one.grad = one.grad * one.dtype.type(max_norm / norm)
    return norm


class Optimizer:
    """Base class: subclasses name their per-parameter arrays and define `update`."""

    state_names: tuple[str, ...] = ()

    def __init__(self, parameters: Sequence[Parameter], lr: float, weight_decay: float = 0.0):
        if lr <= 0:
            raise ValueError(f"the learning rate must be positive, not {lr}")
        self.parameters, self.lr, self.weight_decay = list(parameters), lr, weight_decay
        self.steps = 0
        self.state: list[State] = [
            {name: np.zeros_like(one.data) for name in self.state_names} for one in self.parameters
        ]

    def step(self) -> None:
        """Update every parameter that has a gradient, then clear the gradients.

        PyTorch leaves the clearing to `zero_grad`; no loop of this appendix needs gradients later.
        """
        self.steps += 1
        for parameter, state in zip(self.parameters, self.state, strict=True):
            if parameter.grad is not None:
                self.update(parameter, parameter.grad, state)
            parameter.grad = None

    def update(self, parameter: Parameter, grad: np.ndarray, state: State) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything that resuming needs in order to continue exactly where the run stopped."""
        arrays = {
            f"{i}.{name}": array.copy()
            for i, state in enumerate(self.state)
            for name, array in state.items()
        }
        return arrays | {"steps": np.array(self.steps)}

    def load_state_dict(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore what `state_dict` returned."""
        self.steps = int(arrays["steps"])
        for i, state in enumerate(self.state):
            for name, array in state.items():
                array[...] = arrays[f"{i}.{name}"]


class SGD(Optimizer):
    """Gradient descent. With momentum, the step follows a decaying sum of past gradients."""

    state_names = ("momentum_buffer",)

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

    def update(self, parameter: Parameter, grad: np.ndarray, state: State) -> None:
        grad = grad + self.weight_decay * parameter.data
        velocity = state["momentum_buffer"]
        velocity *= self.momentum
        velocity += grad
        # Nesterov: apply the momentum once more, as if the gradient were taken one step ahead.
        parameter.data -= self.lr * (grad + self.momentum * velocity if self.nesterov else velocity)


class Adam(Optimizer):
    """Divides the running mean of the gradient by the root of the running mean of its square, so
    that all numbers take steps of similar size. Weight decay is added to the gradient.
    """

    state_names = ("exp_avg", "exp_avg_sq")

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

    def update(self, parameter: Parameter, grad: np.ndarray, state: State) -> None:
        if self.weight_decay:
            grad = grad + self.weight_decay * parameter.data
        self.adam_step(parameter, grad, state)

    def adam_step(self, parameter: Parameter, grad: np.ndarray, state: State) -> None:
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        for average, new, beta in (
            (mean, grad, self.betas[0]),
            (square, grad * grad, self.betas[1]),
        ):
            average *= beta
            average += (1 - beta) * new
        # Both averages start at zero and are too small at first, by exactly these factors.
        corrections = [1 - beta**self.steps for beta in self.betas]
        root = np.sqrt(square)
        root /= np.sqrt(corrections[1], dtype=root.dtype)
        root += self.eps
        parameter.data -= (self.lr / corrections[0]) * mean / root


class AdamW(Adam):
    """Adam with decoupled weight decay: it shrinks the parameter directly and stays out of the
    averages.
    """

    def update(self, parameter: Parameter, grad: np.ndarray, state: State) -> None:
        parameter.data *= 1 - self.lr * self.weight_decay
        self.adam_step(parameter, grad, state)
