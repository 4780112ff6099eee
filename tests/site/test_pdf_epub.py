"""The course as one file, made of the built site."""

import posixpath
import shutil
import subprocess
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pikepdf
import pytest
from pages import CONFIG, PAGES, ROOT, built, soup
from window import NAMES

from regdrop_lite.course.author.book import read_course, write_epub, write_pdf

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
        folds = soup(built(site, page)).select("details.solution > summary")
        titles = [fold.get_text(strip=True) for fold in folds]
        assert len(titles) > 4 and "Hint" in text
        assert [title for title in titles if title in text] == []
    if check := shutil.which("epubcheck"):
        check = Path(check).resolve()  # Debian's is a program for Java
        command = ["java", "-jar", check] if check.suffix == ".jar" else [check]
        done = subprocess.run(
            [*command, out], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
        assert "WARNING" not in done.stdout + done.stderr


def test_a_pdf_has_an_outline_and_links_inside(site, tmp_path):
    """Of the first pages: the whole course takes minutes."""
    if not any(map(shutil.which, NAMES)):
        pytest.skip("no browser is installed")
    course = read_course(ROOT, site)
    course.pages = course.pages[:4]
    out = tmp_path / "course.pdf"
    write_pdf(course, out)
    assert not list(site.glob("whole*"))
    with pikepdf.open(out) as pdf:
        assert str(pdf.docinfo["/Title"]) == CONFIG["title"]
        with pdf.open_outline() as outline:
            titles = [entry.title for entry in outline.root]
        headings = [soup(built(site, page)).h1.find(string=True) for page in PAGES[:4]]
        missing = [h for h in headings if not any(str(h) in t for t in titles)]
        assert missing == []
        notes = [
            note
            for page in pdf.pages
            for note in page.obj.get("/Annots", pikepdf.Array())
        ]
        assert len(pdf.pages) > 20
        addresses = [
            str(note["/A"]["/URI"]) for note in notes if "/URI" in note.get("/A", {})
        ]
        assert not [a for a in addresses if not a.startswith(("http", "mailto:"))]
        assert not [a for a in addresses if "127.0.0.1" in a]
        assert len(notes) - len(addresses) > 20  # links inside the book
