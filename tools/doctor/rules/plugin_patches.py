# SPDX-License-Identifier: Apache-2.0
"""A patch of this plugin does not fit the installed vLLM or vllm-ascend, and will not be applied.

Signals: the fingerprint of the source that it replaces.
Source: patching.py; ``bringup patches`` has the details.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.patching import CHANGED, GONE
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, warning
from vllm_ascend_bringup.tools.doctor.facts import OwnState

_STATES = {
    CHANGED: Text("its source has changed", "所替换的源码已变化"),
    GONE: Text("what it replaces is gone", "所替换的对象已不存在"),
}
_MATCHES = Text("the source that it was written for", "与编写补丁时的源码一致")


def _judge(own: OwnState) -> Iterator[Judgement]:
    if own.misfits:
        rows = (
            Evidence(Text(f"patch {name}", f"补丁 {name}"), _STATES[state], _MATCHES)
            for name, state in own.misfits.items()
        )
        yield warning(*rows, do=Text(
            "bringup patches says what each is for; use a version that it was written for",
            "bringup patches 会说明各补丁的用途；请使用补丁所针对的版本",
        ))  # fmt: skip


RULE = Rule("plugin-patches", Text("patches of this plugin", "本插件的补丁"), _judge)
