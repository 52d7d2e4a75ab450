# SPDX-License-Identifier: Apache-2.0
"""Model classes that recipes name where renaming cannot help; each subclasses one of vLLM's."""
