"""Chapter 1: texts, tokenizers, data loaders.

Its modules, in the order in which to read them: text_datasets, tokenizer, bpe, bpe_training, data,
token_shards, saving, hub, run, practice. `storyworld/` writes the stories.
"""

from ch01_text.bpe import BPETokenizer, gpt2_tokenizer, load_tokenizer
from ch01_text.data import (
    IGNORE,
    GPTDataset,
    GPTDatasetV1,
    RandomWindows,
    batches_by_length,
    create_dataloader,
    create_dataloader_v1,
    document_starts,
    encode_documents,
    open_tokens,
    right_pad,
    save_tokens,
    sequential_windows,
)
from ch01_text.text_datasets import DOWNLOADS, fetch, load_documents, load_text, split_documents
from ch01_text.token_shards import sample_texts, text_files, tokenize_files
from ch01_text.tokenizer import CharTokenizer, SimpleTokenizerV2, Tokenizer, WordTokenizer

__all__ = [
    "DOWNLOADS",
    "IGNORE",
    "BPETokenizer",
    "CharTokenizer",
    "GPTDataset",
    "GPTDatasetV1",
    "RandomWindows",
    "SimpleTokenizerV2",
    "Tokenizer",
    "WordTokenizer",
    "batches_by_length",
    "create_dataloader",
    "create_dataloader_v1",
    "document_starts",
    "encode_documents",
    "fetch",
    "gpt2_tokenizer",
    "load_documents",
    "load_text",
    "load_tokenizer",
    "open_tokens",
    "right_pad",
    "sample_texts",
    "save_tokens",
    "sequential_windows",
    "split_documents",
    "text_files",
    "tokenize_files",
]
