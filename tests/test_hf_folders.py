"""Checkpoints as Hugging Face folders: `transformers` opens every shape of ours and writes what we
write, and we open what it saved.
"""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from ch01_text import BPETokenizer, CharTokenizer
from ch03_gpt import PRESETS, GPTConfig, GPTModel, generate
from ch04_pretraining import (
    from_pretrained,
    load_checkpoint,
    save_checkpoint,
    save_pretrained,
    tokenizer_of,
)
from ch04_pretraining.hf_format import CUSTOM, model_type
from ch06_instruction.chat import chat_tokenizer, encode_chat, prompt_ids

transformers = pytest.importorskip("transformers", reason="the oracle of these tests")

TEXT = "to be, or not to be: that is the question. Whether it is nobler, nobody knows. "
TOKENIZER = BPETokenizer.train(TEXT, 290, metadata={"trained_on": "a sentence"})
PROMPT = TOKENIZER.encode(TEXT)[:20]


def small(config: GPTConfig, **changes) -> GPTConfig:
    """A preset's shape at a size for tests; grouped heads, windows and widths stay as they are."""
    sizes = {"vocab_size": TOKENIZER.n_vocab, "context_length": 48, "emb_dim": 32, "n_heads": 4}
    if config.n_kv_heads:
        sizes["n_kv_heads"] = 2
    if config.ffn_dim:
        sizes["ffn_dim"] = 40
    if config.window:
        sizes["window"] = 7
    return replace(config, n_layers=2, **sizes | changes)


STORY, GPT2 = PRESETS["story"], PRESETS["gpt2-124m"]
SHAPES = {
    "gpt2": ("gpt2", small(GPT2, drop_rate=0.1)),
    "the book's": ("gpt2", small(GPT2, qkv_bias=False, tie_embeddings=False)),
    "gpt2 without biases": ("gpt2", small(GPT2, qkv_bias=False, bias=False)),
    "tiny": ("qwen3", small(PRESETS["tiny"], drop_rate=0.2)),
    "qwen3 with a window": ("qwen3", small(PRESETS["tiny"], window=5, n_kv_heads=2)),
    "llama": ("llama", small(PRESETS["llama2-7b"])),
    "mistral": ("mistral", small(PRESETS["mistral-7b"])),
    "qwen2.5": ("qwen2", small(PRESETS["qwen2.5-0.5b"])),
    "story": (CUSTOM, small(STORY)),
    "story with grouped heads and a window": (CUSTOM, small(STORY, n_kv_heads=2, window=5)),
    "story without QK-norm": (CUSTOM, small(STORY, qk_norm=False, conv_kernel=3)),
    "story as GPT-2": (CUSTOM, small(GPT2, conv_kernel=7)),
    "gpt2 with RoPE": (CUSTOM, small(GPT2, position="rope", qkv_bias=False)),
    "llama with biases": (CUSTOM, small(PRESETS["llama2-7b"], bias=True)),
}


def wild_model(config: GPTConfig) -> GPTModel:
    """Weights far from their start, so that every part of the model matters."""
    torch.manual_seed(1)
    model = GPTModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def open_model(folder, **options):
    """What `AutoModelForCausalLM` makes of a folder; every tensor must have found its place."""
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, **options
    )
    assert not any(report.values()), report
    return model


def greedy(model, ids, n: int, **options) -> list[list[int]]:
    """The ids that a model of transformers writes after `ids`."""
    ids = torch.tensor(ids)
    found = model.generate(ids, max_new_tokens=n, do_sample=False, pad_token_id=0, **options)
    return found[:, ids.shape[1] :].tolist()


@pytest.mark.parametrize("name", SHAPES)
def test_transformers_opens_what_we_save(tmp_path, name):
    """Oracles: transformers' logits, its greedy text and `AutoTokenizer`'s ids; the saved model."""
    kind, config = SHAPES[name]
    ours = wild_model(config)
    save_checkpoint(tmp_path / "c", ours, TOKENIZER)
    settings = json.loads((tmp_path / "c" / "config.json").read_text(encoding="utf-8"))
    assert settings["model_type"] == model_type(config) == kind
    assert (tmp_path / "c" / "modeling_companion.py").is_file() is (kind == CUSTOM)

    theirs = open_model(tmp_path / "c", trust_remote_code=kind == CUSTOM)
    ids = torch.tensor([PROMPT, PROMPT[::-1]])
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, ours(ids), atol=1e-4, rtol=0)
    written = generate(ours, ids[:1], 28, temperature=0.0, stop_ids=TOKENIZER.stop_ids)
    assert greedy(theirs, [PROMPT], 28) == written[:, len(PROMPT) :].tolist()

    auto = transformers.AutoTokenizer.from_pretrained(
        tmp_path / "c", trust_remote_code=kind == CUSTOM
    )
    assert auto.encode(TEXT + "<|endoftext|>é") == TOKENIZER.encode(TEXT + "<|endoftext|>é", "all")

    back, tokenizer = load_checkpoint(tmp_path / "c")
    assert back.config == config
    assert vars(tokenizer).items() >= {"metadata": {"trained_on": "a sentence"}}.items()
    pairs = zip(ours.state_dict().values(), back.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_texts_compared_above_differ():
    """Equal texts would prove nothing if every model wrote the same."""
    texts = {
        tuple(generate(wild_model(config), torch.tensor([PROMPT]), 28, temperature=0.0)[0].tolist())
        for _, config in SHAPES.values()
    }
    assert len(texts) == len(SHAPES)
    assert sum(len(set(text[len(PROMPT) :])) for text in texts) > 4 * len(texts)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A story-shaped model, its folder, and what transformers makes of it."""
    ours, folder = wild_model(small(STORY)), tmp_path_factory.mktemp("story") / "c"
    save_checkpoint(folder, ours, TOKENIZER)
    return ours, folder, open_model(folder, trust_remote_code=True)


def test_the_cached_convolution_stands_padding_and_beams(story):
    """Oracles: our text of the prompt alone, and transformers without a cache."""
    ours, _, theirs = story
    short = PROMPT[:5]
    padded = [PROMPT[:12], [0] * 7 + short]
    mask = torch.tensor([[1] * 12, [0] * 7 + [1] * 5])
    texts = greedy(theirs, padded, 10, attention_mask=mask, eos_token_id=None)
    for text, prompt in zip(texts, (PROMPT[:12], short), strict=True):
        alone = generate(ours, torch.tensor([prompt]), 10, temperature=0.0)
        assert text == alone[0, len(prompt) :].tolist()
    options = {"num_beams": 3, "eos_token_id": None}
    cached = greedy(theirs, padded[:1], 12, **options)
    assert cached == greedy(theirs, padded[:1], 12, use_cache=False, **options)


def test_one_token_at_a_time_equals_all_at_once(story):
    """Oracle: the logits of one pass; the prompt shorter than the convolution, too."""
    _, _, theirs = story
    ids = torch.tensor([PROMPT])
    with torch.no_grad():
        whole = theirs(ids).logits
        found = theirs(ids[:, :2], use_cache=True)
        steps = [found.logits]
        for i in range(2, len(PROMPT)):
            found = theirs(ids[:, i : i + 1], past_key_values=found.past_key_values)
            steps.append(found.logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, atol=1e-5, rtol=0)


def test_without_trust_transformers_refuses_our_code(story):
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        transformers.AutoModelForCausalLM.from_pretrained(story[1], trust_remote_code=False)


def test_we_execute_no_code_of_a_folder(tmp_path):
    """Oracle: a file that the folder's code would create."""
    save_checkpoint(tmp_path / "c", wild_model(small(STORY)), TOKENIZER)
    (tmp_path / "c" / "modeling_companion.py").write_text(
        f"open({str(tmp_path / 'executed')!r}, 'w')", encoding="utf-8"
    )
    load_checkpoint(tmp_path / "c")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["gpt2", "tiny", "story"])
def test_what_transformers_saves_again_is_still_ours(tmp_path, name):
    """Oracle: the model before; transformers carries along what only our config knows."""
    kind, config = SHAPES[name]
    ours = wild_model(config)
    save_checkpoint(tmp_path / "c", ours, TOKENIZER)
    theirs = open_model(tmp_path / "c", trust_remote_code=kind == CUSTOM)
    theirs.save_pretrained(tmp_path / "again")
    TOKENIZER.save(tmp_path / "again")
    back, _ = load_checkpoint(tmp_path / "again")
    assert back.config == config
    pairs = zip(ours.state_dict().values(), back.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def their_model(kind: str, **changes):
    """A tiny random model of transformers."""
    settings = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "head_dim": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
    }
    torch.manual_seed(2)
    config = transformers.AutoConfig.for_model(kind, **settings | changes)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
        ("mistral", {"sliding_window": 6}),
        ("mistral", {"sliding_window": None}),
        ("qwen2", {}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 0}),
        ("qwen3", {"tie_word_embeddings": True}),
    ],
)
def test_we_open_what_transformers_saves(tmp_path, kind, changes):
    """Oracle: transformers' logits; the weights in several files, as large models come."""
    theirs = their_model(kind, **changes)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    ids = torch.randint(0, 300, (2, 20))
    with torch.no_grad():
        wanted = theirs(ids).logits
        torch.testing.assert_close(from_pretrained(tmp_path)(ids), wanted, atol=1e-4, rtol=0)
        # a vocabulary that was rounded up: 290 tokens, 300 rows
        TOKENIZER.save(tmp_path)
        assert tokenizer_of(tmp_path).n_vocab == 290
        (tmp_path / "model.safetensors.index.json").unlink()
        theirs.save_pretrained(tmp_path)
        model, _ = load_checkpoint(tmp_path)
        torch.testing.assert_close(model(ids), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "bert"}, "model_type 'bert' is unknown; known: gpt2, llama"),
        ({"hidden_act": "relu"}, "hidden_act='relu' is not supported"),
        ({"head_dim": 16}, "head_dim=16 is not supported"),
        ({"attention_bias": True}, "attention_bias=True is not supported"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type='yarn' is not supported"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear"}}, "rope_type='linear'"),
        ({"llm_companion": {"magic": 1}}, "unknown config keys magic"),
        ({"num_attention_heads": None}, "does not give"),
    ],
)
def test_other_shapes_are_refused(tmp_path, changes, words):
    their_model("qwen3").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | changes
    settings = {name: value for name, value in settings.items() if value is not None}
    path.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        from_pretrained(tmp_path)


def test_a_window_in_some_layers_only_is_refused(tmp_path):
    window = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
    their_model("qwen2", **window).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="max_window_layers=1 is not supported"):
        from_pretrained(tmp_path)


def test_a_bias_that_the_model_lacks_must_be_zero(tmp_path):
    save_pretrained(wild_model(SHAPES["the book's"][1]), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert not tensors["transformer.h.0.attn.c_attn.bias"].any()
    tensors["transformer.h.0.attn.c_attn.bias"][3] = 1
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"'h\.0\.attn\.c_attn\.bias' is not zero"):
        from_pretrained(tmp_path)


def test_folders_of_an_earlier_version_are_refused_in_one_line(tmp_path):
    model = GPTModel(small(STORY))
    save_checkpoint(tmp_path / "c", model, TOKENIZER)
    (tmp_path / "c" / "config.json").write_text(
        json.dumps(model.config.to_dict()), encoding="utf-8"
    )
    with pytest.raises(ValueError, match=r"was made by an earlier version; train .* again$"):
        load_checkpoint(tmp_path / "c")
    with pytest.raises(ValueError, match="earlier version"):
        from_pretrained(tmp_path / "c")


@pytest.mark.parametrize("tokenizer", [CharTokenizer.train(TEXT), TOKENIZER])
def test_generation_stops_at_the_end_of_a_text(tmp_path, tokenizer):
    """Oracle: transformers' `generate`, with a model that ends its text at once."""
    model = GPTModel(small(PRESETS["tiny"], vocab_size=tokenizer.n_vocab)).eval()
    with torch.no_grad():
        model.final_norm.scale.fill_(1.0)
        model.tok_emb.weight[:] = 0.01 * torch.randn_like(model.tok_emb.weight)
        model.tok_emb.weight[tokenizer.eot_id] = model.tok_emb.weight[3] * 5
    save_checkpoint(tmp_path / "c", model, tokenizer)
    assert greedy(open_model(tmp_path / "c"), [[3]], 9) == [[tokenizer.eot_id]]


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "To be, or not to be?\nSay it."},
    {"role": "assistant", "content": "That is the question."},
    {"role": "user", "content": "  Why?"},
]


def test_the_chat_template_writes_our_conversations(tmp_path):
    """Oracle: `prompt_ids` and `encode_chat`, against `apply_chat_template` from the folder alone."""
    chat = chat_tokenizer(TOKENIZER)
    save_checkpoint(tmp_path / "c", GPTModel(small(STORY, vocab_size=chat.n_vocab)), chat)
    auto = transformers.AutoTokenizer.from_pretrained(tmp_path / "c", trust_remote_code=True)
    options = {"tokenize": True, "return_dict": False}
    assert auto.apply_chat_template(
        CONVERSATION, add_generation_prompt=True, **options
    ) == prompt_ids(chat, CONVERSATION)
    answered = [*CONVERSATION, {"role": "assistant", "content": "é."}]
    assert auto.apply_chat_template(answered, **options) == encode_chat(chat, answered).ids
    assert (auto.eos_token, auto.bos_token) == ("<|end|>", "<|endoftext|>")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "c", trust_remote_code=True)
    assert config.eos_token_id == sorted([chat.eot_id, chat.special_tokens["<|end|>"]])
    loaded = BPETokenizer.load(tmp_path / "c")
    assert chat_tokenizer(loaded) is loaded
    assert not (tmp_path / "c" / "chat_template.jinja").exists()
