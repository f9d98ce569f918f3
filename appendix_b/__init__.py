"""Appendix B: machine learning from the ground up, with NumPy alone.

Its modules, in the order in which to read them: tensor, functions, graph, finite_differences, nn,
layers, convolution, recurrent, attention, gpt, losses, optimizers, schedules, saving, training,
text_models, regression, digits, classifiers, image_experiments, small_talk, chat, plots, bench.
"""

from appendix_b.attention import (
    AttentionHead,
    MultiHeadAttention,
    TransformerBlock,
    causal_mask,
    scaled_dot_product_attention,
)
from appendix_b.convolution import Conv2d, MaxPool2d, unfold
from appendix_b.finite_differences import numerical_gradient
from appendix_b.functions import (
    embedding,
    exp,
    gelu,
    layer_norm,
    log,
    log_softmax,
    logsumexp,
    relu,
    sigmoid,
    softmax,
    stack,
    tanh,
)
from appendix_b.gpt import GPT, GPTConfig, generate, sample
from appendix_b.layers import (
    GELU,
    BatchNorm,
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    Linear,
    ReLU,
    Tanh,
)
from appendix_b.losses import binary_cross_entropy, cross_entropy, mean_squared_error
from appendix_b.nn import Module, Parameter, Sequential
from appendix_b.optimizers import SGD, Adam, AdamW, clip_grad_norm
from appendix_b.recurrent import LSTM, RNN
from appendix_b.saving import load_arrays, save_arrays
from appendix_b.schedules import cosine
from appendix_b.tensor import Tensor, no_grad

__all__ = [
    "GELU",
    "GPT",
    "LSTM",
    "RNN",
    "SGD",
    "Adam",
    "AdamW",
    "AttentionHead",
    "BatchNorm",
    "Conv2d",
    "Dropout",
    "Embedding",
    "Flatten",
    "GPTConfig",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "Module",
    "MultiHeadAttention",
    "Parameter",
    "ReLU",
    "Sequential",
    "Tanh",
    "Tensor",
    "TransformerBlock",
    "binary_cross_entropy",
    "causal_mask",
    "clip_grad_norm",
    "cosine",
    "cross_entropy",
    "embedding",
    "exp",
    "gelu",
    "generate",
    "layer_norm",
    "load_arrays",
    "log",
    "log_softmax",
    "logsumexp",
    "mean_squared_error",
    "no_grad",
    "numerical_gradient",
    "relu",
    "sample",
    "save_arrays",
    "scaled_dot_product_attention",
    "sigmoid",
    "softmax",
    "stack",
    "tanh",
    "unfold",
]
