# SPDX-License-Identifier: Apache-2.0
"""A chip's rules and operators on a CPU: what it would refuse is refused, what it would compute is
computed by the reference kernels. It shows neither its speed nor the defects of its operators.
"""
