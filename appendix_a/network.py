"""The book's small network (appendix A), and how often it is right."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader


class NeuralNetwork(nn.Module):
    """(B, num_inputs) -> logits (B, num_outputs), with ReLU after each hidden layer; the book
    has 30 and 20.
    """

    def __init__(self, num_inputs: int, num_outputs: int, hidden: tuple[int, ...] = (30, 20)):
        super().__init__()
        self.sizes = (num_inputs, *hidden, num_outputs)
        linear = [
            nn.Linear(n_in, n_out) for n_in, n_out in zip(self.sizes, self.sizes[1:], strict=False)
        ]
        with_relu = [layer for one in linear for layer in (one, nn.ReLU())]
        self.layers = nn.Sequential(*with_relu[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@torch.inference_mode()
def compute_accuracy(model: nn.Module, dataloader: DataLoader) -> float:
    """The share of a loader's rows whose largest logit is that of their label; leaves the model
    in eval mode.
    """
    model.eval()
    device = next(model.parameters()).device
    right = [
        model(features.to(device)).argmax(dim=1) == labels.to(device)
        for features, labels in dataloader
    ]
    return torch.cat(right).float().mean().item()
