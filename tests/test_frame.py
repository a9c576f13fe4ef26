"""The frame of a chapter: each rule is seen to fail when it is broken."""

import jupytext
import pytest

from tools.book import chapters, page_names
from tools.frame import faults
from tools.quiz import options

EXERCISE = """
````{{exercise-start}} {grade} Do it
:label: ex-{name}
````
Do it.

```{{dropdown}} Hint
Try.
```
````{{exercise-end}}
````

````{{solution-start}} ex-{name}
:class: dropdown
````
```{{code-cell}} ipython3
assert 1 + 1 == 2
```

A common wrong answer is 3.
````{{solution-end}}
````
"""
QUESTION = """
```{quiz} Is it?
- [ ] No.
  It is.
- [x] Yes.
  It is.
```
"""
EXERCISES = [
    EXERCISE.format(grade=grade, name=name)
    for name, grade in zip("abcd", ("★", "★", "★★", "★★★"), strict=True)
]
CHAPTER = f"""\
---
kernelspec:
  display_name: Python 3
  name: python3
---

# A chapter

```{{code-cell}} ipython3
---
mystnb:
  image: {{alt: A line.}}
---
draw()
```

```{{admonition}} In this chapter
:class: tip

You will be able to

- see;
- say;
- do.

You need {{doc}}`elbo`. {{runtime}}`The chapter ran in`
```

## A section

```{{dropdown}} Predict: what comes?
This.
```

```{{code-cell}} ipython3
1 + 1
```

```{{dropdown}} Predict: and then?
That.
```

```{{code-cell}} ipython3
claim("C001", measured=m, holds=m > 1, expect="holds")
```

## What could go wrong

| symptom | likely cause | what to do |
|---|---|---|
| a | b | c |
| a | b | c |
| a | b | c |

## Exercises
{"".join(EXERCISES)}
## Check yourself
{QUESTION * 3}
## Summary

- One.
- Two.
- Three.

## References

See {{cite:t}}`kingma2014auto`.
"""
CELL = (
    '```{code-cell} ipython3\nclaim("C001", measured=m, holds=m, expect="holds")\n```\n'
)
LONG = "w " * 900 + "\n\n"
SOLUTION = "{solution-start} ex-a"
BREAKS = {
    "no figure or explorer": ("mystnb:\n  image: {alt: A line.}", "x: 1"),
    "no {admonition} In this chapter": ("In this chapter", "What you need"),
    "more than 1600 characters": ("```{admonition}", f"{LONG}```{{admonition}}"),
    "fewer than three objectives": ("- see;\n", ""),
    "no link to a prerequisite": ("{doc}`elbo`", "the ELBO"),
    "no {runtime}": ("{runtime}`The chapter ran in`", "It takes long."),
    "1 prompts to predict": ("```{dropdown} Predict: and then?", "```{note}"),
    "no cell reveals": ("```{code-cell} ipython3\nclaim(", "```python\nclaim("),
    "the last sections are not": ("## Summary", "## In short"),
    "3 exercises": (EXERCISES[0], ""),
    "all three grades": ("★★★", "★★"),
    "no hint in '★★★ Do it'": ("```{dropdown} Hint", "```{note} Hint"),
    "no solution to '★ Do it'": (f"{SOLUTION}\n:class: dropdown", SOLUTION),
    "no self-check": ("assert 1 + 1 == 2", "1 + 1"),
    "no common wrong answer": ("A common wrong answer is 3.", "That is all."),
    "2 questions": (QUESTION * 3, QUESTION * 2),
    "Is it?: Expected two options": ("- [ ] No.\n  It is.\n", ""),
    "Is it?: Expected an answer": ("- [ ] No.\n  It is.\n", "- [ ] No.\n"),
    "no table of three symptoms": ("| a | b | c |\n" * 3, "| a | b | c |\n" * 2),
    "not a list of three to six": ("- One.\n", ""),
    "no citation": ("{cite:t}`kingma2014auto`", "the paper"),
    "9 claim boxes": ("## What could go wrong", CELL * 8 + "\n## What could go wrong"),
}  # fmt: skip


def read(text):
    return jupytext.reads(text, fmt="md:myst")


@pytest.mark.parametrize("name", page_names()[1:])
def test_chapter_keeps_the_frame(name):
    chapter = chapters().get(name)
    assert chapter is None or faults(chapter) == []


def test_what_has_all_parts_has_no_fault():
    assert faults(read(CHAPTER)) == []


@pytest.mark.parametrize("fault", BREAKS)
def test_a_broken_rule_is_noticed(fault):
    old, new = BREAKS[fault]
    assert old in CHAPTER
    head, _, tail = CHAPTER.rpartition(old)  # of several, the last
    broken = faults(read(head + new + tail))
    assert any(fault in found for found in broken)


def test_options_of_a_question():
    found = options("- [ ] $a$\n  Because\n  of $b$.\n- [x] c\n  d")
    assert [(o.right, o.text, o.answer) for o in found] == [
        (False, "$a$", "Because of $b$."),
        (True, "c", "d"),
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("- [x] a\n  b", "two options or more"),
        ("- [x] a\n  b\n- [x] c\n  d", "one of them right"),
        ("- [ ] a\n  b\n- [ ] c\n  d", "one of them right"),
        ("- [x] a\n- [ ] c\n  d", "answer to the option 'a'"),
        ("a\n- [x] a\n  b", "got 'a'"),
    ],
)
def test_a_question_that_is_not_whole_is_an_error(body, said):
    with pytest.raises(ValueError, match=said):
        options(body)
