"""Appendix B: machine learning from the ground up, with NumPy alone.

Its modules, in the order in which to read them: tensor, functions, graph, finite_differences, nn,
layers, convolution, recurrent, attention, gpt, losses, optimizers, schedules, saving, training,
text_models, regression, digits, classifiers, image_experiments, small_talk, chat, plots, bench.
"""

from appendix_b.attention import (
    AttentionHead,
    MultiHeadAttention,
    TransformerBlock,
    attend,
    causal_bias,
)
from appendix_b.convolution import Conv2d, MaxPool, windows
from appendix_b.finite_differences import numerical_gradient
from appendix_b.functions import (
    concatenate,
    exp,
    gelu,
    layer_norm,
    log,
    log_softmax,
    logsumexp,
    lookup,
    relu,
    sigmoid,
    softmax,
    stack,
    tanh,
    where,
)
from appendix_b.gpt import GPT, Shape, draw, write
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
from appendix_b.optimizers import SGD, Adam, AdamW, clip_gradients
from appendix_b.recurrent import LSTM, RNN
from appendix_b.saving import load_arrays, save_arrays
from appendix_b.schedules import constant, cosine, step_decay
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
    "LayerNorm",
    "Linear",
    "MaxPool",
    "Module",
    "MultiHeadAttention",
    "Parameter",
    "ReLU",
    "Sequential",
    "Shape",
    "Tanh",
    "Tensor",
    "TransformerBlock",
    "attend",
    "binary_cross_entropy",
    "causal_bias",
    "clip_gradients",
    "concatenate",
    "constant",
    "cosine",
    "cross_entropy",
    "draw",
    "exp",
    "gelu",
    "layer_norm",
    "load_arrays",
    "log",
    "log_softmax",
    "logsumexp",
    "lookup",
    "mean_squared_error",
    "no_grad",
    "numerical_gradient",
    "relu",
    "save_arrays",
    "sigmoid",
    "softmax",
    "stack",
    "step_decay",
    "tanh",
    "where",
    "windows",
    "write",
]
