# SPDX-License-Identifier: Apache-2.0
"""An image decodes to its end, and is not too large when it has.

vLLM: load_bytes in vllm/multimodal/media/image.py. Pillow itself refuses what has more pixels than
VLLM_MAX_IMAGE_PIXELS, 178,956,970. Needs Pillow, which every environment with vLLM has; without it
nothing is said.
"""

import io
import warnings
from collections.abc import Iterator
from importlib.util import find_spec

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.check_request.base import (
    Complaint,
    Medium,
    Request,
    Rule,
    Server,
)  # fmt: skip
from vllm_ascend_bringup.tools.check_request.formats import VLLM, format_of

PIXELS = 178_956_970


def check(request: Request, server: Server) -> Iterator[Complaint]:
    """A complaint per image that Pillow does not open to its end."""
    if find_spec("PIL") is None:
        return
    for medium in request.media:
        known = format_of(medium.head() or b"") in VLLM["image"]
        if medium.kind == "image" and known:
            yield from _open(medium)


def _open(medium: Medium) -> Iterator[Complaint]:
    from PIL import Image

    opened = medium.file if medium.file is not None else io.BytesIO(medium.data or b"")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(opened) as image:
                image.load()
    except Image.DecompressionBombError:
        yield Complaint(medium.where, _TOO_LARGE, _SCALE)
    except (OSError, SyntaxError, ValueError) as error:
        found = Text("the image does not decode: {error}", "图像无法解码：{error}")
        yield Complaint(medium.where, found.format(error=error), _AGAIN)


_TOO_LARGE = Text("more than {most} pixels", "超过 {most} 像素").format(most=PIXELS)
_SCALE = Text("scale it down", "请缩小图像")
_AGAIN = Text("it may be cut short; encode it again", "可能不完整；请重新编码")
RULE = Rule("image-opens", ("vllm",), check)
