"""Prints what an interpreter is and what it sees, as JSON: a plain program that runs in any environment.

    python -E probe.py [BASE]

With BASE it tells how the interpreter that an environment is made from would look for packages below a root `BASE`.
"""

import importlib.metadata
import json
import os
import platform
import re
import site
import sys
import sysconfig
from typing import Any


def environment() -> dict[str, Any]:
    """The interpreter, where its parts lie, and the packages it finds, in the order in which it looks."""
    stdlib = sysconfig.get_path("stdlib")
    own = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100,PTH120
    standard = {own, stdlib, sysconfig.get_config_var("DESTSHARED"), os.path.join(stdlib, "lib-dynload")}  # noqa: PTH118
    distributions: dict[str, str] = {}
    editable: dict[str, list[str]] = {}
    records: list[str] = []
    for found in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", found.metadata["Name"] or "").lower()
        if not name or name in distributions:
            continue
        distributions[name] = found.version
        origin = json.loads(found.read_text("direct_url.json") or "{}")
        files = [str(found.locate_file(file)) for file in found.files or ()]
        records += [file for file in files if file.endswith("dist-info/RECORD")]
        if origin.get("dir_info", {}).get("editable"):
            editable[name] = [file for file in files if file.endswith((".pth", ".py"))]
    return {
        "version": platform.python_version(),
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "executable": os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
        "stdlib": stdlib,
        "purelib": sysconfig.get_path("purelib"),
        "paths": [path for path in sys.path if os.path.isdir(path) and path not in standard],  # noqa: PTH112
        "site_paths": [*site.getsitepackages(), site.getusersitepackages()],
        "distributions": distributions,
        "editable": editable,
        "records": records,
        "machine": " ".join([platform.machine(), *platform.libc_ver()]),
    }


def site_below(base: str) -> str:
    """Where a copy of this interpreter below a root finds its packages."""
    own = sysconfig.get_path("purelib", vars={"base": base, "platbase": base, "installed_base": base})
    seen = site.getsitepackages([base])
    return own if own in seen else seen[-1]


if __name__ == "__main__":
    print(json.dumps(environment() if len(sys.argv) < 2 else site_below(sys.argv[1])))
