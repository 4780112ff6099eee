"""The slides in a browser: nothing sticks out, nothing comes from elsewhere."""

from urllib.parse import unquote, urldefrag

import pytest
from pages import ROOT, soup
from window import PHONE, Visit

from regdrop_lite.course.teach.plans import Course

pytestmark = pytest.mark.slow

CHAPTERS = list(Course.read(ROOT).titles)
ROOM = (1280, 720)

# For every slide with all that it reveals: what is not between its edges, or lies over
# the line at the bottom. A part of a drawing may be cut, and long code may scroll on a
# phone.
LOOK = """async () => {
  const found = [];
  for (let i = 0; i < Reveal.getTotalSlides(); i++) {
    Reveal.slide(i, 0, 99);
    await new Promise(requestAnimationFrame);
    const slide = Reveal.getCurrentSlide();
    const foot = slide.querySelector("footer");
    const end = foot ? foot.getBoundingClientRect().top : innerHeight;
    for (const tag of slide.querySelectorAll("h1,h2,p,li,table,pre,math,img,svg")) {
      if (tag.closest(".notes, footer, pre code, svg svg")) continue;
      const box = tag.getBoundingClientRect();
      const out = box.left < -1 || box.right > innerWidth + 1 || box.top < -1;
      const long = tag.scrollWidth > tag.clientWidth + 1 && tag.tagName === "PRE";
      if (out || box.bottom > end + 1 || long) {
        found.push(`${i + 1}: ${tag.tagName} ${tag.textContent.slice(0, 30)}`);
      }
    }
    const broken = [...slide.querySelectorAll("img")].filter((p) => !p.naturalWidth);
    if (broken.length) found.push(`${i + 1}: no picture`);
  }
  return found;
}"""


@pytest.mark.parametrize("size", [ROOM, PHONE], ids=["room", "phone"])
def test_no_slide_overflows_and_nothing_comes_from_elsewhere(browser, server, size):
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce"
    )
    for chapter in CHAPTERS:
        visit = Visit(context.new_page())
        visit.go(f"{server}/teach/slides/chapter_{chapter}.html")
        assert visit.page.evaluate(LOOK) == [], chapter
        assert visit.complaints == []
        assert all(url.startswith((server, "data:")) for url in visit.requests)
        visit.page.close()
    context.close()


def test_keys_go_on_and_change_the_looks(visit, server):
    visit.go(f"{server}/teach/slides/index.html")
    visit.page.get_by_role("link", name="SpatialDropout").click()
    visit.page.wait_for_function("window.Reveal && Reveal.isReady()")
    page = visit.page
    page.keyboard.press("Space")
    assert page.evaluate("Reveal.getIndices().h") == 1
    page.keyboard.press("Space")
    assert page.evaluate("Reveal.getIndices().f") == 0, "first the question"
    theme = """() => [
      document.documentElement.dataset.theme,
      getComputedStyle(document.body).backgroundColor,
      getComputedStyle(document.querySelector(".reveal")).color,
    ]"""
    looks = {}
    for _ in range(2):
        name, *looks[name] = page.evaluate(theme)
        page.keyboard.press("d")
    assert set(looks) == {"light", "dark"}
    for light, dark in zip(looks["light"], looks["dark"], strict=True):
        assert light != dark, "both the ground and the letters change"
    with page.expect_popup() as popup:
        page.keyboard.press("s")
    notes = popup.value.locator(".speaker-controls-notes .value")
    notes.get_by_text("no error on the training images").wait_for()
    assert visit.complaints == []


def test_links_lead_to_the_sections(site):
    count = 0
    for chapter in CHAPTERS:
        path = site / "teach" / "slides" / f"chapter_{chapter}.html"
        for link in soup(path).select("footer a"):
            target, fragment = urldefrag(link["href"])
            page = (path.parent / target).resolve()
            assert soup(page).find(id=unquote(fragment)), link["href"]
            count += 1
    assert count > 60
