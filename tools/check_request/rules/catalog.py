# SPDX-License-Identifier: Apache-2.0
"""All rules, in the order in which a server would come to them."""

from vllm_ascend_bringup.tools.check_request.base import Rule
from vllm_ascend_bringup.tools.check_request.rules import (
    actual_format,
    conversation,
    data_url,
    declared_format,
    fetched,
    image_opens,
    local_file,
    media_count,
    media_domain,
    media_size,
    part_fields,
    part_type,
    payload_size,
    shape,
    url_scheme,
)

RULES: tuple[Rule, ...] = (
    shape.RULE,
    part_type.RULE,
    part_fields.RULE,
    payload_size.RULE,
    media_count.RULE,
    url_scheme.RULE,
    media_domain.RULE,
    data_url.RULE,
    local_file.RULE,
    media_size.RULE,
    declared_format.RULE,
    actual_format.RULE,
    image_opens.RULE,
    fetched.RULE,
    conversation.RULE,
)
