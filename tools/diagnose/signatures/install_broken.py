# SPDX-License-Identifier: Apache-2.0
"""The plugin's entry point is registered, the package is incomplete."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="install-broken",
    title=Text(
        "The plugin is registered but its installation is incomplete", "插件已注册，但安装不完整"
    ),
    actions=(
        Text(
            "Uninstall vllm and vllm-ascend, remove what stays in site-packages, and "
            "install the pinned pair again",
            "卸载 vllm 和 vllm-ascend，清除 site-packages 里的残留，再按配套版本重新安装",
        ),
        Text(
            "Check that the installation ended without an error, and build for the chip of "
            "this machine",
            "确认安装过程没有报错，并且是按本机芯片型号构建的",
        ),
    ),
    patterns=(
        Pattern(
            "does not match the current device",
            r"soc ?version .* does not match the current device",
        ),
        Pattern(
            "no module named", r"No module named '?vllm(\._C|\._version)?'?(\s|$|\")", Says.WHAT
        ),
        Pattern("no module named", r"No module named '?vllm_ascend\.(?!vllm_ascend_C\b)\w"),
        Pattern("module 'vllm_ascend' has no attribute"),
        # With the path of a file the module is there, and has another version.
        Pattern(
            "from 'vllm_ascend",
            r"cannot import name '(?!vllm_ascend_C')\w+' from '?vllm_ascend\b"
            r"(?!.*(unknown location|\.py\)))",
        ),
        Pattern("no package metadata was found", r"No package metadata was found for (vllm|torch)"),
        Pattern("packagenotfounderror", r"PackageNotFoundError: (vllm|torch)", Says.WHAT),
        Pattern("does not match the installed version's device type"),
        Pattern(
            "failed ",
            r"Failed (to build|building (wheel|editable)|to build installable wheels) for ",
            Says.GUESS,
        ),
        # Any other package or library that is simply not there.
        Pattern("cannot open shared object file", says=Says.GUESS),
        Pattern("no module named", r"ModuleNotFoundError: No module named", Says.GUESS),
    ),
)
