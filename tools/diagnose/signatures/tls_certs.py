# SPDX-License-Identifier: Apache-2.0
"""An HTTPS service without its certificates."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="tls-certs",
    title=Text("The HTTPS service does not find its certificates", "HTTPS 服务找不到证书文件"),
    actions=(
        Text(
            "Put certificate, CA and private key where the service's config names them, or "
            "turn HTTPS off",
            "把服务器证书、CA 证书和私钥放到服务配置指定的目录，或关闭 HTTPS",
        ),
    ),
    patterns=(
        Pattern(
            "tlscert",
            r"(tls_?(cert|crl|pk|ca)\w*).*(not (exist|found)|no such|invalid|fail|cannot"
            r"|empty|不存在|找不到)|(not (exist|found)|no such|fail|cannot"
            r"|找不到).*tls_?(cert|crl|pk|ca)",
        ),
        Pattern(
            "tls_cert",
            r"(tls_?(cert|crl|pk|ca)\w*).*(not (exist|found)|no such|invalid|fail|cannot"
            r"|empty|不存在|找不到)|(not (exist|found)|no such|fail|cannot"
            r"|找不到).*tls_?(cert|crl|pk|ca)",
        ),
        Pattern(
            "tlsca",
            r"(tls_?(cert|crl|pk|ca)\w*).*(not (exist|found)|no such|invalid|fail|cannot"
            r"|empty|不存在|找不到)|(not (exist|found)|no such|fail|cannot"
            r"|找不到).*tls_?(cert|crl|pk|ca)",
        ),
        Pattern(
            "tls_ca",
            r"(tls_?(cert|crl|pk|ca)\w*).*(not (exist|found)|no such|invalid|fail|cannot"
            r"|empty|不存在|找不到)|(not (exist|found)|no such|fail|cannot"
            r"|找不到).*tls_?(cert|crl|pk|ca)",
        ),
        Pattern(
            "tlspk",
            r"(tls_?(cert|crl|pk|ca)\w*).*(not (exist|found)|no such|invalid|fail|cannot"
            r"|empty|不存在|找不到)|(not (exist|found)|no such|fail|cannot"
            r"|找不到).*tls_?(cert|crl|pk|ca)",
        ),
        Pattern(
            "tls_pk",
            r"(tls_?(cert|crl|pk|ca)\w*).*(not (exist|found)|no such|invalid|fail|cannot"
            r"|empty|不存在|找不到)|(not (exist|found)|no such|fail|cannot"
            r"|找不到).*tls_?(cert|crl|pk|ca)",
        ),
    ),
)
