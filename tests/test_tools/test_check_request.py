# SPDX-License-Identifier: Apache-2.0
"""check-request: every rule just below and just above, and agreement with vLLM's own code."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from request_kit import HEADS, body, data_url, image, part, vllm_refusal

from vllm_ascend_bringup.tools.check_request import check_request
from vllm_ascend_bringup.tools.check_request.base import Server, ServerName
from vllm_ascend_bringup.tools.check_request.body import parse_request
from vllm_ascend_bringup.tools.check_request.formats import format_of
from vllm_ascend_bringup.tools.check_request.rules.catalog import RULES

ROOT = Path(__file__).resolve().parents[2]
BRINGUP = [sys.executable, "-c", "from vllm_ascend_bringup.tools.cli import main; main()"]
PNG, JPEG = image("PNG"), image("JPEG")
MIB = 2**20
CHARACTERS = 4_194_304  # MindIE's own error message names it


def said(request: Any, name: ServerName = "vllm", **server: Any) -> dict[str, list[str]]:
    """Ids of the rules that object, by severity."""
    report = check_request(parse_request(request), Server(name, **server))
    found: dict[str, list[str]] = {"refused": [], "note": []}
    for objection in report.objections:
        found[objection.severity].append(objection.rule)
    assert report.exit_code == (15 if found["refused"] else 0)
    return found


def refused(request: Any, name: ServerName = "vllm", **server: Any) -> list[str]:
    return said(request, name, **server)["refused"]


def user(content: object) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}]}


def sound(data: str = base64.b64encode(HEADS["wav"]).decode(), **fields: Any) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav", **fields}}


SHORT = base64.b64encode(PNG).decode()
# Bodies for vLLM, with the rule that refuses each; None: it is taken.
CASES: dict[str, tuple[Any, str | None]] = {
    "text": (user("x"), None),
    "no messages": ({"model": "m"}, "body-shape"),
    "messages no list": ({"model": "m", "messages": {"role": "user"}}, "body-shape"),
    "message no object": ({"model": "m", "messages": ["x"]}, "body-shape"),
    "no role": ({"model": "m", "messages": [{"content": "x"}]}, "body-shape"),
    "content number": (user(3), "body-shape"),
    "content null": (user(None), "body-shape"),
    "no content": ({"model": "m", "messages": [{"role": "user"}]}, None),
    "silent assistant": (
        {"model": "m", "messages": [{"role": "assistant", "content": None}]}, None,
    ),
    "null part": (body(None), "part-type"),
    "unknown part": (body({"type": "foo"}), "part-type"),
    "pil part": (body({"type": "image_pil", "image_pil": "x"}), "part-type"),
    "part without type": (body({"text": "x"}), "part-type"),
    "numeric type": (body({"type": 3}), "part-type"),
    "type of a list": (body({"type": []}), "part-type"),
    "url without type": (body({"image_url": data_url(PNG)}), None),
    "url string": (body({"type": "image_url", "image_url": data_url(PNG)}), "part-fields"),
    "url string with uuid": (
        body({"type": "image_url", "image_url": data_url(PNG), "uuid": "a"}), None,
    ),
    "url missing": (body({"type": "image_url"}), "part-fields"),
    "url number": (body(part(3)), "part-fields"),
    "url empty": (body(part("")), None),
    "video url string": (body({"type": "video_url", "video_url": "http://h/a"}), "part-fields"),
    "png": (body(part(data_url(PNG))), None),
    "jpeg": (body(part(data_url(JPEG, "image/jpeg"))), None),
    "gif": (body(part(data_url(image("GIF"), "image/gif"))), None),
    "webp": (body(part(data_url(image("WEBP"), "image/webp"))), None),
    "bmp": (body(part(data_url(image("BMP"), "image/bmp"))), None),
    "tiff": (body(part(data_url(image("TIFF"), "image/tiff"))), None),
    "png as jpeg": (body(part(data_url(PNG, "image/jpeg"))), None),
    "png as nothing": (body(part(data_url(PNG, ""))), None),
    "parameters": (body(part(data_url(PNG, "image/png;charset=x"))), None),
    "upper case data": (body(part("DATA:image/png;base64," + SHORT)), None),
    "upper case base64": (body(part("data:image/png;BASE64," + SHORT)), "data-url"),
    "not base64": (body(part("data:image/png," + SHORT)), "data-url"),
    "no comma": (body(part("data:image/png;base64")), "data-url"),
    "bad letters": (body(part("data:image/png;base64,@@@@")), "data-url"),
    "padding gone": (body(part("data:image/png;base64,QUI")), "data-url"),
    "line break": (body(part(f"data:image/png;base64,{SHORT[:20]}\n{SHORT[20:]}")), "data-url"),
    "url-safe letters": (body(part("data:image/png;base64,_-__")), "data-url"),
    "nothing": (body(part("data:image/png;base64,")), "actual-format"),
    "text as png": (body(part(data_url(b"hello there"))), "actual-format"),
    "pdf as png": (body(part(data_url(HEADS["pdf"]))), "actual-format"),
    "eps as png": (body(part(data_url(image("EPS")))), "actual-format"),
    "heic": (body(part(data_url(HEADS["heic"], "image/heic"))), "actual-format"),
    "cut short": (body(part(data_url(image("PNG", (99, 99))[:60]))), "image-opens"),
    "path": (body(part("/tmp/a.png")), "url-scheme"),
    "bare jpeg": (body(part(base64.b64encode(JPEG).decode())), "url-scheme"),
    "ftp": (body(part("ftp://h/a.png")), "url-scheme"),
    "no host": (body(part("http://")), "url-scheme"),
    "http": (body(part("http://h/a.png")), None),
    "https, upper case": (body(part("HTTPS://h/a.png")), None),
    "file": (body(part("file:///not/there.png")), "local-file"),
    "text as video": (body(part(data_url(b"hello there", "video/mp4"), "video")), "actual-format"),
    "sound": (body(sound()), None),
    "sound of 25 MiB": (
        body(part(data_url(HEADS["wav"].ljust(25 * MIB, b"\0"), "audio/wav"), "audio")), None,
    ),
    "sound of a byte more": (
        body(part(data_url(HEADS["wav"].ljust(25 * MIB + 1, b"\0"), "audio/wav"), "audio")),
        "media-size",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_vllm_refuses_what_we_say_and_nothing_else(case: str) -> None:
    request, rule = CASES[case]
    theirs = vllm_refusal(json.loads(json.dumps(request)))
    assert set(refused(request)) == ({rule} if rule else set())
    assert (theirs is not None) == (rule is not None), theirs


@pytest.mark.parametrize(
    ("part_", "rule"),
    [
        ("x", "part-type"),
        ({"type": "text"}, "part-fields"),
        ({"type": "text", "text": 3}, "part-fields"),
        ({"type": "input_audio", "input_audio": {"data": "UklGRgAAAABXQVZF"}}, "part-fields"),
    ],
)
def test_vllm_refuses_some_parts_by_what_stands_beside_them(part_: Any, rule: str) -> None:
    """Which is why they are notes. MindIE is not known to take them."""
    assert vllm_refusal(user([part_]))
    assert vllm_refusal(body(part_)) is None
    assert said(body(part_)) == {"refused": [], "note": [rule]}
    assert refused(body(part_), "mindie") == [rule]


def test_vllm_reads_files_where_it_may(tmp_path: Path) -> None:
    inside = tmp_path / "media" / "图 1.png"
    inside.parent.mkdir()
    inside.write_bytes(PNG)
    outside = tmp_path / "outside.png"
    outside.write_bytes(PNG)
    (inside.parent / "link.png").symlink_to(outside)
    for url, rule in (
        (inside.as_uri(), None), (outside.as_uri(), "local-file"),
        (f"{inside.parent.as_uri()}/link.png", "local-file"),
        (f"{inside.parent.as_uri()}/../outside.png", "local-file"),
        (f"{inside.parent.as_uri()}/gone.png", "local-file"),
    ):  # fmt: skip
        request = body(part(url))
        assert refused(request, local_media=inside.parent) == ([rule] if rule else []), url
        assert (vllm_refusal(request, inside.parent) is not None) == (rule is not None), url


def test_too_many_pixels() -> None:
    """Of a header only: nothing of that size is made."""
    import struct
    import zlib

    def png(width: int, height: int) -> bytes:
        head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return (
            PNG[:8] + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + PNG[33:]
        )

    request = body(part(data_url(png(13378, 13378))))
    (objection,) = check_request(parse_request(request), Server("vllm")).objections
    assert objection.found.en == "more than 178956970 pixels"
    assert vllm_refusal(request)


def test_domains_and_counts() -> None:
    request = body(part("http://a.b/x"), part("https://c.d:80/y"), part("http://a.b/z", "video"))
    assert refused(request, domains=("a.b", "c.d")) == []
    assert refused(request, domains=("a.b",)) == ["media-domain"]
    assert refused(request, limits={"image": 2}) == []
    assert refused(request, limits={"image": 1, "video": 0}) == ["media-count", "media-count"]
    assert said(request)["note"] == ["not-fetched"] * 3


@pytest.mark.parametrize(
    ("request_body", "rule"),
    [
        (body(part(data_url(PNG))), None),
        (body({"type": "image_url", "image_url": data_url(JPEG, "image/jpeg")}), None),
        (body({"type": "image_url", "image_url": base64.b64encode(JPEG).decode()}), None),
        (body(part(data_url(image("GIF"), "image/png"))), "actual-format"),
        (body(part(data_url(JPEG, "image/jpg"))), "declared-format"),
        (body(part(data_url(HEADS["mp4"], "video/mp4"), "video")), None),
        (body(part(data_url(HEADS["avi"], "video/x-msvideo"), "video")), None),
        (body(part(data_url(HEADS["wmv"], "video/x-ms-wmv"), "video")), None),
        (body(part(data_url(HEADS["webm"], "video/mp4"), "video")), "actual-format"),
        (body(part(data_url(HEADS["mp3"], "audio/mpeg"), "audio")), None),
        (body(part(data_url(HEADS["frame"], "audio/mpeg"), "audio")), None),
        (body(part(data_url(HEADS["wav"], "audio/wav"), "audio")), "declared-format"),
        (body(part(data_url(HEADS["flac"], "audio/flac"), "audio")), None),
        (body(part(data_url(HEADS["ogg"], "audio/mpeg"), "audio")), "actual-format"),
        (body(sound()), None),
        (body(sound(format="ogg")), "part-fields"),
        (body(sound(format=None)), "part-fields"),
        (body({"type": "image_embeds", "image_embeds": "x"}), "part-type"),
        (body(part("ftp://h/x")), "url-scheme"),
        (body(part("/not/there.png")), "local-file"),
        ({"messages": []}, "conversation"),
    ],
)
def test_mindie(request_body: Any, rule: str | None) -> None:
    assert refused(request_body, "mindie") == ([rule] if rule else [])


@pytest.mark.parametrize(("kind", "limit"), [("image", 20), ("video", 512), ("audio", 20)])
def test_mindie_sizes_of_files(tmp_path: Path, kind: str, limit: int) -> None:
    head = {"image": PNG[:8], "video": HEADS["mp4"], "audio": HEADS["flac"]}[kind]
    for extra, expected in ((0, []), (1, ["media-size"])):
        file = tmp_path / f"{kind}-{extra}"
        with file.open("wb") as opened:
            opened.write(head)
            opened.truncate(limit * MIB + extra)  # sparse
        assert refused(body(part(str(file), kind)), "mindie") == expected
        assert refused(body(part(file.as_uri(), kind)), "mindie") == expected


def test_mindie_counts_base64_and_all_else() -> None:
    empty = len(json.dumps(user("")["messages"], separators=(",", ":")))
    assert refused(user("图" * (CHARACTERS - empty)), "mindie") == []
    assert refused(user("图" * (CHARACTERS - empty + 1)), "mindie") == ["payload-size"]
    large = JPEG.ljust(CHARACTERS * 3 // 4, b"\0")
    request = body(part(data_url(large, "image/jpeg")))
    report = check_request(parse_request(request), Server("mindie"))
    assert [objection.rule for objection in report.objections] == ["payload-size"]
    # As many bytes as the advice says do fit.
    fits = int(report.objections[0].action.en.split("have ")[1].split()[0])
    assert len(large) - fits < 300
    for nbytes, expected in ((fits - fits % 3, []), (fits + 3, ["payload-size"])):
        assert refused(body(part(data_url(large[:nbytes], "image/jpeg"))), "mindie") == expected
    assert refused(request) == []


@pytest.mark.parametrize(
    ("roles", "notes"),
    [
        (["system", "user", "assistant", "user"], 0),
        (["user", "user"], 1),
        (["assistant", "user"], 1),
        (["user", "system", "assistant"], 1),
        (["boss", "user"], 1),
        (["user", "assistant", "tool", "tool", "assistant"], 0),
    ],
)
def test_roles_are_noted(roles: list[str], notes: int) -> None:
    messages = [{"role": role, "content": "x"} for role in roles]
    assert said({"messages": messages}) == {"refused": [], "note": ["conversation"] * notes}


def test_empty_conversations_and_messages_are_noted() -> None:
    assert said({"messages": []})["note"] == ["conversation"]
    assert said(user(""))["note"] == ["conversation"]
    assert said(user([]))["note"] == ["conversation"]


def test_a_wrong_declaration_is_noted_and_an_unknown_one_is_not() -> None:
    assert said(body(part(data_url(PNG, "image/jpeg"))))["note"] == ["declared-format"]
    assert said(body(part(data_url(JPEG, "image/jpg"))))["note"] == []
    assert said(body(part(data_url(JPEG, "image/x-odd"))))["note"] == []
    assert said(body(part(data_url(JPEG, "image/png"))), "mindie")["note"] == ["declared-format"]


@pytest.mark.parametrize("other", [3, None, [], "x", {"messages": [[]]}, {"messages": 1}])
def test_any_json_is_judged(other: object) -> None:
    for name in ("vllm", "mindie"):
        assert "body-shape" in refused(other, name)  # type: ignore[arg-type]


def test_formats_by_their_first_bytes() -> None:
    names = {"frame": "mp3", "webm": "matroska"}
    for name, head in HEADS.items():
        assert format_of(head) == names.get(name, name)
        assert format_of(head[:1]) is None
    assert format_of(b"\xff\xe1\x00\x00") is None  # layer 0 is reserved


def test_every_rule_file_is_in_the_catalogue_and_every_id_is_unique() -> None:
    files = {file.stem for file in (ROOT / "tools/check_request/rules").glob("*.py")}
    listed = [rule.check.__module__.rpartition(".")[2] for rule in RULES]
    assert sorted(listed) == sorted(files - {"__init__", "catalog"})
    assert len({rule.id for rule in RULES}) == len(RULES)
    hit = {rule for _, rule in CASES.values()}
    assert hit | {None} >= {"part-type", "data-url", "media-size"}


def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*BRINGUP, "check-request", *arguments], input=given, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_command(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(body(part(data_url(image("GIF"), "image/gif")))), encoding="utf-8")
    taken = run(str(file), "--lang", "en")
    assert (taken.returncode, taken.stdout) == (0, "vllm: 1 messages, 1 media, 0 refused\n")
    done = run("-", "--server", "mindie", "--json", given=file.read_text())
    assert done.returncode == 15
    content = json.loads(done.stdout)
    assert (content["schema_version"], content["command"]) == (1, "check-request")
    rules = [objection["rule"] for objection in content["objections"]]
    assert rules == ["declared-format", "actual-format"]
    assert content["objections"][0]["where"] == "messages[0].content[0]"
    assert set(content["objections"][0]["found"]) == {"en", "zh"}
    chinese = run(str(file), "--server", "mindie", "--lang", "zh")
    assert "拒绝 [declared-format] messages[0].content[0]：" in chinese.stdout
    assert "个媒体" in chinese.stdout


@pytest.mark.parametrize(
    ("arguments", "given", "code"),
    [
        (("-",), "[1", 15),
        (("-",), "[" * 100_000, 15),
        (("/not/there.json",), "", 3),
        (("-", "--limit-mm-per-prompt", "2"), "{}", 2),
        (("-", "--limit-mm-per-prompt", '{"image": "2"}'), "{}", 2),
        (("-", "--server", "other"), "{}", 2),
    ],
)
def test_wrong_use_is_one_clear_error(arguments: tuple[str, ...], given: str, code: int) -> None:
    done = run(*arguments, given=given)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert len(done.stderr) > 20


def test_limits_and_domains_of_the_command() -> None:
    given = json.dumps(body(part("http://a.b/x"), part("http://c.d/y")))
    limits = run(
        "-", "--limit-mm-per-prompt", '{"image": {"count": 1}}', "--lang", "en", given=given
    )
    assert "[media-count]" in limits.stdout
    domains = run(
        "-", "--allowed-media-domains", "a.b", "--allowed-media-domains", "c.d", given=given
    )
    assert domains.returncode == 0
    files = run(
        "-", "--allowed-local-media-path", "/", given=json.dumps(body(part("file:///gone")))
    )
    assert "[local-file]" in files.stdout
