"""What Jupyter Book lacks for this book, as one Sphinx extension."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any, cast

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector, SphinxEnvType
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.transforms import SphinxTransform
from sphinx.util.logging import getLogger
from sphinx.util.nodes import get_node_line

LOGGER = getLogger(__name__)
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = (
    "These controls run JAX and need a kernel: "
    "open this page in Colab or JupyterLab to use them."
)


def package_key(root: Path) -> str:
    """A hash of all that changes what a chapter prints but is not in the chapter."""
    digest = hashlib.sha256()
    files = [p for p in (root / "vae_teach").rglob("*") if p.suffix != ".pyc"]
    for path in [root / "requirements.txt", *sorted(files)]:
        if path.is_file():
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(path.read_bytes())
    for name in ("JAX_PLATFORMS", "VAE_TEACH_DATA"):
        digest.update(f"{name}={os.environ.get(name)}\0".encode())
    return digest.hexdigest()[:16]


def key_execution_cache(app: Sphinx, config: Config) -> None:
    """Execute the chapters anew when the package changes.

    jupyter-cache looks at code cells only. A new folder for each state of the package
    changes a value of the configuration too, so Sphinx reads every page again.
    """
    caches = Path(app.outdir).parent / "executed"
    ours = caches / package_key(Path(app.srcdir))
    for other in set(caches.glob("*")) - {ours}:
        shutil.rmtree(other)
    config["nb_execution_cache_path"] = str(ours)


def drop_thebe(app: Sphinx, config: Config) -> None:
    """Jupyter Book always loads sphinx_thebe, whose scripts fail on every page."""
    for listeners in app.events.listeners.values():
        listeners[:] = [
            one for one in listeners if one.handler.__module__ != "sphinx_thebe"
        ]
    app.registry.css_files[:] = [
        one for one in app.registry.css_files if one[0] != "sphinx-thebe.css"
    ]


def mend_theme(app: Sphinx, config: Config) -> None:
    """Set what _config.yml could only by replacing all that Jupyter Book puts here."""
    config["html_theme_options"].update(
        navbar_persistent=[],  # the sidebar has the search field already
        logo={"text": config["project"], "alt_text": "Home"},
    )


class Widgets(SphinxTransform):
    """Pages have no kernel: say so where a widget stands, and drop its saved state."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        """Replace the views; text/html, where a widget has it, still comes first."""
        env = cast(SphinxEnvType, self.env)
        NbMetadataCollector.get_js_files(env, env.docname).pop("ipywidgets_state", None)
        for view in list(self.document.findall(nodes.raw)):
            if WIDGET_VIEW in view.astext():
                note = nodes.paragraph("", WIDGET_NOTE, classes=["needs-kernel"])
                view.replace_self(note)


def require_words(app: Sphinx, document: nodes.document) -> None:
    """Sphinx would read out the file's name where an image has no alt text."""
    for image in document.findall(nodes.image):
        if not image.get("alt", "").strip():
            place = (app.env.docname, get_node_line(image))
            LOGGER.warning("image without alt text: %s", image["uri"], location=place)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the above."""
    app.connect("config-inited", key_execution_cache)
    app.connect("config-inited", drop_thebe)
    app.connect("config-inited", mend_theme)
    app.connect("doctree-read", require_words)
    app.add_transform(Widgets)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
