"""Appendix A: PyTorch, from a tensor's memory to several processes.

Its modules, in the order in which to read them: memory, graph, network, toy_data, training,
landscape, saving, speed, multi_process, plots.
"""

from appendix_a.graph import arriving_gradients, draw_graph, nodes_of
from appendix_a.landscape import descend, valley
from appendix_a.memory import places, stretched
from appendix_a.multi_process import (
    BatchPart,
    ddp_setup,
    distribute,
    plain_copy,
    share_batches,
    shared_cross_entropy,
)
from appendix_a.network import NeuralNetwork, compute_accuracy
from appendix_a.saving import load_network, load_run, save_network, save_run
from appendix_a.speed import missing_compiler, profile_operations
from appendix_a.toy_data import ToyDataset, prepare_dataset, spirals
from appendix_a.training import make_optimizer, train

__all__ = [
    "BatchPart",
    "NeuralNetwork",
    "ToyDataset",
    "arriving_gradients",
    "compute_accuracy",
    "ddp_setup",
    "descend",
    "distribute",
    "draw_graph",
    "load_network",
    "load_run",
    "make_optimizer",
    "missing_compiler",
    "nodes_of",
    "places",
    "plain_copy",
    "prepare_dataset",
    "profile_operations",
    "save_network",
    "save_run",
    "share_batches",
    "shared_cross_entropy",
    "spirals",
    "stretched",
    "train",
    "valley",
]
