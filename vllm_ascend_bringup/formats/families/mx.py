# SPDX-License-Identifier: Apache-2.0
"""``quant_method: mxfp8`` (MiniMax-M3) and ``mxfp4`` (gpt-oss; generic fp4 experts).

Sources: vLLM, layers/quantization/mxfp4.py and modelopt.py (mxfp8), models/gpt_oss.py.
"""

from vllm_ascend_bringup.formats.base import Scheme
from vllm_ascend_bringup.formats.families.base import LeftAlone, SchemeTable, Settings, method

_SCHEMES = {
    "mxfp8": Scheme(("mxfp8",)),
    "mxfp4": Scheme(("gpt_oss_mxfp4", "mxfp4")),
    "gpt-oss-mxfp4": Scheme(("gpt_oss_mxfp4",)),
}


def read(settings: Settings, config: Settings) -> SchemeTable | LeftAlone | None:
    """None unless the method is one of them."""
    scheme = _SCHEMES.get(method(settings))
    return SchemeTable(method(settings), (scheme,)) if scheme else None
