"""What every explorer is in Python: one ES module, its state, its data, its picture.

A page needs no kernel: ``html()`` carries the module inline, with a few lines that
stand in for the kernel's model. A live front-end gets an anywidget, made at its first
display; the weights go to it in a message, so that no saved notebook holds them twice.
"""

import base64
import html
import json
import re
import sys
import uuid
from pathlib import Path
from typing import Any, ClassVar

HERE = Path(__file__).parent


class Explorer:
    """An interactive figure: displayed by being the last line of a cell.

    A new one sets the class attributes below, and writes ``name.js`` with
    ``export default { render }``, where ``render({ model, el })`` is anywidget's. Its
    ``state`` is in step with the page where there is a kernel: see ``widget``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    notice: ClassVar[str]  # one sentence: what to notice
    modules: ClassVar[tuple[str, ...]] = ("shared",)  # what ``name.js`` imports
    state: ClassVar[dict[str, Any]] = {}

    def __init__(self, **state: Any):
        unknown = state.keys() - self.state.keys()
        if unknown:
            raise TypeError(
                f"Expected some of {sorted(self.state)}, got {sorted(unknown)}."
            )
        self.start = self.state | state | {"notice": self.notice}
        self._widget = None

    def payload(self) -> bytes:
        """What the module unpacks; empty where it needs no weights."""
        return b""

    def picture(self) -> bytes:
        """A PNG of the figure, for front-ends that run no scripts."""
        return (HERE / "weights" / f"{self.name}.png").read_bytes()

    def module(self) -> str:
        """The explorer's ES module and all that it imports, as one."""
        files = [HERE / f"{name}.js" for name in (*self.modules, self.name)]
        return "\n".join(_without_links(path.read_text()) for path in files)

    def css(self) -> str:
        """The style that all explorers share."""
        return (HERE / "explorer.css").read_text()

    def html(self) -> str:
        """The figure as HTML that needs nothing else: no kernel and no network."""
        code, css = self.module(), self.css()
        if "</script" in code or "</style" in css:
            raise ValueError("Expected code and style that do not end their element.")
        return _PAGE.format(
            id=f"explorer-{uuid.uuid4().hex[:12]}",
            css=css,
            code=code,
            state=json.dumps(self.start).replace("<", "\\u003c"),
            payload=base64.b64encode(self.payload()).decode(),
            picture=base64.b64encode(self.picture()).decode(),
            alt=html.escape(f"{self.title}. {self.notice}", quote=True),
        )

    def widget(self):
        """The anywidget, made at the first call: its traits are the explorer's state.

        ``widget().observe(f, "beta")`` calls ``f`` when the reader moves the slider,
        and setting ``widget().beta`` moves it.
        """
        if self._widget is None:
            code = f"{self.module()}\nexport default {{ render }};"
            self._widget = _make_widget(code, self.css(), self.start, self.payload)
        return self._widget

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        data = {"text/plain": repr(self), "text/html": self.html()}
        if not _shows_widgets():
            return data, {}
        view, metadata = self.widget()._repr_mimebundle_(**kwargs) or ({}, {})
        return view | data, metadata

    def __repr__(self) -> str:
        state = ", ".join(f"{k}={self.start[k]!r}" for k in self.state)
        return f"{type(self).__name__}({state})"


def _shows_widgets() -> bool:
    """Whether to offer a widget: not on Colab, which shows the same figure as HTML.

    There a widget of a third party needs a manager from the network.
    """
    if "google.colab" in sys.modules:
        return False
    try:
        import anywidget  # noqa: F401
    except ImportError:
        return False
    return True


def _make_widget(code, css, state, payload):
    import anywidget
    import traitlets

    traits = {
        name: traitlets.Any(value).tag(sync=True) for name, value in state.items()
    }
    body = {"_esm": code, "_css": css, **traits}
    widget = type("ExplorerWidget", (anywidget.AnyWidget,), body)()

    def answer(widget, content, buffers):
        if content.get("ask") == "payload":
            widget.send({"give": "payload"}, [payload()])

    widget.on_msg(answer)
    return widget


def _without_links(code):
    code = re.sub(r"^import \{[^}]*\} from \"[^\"]*\";\n", "", code, flags=re.MULTILINE)
    code = re.sub(r"^export default \{ render \};\n", "", code, flags=re.MULTILINE)
    return re.sub(r"^export ", "", code, flags=re.MULTILINE)


_PAGE = """\
<style>{css}</style>
<div id="{id}" class="vx-mount">
<script>document.currentScript.parentElement.classList.add("vx-live");</script>
<img class="vx-still" alt="{alt}" src="data:image/png;base64,{picture}">
<noscript>This figure moves where scripts may run.</noscript>
</div>
<script type="module">
{code}
const bytes = Uint8Array.from(atob("{payload}"), (c) => c.charCodeAt(0));
const model = standIn({{ ...{state}, payload: bytes }});
render({{ model, el: document.getElementById("{id}") }});
</script>"""
