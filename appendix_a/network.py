"""The book's small network (appendix A) and its accuracy."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader


class NeuralNetwork(nn.Module):
    """(B, num_inputs) -> logits (B, num_outputs), with a ReLU after each hidden layer. The book's
    hidden layers are 30 and 20 wide.
    """

    def __init__(self, num_inputs: int, num_outputs: int, hidden: tuple[int, ...] = (30, 20)):
        super().__init__()
        self.sizes = (num_inputs, *hidden, num_outputs)
        layers = []
        for in_features, out_features in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            layers += [nn.Linear(in_features, out_features), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])  # no ReLU after the logits

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@torch.inference_mode()
def compute_accuracy(model: nn.Module, dataloader: DataLoader) -> float:
    """The fraction of rows whose largest logit belongs to their label; leaves the model in eval
    mode.
    """
    model.eval()
    device = next(model.parameters()).device
    correct = [
        model(features.to(device)).argmax(dim=1) == labels.to(device)
        for features, labels in dataloader
    ]
    return torch.cat(correct).float().mean().item()
