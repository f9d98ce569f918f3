"""Chapter 1: texts, tokenizers, data loaders.

Its modules, in the order in which to read them: corpora, tokenizer, bpe, bpe_training, data,
shards, saving, hub, run, practice. `storyworld/` writes the stories.
"""

from ch01_text.bpe import BPETokenizer, gpt2_tokenizer, load_tokenizer
from ch01_text.corpora import DOWNLOADS, fetch, load_documents, load_text, split_documents
from ch01_text.data import (
    GPTDataset,
    GPTDatasetV1,
    RandomWindows,
    create_dataloader,
    create_dataloader_v1,
    document_starts,
    encode_documents,
    open_tokens,
    save_tokens,
    sequential_windows,
)
from ch01_text.shards import corpus_files, sample_texts, tokenize_files
from ch01_text.tokenizer import CharTokenizer, SimpleTokenizerV2, WordTokenizer

__all__ = [
    "DOWNLOADS",
    "BPETokenizer",
    "CharTokenizer",
    "GPTDataset",
    "GPTDatasetV1",
    "RandomWindows",
    "SimpleTokenizerV2",
    "WordTokenizer",
    "corpus_files",
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
    "sample_texts",
    "save_tokens",
    "sequential_windows",
    "split_documents",
    "tokenize_files",
]
