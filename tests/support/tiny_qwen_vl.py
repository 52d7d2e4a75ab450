# SPDX-License-Identifier: Apache-2.0
"""A tiny Qwen2-VL whose encoder has three heads, and one question with an image, over two ranks.

As a program: ``python tiny_qwen_vl.py FOLDER ANSWER.json``. transformers writes the checkpoint and
answers, then vLLM does with its encoder divided over the ranks, and with a whole one on each.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tiny_pictures import transformers_answer, vllm_answer, word_tokenizer

from vllm_ascend_bringup.tools.engines.child import ChildError, in_child
from vllm_ascend_bringup.tools.engines.engine import generate_in_ranks, rank_arguments, set_up

_NAMES = ["<pad>", "<s>", "</s>", "<unk>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>",
          "<|vision_end|>"]  # fmt: skip
_WORDS = [*_NAMES, *(f"w{i}" for i in range(120))]
_PROMPT = "<|vision_start|> <|image_pad|> <|vision_end|> w7 w42 w3"
_SIDE, _HEADS = 56, 3


def write(folder: Path) -> list[list[float]]:
    """Write the checkpoint; returns transformers' own log-probabilities ``[TOKENS, V]``."""
    import torch
    import transformers

    hf: Any = transformers
    tokenizer = word_tokenizer(_WORDS, _NAMES[4:])
    pixels = {"min_pixels": _SIDE**2, "max_pixels": _SIDE**2}
    processor = hf.Qwen2VLProcessor(
        hf.Qwen2VLImageProcessor(**pixels), tokenizer, hf.Qwen2VLVideoProcessor()
    )
    ids = {f"{what}_token_id": _WORDS.index(f"<|{name}|>") for what, name in (
        ("image", "image_pad"), ("video", "video_pad"), ("vision_start", "vision_start"),
        ("vision_end", "vision_end"))}  # fmt: skip
    torch.manual_seed(0)
    config = hf.Qwen2VLConfig(
        text_config={
            "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": len(_WORDS),
            "max_position_embeddings": 256, "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
                                "mrope_section": [4, 6, 6]},
        },
        vision_config={
            "depth": 2, "embed_dim": 32 * _HEADS, "hidden_size": 128, "num_heads": _HEADS,
            "mlp_ratio": 2,
        },
        tie_word_embeddings=False, **ids,
    )  # fmt: skip
    model = hf.Qwen2VLForConditionalGeneration(config).float().eval()
    with torch.no_grad():  # larger than the initialization, so that the image matters
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return transformers_answer(model, processor, _PROMPT, _SIDE)


def answer(folder: Path, mode: str) -> list[dict[str, float]]:
    """vLLM's log-probabilities, by token id. ``mode``: --mm-encoder-tp-mode."""
    only_images = {"image": 1, "video": 0}
    return vllm_answer(
        folder, _PROMPT, _SIDE, mm_encoder_tp_mode=mode, limit_mm_per_prompt=only_images,
        **rank_arguments(),
    )  # fmt: skip


def main(folder: Path, answered: Path) -> None:
    """Write what each said."""
    set_up()
    log = answered.with_suffix(".log")
    found: dict[str, Any] = {"transformers": in_child(write, folder, log=log, timeout=120)}
    for mode in ("weights", "data"):
        try:
            found[mode] = generate_in_ranks(2, answer, folder, mode, log=log, timeout=120)
        except ChildError as error:
            found[mode] = str(error)
    answered.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
