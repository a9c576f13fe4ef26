"""The package imports without what only some readers have."""

import subprocess
import sys

BLOCKED = ["anywidget", "array_record", "beartype", "ipywidgets", "orbax", "tensorflow"]
BLOCKED += ["tensorflow_datasets", "tqdm"]

CODE = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        # flax itself looks for orbax and tensorflow, and takes no for an answer.
        importer = sys._getframe(1)
        while "importlib" in importer.f_code.co_filename:
            importer = importer.f_back
        ours = "vae_teach" in importer.f_code.co_filename
        if ours and name.split(".")[0] in {BLOCKED}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocker())
import importlib, pkgutil, vae_teach

names = [m.name for m in pkgutil.walk_packages(vae_teach.__path__, "vae_teach.")]
assert "vae_teach.training" in names, names
for name in names:
    importlib.import_module(name)
"""


def test_importing_the_package_needs_no_optional_library():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
