"""Result files: rows of measurements, and all that one needs to measure them again."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

RESULTS = Path(__file__).parent / "results"
_PACKAGES = "jax", "jaxlib", "flax", "optax", "numpy"


class Report:
    """``results/NAME-PLATFORM.json``, complete on disk after every row."""

    def __init__(self, name: str, **about):
        self.path = RESULTS / f"{name}-{jax.default_backend()}.json"
        self.content = {"provenance": provenance(), **about, "rows": []}

    def add(self, **row) -> dict:
        """Append one row, and write the file anew: whole or not at all."""
        self.content["rows"].append(row)
        text = json.dumps(_rounded(self.content), indent=1)
        RESULTS.mkdir(exist_ok=True)
        draft = self.path.with_suffix(".tmp")
        draft.write_text(text + "\n")
        draft.replace(self.path)
        return row


def provenance() -> dict:
    """Which command, when, on what, and with which versions."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    command = ["python", *(["-m", module.name] if module else []), *sys.argv[1:]]
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--", "vae_teach", "benchmarks/*.py")
    return {
        "command": " ".join(command),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cpu": _cpu(),
        "cores": _cores(),
        "load": round(os.getloadavg()[0], 2),  # of others, before anything ran
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
        "commit": commit,
        "uncommitted": None if commit is None else bool(changes),
    }


def about_data(dataset) -> dict:
    """Where a data set came from, its sizes, and a hash of its 8-bit pixels."""
    pixels = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        pixels.update(
            np.rint(np.asarray(split.images) * 255).astype(np.uint8).tobytes()
        )
    return {
        "name": dataset.name,
        "source": str(dataset.source),
        "train": len(dataset.train.images),
        "test": len(dataset.test.images),
        "sha256": pixels.hexdigest(),
    }


def _rounded(content):
    """Six digits of every float, which is more than any of these is known to."""
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_rounded(value) for value in content]
    return float(f"{content:.6g}") if isinstance(content, float) else content


def _cores():
    """Cores this process may use, which in a container is not the machine's count."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count()


def _cpu():
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(*arguments):
    """What git says, or None where this is no checkout."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
