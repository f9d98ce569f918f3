"""Chapter 6's losses against Hugging Face's trl: its own trainers, on the same tiny GPT-2, the
same ids.
"""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from ch06_instruction.batches import collate
from ch06_instruction.chat import with_response
from ch06_instruction.config import DPOConfig as OurDPOConfig
from ch06_instruction.config import GRPOConfig as OurGRPOConfig
from ch06_instruction.dpo import preference_loss
from ch06_instruction.grpo import grpo_loss
from ch06_instruction.log_probs import response_log_probs, token_log_probs
from ch06_instruction.preference_losses import PairLogProbs, orpo, simpo

pytestmark = pytest.mark.slow  # trl takes a while to come and to build its trainers
PAD, N_VOCAB = 0, 40
PROMPTS = [[5, 6], [7, 8, 9, 5], [11, 4]]
CHOSEN = [[12, 13, 14], [15], [16, 17, 18, 19]]
REJECTED = [[20, 21], [22, 23, 24, 25], [26]]


@pytest.fixture(scope="module")
def models():
    """Two GPT-2s of random weights: one that learns, one to refer to."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=N_VOCAB,
        n_positions=32,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,
        bos_token_id=PAD,
        eos_token_id=PAD,
        pad_token_id=PAD,
    )
    return tuple(GPT2LMHeadModel(config).eval() for _ in range(2))


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(N_VOCAB)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="w0", pad_token="w0", unk_token="w0"
    )


def ours(model) -> SimpleNamespace:
    """A GPT-2 of transformers with the two parts that chapter 6 asks a model for."""
    return SimpleNamespace(
        out_head=model.lm_head, hidden_states=lambda ids: model.transformer(ids).last_hidden_state
    )


def gradients(loss: torch.Tensor, model) -> list[torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def padded(rows: list[list]) -> torch.Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=PAD)


@pytest.mark.parametrize(("name", "theirs"), [("dpo", "sigmoid"), ("ipo", "ipo")])
def test_dpo_and_ipo_are_trls(name, theirs, models, tokenizer, tmp_path):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    policy, reference = models
    pairs = Dataset.from_list([{"prompt": "w1", "chosen": " w2", "rejected": " w3"}] * 3)
    trainer = DPOTrainer(
        policy,
        reference,
        train_dataset=pairs,
        processing_class=tokenizer,
        args=DPOConfig(
            output_dir=tmp_path,
            loss_type=[theirs],
            beta=0.3,
            use_cpu=True,
            bf16=False,
            report_to=[],
        ),
    )
    chats = [with_response(*pair) for pair in zip(PROMPTS * 2, CHOSEN + REJECTED, strict=True)]
    expected = trainer.compute_loss(
        trainer.model,
        {
            "input_ids": padded([chat.ids for chat in chats]),
            "attention_mask": padded([[1] * len(chat.ids) for chat in chats]),
            "completion_mask": padded(
                [[int(learned) for learned in chat.assistant_mask] for chat in chats]
            ),
        },
    )
    inputs, targets = collate(chats, PAD)
    with torch.no_grad():
        known = response_log_probs(ours(reference), inputs, targets)
    total, count = preference_loss(OurDPOConfig(name, beta=0.3))(
        ours(policy), (inputs, targets, known)
    )
    torch.testing.assert_close(total / count, expected)
    for mine, its in zip(
        gradients(total / count, policy), gradients(expected, policy), strict=True
    ):
        torch.testing.assert_close(mine, its)


@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_simpo_and_orpo_are_trls(beta):
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 9, (2, 50), generator=generator)
    chosen, rejected = -torch.rand(2, 50, generator=generator) * 4 * lengths
    pairs = PairLogProbs(chosen, rejected, chosen * 0, rejected * 0, *lengths)
    means = chosen / lengths[0], rejected / lengths[1]
    device = SimpleNamespace(device="cpu")
    settings = SimpleNamespace(
        loss_type="simpo",
        beta=beta,
        simpo_gamma=0.7,
        alpha=0.0,
        label_smoothing=0.0,
        accelerator=device,
    )
    torch.testing.assert_close(
        simpo(pairs, beta=beta, gamma=0.7), CPOTrainer.cpo_loss(settings, *means)[0]
    )
    odds = ORPOTrainer.odds_ratio_loss(SimpleNamespace(beta=beta, accelerator=device), *means)[0]
    torch.testing.assert_close(orpo(pairs, beta=beta), -means[0] - odds)


def test_grpo_is_trls(models, tokenizer, tmp_path):
    """With ratios on both sides of the clip and a KL; "bnpo" is trl's name for the mean over all
    tokens. Prompts are padded on the left there, which would move GPT-2's positions, so all have
    two tokens. The KL is that of the GRPO paper, without the correction of DeepSeek-V3.2.
    """
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    policy, reference = models
    policy.save_pretrained(tmp_path)  # from where the trainer takes what it refers to
    policy.config._name_or_path = str(tmp_path)
    trainer = GRPOTrainer(
        policy,
        lambda completions, **_: [0.0] * len(completions),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([{"prompt": "w1"}] * 4),
        args=GRPOConfig(
            output_dir=tmp_path,
            loss_type="bnpo",
            beta=0.4,
            epsilon=0.2,
            num_generations=2,
            use_bias_correction_kl=False,
            per_device_train_batch_size=2,
            use_cpu=True,
            bf16=False,
            report_to=[],
        ),
    )
    trainer.current_gradient_accumulation_steps = 1
    prompts = [ids[:2] for ids in PROMPTS]
    inputs, targets = collate(
        [with_response(*pair) for pair in zip(prompts, CHOSEN, strict=True)], PAD
    )
    mask, generator = targets >= 0, torch.Generator().manual_seed(0)
    with torch.no_grad():
        now, known = (
            token_log_probs(ours(model), inputs, targets) for model in (policy, reference)
        )
    old = torch.where(mask, now + 0.5 * torch.randn(now.shape, generator=generator), 0.0)
    ratio = (now - old).exp()[mask]
    assert (ratio < 0.8).any() and (ratio > 1.2).any()
    advantages = torch.tensor([[1.0], [-0.5], [2.0]])
    rows = {"old_per_token_logps": old, "ref_per_token_logps": known}
    expected = trainer._compute_loss(
        trainer.model,
        {
            "prompt_ids": torch.tensor(prompts),
            "prompt_mask": torch.ones(3, 2, dtype=torch.long),
            "completion_ids": padded(CHOSEN),
            "completion_mask": padded([[1] * len(ids) for ids in CHOSEN]),
            "advantages": advantages[:, 0],
            **{
                name: padded([row[said].tolist() for row, said in zip(values, mask, strict=True)])
                for name, values in rows.items()
            },
        },
    )
    total, count = grpo_loss(OurGRPOConfig(beta=0.4, epsilon=0.2))(
        ours(policy), (inputs, targets, old, known, advantages)
    )
    torch.testing.assert_close(total / count, expected)
    for mine, its in zip(
        gradients(total / count, policy), gradients(expected, policy), strict=True
    ):
        torch.testing.assert_close(mine, its, atol=1e-6, rtol=1e-4)
