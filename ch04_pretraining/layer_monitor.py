"""What happens inside the layers at single steps: the norms of their gradients, the size of an
update relative to the weights, the size of their outputs. These tell a healthy run from a sick one
before the loss does.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ch03_gpt import GPTModel
from ch03_gpt.model import TransformerBlock


def layer_parameters(model: GPTModel) -> dict[str, list[nn.Parameter]]:
    """The model's parameters by layer: embeddings, each block's attention and feed-forward, the
    output head.

    A norm and a convolution count with the layer that they feed, a tied head with the embeddings.
    """
    layers = {"embeddings": list(model.tok_emb.parameters())}
    if model.pos_emb is not None:
        layers["embeddings"] += list(model.pos_emb.parameters())
    for i, block in enumerate(model.trf_blocks):
        assert isinstance(block, TransformerBlock)
        before = [block.norm1] if block.conv is None else [block.norm1, block.conv]
        layers[f"block {i} attention"] = [p for m in (*before, block.att) for p in m.parameters()]
        layers[f"block {i} feed-forward"] = [*block.norm2.parameters(), *block.ff.parameters()]
    tied = model.out_head.weight is model.tok_emb.weight
    layers["head"] = [
        *model.final_norm.parameters(),
        *([] if tied else model.out_head.parameters()),
    ]
    return layers


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(t) for t in tensors]))


class LayerMonitor:
    """Measures one training step of `model`, whose loss runs through its blocks."""

    def __init__(self, model: GPTModel):
        self.blocks = model.trf_blocks
        self.layers = layer_parameters(model)

    def measure(self, step: Callable[[], tuple[Tensor, int]]) -> tuple[Tensor, int, dict]:
        """Run `step()`, a `train_step`, and return its two results and these findings for the log:

        layers: {layer: {"grad_norm": norm of the mean gradient, before clipping,
                         "update_ratio": norm of the change / norm of the weights before it}},
        activations: [{"rms": root mean square, "max": largest size} of each block's output].
        """
        gradient_norms: dict[Tensor, Tensor] = {}
        outputs: list[Tensor] = []

        def keep_gradient(parameter: Tensor) -> None:
            gradient_norms[parameter] = torch.linalg.vector_norm(parameter.grad)

        def keep_output(block: nn.Module, inputs: tuple, output: Tensor) -> None:
            outputs.append(output.detach())

        parameters = [p for group in self.layers.values() for p in group]
        before = {p: p.detach().clone() for p in parameters}
        handles = [
            p.register_post_accumulate_grad_hook(keep_gradient)
            for p in parameters
            if p.requires_grad
        ]
        handles += [block.register_forward_hook(keep_output) for block in self.blocks]
        try:
            sums, n_inputs = step()
        finally:
            for handle in handles:
                handle.remove()
        findings = {}
        for layer, group in self.layers.items():
            if trained := [p for p in group if p in gradient_norms]:
                moved = _norm([p.detach() - before[p] for p in trained]) / _norm(
                    [before[p] for p in trained]
                )
                gradient = _norm([gradient_norms[p] for p in trained]) / sums[1]
                findings[layer] = {"grad_norm": gradient.item(), "update_ratio": moved.item()}
        activations = [
            {"rms": x.float().square().mean().sqrt().item(), "max": x.abs().max().item()}
            for x in outputs[-len(self.blocks) :]
        ]
        return sums, n_inputs, {"layers": findings, "activations": activations}
