"""Claim boxes: every verdict, what they show, and the list of claims."""

import re
from html import unescape

import jax.numpy as jnp
import numpy as np
import pytest

from vae_teach.claims import SYMBOLS, claim, entries, exceeds

RATES = np.array([19.0, 20.0, 21.0])


def box(holds=True, expect="holds", measured=None, **more):
    measured = {"rate, nats": 19.5} if measured is None else measured
    return claim("C036", measured=measured, holds=holds, expect=expect, **more)


@pytest.mark.parametrize(
    ("holds", "only_if", "verdict"),
    [
        (True, None, "holds"),
        (True, "σ² < 1", "holds if"),
        (False, None, "does not hold"),
        (False, "σ² < 1", "does not hold"),
        (None, None, "undecided"),
        (None, "σ² < 1", "undecided"),
        (np.bool_(True), None, "holds"),
        (np.array(False), None, "does not hold"),
        (jnp.array(True), None, "holds"),
        (jnp.array(2.0) < 1, None, "does not hold"),
    ],
)
def test_only_the_right_expectation_passes(holds, only_if, verdict):
    for expect in SYMBOLS:
        if expect == verdict:
            found = box(holds, expect, only_if=only_if)
            assert found.verdict == verdict
            condition = f" {only_if}" if verdict == "holds if" else ""
            assert found.conclusion == verdict + condition
        else:
            match = f"Claim C036.*'{expect}'.*'{verdict}'.*19.5"
            with pytest.raises(AssertionError, match=match):
                box(holds, expect, only_if=only_if)


@pytest.mark.parametrize("holds", [1.0, 0, 1, "yes", jnp.ones(()), [True], RATES > 0])
def test_what_is_not_one_truth_value_is_no_verdict(holds):
    with pytest.raises(TypeError, match="true, false or None"):
        box(holds)


def test_an_unknown_id_or_verdict_says_what_there_is():
    with pytest.raises(ValueError, match=r"C036.*E19.*got 'C36'"):
        claim("C36", measured={"a": 1}, holds=True, expect="holds")
    with pytest.raises(ValueError, match=r"'does not hold'.*got 'fails'"):
        box(expect="fails")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (105.58923, "105.6"),
        (0.00012345, "0.0001234"),
        (50176.0, "50,176"),
        (3, "3"),
        (1234567, "1,234,567"),
        (jnp.array(2.5), "2.5"),
        (np.int64(12), "12"),
        (True, "yes"),
        (jnp.array(False), "no"),
        ("all pixels", "all pixels"),
        (float("nan"), "nan"),
        (RATES, "20.0 ± 1.0 (3 seeds)"),
        (jnp.asarray(RATES), "20.0 ± 1.0 (3 seeds)"),
        ([1234.0, 1434.0], "1,334 ± 141 (2 seeds)"),
        ([0.101, 0.104], "0.1025 ± 0.0021 (2 seeds)"),
        (np.zeros(3, int), "0 ± 0 (3 seeds)"),
        (np.full(4, 0.5), "0.5 ± 0 (4 seeds)"),
        (np.array([7.0]), "7 (1 seed)"),
        (np.array([1.0, np.nan]), "nan ± nan (2 seeds)"),
    ],
)
def test_a_measurement_in_words(value, shown):
    assert box(measured={"x": value}).measured == {"x": shown}


@pytest.mark.parametrize("value", [np.ones((2, 2)), np.array([]), None, 1j, {"a": 1}])
def test_what_cannot_be_shown_is_refused(value):
    with pytest.raises(TypeError, match="'rate' to be a number"):
        box(measured={"rate": value})


def test_the_text_has_claim_measurement_verdict_and_source():
    found = box(False, "does not hold", {"rate, nats": RATES, "network": "MLP"})
    text = entries()["C036"]["text"]
    assert repr(found).splitlines() == [
        f"Claim C036. {text}",
        "  rate, nats: 20.0 ± 1.0 (3 seeds)",
        "  network: MLP",
        "✗ does not hold",
        "Source page, line 266; corrected by E19 (Alemi et al. 2018).",
    ]


def test_several_lines_are_named_as_such():
    found = claim("C039", measured={"x": 1}, holds=True, expect="holds")
    assert "Source page, lines 469-472, 714-717; corrected by E11" in repr(found)


def test_a_correction_names_what_it_corrects():
    found = claim("E19", measured={"rates": RATES}, holds=True, expect="holds")
    assert repr(found).splitlines()[-1] == (
        "Source page, line 266; corrects C036; Alemi et al. 2018."
    )


def test_the_condition_is_part_of_the_verdict():
    found = box(expect="holds if", only_if="σ² is 1")
    assert "◐ holds if σ² is 1" in repr(found)
    assert "holds if σ² is 1</strong>" in found._repr_html_()


def tags(html):
    return re.findall(r"<[^>]*>", html)


def test_the_html_shows_what_the_text_shows_and_nothing_from_outside():
    found = box(False, "does not hold", {"rate, nats": RATES})
    html = found._repr_html_()
    shown = unescape(re.sub(r"<[^>]*>", " ", html)).split()
    assert shown == repr(found).replace("nats:", "nats").split()
    assert "role='note'" in html
    assert "aria-label='Claim C036'" in html
    assert not re.search(r"https?:|<script|<style|<link|class=|url\(", html)
    # Opened and closed in pairs, and one root.
    assert html.startswith("<div")
    assert html.endswith("</div>")
    names = [re.match(r"</?(\w+)", tag).group() for tag in tags(html)]
    opened = []
    for name in names:
        if name.startswith("</"):
            assert opened.pop() == name[2:]
        else:
            opened.append(name[1:])
    assert not opened


def test_strings_are_escaped():
    nasty = "<script>alert('\"&')</script>"
    plain = box(expect="holds if", only_if="z", measured={"a": "b"})
    found = box(expect="holds if", only_if=nasty, measured={nasty: nasty})
    html = found._repr_html_()
    assert tags(html) == tags(plain._repr_html_())
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(&#x27;&quot;&amp;&#x27;)") == 3


def test_the_box_sets_no_text_colour_of_its_own():
    html = box()._repr_html_()
    assert re.findall(r"[^-]color:([^;']*)", html) == ["inherit"]
    assert all(channel == "128" for channel in re.findall(r"\b\d{2,3}(?=,)", html))


@pytest.mark.parametrize(
    ("value", "standard_error", "expected"),
    [
        (5.0, None, True),
        (3.0, None, False),
        (4.0, None, False),
        (5.0, 0.3, True),
        (5.0, 0.4, None),
        (3.0, 0.4, None),
        (3.0, 0.3, False),
        (4.0, 0.1, None),
        (jnp.array(5.0), jnp.array(0.3), True),
        (5, 0.0, True),
    ],
)
def test_a_number_exceeds_by_three_standard_errors(value, standard_error, expected):
    assert exceeds(value, 4.0, standard_error) is expected
    if value != 4 and standard_error != 0:
        opposite = {True: False, False: True, None: None}[expected]
        assert exceeds(-value, -4.0, standard_error) is opposite


def test_the_spread_of_seeds_is_their_own_standard_error():
    # Mean 20, sd 1, standard error 1/√3: 3 of them are 1.732.
    assert exceeds(RATES, 18.26) is True
    assert exceeds(RATES, 18.28) is None
    assert exceeds(RATES, 21.72) is None
    assert exceeds(RATES, 21.74) is False
    assert exceeds(jnp.asarray(RATES), 18.26) is True
    assert exceeds([19.0, 20.0, 21.0], 18.28) is None
    assert exceeds(np.zeros(3), 0.0) is False
    assert exceeds(np.ones(3), 0.0) is True


def test_a_claim_about_a_range_is_undecided_within_the_margin():
    def within(rates):
        return exceeds(rates, 5.0) and exceeds(-rates, -20.0)

    assert within(RATES) is None
    assert within(RATES - 5) is True
    assert within(RATES + 5) is False
    assert within(RATES - 20) is False


@pytest.mark.parametrize(
    "arguments",
    [
        (np.array([1.0]), 0.0),
        (np.ones((2, 2)), 0.0),
        (np.array([]), 0.0),
        (float("nan"), 0.0),
        (np.array([1.0, np.inf]), 0.0),
        (RATES, 0.0, 1.0),
    ],
)
def test_what_has_no_margin_is_refused(arguments):
    with pytest.raises(ValueError, match="Expected one finite number"):
        exceeds(*arguments)


@pytest.mark.parametrize("id", entries())
def test_an_entry_is_complete(id):
    entry = entries()[id]
    assert re.fullmatch(r"[A-Zβ].*[^.]\.", entry["text"])
    assert ". " not in entry["text"]
    assert re.fullmatch(r"\d+(-\d+)?(, \d+(-\d+)?)*", entry["line"])
    keys = {"text", "line", "corrects", "reference", "status", "chapter"}
    assert entry.keys() <= keys
    assert ("corrects" in entry) == id.startswith("E")
    if id.startswith("E"):
        assert re.search(r"\d{4}|documentation", entry["reference"])
        assert all(re.fullmatch(r"C\d{3}", other) for other in entry["corrects"])
        assert all(other in entries() for other in entry["corrects"])


def test_every_claim_and_every_correction_is_listed():
    claims = [f"C{n:03}" for n in range(1, 148)]
    corrections = [f"E{n:02}" for n in range(1, 56)]
    corrections.insert(corrections.index("E39") + 1, "E39b")
    assert list(entries()) == claims + corrections
