"""Run exported notebooks as Colab would: its versions, an empty folder, nothing else.

``python -m tools.colab [NAME ...]`` builds ``_build/colab`` from
``colab-constraints.txt`` and what Colab ships, and runs each notebook alone. Its own
install cell brings everything else, with the repository replaced by a wheel of this
checkout.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from subprocess import DEVNULL

import nbformat

from tools.book import ROOT, Site, chapters

SHIPPED = ["orbax-checkpoint", "scikit-learn", "scipy", "tensorflow-datasets"]
PINNED = ["jax", "flax", "optax", "numpy", "matplotlib", "anywidget", "ipywidgets"]
# What the install cell brings, and no other notebook may find.
INSTALLED = ["vae_teach", "jaxtyping", "wadler-lindig"]
KERNEL = ["ipython", "ipykernel", "nbclient", "nbformat", "pip"]
PYTHONS = ("python3.13", "python3.12", "python3.11")

RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.execute(notebook, timeout=300)
"""


def python() -> str:
    """The newest Python here that Colab or an older one has; a shim may not run."""
    for name in PYTHONS:
        try:
            found = [name, "-c", "import sys; print(sys.executable)"]
            return subprocess.check_output(found, text=True, stderr=DEVNULL).strip()
        except (OSError, subprocess.CalledProcessError):
            continue
    raise SystemExit(f"Found none of {', '.join(PYTHONS)}: install one.")


def environment(folder: Path) -> Path:
    """The interpreter of a fresh environment with Colab's versions."""
    interpreter = python()
    print(f"Colab's versions on {interpreter}", flush=True)
    subprocess.run([interpreter, "-m", "venv", "--clear", folder], check=True)
    inside = folder / "bin" / "python"
    constraints = ROOT / "colab-constraints.txt"
    pip = [inside, "-m", "pip", "install", "--quiet", "--constraint", constraints]
    subprocess.run([*pip, *PINNED, *SHIPPED, *KERNEL], check=True)
    return inside


def wheel(folder: Path, interpreter: Path) -> Path:
    """A wheel of this checkout."""
    pip = [interpreter, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", folder, ROOT], check=True)
    (made,) = folder.glob("*.whl")
    return made


def run_alone(notebook: Path, interpreter: Path, source: Path) -> float:
    """Run a copy in an empty folder, and return its seconds."""
    forget = [interpreter, "-m", "pip", "uninstall", "--quiet", "--yes", *INSTALLED]
    subprocess.run(forget, check=True, stderr=DEVNULL)
    book = nbformat.read(notebook, as_version=4)
    install = next(cell for cell in book.cells if cell.cell_type == "code")
    address = f"git+{Site.read().repository}@"
    line = next(text for text in install.source.splitlines() if address in text)
    pinned = line.split('"')[1].removeprefix("vae_teach @ ")
    install.source = install.source.replace(pinned, source.as_uri())
    with tempfile.TemporaryDirectory() as empty:
        copy = Path(empty) / notebook.name
        nbformat.write(book, copy)
        start = time.perf_counter()
        command = [interpreter, "-c", RUN, copy]
        subprocess.run(command, cwd=empty, check=True)
        return time.perf_counter() - start


def main() -> None:
    """Run the notebooks named, or all."""
    names = [f"book/{name}" for name in sys.argv[1:]] or list(chapters())
    interpreter = environment(ROOT / "_build" / "colab")
    with tempfile.TemporaryDirectory() as built:
        source = wheel(Path(built), interpreter)
        for name in names:
            seconds = run_alone(ROOT / f"{name}.ipynb", interpreter, source)
            print(f"{name}: runs alone, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
