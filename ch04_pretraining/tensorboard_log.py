"""The training log as TensorBoard events."""

from pathlib import Path


class TensorBoardLog:
    """Writes log entries as events under `folder`; ValueError if TensorBoard is not installed."""

    def __init__(self, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                "--tensorboard needs the package tensorboard; pip install tensorboard"
            ) from error
        self.writer = SummaryWriter(str(folder))

    def write(self, entry: dict) -> None:
        """One entry of `train`'s log: numbers as curves, layers as groups of curves, samples as
        text.
        """
        step = entry["step"]
        for name in ("train_loss", "val_loss", "val_bits_per_byte", "lr", "grad_norm", "clipped"):
            if name in entry:
                self.writer.add_scalar(name, entry[name], step)
        for layer, found in entry.get("layers", {}).items():
            for name, value in found.items():
                self.writer.add_scalar(f"{name}/{layer}", value, step)
        for i, found in enumerate(entry.get("activations", [])):
            for name, value in found.items():
                self.writer.add_scalar(f"activation_{name}/block {i}", value, step)
        if "sample" in entry:
            self.writer.add_text("sample", entry["sample"], step)
        self.writer.flush()
