"""Words of the glossary show their entry where a page first uses them."""

import pytest
from pages import PAGES, built, soup

pytestmark = pytest.mark.slow
CHAPTERS = [page for page in PAGES if page.startswith("book/0")]


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_word_leads_to_its_entry_at_its_first_use(site, page):
    """Once a page, to an entry that is there; a hover is plain text."""
    links = soup(built(site, page)).select("article a.term")
    assert len(links) > 3
    addresses = [link["href"] for link in links]
    assert len(set(addresses)) == len(addresses)
    entries = soup(built(site, "book/reference/glossary"))
    for link in links:
        address, anchor = link["href"].split("#")
        assert address == "reference/glossary.html"
        word = entries.find(id=anchor).get_text().strip(" #\n").lower()
        assert word.replace("–", "-") in link.get_text().lower().replace("–", "-")
        assert 15 < len(link["data-entry"]) < 200, link["data-entry"]
        assert not set("\\$_{}") & set(link["data-entry"]), link["data-entry"]
        assert not link.find_parent(["h1", "h2", "h3", "a", "code", "table", "summary"])


def test_the_pages_of_the_reference_stay_as_they_are(site):
    for page in ("book/reference/glossary", "book/reference/api"):
        assert not soup(built(site, page)).select("a.term")
