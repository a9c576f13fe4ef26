"""What the tests of the explorers share: their pages, and hands to move them.

The fixtures ``files`` and ``visit`` are in conftest.py.
"""

import base64
import json

from tools.make_stills import EXPLORERS
from vae_teach.explorers import payload
from vae_teach.explorers.explorer import HERE

SKELETON = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Explorers</title>
<style>html {{ color-scheme: light dark }} body {{ margin: 8px }}</style>
<body>{}</body></html>"""
LOOKS = [(w, scheme) for w in (1280, 390) for scheme in ("light", "dark")]


def write(folder, name):
    """The page of one explorer, or ``many`` with two of each; written once."""
    path = folder / f"{name}.html"
    if not path.exists():
        makes = [*EXPLORERS.values()] * 2 if name == "many" else [EXPLORERS[name]]
        path.write_text(SKELETON.format("".join(make().html() for make in makes)))
    return path


def arrays_and_facts(name):
    """What an explorer's page carries, rounding undone."""
    return payload.unpack(EXPLORERS[name]().payload())


def record_of(name):
    """How an explorer's file was made."""
    return json.loads((HERE / f"weights/{name}.json").read_text())


def settle(page):
    """Two frames: what an event asked for has been drawn."""
    frame = "new Promise((done) => requestAnimationFrame(done))"
    page.evaluate(frame)
    page.evaluate(frame)


def out(page, name):
    return page.inner_text(f"[data-out={name}]")


def picture(page, name):
    return page.evaluate(f"document.querySelector('[data-canvas={name}]').toDataURL()")


def changes(page, act, *read):
    """What is read before and after ``act`` differs, every part of it."""
    before = [r() for r in read]
    act()
    settle(page)
    for r, old in zip(read, before, strict=True):
        assert r() != old


def press(page, selector, *keys):
    page.focus(selector)
    for key in keys:
        page.keyboard.press(key)


def box(page, selector):
    page.locator(selector).scroll_into_view_if_needed()
    return page.locator(selector).bounding_box()


def point(area, u, v=0.5):
    return area["x"] + u * area["width"], area["y"] + v * area["height"]


def sweep(page, selector, path):
    """Drag the mouse along a path of fractions of an element."""
    area = box(page, selector)
    page.mouse.move(*point(area, *path[0]))
    page.mouse.down()
    for spot in path[1:]:
        page.mouse.move(*point(area, *spot), steps=5)
    page.mouse.up()


def pictures(page):
    """All canvases of the page."""
    every = "[...document.querySelectorAll('canvas')].map((c) => c.toDataURL())"
    return page.evaluate(every)


def outputs(page):
    """All read-outs of the page, by name."""
    return page.evaluate("""() => Object.fromEntries(
        [...document.querySelectorAll("[data-out]")]
            .map((node) => [node.dataset.out, node.textContent]))""")


def names(page, kind, tag=""):
    """The parts of one kind, data-KIND, by name; of one tag where given."""
    every = f"[...document.querySelectorAll('{tag}[data-{kind}]')]"
    return page.evaluate(f"{every}.map((node) => node.dataset['{kind}'])")


def frame_times(page, root, change, frames=40):
    """Milliseconds of each frame in which ``change``, JavaScript of k, is drawn."""
    return page.evaluate(f"""async () => {{
        const times = [];
        for (let k = 0; k < {frames}; k++) {{
            const begun = performance.now();
            {root}.change({change});
            {root}.draw();
            times.push(performance.now() - begun);
            await new Promise(requestAnimationFrame);
        }}
        return times;
    }}""")


# A front-end's model: like Backbone's, it tells of what the page itself sets.
KERNEL = """async ([code, state, data]) => {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const listeners = {}, sent = [];
    const tell = (name, ...news) => (listeners[name] ?? []).forEach((f) => f(...news));
    const model = {
        get: (name) => state[name],
        set(name, value) {
            if (state[name] === value) return;
            state[name] = value;
            tell(`change:${name}`);
        },
        save_changes: () => sent.push({ ...state }),
        on: (name, f) => (listeners[name] ??= []).push(f),
        off() {},
        send: () => setTimeout(() =>
            tell("msg:custom", { give: "payload" }, [new DataView(bytes.buffer)])),
    };
    const frames = async (n) => {
        while (n--) await new Promise(requestAnimationFrame);
    };
    const get = (what) => document.querySelector(`[data-${what}]`);
    const type = (name, value) => {
        const input = get(`in=${name}`);
        input.value = value;
        for (const kind of ["input", "change"]) {
            input.dispatchEvent(new Event(kind, { bubbles: true }));
        }
    };
    const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    const { default: widget } = await import(url);
    document.body.replaceChildren();
    const clean = await widget.render({ model, el: document.body });
    return { get, type, frames, model, sent, clean };
}"""


def kernel(page, explorer, script):
    """Render with a kernel's model, run ``script`` on it, return what that returns."""
    code = f"{explorer.module()}\nexport default {{ render }};"
    payload = base64.b64encode(explorer.payload()).decode()
    call = f"async (all) => {{ const k = await ({KERNEL})(all); {script} }}"
    return page.evaluate(call, [code, explorer.start, payload])
