# SPDX-License-Identifier: Apache-2.0
"""A vLLM plugin and the ``bringup`` command: serve new checkpoints on Ascend.

Importing this package loads neither torch nor vLLM.
"""

__version__ = "0.1.0"
