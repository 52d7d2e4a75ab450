# SPDX-License-Identifier: Apache-2.0
"""Experts chosen by sigmoid without groups, on CPU: MiniMax-M2, Laguna."""

from typing import Any

import torch


def router(original: Any) -> Any:
    """``CPURouter``, the same wherever vLLM's own works."""

    class CPURouter(original):  # type: ignore[misc]
        def _compute_routing(
            self,
            hidden_states: torch.Tensor,
            router_logits: torch.Tensor,
            indices_type: torch.dtype | None,
            **named: Any,
        ) -> tuple[torch.Tensor, torch.Tensor]:
            """Weights ``[tokens, top k]`` float32 and numbers of experts, int32."""
            others = self.use_grouped_topk or self.custom_routing_function
            if self.scoring_func != "sigmoid" or others:
                routing: tuple[torch.Tensor, torch.Tensor] = super()._compute_routing(
                    hidden_states, router_logits, indices_type, **named
                )
                return routing
            scores = router_logits.float().sigmoid()
            bias = self.e_score_correction_bias
            # The bias decides who is chosen, not how much each one counts.
            experts = (scores if bias is None else scores + bias).topk(self.top_k, dim=-1).indices
            weights = scores.gather(1, experts)
            if self.renormalize:
                weights = weights / weights.sum(-1, keepdim=True)
            return weights * self.routed_scaling_factor, experts.to(torch.int32)

    return CPURouter
