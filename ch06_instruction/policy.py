"""The two models of alignment: the policy that learns and the frozen reference it starts from."""

import copy

from ch03_gpt import GPTModel


def frozen_copy(model: GPTModel) -> GPTModel:
    """A copy of `model` in eval mode that does not learn."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def set_trainable(model: GPTModel, trainable: str) -> None:
    """Let only the parameters learn whose names start with `trainable`, or "all".

    A few hundred judgements cannot determine a million weights: with all of them free, a small
    model fits the noise. ValueError if no parameter's name starts so.
    """
    names = [name for name, _ in model.named_parameters()]
    chosen = [name for name in names if trainable == "all" or name.startswith(trainable)]
    if not chosen:
        begins = dict.fromkeys(name.partition(".")[0] for name in names)
        raise ValueError(
            f"no parameter's name starts with {trainable!r}; choose all or {', '.join(begins)}"
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
