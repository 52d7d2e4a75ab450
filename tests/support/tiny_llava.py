# SPDX-License-Identifier: Apache-2.0
"""A tiny LLaVA as transformers 5 saves it, and one question with an image, answered.

As a program (``python tiny_llava.py REQUEST.json ANSWER.json``): transformers writes the
checkpoint and answers, or vLLM answers. Needs torchvision (see tools/beside_cpu_torch).
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from tiny_pictures import transformers_answer, vllm_answer, word_tokenizer

from vllm_ascend_bringup.tools.engines.engine import allow_amx

_WORDS = ["<pad>", "<s>", "</s>", "<unk>", "<image>", *(f"w{i}" for i in range(123))]
_PROMPT = "<image> w7 w42 w3"
_IMAGE_SIZE, _PATCH = 28, 14


def write(folder: Path) -> list[list[float]]:
    """Write the checkpoint; returns transformers' own log-probabilities ``[TOKENS, V]``."""
    import transformers

    hf: Any = transformers
    tokenizer = word_tokenizer(_WORDS, ["<image>"])
    square = {"height": _IMAGE_SIZE, "width": _IMAGE_SIZE}
    processor = hf.LlavaProcessor(
        hf.CLIPImageProcessor(size=square, crop_size=square), tokenizer, patch_size=_PATCH,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
        image_token="<image>",
    )  # fmt: skip
    torch.manual_seed(0)
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(
            hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=2,
            image_size=_IMAGE_SIZE, patch_size=_PATCH, projection_dim=64,
        ),
        text_config=hf.LlamaConfig(
            hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
            vocab_size=len(_WORDS), max_position_embeddings=256, tie_word_embeddings=False,
        ),
        image_token_index=_WORDS.index("<image>"), image_seq_length=(_IMAGE_SIZE // _PATCH) ** 2,
    )  # fmt: skip
    model = hf.LlavaForConditionalGeneration(config).float().eval()
    with torch.no_grad():  # larger than the initialization, so that the image matters
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return transformers_answer(model, processor, _PROMPT, _IMAGE_SIZE)


def answer(folder: Path) -> list[dict[str, float]]:
    """vLLM's log-probabilities, by token id."""
    return vllm_answer(folder, _PROMPT, _IMAGE_SIZE)


def main(ask: str, answered: str) -> None:
    """Do what REQUEST.json asks for."""
    request = json.loads(Path(ask).read_text())
    do = {"write": write, "answer": answer}[request["do"]]
    Path(answered).write_text(json.dumps(do(Path(request["folder"]))))


if __name__ == "__main__":
    allow_amx()
    main(*sys.argv[1:])
