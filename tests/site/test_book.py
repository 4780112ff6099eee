"""The course as one file, made of the built site."""

import posixpath
import shutil
import subprocess
import zipfile
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest
from pages import CONFIG, PAGES, ROOT, built, soup
from pypdf import PdfReader
from window import NAMES

from regdrop_lite.course.author.book import main, read_course, write_epub

pytestmark = pytest.mark.slow

EXERCISES = [page for page in PAGES if page.endswith("_exercises")]


def test_the_epub_is_whole_and_its_links_lead_somewhere(site, tmp_path):
    out = tmp_path / "course.epub"
    write_epub(read_course(ROOT, site), out)
    with zipfile.ZipFile(out) as book:
        first = book.infolist()[0]
        assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
        files = {name: book.read(name) for name in book.namelist()}
    assert [f"EPUB/{page}.xhtml" in files for page in PAGES] == [True] * len(PAGES)
    trees = {
        name: ElementTree.fromstring(text)
        for name, text in files.items()
        if name.endswith(".xhtml")
    }
    ids = {name: {e.get("id") for e in tree.iter()} for name, tree in trees.items()}
    inside = 0
    for name, tree in trees.items():
        for element in tree.iter():
            url = urlsplit(element.get("href") or element.get("src") or "")
            if url.scheme or not (url.path or url.fragment):
                continue
            path = posixpath.join(posixpath.dirname(name), unquote(url.path))
            target = posixpath.normpath(path) if url.path else name
            assert target in files, (name, url)
            assert not url.fragment or url.fragment in ids[target], (name, url)
            inside += 1
        tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert tags.isdisjoint({"details", "script", "button"}), name
    assert inside > 1000
    for page in EXERCISES:
        text = files[f"EPUB/{page}.xhtml"].decode()
        assert soup(built(site, page)).select(".solution") and "Hint" in text
        assert "solution" not in text.replace("solutions", "")
    if check := shutil.which("epubcheck"):
        done = subprocess.run([check, out], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
        assert "WARNING" not in done.stdout + done.stderr


def test_the_pdf_is_whole_and_its_links_lead_somewhere(site, tmp_path, monkeypatch):
    if not any(map(shutil.which, NAMES)):
        pytest.skip("no browser is installed")
    monkeypatch.chdir(ROOT)
    out = tmp_path / "course.pdf"
    main(["pdf", "--site", str(site), "--out", str(out)])
    assert not list(site.glob("whole*"))
    reader = PdfReader(out)
    assert reader.metadata.title == CONFIG["title"]
    assert CONFIG["title"] in reader.pages[0].extract_text().replace("\n", " ")
    titles = [e.title for e in reader.outline if not isinstance(e, list)]
    headings = [soup(built(site, page)).h1 for page in PAGES]
    expected = [h.get_text(" ", strip=True).rstrip("#").strip() for h in headings]
    assert [t for t in expected if t not in titles] == []
    base, inside = CONFIG["html"]["baseurl"], 0
    for page in reader.pages:
        for note in page.get("/Annots", []):
            action = note.get_object().get("/A", {})
            uri = str(action.get("/URI", base))
            assert uri.startswith(("https://", "http://arxiv", "mailto:")), uri
            inside += "/URI" not in action
    assert inside > 1000
    starts = {
        e.title: reader.get_destination_page_number(e)
        for e in reader.outline
        if not isinstance(e, list)
    }
    for page in EXERCISES[:1]:
        title = expected[PAGES.index(page)]
        first = starts[title]
        text = "".join(reader.pages[first + k].extract_text() for k in range(8))
        assert "Hint" in text and "Solution 1" not in text
