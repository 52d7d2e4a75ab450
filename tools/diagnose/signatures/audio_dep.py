# SPDX-License-Identifier: Apache-2.0
"""The audio packages are missing."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="audio-dep",
    title=Text("The audio packages are missing", "缺少音频依赖"),
    actions=(
        Text(
            "Install librosa and soundfile, as the model's own utility package asks",
            "按模型配套工具包的要求安装 librosa 和 soundfile",
        ),
    ),
    patterns=(
        Pattern("vllm[audio]"),
        Pattern(
            "no module named",
            r"No module named '?(librosa|soundfile|audioread|av|resampy|soxr|torchaudio|pydub"
            r"|torchcodec|speech_recognition)\b",
        ),
        Pattern("sndfile library not found"),
        Pattern("libsndfile", r"libsndfile\S*: cannot open shared object file"),
        Pattern("ffmpeg", r"No such file or directory: '(ffmpeg|ffprobe)'"),
    ),
)
