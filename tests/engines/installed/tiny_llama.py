"""Writes a Llama with random weights, 2 MB, and a tokenizer of bytes into a folder: `python tiny_llama.py FOLDER`. Run by a Python with vLLM."""

import sys
from pathlib import Path

import tokenizers
import torch
import transformers

CONTEXT = 4096
_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def _tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are bytes."""
    words = ["<pad>", "<s>", "</s>", *sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())]
    model = tokenizers.models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[])
    one = tokenizers.Tokenizer(model)
    one.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    one.decoder = tokenizers.decoders.ByteLevel()
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=one, **names)
    fast.chat_template = _TEMPLATE
    return fast


def write(folder: Path) -> None:
    """Write the model."""
    folder.mkdir(parents=True)
    _tokenizer().save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = transformers.LlamaConfig(
        vocab_size=320, max_position_embeddings=CONTEXT, **sizes, **heads, **ends
    )
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
