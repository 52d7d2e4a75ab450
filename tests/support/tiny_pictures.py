# SPDX-License-Identifier: Apache-2.0
"""What the tiny models that look at pictures share: one question with a picture, answered twice."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

TOKENS = 6


def picture(side: int) -> Any:
    """A square of many colours."""
    from PIL import Image

    image = Image.new("RGB", (side, side))
    image.putdata([(i % 251, i * 7 % 256, i * 13 % 256) for i in range(side**2)])
    return image


def word_tokenizer(words: Sequence[str], special: Sequence[str]) -> Any:
    """One token for each word; the first four are for padding, start, end and unknown words."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    hf: Any = transformers
    pad, start, end, unknown = words[:4]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=unknown))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=start, eos_token=end, pad_token=pad, unk_token=unknown,
        additional_special_tokens=list(special),
    )  # fmt: skip


def transformers_answer(model: Any, processor: Any, prompt: str, side: int) -> list[list[float]]:
    """transformers' log-probabilities ``[TOKENS, V]`` of a greedy continuation."""
    model.generation_config.eos_token_id = None
    inputs = processor(text=prompt, images=picture(side), return_tensors="pt")
    with torch.no_grad():
        found = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False,
                               output_logits=True, return_dict_in_generate=True)  # fmt: skip
    rows: list[list[float]] = torch.stack(found.logits)[:, 0].log_softmax(-1).tolist()
    return rows


def vllm_answer(folder: Path, prompt: str, side: int, **engine: Any) -> list[dict[str, float]]:
    """vLLM's, by token id; of each step the likeliest. ``engine``: more arguments."""
    from vllm import LLM, SamplingParams

    arguments: dict[str, Any] = {
        "enforce_eager": True, "max_model_len": 128, "gpu_memory_utilization": 0.3,
        "dtype": "float32", **engine,
    }  # fmt: skip
    sampling = SamplingParams(temperature=0, max_tokens=TOKENS, logprobs=5, ignore_eos=True)
    request = {"prompt": prompt, "multi_modal_data": {"image": picture(side)}}
    steps = LLM(str(folder), **arguments).generate([request], sampling)[0].outputs[0].logprobs
    return [{str(token): p.logprob for token, p in step.items()} for step in steps]
