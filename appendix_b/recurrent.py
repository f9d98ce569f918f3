"""Recurrent networks, which read a sequence step by step and keep a state: a plain RNN (Elman 1990)
and an LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

The state of step t depends on that of step t - 1, so the loop over time cannot become one matrix
product. What does not depend on the state, the product with the inputs, is computed for all steps
at once before the loop. Backpropagation through time needs no code of its own: it is `backward` on
the unrolled graph.
"""

import numpy as np

from appendix_b.functions import sigmoid, stack, tanh
from appendix_b.layers import uniform
from appendix_b.nn import Module
from appendix_b.tensor import Tensor


class RNN(Module):
    """(B, T, input_size) -> hidden states (B, T, hidden_size) and the last one (B, hidden_size).

    h_t = tanh(x_t weight_ih + h_{t-1} weight_hh + bias)
    """

    def __init__(self, input_size: int, hidden_size: int, rng: np.random.Generator):
        self.hidden_size = hidden_size
        self.weight_ih = uniform(rng, hidden_size, input_size, hidden_size)
        self.weight_hh = uniform(rng, hidden_size, hidden_size, hidden_size)
        self.bias = uniform(rng, hidden_size, hidden_size)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        B, T, _ = x.shape
        h = Tensor(np.zeros((B, self.hidden_size), dtype=x.dtype)) if state is None else state
        from_inputs = x @ self.weight_ih + self.bias  # (B, T, C)
        states = []
        for t in range(T):
            h = tanh(from_inputs[:, t] + h @ self.weight_hh)  # (B, C)
            states.append(h)
        return stack(states, axis=1), h


class LSTM(Module):
    """(B, T, input_size) -> hidden states (B, T, hidden_size) and the last (hidden state, cell
    state), each (B, hidden_size).

    c_t = f * c_{t-1} + i * g and h_t = o * tanh(c_t), with the input gate i, the forget gate f, the
    candidate g and the output gate o. As in PyTorch, their columns come in this order: i, f, g, o.
    """

    def __init__(self, input_size: int, hidden_size: int, rng: np.random.Generator):
        self.hidden_size = hidden_size
        self.weight_ih = uniform(rng, hidden_size, input_size, 4 * hidden_size)
        self.weight_hh = uniform(rng, hidden_size, hidden_size, 4 * hidden_size)
        self.bias = uniform(rng, hidden_size, 4 * hidden_size)
        # Open the forget gate at the start: the cell then keeps its content, and gradients reach
        # far back, until training finds out what to forget (Jozefowicz et al. 2015).
        self.bias.data[hidden_size : 2 * hidden_size] += 1

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        B, T, _ = x.shape
        C = self.hidden_size
        h, c = state or (Tensor(np.zeros((B, C), dtype=x.dtype)),) * 2
        from_inputs = x @ self.weight_ih + self.bias  # (B, T, 4C)
        states = []
        for t in range(T):
            gates = from_inputs[:, t] + h @ self.weight_hh  # (B, 4C)
            i, f, g, o = (gates[:, k * C : (k + 1) * C] for k in range(4))  # (B, C) each
            # The cell is carried on by a multiplication and an addition, not through a matrix:
            # where f is near 1, its gradient passes almost unchanged from step to step.
            c = sigmoid(f) * c + sigmoid(i) * tanh(g)
            h = sigmoid(o) * tanh(c)
            states.append(h)
        return stack(states, axis=1), (h, c)
