# SPDX-License-Identifier: Apache-2.0
"""The doctor on the machine of the test: real ports, processes, imports, libraries, commands."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

import pytest

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor import cann, host, packages, processes
from vllm_ascend_bringup.tools.doctor.facts import (
    DeviceFiles,
    Imported,
    Library,
    Listener,
    Origin,
    Process,
    Script,
    Space,
    Unknown,
)
from vllm_ascend_bringup.tools.doctor.machine import Machine

GIB = 1 << 30


@contextmanager
def running(*command: str, executable: "str | None" = None) -> Iterator[int]:
    """A process with this command line."""
    process = subprocess.Popen(command, executable=executable)
    try:
        deadline = time.monotonic() + 10
        name = command[0].encode()
        while not Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(name):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def listeners() -> dict[int, Process]:
    read = processes.read_listeners(Machine())
    assert not isinstance(read, Unknown)
    return {listener.port: listener.holder for listener in read}


def servers() -> dict[int, str]:
    read = processes.read_servers(Machine())
    assert not isinstance(read, Unknown)
    return {process.pid or 0: process.command for process in read}


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_a_port_is_taken_while_somebody_listens(family: int, address: str) -> None:
    with socket.socket(family) as server:
        try:
            server.bind((address, 0))
        except OSError:
            pytest.skip("there is no such address here")
        port = server.getsockname()[1]
        assert port not in listeners()  # bound is not listening
        server.listen()
        assert listeners()[port].pid == os.getpid()
    assert port not in listeners()


def test_a_server_is_seen_by_its_process_name() -> None:
    with running("VLLM::EngineCore", "60", executable="/bin/sleep") as pid:
        assert servers()[pid] == "VLLM::EngineCore 60"
    assert pid not in servers()


def test_a_server_is_seen_by_its_command(tmp_path: Path) -> None:
    script = tmp_path / "vllm"
    script.write_text("import time; time.sleep(60)\n")
    with running(sys.executable, str(script), "serve", "/model") as pid:
        assert servers()[pid] == f"{sys.executable} {script} serve /model"
    for others in (("bench", "serve"), ("--help", "serve")):
        with running(sys.executable, str(script), *others) as pid:
            assert pid not in servers()


def test_who_started_the_doctor_is_no_stale_server(tmp_path: Path) -> None:
    script = tmp_path / "vllm"
    script.write_text(
        "from vllm_ascend_bringup.tools.doctor.processes import read_servers\n"
        "from vllm_ascend_bringup.tools.doctor.machine import Machine\n"
        "import os, subprocess, sys\n"
        "if sys.argv[1] == 'serve':\n"
        "    sys.exit(subprocess.call([sys.executable, sys.argv[0], 'look', str(os.getpid())]))\n"
        "print(int(sys.argv[2]) in {s.pid for s in read_servers(Machine())})\n"
    )
    command = [sys.executable, str(script), "serve"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_command_and_its_children_end_in_time(tmp_path: Path) -> None:
    script = f"sleep 1234 & echo $! > {tmp_path}/pid; echo said; sleep 1234"
    answer = Machine(folder=tmp_path).run(["/bin/sh", "-c", script], 0.5)
    assert answer.code is None
    assert answer.output == "said\n"
    assert 0.5 <= answer.seconds < 5
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(pid)


def test_a_command_that_ends_leaves_no_children(tmp_path: Path) -> None:
    script = f"sleep 1234 > /dev/null 2>&1 & echo $! > {tmp_path}/pid"
    assert Machine(folder=tmp_path).run(["/bin/sh", "-c", script], 5).code == 0
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_libraries_that_load_and_do_not(tmp_path: Path) -> None:
    assert cann.load_library(Machine(), "libc.so.6") == Library("libc.so.6", None)
    lost = cann.load_library(Machine(), "libascendcl-is-not-here.so")
    assert "cannot open shared object file" in str(lost.error)
    (tmp_path / "libbroken.so").write_bytes(b"not a library")
    broken = cann.load_library(
        Machine(environ={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}), "libbroken.so"
    )
    assert "file too short" in str(broken.error) or "invalid ELF header" in str(broken.error)


def overlay(folder: Path, code: str) -> Machine:
    """This machine with a vllm of one's own in front."""
    (folder / "vllm").mkdir(exist_ok=True)
    (folder / "vllm" / "__init__.py").write_text(code)
    return Machine(environ={**os.environ, "PYTHONPATH": str(folder)}, folder=folder)


def test_an_import_that_fails_says_its_last_line(tmp_path: Path) -> None:
    result, _ = packages.import_vllm(overlay(tmp_path, "raise ImportError('libatb.so: lost')"))
    assert result == Imported(None, None, "ImportError: libatb.so: lost")


def test_an_import_that_kills_its_process(tmp_path: Path) -> None:
    result, origins = packages.import_vllm(overlay(tmp_path, "import os; os.abort()"))
    assert result == Imported(None, None, Text("killed by signal 6", "被信号 6 终止"))
    assert not isinstance(origins, Unknown)


def test_an_import_that_succeeds(tmp_path: Path) -> None:
    result, origins = packages.import_vllm(overlay(tmp_path, "__version__ = '0.1.2'"))
    assert isinstance(result, Imported)
    assert not isinstance(origins, Unknown)
    init = str(tmp_path / "vllm" / "__init__.py")
    assert (result.version, result.file, result.error) == ("0.1.2", init, None)
    assert origins[0] == Origin("vllm", init, init, str(tmp_path))


def test_an_import_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "IMPORT_SECONDS", 1.0)
    result, _ = packages.import_vllm(overlay(tmp_path, "import time; time.sleep(1234)"))
    assert result == Imported(None, None, Text("no answer in 1 s", "1 秒内没有响应"))


def origin(machine: Machine, package: str) -> Origin:
    _, origins = packages.import_vllm(machine)
    assert not isinstance(origins, Unknown)
    return next(origin for origin in origins if origin.package == package)


def test_a_folder_in_the_current_directory_hides_the_installed_package(tmp_path: Path) -> None:
    # A torch that fails at once saves the seconds that importing vLLM takes.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "torch.py").write_text("raise ImportError\n")
    # An empty entry would be the current folder.
    more = filter(None, [os.environ.get("PYTHONPATH")])
    path = os.pathsep.join([str(tmp_path / "elsewhere"), *more])
    environ = {**os.environ, "PYTHONPATH": path}
    real = origin(Machine(environ=environ), "vllm")
    assert real.here == real.installed
    overlay(tmp_path, "")
    machine = Machine(environ=environ, folder=tmp_path)
    shadowed = origin(machine, "vllm")
    assert shadowed.installed == real.installed
    assert shadowed.here == str(tmp_path / "vllm" / "__init__.py")
    (tmp_path / "vllm" / "__init__.py").unlink()  # a plain install wins over a folder without one
    assert origin(machine, "vllm").here == real.installed


def test_scripts_and_their_interpreters(tmp_path: Path) -> None:
    lines = {
        "plain": f"#!{sys.executable}\n",
        "env": "#!/usr/bin/env python3\n",
        "long": f'#!/bin/sh\n\'\'\'exec\' "{sys.executable}" "$0" "$@"\n',
        "shell": "#!/usr/bin/env bash\n",
        "binary": "\x7fELF",
    }
    for name, text in lines.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python3").symlink_to(sys.executable)
    machine = Machine(environ={"PATH": str(tmp_path)})
    assert packages.read_scripts(machine, (*lines, "absent")) == (
        Script("plain", str(tmp_path / "plain"), sys.executable),
        Script("env", str(tmp_path / "env"), str(tmp_path / "python3")),
        Script("long", str(tmp_path / "long"), sys.executable),
    )


def test_an_editable_install_is_known_by_its_folder() -> None:
    folder = packages._editable(distribution("vllm-ascend-bringup"))
    if folder is None:
        pytest.skip("vllm-ascend-bringup is not installed as editable here")
    assert (Path(folder) / "pyproject.toml").is_file()


def test_this_host() -> None:
    machine = Machine()
    cores = host.read_cores(machine)
    assert isinstance(cores, int)
    assert 1 <= cores <= len(os.sched_getaffinity(0))
    memory, shared = host.read_memory(machine), host.read_shared_memory(machine)
    assert isinstance(memory, int)
    assert 0 < memory <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert isinstance(shared, Space)
    assert 0 <= shared.free <= shared.total


def write(root: Path, **files: str) -> Machine:
    for name, text in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Machine(root=root)


GROUP = "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8 * GIB),
        ({"memory.max": "max\n", "memory.current": f"{GIB}\n"}, 8 * GIB),
        ({"memory.max": f"{4 * GIB}\n", "memory.current": f"{GIB}\n"}, 3 * GIB),
        ({"memory.max": f"{4 * GIB}", "memory.current": f"{3 * GIB}",
          "memory.stat": f"anon 5\ninactive_file {GIB}\n"}, 2 * GIB),
        ({"memory.max": f"{40 * GIB}", "memory.current": f"{GIB}"}, 8 * GIB),
        ({"memory/memory.limit_in_bytes": f"{2 * GIB}", "memory/memory.usage_in_bytes": "0",
          "memory/memory.stat": "cache 1\ntotal_inactive_file 0\n"}, 2 * GIB),
    ],
    ids=["no group", "no limit", "limit", "cache is free", "larger than the host", "version 1"],
)  # fmt: skip
def test_memory_within_a_containers_limit(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    named = {f"{GROUP}/{name}": text for name, text in files.items()}
    machine = write(tmp_path, **{"proc/meminfo": f"MemAvailable: {8 * GIB // 1024} kB\n"}, **named)
    assert host.read_memory(machine) == expected


@pytest.mark.parametrize(
    ("allowed", "quota", "expected"),
    [
        ("0-7", None, 8), ("0", None, 1), ("0-3,8-11", None, 8), ("0-7", "max 100000", 8),
        ("0-7", "400000 100000", 4), ("0-7", "50000 100000", 1), ("0-1", "400000 100000", 2),
    ],
)  # fmt: skip
def test_cores_within_a_containers_share(
    tmp_path: Path, allowed: str, quota: "str | None", expected: int
) -> None:
    files = {"proc/self/status": f"Name:\tx\nCpus_allowed_list:\t{allowed}\n"}
    if quota:
        files[f"{GROUP}/cpu.max"] = quota
    assert host.read_cores(write(tmp_path, **files)) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("300000", 3), ("800000", 8)])
def test_cores_in_the_older_layout(tmp_path: Path, quota: str, expected: int) -> None:
    machine = write(tmp_path, **{
        "proc/self/status": "Cpus_allowed_list:\t0-7\n",
        f"{GROUP}/cpu/cpu.cfs_quota_us": f"{quota}\n",
        f"{GROUP}/cpu/cpu.cfs_period_us": "100000\n",
    })  # fmt: skip
    assert host.read_cores(machine) == expected


def test_what_is_not_there_is_unknown(tmp_path: Path) -> None:
    machine = Machine(root=tmp_path)
    for read in (host.read_memory, host.read_cores, host.read_shared_memory,
                 processes.read_listeners, cann.read_toolkit, cann.read_nnal):  # fmt: skip
        assert isinstance(read(machine), Unknown)
    assert host.read_device_files(machine) == DeviceFiles(
        (), ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"), (), None
    )


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        (".dockerenv", "", "docker"), ("run/.containerenv", "", "podman"),
        ("proc/1/cgroup", "12:pids:/kubepods/besteffort/pod1\n", "kubepods"),
        ("proc/1/cgroup", "0::/init.scope\n", None),
    ],
)  # fmt: skip
def test_which_container(tmp_path: Path, file: str, text: str, expected: "str | None") -> None:
    assert host.read_device_files(write(tmp_path, **{file: text})).container == expected


def test_closed_device_files() -> None:
    if os.geteuid() != 0:
        pytest.skip("changes its user, for which it has to be root")
    code = (
        "import os, pathlib, tempfile\n"
        "from vllm_ascend_bringup.tools.doctor import host\n"
        "from vllm_ascend_bringup.tools.doctor.machine import Machine\n"
        "root = pathlib.Path(tempfile.mkdtemp()); (root / 'dev').mkdir(); root.chmod(0o755)\n"
        "(root / 'dev/davinci0').touch(mode=0o660); (root / 'dev/hisi_hdc').touch()\n"
        "(root / 'dev/hisi_hdc').chmod(0o666)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "    print(host.read_device_files(Machine(root=root)).closed, flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "import shutil; shutil.rmtree(root)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "('/dev/davinci0',)"


def test_listeners_of_a_recorded_table(tmp_path: Path) -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid inode\n"
        "   0: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1 0\n"
        "   1: 0100007F:1F41 0100007F:0050 01 00000000:00000000 00:00000000 00000000 0 0 78 1 0\n"
    )
    read = processes.read_listeners(write(tmp_path, **{"proc/net/tcp": table}))
    assert not isinstance(read, Unknown)
    assert [listener.port for listener in read] == [8000]  # 8001 is a connection
    assert isinstance(read[0], Listener)
    assert read[0].holder.pid is None
