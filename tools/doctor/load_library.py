# SPDX-License-Identifier: Apache-2.0
"""Run as a script: load the shared library named by the argument; exit 1 with the error if not."""

import ctypes
import sys

if __name__ == "__main__":
    try:
        ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        print(error)
        sys.exit(1)
