"""The mechanical part of the rules of prose: first lines, sentences, columns, links."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ("docs", "benchmarks", "examples", "tests")
MARKDOWN = sorted(
    [*ROOT.glob("*.md"), *(p for f in FOLDERS for p in (ROOT / f).rglob("*.md"))]
)
FILES = sorted((ROOT / "tflearner").rglob("*.py"))
FIRST_WORDS = ("What ", "The same", "Those ")
MOST_WORDS, MOST_COLUMNS = 30, 100


def name_of(path):
    return str(path.relative_to(ROOT))


def first_lines(path):
    """Yields line number and first line of each docstring, attributes included."""
    for node in ast.walk(ast.parse(path.read_text())):
        body = getattr(node, "body", None)
        for child in body if isinstance(body, list) else ():
            value = (
                getattr(child, "value", None) if isinstance(child, ast.Expr) else None
            )
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield child.lineno, value.value.strip().split("\n")[0]


def prose(text):
    """Returns Markdown with blank lines in place of code blocks and tables."""
    lines, inside = [], False
    for line in text.split("\n"):
        if line.lstrip().startswith("```"):
            inside = not inside
            line = ""
        lines.append("" if inside or line.lstrip().startswith("|") else line)
    return lines


def sentences(text):
    """Yields the sentences of Markdown, each list item and heading on its own."""
    joined = "\n".join(prose(text))
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[*#-]|\d+\.)\s)", joined):
        plain = re.sub(r"`[^`]*`", "code", block)
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", plain)
        yield from re.split(r"(?<=[.!?:;])\s+", " ".join(plain.split()))


def anchors(text):
    """Returns the anchors of the headings of Markdown, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", "\n".join(prose(text)), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings]


def broken_links(path, text):
    """Yields the relative links of Markdown that lead to no file or no heading."""
    no_code = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", no_code):
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        if "://" in link or (target.exists() and not anchor):
            continue
        if not target.exists() or anchor not in anchors(target.read_text()):
            yield link


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_first_lines_make_sense_alone(path):
    bad = [own for own in first_lines(path) if own[1].startswith(FIRST_WORDS)]
    assert not bad


@pytest.mark.parametrize("path", MARKDOWN, ids=name_of)
def test_sentences_are_short(path):
    long = [s for s in sentences(path.read_text()) if len(s.split()) > MOST_WORDS]
    assert not long


@pytest.mark.parametrize("path", MARKDOWN, ids=name_of)
def test_lines_are_short(path):
    lines = enumerate(prose(path.read_text()), 1)
    long = [(number, line) for number, line in lines if len(line) > MOST_COLUMNS]
    assert not long


@pytest.mark.parametrize("path", MARKDOWN, ids=name_of)
def test_links_lead_to_files_and_headings(path):
    assert not [*broken_links(path, path.read_text())]


def test_pages_are_short():
    lengths = {name_of(p): len(p.read_text().splitlines()) for p in MARKDOWN}
    assert lengths["README.md"] <= 120
    assert not {k: n for k, n in lengths.items() if k.startswith("docs") and n > 200}


def test_readme_leads_to_every_page():
    text = (ROOT / "README.md").read_text()
    pages = [name_of(p) for p in MARKDOWN if p.parent == ROOT / "docs"]
    assert pages
    assert not [page for page in pages if f"]({page})" not in text]


def test_the_rules_notice():
    text = f"A sentence.\n{'word ' * 31}.\n\n```\n{'x' * 200}\n```\n| {'x' * 200} |\n"
    assert max(len(s.split()) for s in sentences(text)) == 32
    assert max(map(len, prose(text))) == 156
    links = (
        "| [a](docs/none.md) | [b](docs/export.md#nowhere) [c](docs/export.md#export)"
    )
    broken = broken_links(ROOT / "README.md", links)
    assert [*broken] == ["docs/none.md", "docs/export.md#nowhere"]
