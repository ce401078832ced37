"""Writes a Stable Diffusion pipeline with random weights, 7 MB, into a folder: `python tiny_pipeline.py FOLDER`. Run by a Python with diffusers."""

import json
import string
import sys
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

_BLOCKS: dict[str, Any] = {"block_out_channels": (32, 64)}


def _tokenizer(folder: Path) -> Any:
    """Return a tokenizer whose words are single characters."""
    signs = [sign for sign in string.printable if not sign.isspace()]
    words = [*signs, *(f"{sign}</w>" for sign in signs), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    files = (str(folder / "vocab.json"), str(folder / "merges.txt"))
    return transformers.CLIPTokenizer(*files, model_max_length=77)


def _text_encoder(words: int) -> Any:
    ends = {"bos_token_id": words - 2, "eos_token_id": words - 1, "pad_token_id": words - 1}
    sizes = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(vocab_size=words, **sizes, **ends))


def _denoiser() -> Any:
    return diffusers.UNet2DConditionModel(
        **_BLOCKS,
        layers_per_block=1,
        sample_size=16,
        cross_attention_dim=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )


def _decoder() -> Any:
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return diffusers.AutoencoderKL(**_BLOCKS, **kinds, latent_channels=4)


def write(folder: Path) -> None:
    """Write the pipeline."""
    torch.manual_seed(0)
    work = folder / "work"
    work.mkdir(parents=True)
    tokenizer = _tokenizer(work)
    diffusers.StableDiffusionPipeline(
        vae=_decoder(),
        text_encoder=_text_encoder(len(tokenizer)),
        tokenizer=tokenizer,
        unet=_denoiser(),
        scheduler=diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "tiny")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
