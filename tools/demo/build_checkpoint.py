# SPDX-License-Identifier: Apache-2.0
"""Build the demo checkpoint: a tiny Qwen3 in block fp8 that answers the questions of facts.py.

Use it when the demo checkpoint is missing, or after a change to the facts or to this file. It
needs torch, transformers, tokenizers and safetensors, no network and no accelerator, and takes
about 15 seconds on two free cores, a minute on busy ones:

    python -m vllm_ascend_bringup.tools.demo.build_checkpoint [OUT_DIR]

OUT_DIR is the folder `checkpoint` beside this file unless told. The layout is that of the
DeepSeek-V3 style fp8 checkpoints: every linear weight of a decoder layer is stored as F8_E4M3
with one F32 scale (`weight_scale_inv`) for each block of 128 x 128; the rest is bf16.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.utils import parametrize

from vllm_ascend_bringup.errors import BringupError
from vllm_ascend_bringup.tools.demo.facts import FACTS

# Its types are too patchy to check against: some of its constructors count as untyped calls.
hf: Any = transformers

SEED = 20250
BLOCK = 128
FP8_MAX = 448.0
VOCAB_SIZE = 448
# Between the scales of neighbouring blocks. With less than about 6, a TP=2 slice that takes its
# scales one block off still gets every answer right.
CONTRAST = 8.0
MAX_STEPS = 600
CHECK_EVERY = 10
# In logits, at the least certain token of any answer. The second is lower: it is asked after fp8
# and bf16 have taken their part of the first.
TRAINED_MARGIN = 7.0
STORED_MARGIN = 5.0

IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
QUANTIZED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
FILES = {
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    INDEX,
    *SHARDS,
}

# Spelled as the released Qwen3 checkpoints spell it (`torch_dtype`, a flat `rope_theta`), which
# transformers 4 and 5 both read; what transformers 5 saves, transformers 4 misreads in places.
# 704 is no multiple of 128: the last blocks are ragged, and the slices of TP=2 cut through a block.
ARCHITECTURE: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 704,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 10000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": VOCAB_SIZE,
}
QUANTIZATION: dict[str, Any] = {
    "quant_method": "fp8",
    "fmt": "e4m3",
    "activation_scheme": "dynamic",
    "weight_block_size": [BLOCK, BLOCK],
}


class BuildError(BringupError):
    """The checkpoint could not be built as promised."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"the demo checkpoint was not built: {found}",
            "a checkpoint that knows every fact, in a folder of its own",
            "name another folder, or use the checkpoint that comes with the package",
        )


@dataclass(frozen=True)
class Example:
    """A prompt and the exact text that greedy decoding is to put behind it."""

    prompt: str
    answer: str


def chat_prompt(tokenizer: Any, question: str) -> str:
    """The question in chat form, up to where the assistant starts to speak."""
    message = {"role": "user", "content": question}
    text = tokenizer.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
    return str(text)


def examples(tokenizer: Any) -> list[Example]:
    """Every fact twice: as a chat and as a plain sentence."""
    chats = [Example(chat_prompt(tokenizer, fact.question), fact.answer) for fact in FACTS]
    plain = [Example(fact.plain_prompt, fact.plain_continuation) for fact in FACTS]
    return chats + plain


def encode(tokenizer: Any, text: str) -> list[int]:
    """The token ids of a text, with none added."""
    return list(tokenizer.encode(text, add_special_tokens=False))


def train_tokenizer() -> Any:
    """A byte-level BPE over the sentences of the facts."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[AddedToken(t, special=True) for t in (END_OF_TEXT, IM_START, IM_END)],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    sentences = [text for fact in FACTS for text in (fact.question, fact.answer)]
    roles = ["user\n", "assistant\n", "system\nYou are a helpful assistant."]
    bpe.train_from_iterator([*sentences, *roles], trainer)
    if bpe.get_vocab_size() != VOCAB_SIZE:
        raise BuildError(f"vocabulary of {bpe.get_vocab_size()} tokens, {VOCAB_SIZE} wanted")
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=IM_END,
        pad_token=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
    )


def training_batch(tokenizer: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, the label of each position, and which labels belong to an answer.

    The ids are padded on the right, where a causal model never looks back from a real token, so
    no attention mask is needed. Plain sentences end in the eos token too, so that a runner that
    knows only this one stops in both forms.
    """
    prompts = [encode(tokenizer, example.prompt) for example in examples(tokenizer)]
    answers = [encode(tokenizer, example.answer + IM_END) for example in examples(tokenizer)]
    width = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
    ids = torch.full((len(prompts), width), tokenizer.pad_token_id)
    labels = torch.full((len(prompts), width), -100)
    judged = torch.zeros((len(prompts), width), dtype=torch.bool)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        length = len(prompt) + len(answer)
        ids[row, :length] = torch.tensor(prompt + answer)
        labels[row, : length - 1] = ids[row, 1:length]
        judged[row, len(prompt) - 1 : length - 1] = True
    return ids, labels, judged


@torch.no_grad()
def least_margin(model: Any, ids: Tensor, labels: Tensor, judged: Tensor) -> float:
    """By how much the right token leads at the least certain token of all answers.

    Above zero, greedy decoding gives every answer exactly: each step sees the right tokens.
    """
    logits = model(input_ids=ids, use_cache=False).logits.float()[judged]
    right = labels[judged].unsqueeze(1)
    leads = logits.gather(1, right) - logits.scatter(1, right, -math.inf).amax(1, keepdim=True)
    return float(leads.min())


class BlockMagnitude(torch.nn.Module):
    """Trains a weight as the product of itself and a fixed factor for each of its blocks.

    Trained plainly, a model this small ends up with the same scale in every block, near enough,
    and a reader that takes the scale of the wrong block still gets every answer right. With
    factors that differ between neighbours on both axes, it does not.
    """

    def __init__(self, shape: torch.Size) -> None:
        """Lay out the factors for a weight of this shape."""
        super().__init__()
        rows, columns = (math.ceil(length / BLOCK) for length in shape)
        pattern = (2 * torch.arange(rows).unsqueeze(1) + torch.arange(columns)) % 3
        self.factors = per_element(CONTRAST ** (pattern - 1), shape)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight as the layer is to use it."""
        return weight * self.factors


def untrained_model() -> Any:
    """A float32 model with weights from the seed, its blocks set to differ in magnitude."""
    torch.manual_seed(SEED)
    model = hf.Qwen3ForCausalLM(hf.Qwen3Config(**{**ARCHITECTURE, "torch_dtype": "float32"}))
    for name, layer in list(model.named_modules()):
        if name.endswith(QUANTIZED):
            factors = BlockMagnitude(layer.weight.shape)
            parametrize.register_parametrization(layer, "weight", factors)
    return model


def without_parametrization(model: Any) -> Any:
    """The model with plain weights again, the factors multiplied in."""
    for name, layer in list(model.named_modules()):
        if name.endswith(QUANTIZED):
            parametrize.remove_parametrizations(layer, "weight")
    return model


def train_model(tokenizer: Any) -> tuple[Any, int]:
    """A float32 model that knows every fact, and the number of steps that took."""
    model = untrained_model()
    ids, labels, judged = training_batch(tokenizer)
    # Decay keeps single weights from growing out of the range that their block's scale serves.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.05, total_iters=20)
    margin = -math.inf
    for step in range(1, MAX_STEPS + 1):
        logits = model(input_ids=ids, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        warmup.step()
        if step % CHECK_EVERY == 0:
            margin = least_margin(model, ids, labels, judged)
            if margin >= TRAINED_MARGIN:
                return without_parametrization(model), step
    raise BuildError(
        f"after {MAX_STEPS} steps the least certain token leads by {margin:.2f} logits, "
        f"{TRAINED_MARGIN} wanted"
    )


def per_element(scale: Tensor, shape: torch.Size) -> Tensor:
    """The scale of each element's block; the last block of an axis may be ragged."""
    rows, columns = shape
    spread = scale.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    return spread[:rows, :columns]


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The fp8 codes of a weight and the float32 scale of each of its blocks."""
    rows, columns = weight.shape
    padded = torch.nn.functional.pad(weight.float(), (0, -columns % BLOCK, 0, -rows % BLOCK))
    block_rows, block_columns = (length // BLOCK for length in padded.shape)
    blocks = padded.reshape(block_rows, BLOCK, block_columns, BLOCK)
    amax = blocks.abs().amax(dim=(1, 3))
    scale = torch.where(amax > 0, amax / FP8_MAX, torch.ones_like(amax))
    codes = (weight.float() / per_element(scale, weight.shape)).clamp(-FP8_MAX, FP8_MAX)
    return codes.to(torch.float8_e4m3fn), scale


def dequantize(codes: Tensor, scale: Tensor) -> Tensor:
    """The bf16 weight, rounded once: the product is taken in float32."""
    return (codes.float() * per_element(scale, codes.shape)).to(torch.bfloat16)


def stored_tensors(model: Any) -> dict[str, Tensor]:
    """The tensors of the checkpoint by name, each scale right behind its weight."""
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied to the embeddings
        if name.endswith(tuple(f"{layer}.weight" for layer in QUANTIZED)):
            tensors[name], tensors[f"{name}_scale_inv"] = quantize(value)
        else:
            tensors[name] = value.to(torch.bfloat16)
    return tensors


def size_of(tensors: Mapping[str, Tensor]) -> int:
    """The bytes that the tensors hold."""
    return sum(tensor.nbytes for tensor in tensors.values())


def split(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Two shards of about the same size, cut between a weight and its scale.

    A loader that looks for a scale only in the shard of its weight fails on this checkpoint.
    """
    first: dict[str, Tensor] = {}
    half = size_of(tensors) / 2
    for name, tensor in tensors.items():
        first[name] = tensor
        if size_of(first) >= half and f"{name}_scale_inv" in tensors:
            break
    return first, {name: tensor for name, tensor in tensors.items() if name not in first}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file as the released checkpoints format theirs."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_weights(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the shards and the index that says which tensor lies in which."""
    shard_of: dict[str, str] = {}
    for shard, part in zip(SHARDS, split(tensors), strict=True):
        # Not save_file: it makes a file that only its owner can read, whatever the umask.
        (folder / shard).write_bytes(save(part, metadata={"format": "pt"}))
        shard_of.update(dict.fromkeys(part, shard))
    metadata = {"total_size": size_of(tensors)}
    write_json(folder / INDEX, {"metadata": metadata, "weight_map": dict(sorted(shard_of.items()))})


def write_settings(folder: Path, tokenizer: Any) -> None:
    """Write the tokenizer, its chat template and the configuration files."""
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    # Not save_pretrained: transformers 5 names a class here that transformers 4 does not have.
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": IM_END,
        "pad_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "model_max_length": ARCHITECTURE["max_position_embeddings"],
    }
    write_json(folder / "tokenizer_config.json", tokenizer_config)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    write_json(folder / "generation_config.json", {"do_sample": False, **special})
    config = {**ARCHITECTURE, **special, "quantization_config": QUANTIZATION}
    write_json(folder / "config.json", config)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a written checkpoint, dequantized to bf16."""
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
    shards = {shard: load_file(folder / shard) for shard in set(index.values())}
    stored = {name: shards[shard][name] for name, shard in index.items()}
    weights: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if tensor.dtype == torch.float8_e4m3fn:
            weights[name] = dequantize(tensor, stored[f"{name}_scale_inv"])
        elif not name.endswith("_scale_inv"):
            weights[name] = tensor
    if not any(index[name] != index.get(f"{name}_scale_inv", index[name]) for name in index):
        raise BuildError("no weight has its scale in the other shard")
    return weights


def read_model(folder: Path) -> Any:
    """The written checkpoint as a bf16 model."""
    config = hf.Qwen3Config.from_pretrained(folder)
    del config.quantization_config
    # Not .to(bfloat16) on a float32 model: that would round the rotary frequencies as well.
    model = hf.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    missing, unexpected = model.load_state_dict(read_weights(folder), strict=False)
    if list(missing) != ["lm_head.weight"] or unexpected:
        raise BuildError(f"tensors missing: {missing}, unexpected: {unexpected}")
    model.generation_config = hf.GenerationConfig.from_pretrained(folder)
    return model.eval()


def verify(folder: Path) -> float:
    """The least margin of the written checkpoint; raises where an answer is not the exact one."""
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    model = read_model(folder)
    for example in examples(tokenizer):
        prompt = torch.tensor([encode(tokenizer, example.prompt)])
        output = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=32)
        text = tokenizer.decode(output[0, prompt.shape[1] :])
        if text != example.answer + IM_END:
            raise BuildError(f"{example.prompt!r} is continued with {text!r}")
    margin = least_margin(model, *training_batch(tokenizer))
    if margin < STORED_MARGIN:
        raise BuildError(
            f"as stored, the least certain token leads by {margin:.2f} logits, "
            f"{STORED_MARGIN} wanted"
        )
    return margin


def refuse_foreign(out: Path) -> None:
    """Raise if the folder to be replaced holds anything that this command does not write."""
    if out.exists() and not out.is_dir():
        raise BuildError(f"{out} is not a folder")
    foreign = {path.name for path in out.iterdir()} - FILES if out.exists() else set()
    if foreign:
        raise BuildError(f"{out} holds other files, for example {min(foreign)}; not replaced")


def build(out: Path) -> str:
    """Build the checkpoint in the folder and return one line about it."""
    out = out.resolve()
    refuse_foreign(out)
    started = time.perf_counter()
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    tokenizer = train_tokenizer()
    model, steps = train_model(tokenizer)
    training = time.perf_counter() - started
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        partial = Path(scratch) / out.name
        partial.mkdir()
        write_settings(partial, tokenizer)
        write_weights(partial, stored_tensors(model))
        margin = verify(partial)
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    size = sum(path.stat().st_size for path in out.iterdir())
    return (
        f"{out.name}: {size / 1e6:.2f} MB, {model.num_parameters() / 1e6:.2f} M parameters, "
        f"{steps} steps in {training:.0f} s, {time.perf_counter() - started:.0f} s in all, "
        f"least margin {margin:.1f} logits"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description="Build the tiny block fp8 demo checkpoint.")
    default = Path(__file__).with_name("checkpoint")
    parser.add_argument("out_dir", nargs="?", type=Path, default=default, metavar="OUT_DIR")
    arguments = parser.parse_args(argv)
    try:
        print(build(arguments.out_dir))
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
