# SPDX-License-Identifier: Apache-2.0
"""The container that a plan runs in: its image, its devices, and how it comes to a machine
without a network.
"""

from pathlib import Path

from vllm_ascend_bringup.hardware import DEPLOYMENTS, Deployment
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.plan.base import Recipe

# vllm-ascend's images are in a public registry and in mirrors of it; who runs this knows theirs.
_REPOSITORY = "$REGISTRY/ascend/vllm-ascend"
_REGISTRY = ': "${REGISTRY:?}"'
# As in vllm-ascend's docs: installation.md and tutorials/models/Qwen3-Dense.md.
_MANAGERS = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
_DRIVER = (
    "/usr/local/dcmi", "/usr/local/bin/npu-smi", "/usr/local/Ascend/driver/lib64/",
    "/usr/local/Ascend/driver/version.info", "/etc/ascend_install.info",
)  # fmt: skip
_HCCN = "/usr/local/Ascend/driver/tools/hccn_tool"
_PORT = 8000


def image(device: str, version: str) -> str:
    """Name and tag for this chip and version of vllm-ascend."""
    return f"{_REPOSITORY}:v{version}{DEPLOYMENTS[device].image_suffix}"


def docker_run(
    device: str, version: str, devices: tuple[int, ...], model: Path, nodes: int
) -> Recipe:
    """``devices``: numbers of the NPUs it may use. The model's folder keeps its path inside."""
    deployment = DEPLOYMENTS[device]
    folder = str(model.absolute())
    options = [
        "--rm -it", "--name vllm-ascend", f"--shm-size={deployment.shm}",
        *_network(deployment, nodes), *(f"--device /dev/davinci{number}" for number in devices),
        *(f"--device {name}" for name in _MANAGERS),
        *(f"-v {name}:{name}" for name in _mounts(deployment)), f"-v '{folder}:{folder}'",
        image(device, version), "bash",
    ]  # fmt: skip
    note = Text(
        "REGISTRY is where your images come from (vllm-ascend's installation page names the public "
        "one); if the container does not start with \"operation not permitted\", --privileged=true "
        "lets it have the shared memory, and with it everything on the host: only for images you "
        "trust",
        "REGISTRY 为镜像仓库地址（公开仓库见 vllm-ascend 安装文档，也可用镜像站）；"
        "若启动容器时报 \"operation not permitted\"，可加 --privileged=true，"
        "但容器将拥有宿主机的全部权限，仅用于可信镜像",
    )  # fmt: skip
    return Recipe(
        "docker", Text("container", "容器"), (_REGISTRY, *_continued("docker run", options)), note
    )


def offline(device: str, version: str) -> Recipe:
    """From a machine with a network to one without."""
    name, file = (
        image(device, version),
        f"vllm-ascend-{version}{DEPLOYMENTS[device].image_suffix}.tar.gz",
    )
    note = Text(
        "REGISTRY as above; pull for the target's processor; where pulling ends in \"invalid tar "
        "header\", as on Kylin, pull on another machine and load here",
        "REGISTRY 同上；拉取时指定目标机的处理器架构；"
        "若拉取时报 \"invalid tar header\"（如麒麟系统），"
        "请在其他机器上拉取后在本机加载",
    )  # fmt: skip
    lines = (
        _REGISTRY, f"docker pull --platform linux/arm64 {name}",
        f"docker save {name} | gzip > {file}", f"docker load -i {file}",
        "docker images | grep vllm-ascend",
    )  # fmt: skip
    return Recipe("offline", Text("image without a network", "离线镜像"), lines, note)


def compress(model: Path, tp: int, length: int) -> Recipe:
    """W8A8S weights into W8A8SC, which the 310P serves faster."""
    options = [
        f"--model '{model.absolute()}'", f"--tensor-parallel-size {tp}",
        f"--output '{model.absolute()}c-tp{tp}'", "--enable-compress", "--compress-process-num 4",
        "--enforce-eager", "--dtype float16", "--quantization ascend",
        f"--max-model-len {min(length, _COMPRESS_LENGTH)}",
    ]  # fmt: skip
    note = Text(
        "the result serves at this TP size only; the script is in vllm-ascend's examples, and "
        "needs msmodelslim",
        "结果只能按该 TP 部署；脚本位于 vllm-ascend 的 examples 目录，需安装 msmodelslim",
    )
    command = _continued("python save_sharded_state_310.py", options)
    lines = ("export PYTORCH_NPU_ALLOC_CONF=max_split_size_mb:256", *command)
    return Recipe("compress", Text("compressed weights", "压缩权重"), lines, note)


# Loading is all that this engine does.
_COMPRESS_LENGTH = 10240


def low_latency(device: str) -> Recipe:
    """vllm-ascend's attention operator for small batches, of versions that have its script."""
    note = Text(
        "for small batches; set no pa_shape_list in --additional-config beside it, which would "
        "choose another operator",
        "用于小 batch 场景；不要同时在 --additional-config 中设置 pa_shape_list，"
        "否则会选用另一个算子",
    )
    title = Text("latency of small batches", "小 batch 时延")
    line = f"bash tools/install_flash_infer_attention_score_ops_{device}.sh"
    return Recipe("low_latency", title, (line,), note)


def _network(deployment: Deployment, nodes: int) -> tuple[str, ...]:
    if nodes > 1 or deployment.host_network:
        return ("--net=host",)
    return (f"-p {_PORT}:{_PORT}",)


def _mounts(deployment: Deployment) -> tuple[str, ...]:
    return (*_DRIVER, _HCCN) if deployment.hccn else _DRIVER


def _continued(start: str, options: list[str]) -> tuple[str, ...]:
    """One command over several lines."""
    lines = [start, *(f"    {option}" for option in options)]
    return tuple(f"{line} \\" for line in lines[:-1]) + (lines[-1],)
