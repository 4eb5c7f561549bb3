"""The site as its readers meet it: built by MkDocs and by Zensical, in a real browser, offline."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from proven_backend.pack import Pack, Rule, Snippet

PACK = Pack(Path(__file__).parents[2])
TOPICS = PACK.topics()
SOURCES = ("skills", "exercises", "solutions", "checks", "docs")
BUILDERS = {"mkdocs": ["--strict", "--quiet"], "zensical": ["--strict"]}
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
CONTRAST = """element => {
    const channels = color => color.match(/[\\d.]+/g).map(Number);
    const over = ([r, g, b, a = 1], below) => [r, g, b].map((c, i) => c * a + below[i] * (1 - a));
    const background = node => {
        if (!node) return [255, 255, 255];
        const color = channels(getComputedStyle(node).backgroundColor);
        return color[3] === 0 ? background(node.parentElement)
            : over(color, background(node.parentElement));
    };
    const light = color => color
        .map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const below = background(element);
    const two = [light(over(channels(getComputedStyle(element).color), below)), light(below)];
    return (Math.max(...two) + 0.05) / (Math.min(...two) + 0.05);
}"""


@dataclass(frozen=True)
class Site:
    """A built site: its folder, where it is served (ending in a slash), and its pages' addresses.

    `read` are the pages that the browser opens: all by MkDocs, one of each kind by Zensical.
    """

    folder: Path
    url: str
    pages: list[str]
    read: list[str]


def pages(folder: Path) -> list[str]:
    """The addresses of all pages, relative to the site."""
    found = [file.parent.relative_to(folder).as_posix() for file in folder.rglob("index.html")]
    assert {*TOPICS, ".", "agents", "claims", "grade", "rules"} <= {*found}
    return sorted(f"{page}/".removeprefix("./") for page in found)


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="session", params=BUILDERS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The site as each of the two programs builds it from a copy of the same sources."""
    folder = tmp_path_factory.mktemp(request.param)
    for part in SOURCES:
        shutil.copytree(PACK.root / part, folder / part)
    shutil.copy(PACK.root / "mkdocs.yml", folder)
    built = subprocess.run(
        [sys.executable, "-m", request.param, "build", *BUILDERS[request.param]],
        cwd=folder,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(folder / "site"))
    ) as server:
        Thread(target=server.serve_forever).start()
        every = pages(folder / "site")
        read = every if request.param == "mkdocs" else ["", "claims/", "rules/", f"{TOPICS[0]}/"]
        yield Site(folder / "site", f"http://127.0.0.1:{server.server_port}/", every, read)
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's chromium, without a window."""
    program = shutil.which("chromium")
    assert program, "no chromium on the PATH: apt-get install chromium"
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A tab that may use the clipboard; nothing fails in it, and nothing comes from elsewhere."""
    context = browser.new_context(
        viewport=DESKTOP, permissions=["clipboard-read", "clipboard-write"]
    )
    context.set_default_timeout(10_000)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if m.type in {"error", "warning"} else None)
    page.on("request", lambda r: faults.append(r.url) if not r.url.startswith(site.url) else None)
    yield page
    context.close()
    assert faults == []


@cache
def snippets(topic: str) -> list[tuple[Rule, Snippet]]:
    """What a topic's page prints of each rule, in order: wrongs, the right, also-rights."""
    found = [
        (rule, snippet)
        for rule in PACK.rules(topic)
        for pair in rule.pairs
        for snippet in [*pair.wrongs, pair.right, *pair.also]
        if snippet and "/SKILL.md:" in snippet.where
    ]
    assert found, f"{topic} prints nothing"
    return found


class Links(HTMLParser):
    """The addresses that a page names, and the places in it that can be named."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places = {""}
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keeps href, src and id."""
        given = dict(attrs)
        self.places.add(given.get("id") or "")
        self.links += [value for key in ("href", "src") if (value := given.get(key))]


def test_every_link_resolves(site: Site) -> None:
    parsed = {page: Links(site.folder / page / "index.html") for page in site.pages}
    faults = []
    for page, found in parsed.items():
        assert found.links, f"{page} has no link"
        for link in found.links:
            target = urlsplit(urljoin(site.url + page, link))
            if not target.geturl().startswith(site.url):
                if target.scheme != "https" or "." not in target.netloc:
                    faults.append(f"{page}: {link} is no address")
                continue
            path = unquote(target.path).removeprefix("/")
            there = path in parsed or (site.folder / path).is_file()
            if not there or (path in parsed and target.fragment not in parsed[path].places):
                faults.append(f"{page}: {link} leads nowhere")
    assert faults == []


def test_home_leads_to_each_topic(site: Site) -> None:
    links = [urljoin(site.url, link) for link in Links(site.folder / "index.html").links]

    assert [topic for topic in TOPICS if links.count(f"{site.url}{topic}/") < 2] == []


def test_search_finds_the_rule(site: Site, page: Page) -> None:
    page.goto(site.url)
    page.wait_for_load_state("networkidle")
    page.keyboard.press("/")
    page.keyboard.type("MissingGreenlet", delay=20)
    page.locator("a[href*='sqlalchemy-sessions/'][href$='#keep-objects-after-commit']").click()

    page.wait_for_url("**/sqlalchemy-sessions/**#keep-objects-after-commit")
    expect(page.locator("#keep-objects-after-commit")).to_be_in_viewport()


def test_each_rule_stands_at_its_address(site: Site, page: Page) -> None:
    for topic in [topic for topic in TOPICS if f"{topic}/" in site.read]:
        rules = PACK.rules(topic)
        page.set_viewport_size(DESKTOP)
        page.goto(f"{site.url}{topic}/#{rules[-1].id}")

        lands_on(page, rules[-1])
        for rule in rules:
            proof = page.locator(f"#{rule.id} + .proof").inner_text()
            assert proof.startswith(f"proven by {rule.check}, caught on "), f"{rule.id}: {proof}"
        prints_each_kind(page, topic)
        for wrong, right in columns(page, rules):
            assert wrong["right"] < right["left"], f"{topic}: not side by side"
            assert wrong["top"] == right["top"]
        fits(page)
        page.set_viewport_size(PHONE)
        for wrong, right in columns(page, rules):
            assert wrong["bottom"] <= right["top"], f"{topic}: not below each other"
            assert wrong["left"] == right["left"]
        fits(page)
        page.locator(f"#{rules[0].id} a.headerlink").evaluate("link => link.click()")
        lands_on(page, rules[0])


def lands_on(page: Page, rule: Rule) -> None:
    """The rule's heading stands at the top, and not under the page's header."""
    page.wait_for_function(
        "id => Math.abs(scrollY - window.was) < 1 || void (window.was = scrollY)"
    )
    heading = page.locator(f"h3#{rule.id}").bounding_box()
    header = page.locator("header.md-header").bounding_box()
    assert heading
    assert header
    below = heading["y"] - header["y"] - header["height"]
    assert 0 <= below < 100, f"{page.url} lands {below} px away from its rule"


def prints_each_kind(page: Page, topic: str) -> None:
    """Titles and marks say what is wrong and what is right, whoever sees no colour."""
    titles = page.locator(".pair .filename").all_inner_texts()
    kinds = [title.partition(" on ")[0] for title in titles]
    marks = page.locator(".pair .filename").evaluate_all(
        "all => all.map(one => getComputedStyle(one, '::before').content[1])"
    )
    assert kinds == [snippet.kind for _, snippet in snippets(topic)]
    assert marks == ["✗" if kind == "wrong" else "✓" for kind in kinds]


def columns(page: Page, rules: list[Rule]) -> list[list[dict[str, float]]]:
    """Where the two sides of each pair stand."""
    found: list[list[dict[str, float]]] = page.locator(
        ".pair:has(.wrong):has(.right)"
    ).evaluate_all("""pairs => pairs.map(pair => [...pair.children].map(side => {
        const {left, right, top, bottom} = side.getBoundingClientRect();
        return {left, right, top, bottom};
    }))""")
    assert len(found) >= len(rules), f"{page.url} has {len(found)} pairs"
    return found


def test_the_copy_button_copies_exactly_the_code(site: Site, page: Page) -> None:
    page.goto(f"{site.url}sqlalchemy-sessions/")
    buttons = page.locator(".pair .md-code__button[data-md-type=copy]")
    expect(buttons).to_have_count(len(snippets("sqlalchemy-sessions")))
    copied = []
    for button in buttons.all():
        page.evaluate("navigator.clipboard.writeText('')")
        button.click()
        page.wait_for_function("async () => await navigator.clipboard.readText()")
        copied.append(page.evaluate("navigator.clipboard.readText()"))

    assert copied == [snippet.code.rstrip("\n") for _, snippet in snippets("sqlalchemy-sessions")]


def test_no_other_page_scrolls_sideways(site: Site, page: Page) -> None:
    topics = {f"{topic}/" for topic in TOPICS}
    for address in ["", "claims/", "rules/"]:
        page.set_viewport_size(DESKTOP)
        page.goto(site.url + address)
        fits(page)
        page.set_viewport_size(PHONE)
        fits(page)
    for address in {*site.read} - topics:
        page.goto(site.url + address)
        fits(page)


def fits(page: Page) -> None:
    """The page cannot be scrolled sideways."""
    before = page.evaluate("scrollY")
    moved = page.evaluate("y => { scrollTo(9999, y); return scrollX }", before)
    assert moved == 0, f"{page.url} scrolls {moved} px sideways at {page.viewport_size}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_in_dark(site: Site, page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(f"{site.url}sqlalchemy-sessions/")
    chosen = page.locator("body").get_attribute("data-md-color-scheme")

    assert chosen == {"light": "default", "dark": "slate"}[scheme]
    for text in ("p", "p.proof", ".proof a code", ".wrong .filename", ".right .filename", "td a"):
        contrast = page.locator(f".md-content {text}").first.evaluate(CONTRAST)
        assert contrast >= 4.5, f"{text} has a contrast of {contrast:.1f}"
