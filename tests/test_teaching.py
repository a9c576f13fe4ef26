"""What the Sphinx extensions find in text; the built pages show the rest."""

import pytest

from tools.api_page import escape
from tools.teaching import glossary

PAGE = """\
# Glossary

````{glossary}
posterior
: The distribution of codes given an example.

aggregated posterior
: The average of the posteriors.
````
"""


@pytest.fixture
def terms(tmp_path):
    (tmp_path / "glossary.md").write_text(PAGE)
    return glossary(tmp_path / "glossary.md")


def test_longer_terms_come_first(terms):
    assert list(terms) == ["aggregated posterior", "posterior"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The posterior is normal.", "posterior"),
        ("Two Posteriors", "Posteriors"),
        ("posterior-like", None),
        ("posteriority", None),
    ],
)
def test_a_term_is_a_whole_word(terms, text, found):
    match = terms["posterior"].search(text)
    assert (match and match[0]) == found


def test_no_glossary_no_terms(tmp_path):
    assert glossary(tmp_path / "none.md") == {}


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        ("|x|² of *event", r"\|x\|² of \*event"),
        ("``|x|`` and |x|", r"``|x|`` and \|x\|"),
        ("λ_i stays, q_ does not", r"λ_i stays, q\_ does not"),
    ],
)
def test_formulas_are_no_markup(line, plain):
    assert escape(line) == plain
