"""The site of the documentation: pages are changed only where MkDocs reads Markdown differently, and in the book's order."""

from hack.site import for_site, navigation


def test_lists_and_tables_get_the_blank_line_that_mkdocs_needs() -> None:
    """The forge needs none; what is in a code block, and inside a list or table, stays as it is."""
    page = "Words:\n- a\n- b\n\nWords\n| x |\n|---|\n| y |\n```text\nWords:\n- c\n```\n"
    assert for_site(page) == "Words:\n\n- a\n- b\n\nWords\n\n| x |\n|---|\n| y |\n```text\nWords:\n- c\n```\n"


def test_comments_for_tests_are_left_out() -> None:
    """A reader of the site does not see why a block is not run."""
    page = "<!-- given: anything -->\n<!-- not run: why -->\n```bash\na\n```\n<!-- values -->\n<!-- other -->\n"
    assert for_site(page) == "```bash\na\n```\n<!-- other -->\n"


def test_pages_are_in_the_order_of_the_table_of_contents() -> None:
    """Each page once, where it comes first; links elsewhere and sections without pages are left out."""
    contents = (
        "# Docs\n[early](early.md)\n## One\n- [b](b.md#x), [code](../a.py)\n## None\nwords\n## Two\n[b](b.md) [c](../c.md)\n"
    )
    assert navigation(contents)[2:] == [{"One": [{"B": "docs/b.md"}]}, {"Two": [{"C": "c.md"}]}]
