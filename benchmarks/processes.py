"""What other processes used, read from the kernel. Linux only; elsewhere there is nothing to read, and no figure."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("hitl-mcp", "mcp", "anyio", "pydantic", "httpx2", "starlette", "uvicorn", "uvloop", "cel-expr-python")


def cpu_seconds(pid: int) -> float | None:
    """The processor time of a process, all threads, as `clock_getcpuclockid(3)` finds it."""
    if sys.platform != "linux":
        return None
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pid: int) -> int | None:
    """The resident memory of a process."""
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"^VmRSS:\s+(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    return int(found[1]) * 1024 if found else None


def child_with(*arguments: str) -> int | None:
    """The child of this process that was started with these arguments."""
    wanted = {argument.encode() for argument in arguments}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            found = set((folder / "cmdline").read_bytes().split(b"\0"))
        except OSError:  # it ended while we looked
            continue
        if parent == os.getpid() and wanted <= found:
            return int(folder.name)
    return None


def machine() -> dict[str, Any]:
    """What a figure depends on; nothing that tells one machine of a kind from another."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "load_average": round(os.getloadavg()[0], 2),
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", path.read_text(), re.MULTILINE) if path.exists() else None
    return found[1] if found else platform.machine()
