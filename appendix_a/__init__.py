"""Appendix A: PyTorch, from a tensor's memory to several processes.

Its modules, in the order in which to read them: memory, graph, network, toy_data, training,
landscape, saving, speed, multi_process, plots.
"""

from appendix_a.graph import draw_graph, node_gradients, topological_order
from appendix_a.landscape import optimizer_path, valley
from appendix_a.memory import broadcast_view, storage_indices
from appendix_a.multi_process import (
    RankSampler,
    ddp_setup,
    distribute,
    global_cross_entropy,
    shard_batches,
    unsharded_copy,
)
from appendix_a.network import NeuralNetwork, compute_accuracy
from appendix_a.saving import load_network, load_run, save_network, save_run
from appendix_a.speed import missing_compiler, profile_operations
from appendix_a.toy_data import ToyDataset, prepare_dataset, spirals
from appendix_a.training import make_optimizer, train

__all__ = [
    "NeuralNetwork",
    "RankSampler",
    "ToyDataset",
    "broadcast_view",
    "compute_accuracy",
    "ddp_setup",
    "distribute",
    "draw_graph",
    "global_cross_entropy",
    "load_network",
    "load_run",
    "make_optimizer",
    "missing_compiler",
    "node_gradients",
    "optimizer_path",
    "prepare_dataset",
    "profile_operations",
    "save_network",
    "save_run",
    "shard_batches",
    "spirals",
    "storage_indices",
    "topological_order",
    "train",
    "unsharded_copy",
    "valley",
]
