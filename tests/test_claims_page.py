"""The index of the claims, and the file of claims that it lists."""

import re

import pytest

from tools.book import ROOT, chapters, code_cells, page_names
from tools.claims_page import STATUSES, Box, rows
from vae_teach.claims import claim, entries

BOX = re.compile(r"^claim\(\s*[\"']([CE]\d+b?)[\"']", re.MULTILINE)


BOXED = Box("E01", "book/y", "holds", "holds", ())


def boxed():
    """The ids with a box, each with the chapter that has it."""
    return {
        id: name
        for name, chapter in chapters().items()
        for cell in code_cells(chapter)
        for id in BOX.findall(cell.source)
    }


@pytest.mark.parametrize("id", entries())
def test_a_status_comes_with_the_page_that_treats_it(id):
    entry = entries()[id]
    assert ("status" in entry) == ("chapter" in entry)
    if "status" in entry:
        assert entry["status"] in {"derived", "definition", "reference"}
        assert f"book/{entry['chapter']}" in page_names()


def test_what_has_a_box_claims_no_other_status():
    assert [id for id in boxed() if "status" in entries()[id]] == []


def test_a_claim_has_one_box():
    sources = "\n".join(
        cell.source for chapter in chapters().values() for cell in code_cells(chapter)
    )
    found = BOX.findall(sources)
    assert sorted(found) == sorted(set(found))


def test_a_box_is_read_from_its_html():
    made = claim("C036", measured={"a < b": 1.5, "c": "d & e"}, holds=1 > 2,
                 expect="does not hold")  # fmt: skip
    box = Box.read(f"\n{made._repr_html_()}\n", "book/x")
    assert box.id == "C036"
    assert box.verdict == box.conclusion == "does not hold"
    assert box.measured == (("a < b", "1.5"), ("c", "d & e"))


def test_a_condition_is_part_of_the_conclusion():
    made = claim("C036", measured={"a": 1}, holds=2 > 1, expect="holds if", only_if="a")
    box = Box.read(made._repr_html_(), "book/x")
    assert (box.verdict, box.conclusion) == ("holds if", "holds if a")


def test_status_of_each_kind():
    claims = {
        "C001": {"line": "1"},
        "C002": {"line": "2", "status": "derived", "chapter": "x"},
        "C003": {"line": "3"},
        "E01": {"line": "3", "corrects": ["C001", "C003"], "reference": "r"},
        "E02": {"line": "3", "corrects": ["C002"], "reference": "r"},
    }
    assert [row.status for row in rows(claims, {"E01": BOXED})][:3] == [
        "measured",
        "derived",
        "measured",
    ]
    box = Box("C003", "book/y", "holds", "holds", ())
    found = {row.id: row for row in rows(claims, {"C003": box})}
    statuses = ["not yet", "derived", "measured", "measured", "not yet"]
    assert [row.status for row in found.values()] == statuses
    assert set(statuses) <= set(STATUSES)
    assert found["E01"].boxes == (box,)
    assert [row.page for row in found.values()] == [
        None,
        "book/x",
        "book/y",
        "book/y",
        None,
    ]


def test_index_is_a_page_of_the_book():
    text = (ROOT / "book/claims.md").read_text()
    assert "book/claims" in page_names()
    assert "{claims-tested} C" in text
    assert "{claims-tested} E" in text
