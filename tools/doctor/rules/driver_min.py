# SPDX-License-Identifier: Apache-2.0
"""The driver is too old.

Signals: its version. Below the minimum, operators fail in ways that do not name it, such as a TBE
subprocess whose main process disappeared; below the recommended one, some features are missing.
Source: MindIE's FAQ, which gives both versions.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error, warning
from vllm_ascend_bringup.tools.doctor.facts import Component
from vllm_ascend_bringup.tools.doctor.versions import older

_MINIMUM, _RECOMMENDED = "23.0.7", "24.1.RC2"
_UPGRADE = Text(
    "install the HDK (driver and firmware) that the release notes of your CANN version name, on "
    "the host",
    "请在宿主机上安装 CANN 版本说明中配套的 HDK（驱动和固件）",
)


def _judge(driver: Component) -> Iterator[Judgement]:
    what = Text(f"driver ({driver.file})", f"驱动版本（{driver.file}）")
    if older(driver.version, _MINIMUM):
        expected = Text(f"at least {_MINIMUM}", f"不低于 {_MINIMUM}")
        yield error(Evidence(what, driver.version, expected), do=_UPGRADE)
    elif older(driver.version, _RECOMMENDED):
        expected = Text(f"{_RECOMMENDED} or newer", f"{_RECOMMENDED} 或更新")
        yield warning(Evidence(what, driver.version, expected), do=_UPGRADE)


RULE = Rule("driver-min", Text("driver", "驱动"), _judge)
