# SPDX-License-Identifier: Apache-2.0
"""What the tiny models that look at pictures share."""

from collections.abc import Sequence
from typing import Any


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
