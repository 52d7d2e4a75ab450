# SPDX-License-Identifier: Apache-2.0
"""Which operators a version of torch_npu registers with torch's dispatcher, and how.

`schemas.json` was read from the wheels: what vLLM-Ascend calls and what lies near it, not all of
torch_npu. Importing this module does not load torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Schema:
    """One overload. ``path``: below the module torch_npu, such as "atb.npu_ring_mla".
    ``text``: in the form of ``torch._C.parse_schema``.
    """

    path: str
    text: str

    @property
    def name(self) -> str:
        """As torch registers it, without the namespace: "npu_format_cast.Tensor"."""
        return self.text.partition("(")[0].partition("::")[2]

    @property
    def namespace(self) -> str:
        """Where torch registers it: "npu" or "atb"."""
        return self.text.partition("::")[0]


@cache
def _read() -> Mapping[str, tuple[Schema, ...]]:
    content = json.loads(files(__package__).joinpath("schemas.json").read_text(encoding="utf-8"))
    return {
        version: tuple(
            Schema(row["path"], row["schema"])
            for row in content["operators"]
            if version in row["versions"]
        )
        for version in content["versions"]
    }


def versions() -> tuple[str, ...]:
    """The versions of torch_npu whose operators are known, oldest first."""
    return tuple(_read())


def schemas(version: str) -> tuple[Schema, ...]:
    """The operators of one version. Raises ValueError for one that is not in ``versions``."""
    if version not in _read():
        raise ValueError(f"torch_npu {version}: expected one of {', '.join(versions())}")
    return _read()[version]
