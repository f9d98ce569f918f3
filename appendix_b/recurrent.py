"""Networks that read one step after the other and keep a state: a plain RNN (Elman 1990) and an
LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

The state of step t depends on that of t - 1, so the loop over time cannot be a single matrix
product; what does not depend on the state is done for all steps at once before it. Backpropagation
through time needs no code of its own: it is `backward` on the unrolled graph.
"""

import numpy as np

from appendix_b.functions import sigmoid, stack, tanh
from appendix_b.layers import uniform
from appendix_b.nn import Module
from appendix_b.tensor import Tensor


class RNN(Module):
    """(B, T, inputs) -> states (B, T, width) and the last one (B, width): h = tanh(x W + h U +
    b).
    """

    def __init__(self, inputs: int, width: int, rng: np.random.Generator):
        self.width = width
        self.from_input = uniform(rng, width, inputs, width)
        self.from_state = uniform(rng, width, width, width)
        self.bias = uniform(rng, width, width)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        B, T, _ = x.shape
        h = Tensor(np.zeros((B, self.width), dtype=x.dtype)) if state is None else state
        driven = x @ self.from_input + self.bias  # (B, T, C)
        states = []
        for t in range(T):
            h = tanh(driven[:, t] + h @ self.from_state)  # (B, C)
            states.append(h)
        return stack(states, axis=1), h


class LSTM(Module):
    """(B, T, inputs) -> states (B, T, width) and the last (state, cell), each (B, width).

    The cell c is carried on by multiplying and adding, not through a matrix: c = forget * c + enter
    * candidate and h = leave * tanh(c), so that its gradient survives many steps. The gates'
    columns stand in that order, candidate third.
    """

    def __init__(self, inputs: int, width: int, rng: np.random.Generator):
        self.width = width
        self.from_input = uniform(rng, width, inputs, 4 * width)
        self.from_state = uniform(rng, width, width, 4 * width)
        self.bias = uniform(rng, width, 4 * width)
        # the forget gate begins open: first keep everything, then learn what not to
        self.bias.data[:width] += 1

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        B, T, _ = x.shape
        C = self.width
        h, c = state or (Tensor(np.zeros((B, C), dtype=x.dtype)),) * 2
        driven = x @ self.from_input + self.bias  # (B, T, 4C)
        states = []
        for t in range(T):
            gates = driven[:, t] + h @ self.from_state  # (B, 4C)
            forget, enter, leave = (sigmoid(gates[:, i * C : (i + 1) * C]) for i in (0, 1, 3))
            c = forget * c + enter * tanh(gates[:, 2 * C : 3 * C])
            h = leave * tanh(c)
            states.append(h)
        return stack(states, axis=1), (h, c)
