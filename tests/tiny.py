"""A tiny Llama with random weights and a byte-level tokenizer, as a Hugging Face folder: what users bring."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = [
    "what",
    "is",
    "the",
    "colour",
    "of",
    "a",
    "red",
    "green",
    "blue",
    "house",
    "tree",
    "river",
    "stone",
    "and",
    "how",
    "many",
    "are",
    "there",
    "one",
    "two",
    "three",
    "four",
    "(A)",
    "(B)",
    "(C)",
    "answer",
    ":",
    "?",
    ".",
]

TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def write_tiny_llama(path: Path, *, context: int = 256, template: str | None = None) -> Path:
    """Write it to a folder, which is returned; without a chat template unless one is given."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "</s>", "<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", bos_token="<s>", pad_token="<pad>"
    )
    fast.chat_template = template
    fast.save_pretrained(path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    module = LlamaForCausalLM(config)
    for parameter in module.parameters():
        if parameter.ndim == 2:
            parameter.data *= 4
    module.save_pretrained(path)
    return path
