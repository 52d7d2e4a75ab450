# SPDX-License-Identifier: Apache-2.0
"""Write the demo checkpoint as an architecture that nobody has heard of: ``acme.py DIRECTORY``.

The README's chapter on bringing up a model follows a run on it.
"""

import json
import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

_DEMO = Path(__file__).parents[2] / "tools" / "demo" / "checkpoint"
_NAMES = (
    ("model.layers.", "decoder.blocks."), ("model.embed_tokens.", "decoder.wte."),
    ("model.norm.", "decoder.ln_f."), (".self_attn.", ".attn."),
    (".input_layernorm.", ".ln_1."), (".post_attention_layernorm.", ".ln_2."),
)  # fmt: skip


def write(folder: Path) -> Path:
    """Write it; returns ``folder``."""
    shutil.copytree(_DEMO, folder, copy_function=shutil.copyfile)
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["AcmeForCausalLM"], "model_type": "acme"}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    index_file = folder / "model.safetensors.index.json"
    index = json.loads(index_file.read_text())
    index["weight_map"] = {_renamed(k): shard for k, shard in index["weight_map"].items()}
    index_file.write_text(json.dumps(index, indent=2))
    for shard in folder.glob("*.safetensors"):
        tensors = {_renamed(name): tensor for name, tensor in load_file(shard).items()}
        save_file(tensors, shard, metadata={"format": "pt"})
    return folder


def _renamed(key: str) -> str:
    for old, new in _NAMES:
        key = key.replace(old, new)
    return key


if __name__ == "__main__":
    write(Path(sys.argv[1]))
