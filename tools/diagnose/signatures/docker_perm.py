# SPDX-License-Identifier: Apache-2.0
"""The container lacks a permission."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="docker-perm",
    title=Text("The container lacks a permission", "容器缺少权限"),
    actions=(
        Text(
            "Large --shm-size on these hosts needs --privileged, which gives the container "
            "the whole machine",
            "这类主机上使用较大的 --shm-size 需要 --privileged，注意它会让容器获得整机权限",
        ),
        Text(
            "Check owner and group of /dev/davinci*, /dev/davinci_manager, /dev/devmm_svm "
            "and /dev/hisi_hdc",
            "检查 /dev/davinci*、/dev/davinci_manager、/dev/devmm_svm 和 /dev/hisi_hdc "
            "的属主和属组",
        ),
    ),
    patterns=(
        Pattern("dcmi", r"dcmi (module|model) init\w* failed|dcmi.*ret is -8005"),
        Pattern("operation not permitted", r"what\(\):\s+Operation not permitted"),
        Pattern(
            "operation not permitted",
            r"(docker|oci runtime|containerd|runc|pthread_create|can't start new thread|shm"
            r"|mbind|set_mempolicy).*operation not permitted"
            r"|operation not permitted.*(docker|/dev/)",
        ),
        Pattern(
            "/dev/",
            r"(Permission denied|Operation not permitted|not permitted).*/dev/(davinci"
            r"|devmm|hisi)|/dev/(davinci|devmm|hisi)\S*.*(Permission denied|not permitted)",
        ),
        # A container that runs as a user it has no name for.
        Pattern("getpwuid", r"getpwuid\(\): uid not found"),
        Pattern(
            "permission denied",
            r"(PermissionError|Errno 13|cannot create|(cannot|unable to) open).*Permission denied",
            Says.GUESS,
        ),
        Pattern(
            "docker daemon socket",
            r"permission denied while trying to connect to the docker daemon",
        ),
    ),
)
