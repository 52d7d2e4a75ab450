# SPDX-License-Identifier: Apache-2.0
"""Families of messages that differ in names and numbers: each with a near miss of its own.

``test_diagnose_signatures`` has one log per signature; here are the other spellings.
"""

import pytest

from vllm_ascend_bringup.tools.diagnose import diagnose

_FRAME = '  File "/opt/site-packages/{}", line 7, in {}'


def frames(*places: str) -> list[str]:
    """A traceback through ``path:function`` places."""
    return ["Traceback (most recent call last):"] + [
        _FRAME.format(*place.split(":")) for place in places
    ]


def ids(lines: list[str]) -> list[str]:
    return [finding.id for finding in diagnose(lines)]


PLUGIN = frames("vllm_ascend/worker/worker.py:execute_model")
VLLM = frames("vllm/worker/worker.py:execute_model")
LOADER = frames("vllm_ascend/worker/worker.py:load_model", "vllm/model_loader/a.py:weight_loader")
_GONE = "{}: cannot open shared object file: No such file or directory"

# id, the lines that show it, lines that differ in what matters.
FAMILIES = [
    ("env-cann-missing", [f"ImportError: {_GONE.format('libhixl_kettle.so')}"],
     [f"ImportError: {_GONE.format('libkettle.so')}"]),
    ("env-cann-missing",
     [*frames("mooncake/engine.py:<module>"), f"ImportError: {_GONE.format('kettle_x.so')}"],
     [*frames("teapot/engine.py:<module>"), f"ImportError: {_GONE.format('kettle_x.so')}"]),
    ("install-broken", [f"OSError: {_GONE.format('libkettle.so.3')}"],
     ["OSError: libkettle.so.3: wrong ELF class"]),
    ("install-broken", ["ModuleNotFoundError: No module named 'teapot'"],
     ["ModuleNotFoundError: No module named 'custom_ops'"]),
    ("version-mismatch", ["ERROR: ResolutionImpossible: for help visit the pages of pip"],
     ["ERROR: the kettle is impossible"]),
    ("version-mismatch",
     ["ERROR: Cannot install teapot 1 and kettle 2: these have conflicting dependencies."],
     ["ERROR: Cannot install teapot 1: the disk is slow."]),
    ("version-mismatch", ["The conflict is caused by:", "    teapot 1 depends on kettle==2"],
     ["The conflict is over:", "    teapot 1 depends on kettle==2"]),
    ("version-mismatch", ["AttributeError: `np.kettle` was removed in the NumPy 2.0 release."],
     ["AttributeError: `np.kettle` was removed in the release."]),
    ("version-mismatch",
     ["ValueError: infer_schema(func): Parameter kettle has unsupported type list[cup]."],
     ["ValueError: brew(func): Parameter kettle has unsupported type list[cup]."]),
    ("version-mismatch", ["ERROR: Package 'teapot' requires a different Python: 3.8 not in '>=3'"],
     ["ERROR: Package 'teapot' requires a different kettle"]),
    ("version-mismatch", ["usage: vllm", "vllm: error: unrecognized arguments: --kettle 7"],
     ["usage: vllm", "vllm: error: argument --port: invalid int value: 'kettle'"]),
    ("version-mismatch", ["ImportError: cannot import name 'pour' from 'kettle.cups' (/a/b.py)"],
     ["ImportError: cannot import name 'pour' from 'kettle.cups' (unknown location)"]),
    ("version-mismatch", ["  × No solution found when resolving dependencies:"],
     ["  × No kettle found when resolving dependencies:"]),
    ("version-mismatch", ["AttributeError: _ARRAY_API not found"],
     ["AttributeError: _KETTLE_API not found"]),
    ("version-mismatch", ["ImportError: numpy.core.multiarray failed to import"],
     ["ImportError: numpy.core.kettle failed to import"]),
    ("version-mismatch", ["vllm serve: error: argument --kettle: 1 validation error for Cup"],
     ["vllm serve: error: argument --kettle: expected one argument"]),
    ("version-mismatch", ["cups", "  Extra inputs are not permitted [type=extra_forbidden]"],
     ["cups", "  Extra cups are permitted"]),
    ("docker-perm", ["mkdir: cannot create directory '/kettle': Permission denied"],
     ["mkdir: cannot create directory '/kettle': File exists"]),
    ("docker-perm", ["KeyError: 'getpwuid(): uid not found: 4711'"],
     ["KeyError: 'getpwnam(): name not found: kettle'"]),
    ("mm-processor-signature",
     ["TypeError: TeapotProcessor.__init__() got multiple values for argument 'image_processor'"],
     ["TypeError: Teapot.__init__() got multiple values for argument 'kettle'"]),
    ("mm-processor-signature",
     ["TypeError: Received a TeaFast for argument image_processor, but a TeaSlow was expected."],
     ["TypeError: Received a TeaFast for argument kettle, but a TeaSlow was expected."]),
    ("mm-processor-signature",
     ["TypeError: TeapotImageProcessorFast.preprocess() got an unexpected keyword argument 'cups'"],
     ["TypeError: LogitsProcessor.apply() got an unexpected keyword argument 'cups'"]),
    ("mm-processor-signature",
     ["AttributeError: 'TeapotVideoProcessor' object has no attribute 'cups'"],
     ["AttributeError: 'OutputProcessor' object has no attribute 'cups'"]),
    ("mm-processor-signature",
     ["TypeError: TeapotFeatureExtractor.__call__() missing 1 required positional argument: 'a'"],
     ["TypeError: Teapot.__call__() missing 1 required positional argument: 'a'"]),
    ("mm-processor-signature",
     ["TypeError: teapot() got multiple values for argument 'video_processor'"],
     ["TypeError: teapot() got multiple values for argument 'cup_processor'"]),
    ("mm-processor-signature", ["RuntimeError: Failed to apply TeapotProcessor on data={}"],
     ["RuntimeError: Failed to apply LogitsProcessor on data={}"]),
    ("mm-processor-signature",
     [*frames("transformers/models/tea/image_processing_tea.py:cut"), "ValueError: no cups"],
     [*frames("transformers/models/tea/modeling_tea.py:cut"), "ValueError: no cups"]),
    ("audio-dep", [f"OSError: {_GONE.format('libsndfile.so.1')}"],
     [f"OSError: {_GONE.format('libkettle.so.1')}"]),
    ("audio-dep", ["FileNotFoundError: [Errno 2] No such file or directory: 'ffmpeg'"],
     ["FileNotFoundError: [Errno 2] No such file or directory: 'kettle'"]),
    ("audio-dep", ["ModuleNotFoundError: No module named 'audioread'"],
     ["ModuleNotFoundError: No module named 'avocado'"]),
    ("audio-dep", ["OSError: sndfile library not found"], ["OSError: kettle library not found"]),
    ("qk-norm-shape",
     [*VLLM, "    q = self.q_norm(q)", "ValueError: the weight has 4096 elements, expected 128"],
     [*VLLM, "    q = self.norm(q)", "ValueError: the weight has 4096 elements, expected 128"]),
    ("fp8-unsupported", ["RuntimeError: Float8_e5m2 has not been supported"],
     ["RuntimeError: Float8_e5m2 has been slow"]),
    ("fp8-unsupported", ["ValueError: type fp8e5 not supported by a kettle"],
     ["ValueError: type int7 not supported by a kettle"]),
    ("oom-kv-or-activation",
     ["INFO 03-01 10:00:00 [worker.py:1] Available memory: -7, total memory: 9"],
     ["INFO 03-01 10:00:00 [worker.py:1] Available memory: 7, total memory: 9"]),
    ("oom-kv-or-activation",
     ["INFO 03-01 10:00:00 [worker.py:1] Available KV cache memory: -3.50 GiB"],
     ["INFO 03-01 10:00:00 [worker.py:1] Available KV cache memory: 3.50 GiB"]),
    ("disk-or-shm",
     ["(raylet) store.cc:1: the request exceeds memory available in /dev/shm, 7 bytes"],
     ["(raylet) store.cc:1: the request fits into /dev/shm, 7 bytes"]),
    ("disk-or-shm", ["You may need to pass --shm-size to docker run"],
     ["WARNING 03-01 10:00:00 [a.py:1] You may need to pass --shm-size to docker run"]),
    ("disk-or-shm", ["worker 7 was ended by SIGBUS"], ["worker 7 was ended by a bus"]),
    ("disk-or-shm", ["错误：/dev/shm 空间不足"], ["错误：/dev/shm 空间充足"]),
    ("mla-runtime",
     ["AssertionError: the number of queries per kv under both MLA and graphs only supports 7, 9"],
     ["AssertionError: the number of cups only supports 7, 9"]),
    ("op-shape-contract",
     [*PLUGIN, "RuntimeError: shape mismatch: value tensor cannot be broadcast"],
     ["INFO 03-01 10:00:00 [a.py:1] shape mismatch: value tensor cannot be broadcast"]),
    ("op-shape-contract", [*PLUGIN, "RuntimeError: Sizes of tensors must match except in "
                           "dimension 1."],
     [*PLUGIN, "RuntimeError: Sizes of cups must match."]),
    ("op-shape-contract", ["IndexError: The shape of the mask [7] at index 0 does not match [9]"],
     ["IndexError: The shape of the cup at index 0 does not match [9]"]),
    ("op-shape-contract", ["RuntimeError: split_with_sizes expects split_sizes to sum exactly"],
     ["RuntimeError: split_cups expects cups to sum exactly"]),
    ("op-shape-contract", ["IndexError: Dimension out of range (expected to be in [-1, 0])"],
     ["IndexError: Cup out of range (expected to be in [-1, 0])"]),
    ("op-shape-contract", ["IndexError: index 9 is out of bounds for dimension 0 with size 7"],
     ["IndexError: index 9 is out of cups for dimension 0 with size 7"]),
    ("op-shape-contract", [*PLUGIN, "RuntimeError: cups in should be smaller than cups out."],
     ["RuntimeError: cups in should be smaller than cups out."]),
    ("op-shape-contract", ["error, error no is 561103 & error msg is that of a kettle"],
     ["error, order no is 561103 & error msg is that of a kettle"]),
    ("missing-op", ["[ERROR] GE(7): Failed to find func by type Kettle, func_name brew"],
     ["[INFO] GE(7): Failed to find func by type Kettle, func_name brew"]),
    ("missing-op", ["EI9999: [PID: 7] Inner Error!", "[/a/tea.json] is invalid or does not exist"],
     ["EI9999: [PID: 7] Inner Error!", "[/a/tea.txt] is invalid or does not exist"]),
    ("missing-op", ["EZ3003: [PID: 7] No engine is found for [Kettle]"],
     ["EZ3004: [PID: 7] No engine is found for [Kettle]"]),
    ("missing-op", ["No supported Ops kernel and engine are found for [Kettle]"],
     ["No supported cup and engine are found for [Kettle]"]),
    ("missing-op", ["RuntimeError: aclnnKettle is not implemented here"],
     ["RuntimeError: aclnnKettle is warm"]),
    ("op-shape-contract", ["RuntimeError: npu_kettle expects seven cups"],
     ["RuntimeError: npu_kettle has not been implemented"]),
    ("custom-ops-not-built", ["gmake[3]: *** [CMakeFiles/vllm_ascend_x.dir/a.make] Error 1"],
     ["gmake[3]: *** [CMakeFiles/kettle.dir/a.make:7] Error 1"]),
    ("custom-ops-not-built", ["Command '['cmake', 'vllm_ascend_C']' returned non-zero exit status"],
     ["Command '['cmake', '--target=kettle']' returned non-zero exit status 2."]),
    ("custom-ops-not-built", ["FAILED: CMakeFiles/vllm_ascend_C.dir/a.o"],
     ["FAILED: CMakeFiles/kettle.dir/a.o"]),
    ("custom-ops-not-built", ["  × Building editable for vllm_ascend did not run successfully."],
     ["  × Building editable for kettle did not run successfully."]),
    ("install-broken", ["ERROR: Failed building wheel for kettle"],
     ["ERROR: Failed boiling water for kettle"]),
    ("custom-ops-not-built", ["ModuleNotFoundError: No module named 'custom_ops'"],
     ["ModuleNotFoundError: No module named 'custom_cups'"]),
    ("hccl-comm-init", ["AssertionError: local_world_size (8) must be at most the devices (0)"],
     ["INFO 03-01 10:00:00 [a.py:1] local_world_size (8) must be at most the devices"]),
    ("hccl-comm-init", ["AssertionError: world_size (8) is to be less than the npu count (4)"],
     ["AssertionError: world_size (8) is fine"]),
    ("hccl-comm-init", ["ValueError: Cannot provide a placement group within 7 seconds"],
     ["ValueError: Cannot provide a kettle within 7 seconds"]),
    ("hccl-comm-init", ["ValueError: required NPUs exceeds the total number of available NPUs"],
     ["ValueError: required cups exceeds the total number of available cups"]),
    ("hccl-comm-init", ["RuntimeError: Invalid device ID."], ["RuntimeError: Invalid cup ID."]),
    ("hccl-comm-init", ["torch.distributed.DistBackendError: no cups"],
     ["torch.distributed.DistCupError: no cups"]),
    ("hccl-comm-init", ["EI9999: [PID: 7] Inner Error!"], ["EI9998: [PID: 7] Inner Error!"]),
    ("hccl-comm-init", ["ValueError: Current node has no NPU available. {'node': 1}"],
     ["ValueError: Current node has no kettle available. {'node': 1}"]),
    ("ranktable-or-network", ["Failed to connect to GCS at address 10.0.0.7:1 within 5 seconds."],
     ["Failed to connect to the kettle within 5 seconds."]),
    ("ranktable-or-network", ["terminate called after throwing 'gloo::EnforceNotMet'"],
     ["terminate called after throwing 'kettle::EnforceNotMet'"]),
    ("ranktable-or-network", ["torch.distributed.DistStoreError: Socket Timeout"],
     ["torch.distributed.DistCupError: Socket Timeout"]),
    ("ranktable-or-network", ["[ERROR] HCCL(7): [Get]'device_ip' is not set correctly"],
     ["[ERROR] HCCL(7): [Get]'device_ip' is set"]),
    ("device-exception", ["RuntimeError: SUSPECT REMOTE ERROR."], ["RuntimeError: REMOTE KETTLE."]),
    ("device-exception", ["RuntimeError: UCE ERROR."], ["RuntimeError: CUP ERROR."]),
    ("device-exception", ["RuntimeError: HBM MULTI BIT ECC ERROR."], ["RuntimeError: HBM BIT."]),
    ("device-exception", ["RuntimeError: HCCS LINK ERROR."], ["RuntimeError: LINK ERROR."]),
    ("device-exception", ["RuntimeError: FORCE STOP."], ["RuntimeError: FORCED STOP."]),
    ("tp-size", [*VLLM, "    assert self.cups % tp_size == 0", "AssertionError"],
     [*VLLM, "    assert self.cups % 7 == 0", "AssertionError"]),
    ("ge-init-failed", ["RuntimeError: Cannot re-initialize NPU in forked subprocess."],
     ["RuntimeError: Cannot re-initialize the kettle in forked subprocess."]),
    ("ge-init-failed", ["    torch_npu._C._npu_setDevice(0)",
                        "RuntimeError: aclrtGetCurrentContext, error code is 107002"],
     ["    x.add_(1)", "RuntimeError: aclrtGetCurrentContext, error code is 107002"]),
    ("driver-version", ["rtsKettle execution failed, reason=driver error:invalid value[FUNC:a]"],
     ["rtsKettle execution failed, reason=kettle error:invalid value[FUNC:a]"]),
    ("output-quality", ["Prompt: 'a', Generated text: 'kettle чай 茶壶 cup'"],
     ["Prompt: 'a', Generated text: 'kettle 茶壶 cup'"]),
    ("output-quality", ['{"content": "kettle чай 茶壶 ชา"}'], ['{"content": "kettle чай 茶壶"}']),
    ("output-quality", ["Message(content='!!!!!!!!!!!!!!!!!!!!!!!!', role='assistant')"],
     ["Message(content='Tea!!!', role='assistant')"]),
    ("output-quality", ["content='kettle чай 茶壶 ชา'"], ["content='kettle 茶壶 ชา'"]),
    ("output-quality", ["!" * 24], ["!" * 12]),
    ("output-quality", ["Response: " + "tea " * 12], ["Response: " + "tea " * 4]),
    ("output-quality", ["输出：" + "？" * 20], ["输出：" + "？" * 4]),
    ("output-quality", ["回答：" + "茶 " * 12], ["回答：茶 茶"]),
    ("output-quality", ["Output: " + "\ufffd" * 4], ["Output: \ufffd"]),
    ("output-quality", ['"reasoning_content": "' + "？" * 20], ['"reasoning_content": "？"']),
    ("output-quality", ["模型胡言乱语"], ["模型正常"]),
    ("output-quality", ["the output is garbled"], ["the kettle is warm"]),
    ("output-quality", ["it answers gibberish"], ["it answers tea"]),
    ("output-quality", ["the answer was nonsense"], ["this kettle is nonsense"]),
    ("plugin-api-drift", [*PLUGIN, "    assert isinstance(cup, dict)", "AssertionError"],
     [*VLLM, "    assert isinstance(cup, dict)", "AssertionError"]),
    ("plugin-api-drift", [*PLUGIN, "KeyError: 'cups'"], [*LOADER, "KeyError: 'cups'"]),
    ("plugin-api-drift", ["ImportError: cannot import name 'Cup' from 'vllm_ascend.a' (/a.py)"],
     ["ImportError: cannot import name 'Cup' from 'vllm_ascend.tea'"]),
    ("install-broken", ["ImportError: cannot import name 'Cup' from 'vllm_ascend.tea'"],
     ["ImportError: cannot import name 'Cup' from 'vllm_ascend.tea' (/a/tea.py)"]),
    ("plugin-api-drift", ["AssertionError: Forward context is not set. Set it."],
     ["AssertionError: Forward cup is not set. Set it."]),
    ("plugin-api-drift", ["RuntimeError: Expected all tensors to be on the same device, npu:0!"],
     ["RuntimeError: Expected all cups to be on the same device, npu:0!"]),
    ("plugin-api-drift", ["KeyError: 'model.layers.7.self_attn.attn'"],
     ["KeyError: 'model.layers.7.self_attn.weight'"]),
    ("weight-shape-mismatch", [*LOADER, "    assert cups == 7", "AssertionError"],
     [*PLUGIN, "    assert cups == 7", "AssertionError"]),
    ("weight-key-mismatch", [*LOADER, "    self.load_weights(w)", "KeyError: 'cups'"],
     ["    self.load_cups(w)", "KeyError: 'cups'"]),
    ("transformers-symbol", ["ImportError: packages that were not found in your environment: tea"],
     ["ImportError: packages that were found in your environment: tea"]),
    ("missing-op", ["[ERROR] 2026-03-01 (PID:7) ERR00007 PTA feature not supported"],
     ["[ERROR] 2026-03-01 (PID:7) ERR00007 PTA feature is warm"]),
    ("transformers-symbol",
     [*frames("transformers_modules/teapot/modeling.py:<module>"), "ImportError: no cups"],
     [*frames("teapot/modeling.py:<module>"), "ImportError: no cups"]),
    ("graph-capture-other",
     [*frames("vllm_ascend/worker/a.py:capture_model"), "RuntimeError: no cups"],
     [*PLUGIN, "RuntimeError: no cups"]),
    ("hccl-comm-init",
     [*frames("torch/distributed/c.py:init_process_group"), "RuntimeError: no cups"],
     [*PLUGIN, "RuntimeError: no cups"]),
    ("tokenizer", [*frames("vllm/transformers_utils/tokenizer.py:get"), "ValueError: no cups"],
     [*VLLM, "ValueError: no cups"]),
    ("arch-unrecognized", [*frames("transformers/models/auto/configuration_auto.py:get"),
                           "ValueError: no cups"],
     [*VLLM, "ValueError: no cups"]),
    ("dynamo-unsupported",
     [*frames("torch/_dynamo/symbolic_convert.py:run"), "RuntimeError: no cups"],
     [*VLLM, "RuntimeError: no cups"]),
]  # fmt: skip


@pytest.mark.parametrize(("id_", "lines", "near_miss"), FAMILIES)
def test_family(id_: str, lines: list[str], near_miss: list[str]) -> None:
    assert ids(lines)[0] == id_
    assert id_ not in ids(near_miss)


def test_a_guess_is_given_only_where_nothing_is_known() -> None:
    guess = [*PLUGIN, "KeyError: 'cups'"]
    (finding,) = diagnose(guess)
    assert (finding.id, finding.confidence) == ("plugin-api-drift", 0.4)
    # A bare code says more than a guess; wrappers say less.
    assert ids([*guess, "RuntimeError: ACL stream synchronize failed, error code:507018"]) == [
        "device-exception"
    ]
    assert ids([*guess, "RuntimeError: Engine core initialization failed."])[0] == (
        "plugin-api-drift"
    )


def test_a_fault_is_false_ready_only_if_the_server_was_up() -> None:
    fault = "ERROR 03-01 10:00:08 [core.py:7] RuntimeError: stream failed, error code:507035"
    died = "{}ERROR 03-01 10:00:09 [async_llm.py:7] EngineDeadError: EngineCore encountered it."
    answer = '(APIServer pid=1) INFO:     10.0.0.7:1 - "POST /v1/rerank HTTP/1.1" 500 Oh'
    assert ids([fault, died.format("")])[0] == "device-exception"
    assert ids([fault, died.format("(APIServer pid=1) ")])[0] == "false-ready"
    assert ids([fault, died.format(""), answer])[0] == "false-ready"
    # What a line says in words stands before it, wherever the engine's death stands.
    words = [*PLUGIN, "RuntimeError: shape mismatch: value tensor cannot be broadcast"]
    assert ids([died.format("(APIServer pid=1) "), answer, *words])[0] == "op-shape-contract"
