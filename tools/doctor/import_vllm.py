# SPDX-License-Identifier: Apache-2.0
"""Run as a script: where packages come from, and what ``import vllm`` says. Prints JSON.

Arguments: packages to look for. First without a folder in front, as for console scripts, then with
the current one, as for ``python -m``.
"""

import json
import os
import sys
import traceback
from importlib.util import find_spec

MARK = "bringup-doctor:"


def origin(package: str) -> "str | None":
    """Its ``__init__``, or its folder with a slash if it has none."""
    sys.path_importer_cache.clear()
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or [])
    return spec.origin or (folders[0] + "/" if folders else None)


def main() -> None:
    """One line of JSON before the import, so that it is there even if the import crashes."""
    packages = sys.argv[1:]
    sys.path.pop(0)  # this script's own folder
    installed = {name: origin(name) for name in packages}
    sys.path.insert(0, os.getcwd())
    here = {name: origin(name) for name in packages}
    sys.path.pop(0)
    print(MARK, json.dumps({"installed": installed, "here": here}), flush=True)
    try:
        import vllm

        result = {"version": vllm.__version__, "file": vllm.__file__, "error": None}
    except BaseException as error:
        last = traceback.format_exception_only(type(error), error)[-1].strip()
        result = {"version": None, "file": None, "error": last.splitlines()[-1]}
    print(MARK, json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
