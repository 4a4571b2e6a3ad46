"""The page of demos/playground.py in a real browser without a window, driven by Playwright."""

import base64
import math
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg

DEMOS = Path(__file__).parents[2] / "demos"
BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]


@pytest.fixture(scope="module")
def browser():
    """Chromium or Chrome: the one of this machine, or else Playwright's own."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path)
        except sync_api.Error as error:
            pytest.skip(f"no browser: install Chromium, or run `playwright install chromium` ({str(error)[:80]!r})")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(playground, running):
    with running(mg.data.load_mnist(DEMOS / "data" / "mnist_5k.npz"), playground.EPOCHS) as server:
        yield server


@pytest.fixture
def visit(browser, server):
    """visit(width=360, color_scheme="dark") opens the page; what goes wrong in it fails the test."""
    contexts, wrong = [], []  # the latter is visit.wrong, too

    def visit(width=1280, height=900, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
        page.on("request", lambda request: request.url.startswith(server.address) or wrong.append(request.url))
        page.goto(server.address)
        page.wait_for_selector(".unit")
        return page

    visit.wrong = wrong
    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


def number(page, name):
    return float(page.inner_text(f"#{name}").replace(",", "").rstrip("% "))


def wait_for(page, script):
    """Wait until a script is true; it is asked again from here, since the page lets no string be run as a script."""
    end = time.monotonic() + 20
    while not page.evaluate(script):
        assert time.monotonic() < end, f"{script}; the page says {page.inner_text('#status')!r}"
        page.wait_for_timeout(20)


def pixels(page, selector):
    """The red, green and blue of a canvas, from its own memory."""
    data = """canvas => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");  // the page reads none, either
        copy.drawImage(canvas, 0, 0);
        const {data} = copy.getImageData(0, 0, canvas.width, canvas.height);
        return [canvas.width, btoa(Array.from(data, byte => String.fromCharCode(byte)).join(""))];
    }"""
    width, text = page.eval_on_selector(selector, data)
    return np.frombuffer(base64.b64decode(text), np.uint8).astype(int).reshape(-1, width, 4)[..., :3]


def draw(page, *strokes):
    box = page.locator("#pad").bounding_box()
    for stroke in strokes:
        for k, (x, y) in enumerate(stroke):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=8)
            if k == 0:
                page.mouse.down()
        page.mouse.up()


def trained(page):
    wait_for(page, "document.getElementById('progress').value === document.getElementById('progress').max")


SEVEN = [(0.25, 0.2), (0.75, 0.2), (0.45, 0.85)]
ZERO = [(0.5 + 0.22 * math.sin(a), 0.5 - 0.35 * math.cos(a)) for a in np.linspace(0, 2 * math.pi, 25)]


# ---------------------------------------------------------------------------------------------- a network that learns


def test_a_network_learns_on_the_page(visit):
    page = visit()
    before = pixels(page, "#plane")
    assert number(page, "updates") == 0
    page.click("#run")
    wait_for(page, "now.updates >= 400")
    assert page.inner_text("#run") == "Pause"
    assert page.inner_text("#status") == "The network trains."
    page.click("#run")
    wait_for(page, "!training")
    assert number(page, "test-right") > 95
    assert number(page, "loss") < 0.2
    assert number(page, "pace") >= 30  # updates a second
    assert page.evaluate("curve.length") > 50  # pictures
    assert (pixels(page, "#plane") != before).mean() > 0.2
    blue, orange = (pixels(page, "#plane")[y, x] for y, x in ((3, 3), (155, 155)))
    assert blue[2] > blue[0]
    assert orange[0] > orange[2]


def test_pause_and_step(visit):
    page = visit()
    page.click("#step")
    wait_for(page, "now.updates === 1")
    page.click("#run")
    wait_for(page, "now.updates > 20")
    page.click("#run")
    page.wait_for_timeout(500)  # for the picture that is under way
    updates = page.evaluate("now.updates")
    page.wait_for_timeout(200)
    assert page.evaluate("now.updates") == updates
    assert page.inner_text("#status") == "Paused."
    page.click("#step")
    wait_for(page, f"now.updates === {updates + 1}")
    assert number(page, "updates") == updates + 1


def test_every_choice_makes_a_new_network(visit):
    page = visit()
    for selector, choose in {
        "spiral": lambda: page.check("input[value=spiral]"),
        "noise": lambda: page.select_option("#noise", "much"),
        "activation": lambda: page.select_option("#activation", "leaky relu"),
        "optimizer": lambda: page.select_option("#optimizer", "SGD with momentum"),
        "weights": lambda: page.click("#anew"),
        "more layers": lambda: page.click("#more"),
        "fewer layers": lambda: page.click("#fewer"),
        "more units": lambda: page.click("[aria-label='One unit more in hidden layer 1']"),
        "fewer units": lambda: page.click("[aria-label='One unit less in hidden layer 1']"),
    }.items():
        before = page.evaluate("now.network")
        choose()
        wait_for(page, f"now.network !== '{before}'")
        assert page.locator("#status").inner_text() == "", selector
    before = page.evaluate("now.network")
    page.select_option("#rate", "3")  # and the learning rate none
    page.click("#step")
    wait_for(page, "now.updates === 1")
    assert page.evaluate("now.network") == before


def test_layers_come_and_go_within_bounds(visit):
    page = visit()
    columns = lambda: [column.locator(".unit").count() for column in page.locator(".layer").all()]
    assert columns() == [2, 6, 4, 1]
    for expected in ([2, 6, 4, 4, 1], [2, 6, 4, 4, 4, 1]):
        page.click("#more")
        wait_for(page, f"columns.length === {len(expected)}")
        assert columns() == expected
    page.click("#more")
    assert page.inner_text("#status") == "A network has at most 4 hidden layers here."
    for expected in (5, 4, 3, 2):
        page.click("#fewer")
        wait_for(page, f"columns.length === {expected}")
    assert columns() == [2, 1]
    page.click("#run")
    wait_for(page, "now.updates > 20")


def test_layers_change_while_it_trains(visit):
    page = visit()
    page.click("#run")
    for units in range(7, 9):
        page.click("[aria-label='unit 2 of hidden layer 1']")
        page.click("[aria-label='One unit more in hidden layer 1']")
        wait_for(page, f"columns[1].length === {units}")
    for selector in ("#more", "#more", "#fewer", "#fewer", "#fewer", "#anew"):
        page.hover("[aria-label='unit 1 of hidden layer 1']")
        page.click(selector)
    wait_for(page, "columns.length === 3 && now.updates > 50")
    assert page.inner_text("#run") == "Pause"
    assert page.locator("#status.wrong").count() == 0


def test_a_unit_shows_its_surface_and_its_numbers(visit):
    page = visit()
    page.click("#step")
    wait_for(page, "now.updates === 1")
    assert page.inner_text("#unit-name") == "What the network answers"
    assert page.locator("#unit-numbers tbody tr").count() == 5
    output = pixels(page, "#plane")
    page.click("[aria-label='unit 3 of hidden layer 1']")
    assert page.inner_text("#unit-name") == "Unit 3 of hidden layer 1"
    assert page.get_attribute("[aria-label='unit 3 of hidden layer 1']", "aria-pressed") == "true"
    assert (pixels(page, "#plane") != output).mean() > 0.2
    rows = [row.split() for row in page.inner_text("#unit-numbers tbody").replace("\N{MINUS SIGN}", "-").splitlines()]
    weights, gradients = page.evaluate("[now.weights[0][2], now.weightGradients[0][2]]")
    for row, weight, gradient in zip(rows, weights, gradients, strict=False):
        assert [float(text) for text in row[-2:]] == pytest.approx([weight, gradient], abs=6e-4)
    assert [row[0] for row in rows] == ["input", "input", "bias"]
    page.mouse.move(0, 0)
    page.hover("[aria-label='output']")  # to look is enough
    assert page.inner_text("#unit-name") == "What the network answers"
    page.mouse.move(0, 0)
    assert page.inner_text("#unit-name") == "Unit 3 of hidden layer 1"
    surfaces = [pixels(page, f".layer:nth-of-type(2) .unit:nth-of-type({k}) canvas") for k in range(1, 7)]
    assert len({surface.tobytes() for surface in surfaces}) == 6


def test_edges_show_weights_and_gradients(visit):
    page = visit()
    shown = {}
    for what in ("both", "weights", "gradients"):
        page.select_option("#shows", what)
        shown[what] = pixels(page, "#edges")
        assert (shown[what].sum(axis=2) > 0).mean() > 0.005
    assert not np.array_equal(shown["weights"], shown["gradients"])
    page.click("#step")
    wait_for(page, "now.updates === 1")
    assert not np.array_equal(pixels(page, "#edges"), shown["gradients"])


def test_divergence_is_said_and_survived(visit):
    page = visit()
    page.select_option("#activation", "relu")
    page.select_option("#optimizer", "SGD with momentum")
    page.select_option("#rate", "3")
    page.select_option("#speed", "100")
    wait_for(page, "now.updates === 0")
    page.route("**/train", lambda route: route.fulfill(json={**route.fetch().json(), "loss": None, "testLoss": None}))
    page.click("#run")
    page.wait_for_selector("#status.wrong")
    assert "learning rate is too large" in page.inner_text("#status")
    assert page.inner_text("#run") == "Train"
    assert page.inner_text("#loss") == "\N{EN DASH}"
    page.unroute("**/train")
    page.select_option("#rate", "0.01")
    page.click("#anew")
    page.click("#run")
    wait_for(page, "now.updates >= 500 && now.loss < 0.7")


def test_what_goes_wrong_is_said(visit):
    page = visit()
    page.route("**/train", lambda route: route.abort())
    page.click("#run")
    page.wait_for_selector("#status.wrong")
    assert "does not answer" in page.inner_text("#status")
    page.unroute("**/train")
    for _ in range(9):  # other pages, which take the place of this one's network
        page.evaluate(
            "ask('/network', {data: 'xor', noise: 'none', layers, activation: 'tanh', optimizer: 'SGD', seed})"
        )
    page.click("#step")
    wait_for(page, "document.getElementById('status').textContent.includes('begin a new one')")
    page.click("#anew")
    wait_for(page, "document.getElementById('status').textContent === ''")
    page.click("#step")
    wait_for(page, "now.updates === 1")
    assert [text for text in visit.wrong if "Failed to load" not in text] == []
    visit.wrong.clear()


# ------------------------------------------------------------------------------------------------ a network that reads


def test_a_drawn_digit_is_read(visit):
    page = visit()
    page.click("#tab-read")
    trained(page)
    assert "held-out digits right" in page.inner_text("#reader-about")
    assert page.evaluate("seen") is None
    draw(page, SEVEN)
    wait_for(page, "seen && seen.answer === 7 && !asking")
    assert page.inner_text("#verdict") == "The network reads a 7"
    assert page.is_checked("#digits input[value='7']")
    percents = [float(text.rstrip("% ")) for text in page.locator("#digits output").all_inner_texts()]
    assert sum(percents) == pytest.approx(100, abs=0.5)
    assert percents[7] > 90
    image, argues = pixels(page, "#seen"), pixels(page, "#argues")
    assert image.shape == (28, 28, 3)
    ink = (image[0, 0] - image).sum(axis=2)
    assert np.ptp(np.flatnonzero((ink > 200).any(axis=1))) + 1 == pytest.approx(18, abs=2)  # scaled and centred
    assert np.average(np.arange(28), weights=ink.sum(axis=0)) == pytest.approx(14, abs=0.2)
    assert len(np.unique(argues.reshape(-1, 3), axis=0)) > 50

    page.check("#digits input[value='1']")
    wait_for(page, "seen.about === 1 && !asking")
    assert "argues for a 1" in page.inner_text("#argues-about")
    assert not np.array_equal(pixels(page, "#argues"), argues)

    page.click("#clear")
    wait_for(page, "seen === null")
    assert page.inner_text("#verdict") == "What the network sees"
    draw(page, ZERO)
    wait_for(page, "seen && seen.answer === 0 && seen.about === 0")
    draw(page, SEVEN)
    page.click("#undo")
    wait_for(page, "strokes.length === 1 && seen.answer === 0 && !asking")


def test_a_held_out_digit_is_shown(visit):
    page = visit()
    page.click("#tab-read")
    trained(page)
    page.click("#example")
    wait_for(page, "seen && seen.truth !== undefined")
    assert re.fullmatch(r"Its label says \d\.", page.inner_text("#truth"))
    assert (pixels(page, "#pad") != pixels(page, "#pad")[0, 0]).any()
    draw(page, SEVEN)  # which takes its place
    wait_for(page, "seen && seen.truth === undefined && seen.answer === 7")


def test_ink_is_bounded(visit):
    page = visit()
    page.click("#tab-read")
    trained(page)
    for fill in (
        "strokes = [Array.from({length: 1000}, (_, k) => [k / 1000, 0.5])]",
        "strokes = Array(50).fill([[0, 0]])",
    ):
        page.evaluate(fill)
        draw(page, SEVEN)
        assert page.evaluate("strokes.flat().length") in (50, 1000)
        assert "all the ink" in page.inner_text("#status")
        page.click("#clear")
        assert page.inner_text("#status") == ""
    draw(page, SEVEN)
    wait_for(page, "seen && seen.answer === 7")


def test_digits_have_their_article(visit):
    page = visit()
    assert page.evaluate("[0, 1, 7, 8].map(noun)") == ["a 0", "a 1", "a 7", "an 8"]


def test_a_digit_drawn_before_the_reader_is_ready_is_read_later(visit):
    page = visit()
    page.click("#tab-read")
    page.evaluate("document.getElementById('progress').value = 0")
    draw(page, SEVEN)
    assert page.evaluate("seen") is None
    page.evaluate("follow()")
    wait_for(page, "seen && seen.answer === 7")


# ------------------------------------------------------------------------------------------- keys, sizes, preferences


def test_everything_can_be_done_by_keyboard(visit):
    page = visit()
    focus = lambda: page.evaluate("document.activeElement.id || document.activeElement.ariaLabel")

    def tab_to(name, presses=40):
        for _ in range(presses):
            page.keyboard.press("Tab")
            if focus() == name:
                return
        pytest.fail(f"{name} is not reached by Tab")

    tab_to("tab-learn")
    tab_to("run")
    page.keyboard.press("Space")
    wait_for(page, "training && now.updates > 10")
    page.keyboard.press("Space")
    wait_for(page, "!training")
    tab_to("One unit more in hidden layer 1")
    page.keyboard.press("Enter")
    wait_for(page, "columns[1].length === 7")
    assert focus() == "One unit more in hidden layer 1"  # which is another one now
    tab_to("output")
    for key, unit in [("ArrowLeft", "unit 1 of hidden layer 2"), ("ArrowDown", "unit 2 of hidden layer 2")]:
        page.keyboard.press(key)
        assert focus() == unit
    page.keyboard.press("Enter")
    assert page.inner_text("#unit-name") == "Unit 2 of hidden layer 2"

    page.focus("#tab-learn")
    page.keyboard.press("ArrowRight")
    assert focus() == "tab-read"
    assert page.is_visible("#pad")
    assert not page.is_visible("#net")
    trained(page)
    tab_to("pad")
    keys = ["ArrowUp"] * 9 + ["Space"] + ["ArrowDown"] * 18 + ["Space"]  # a one
    for key in keys:
        page.keyboard.press(key)
    wait_for(page, "seen && seen.answer === 1 && !asking")
    assert page.evaluate("strokes.length") == 1
    tab_to("clear")
    page.keyboard.press("Enter")
    wait_for(page, "seen === null")


@pytest.mark.parametrize("width", [320, 360, 768, 1280, 1900])
def test_nothing_sticks_out_at_any_width(visit, width):
    page = visit(width=width, height=700, color_scheme="dark", has_touch=width < 500)
    for _ in range(2):
        page.click("#more")
    wait_for(page, "columns.length === 6")
    for tab in ("learn", "read"):
        page.click(f"#tab-{tab}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        controls = """all => all.filter(e => e.checkVisibility()).map(e => {
            const {left, right, width, height} = e.getBoundingClientRect();
            return [e.tagName, left, right, Math.min(width, height)];
        })"""
        found = page.eval_on_selector_all(f"#{tab} :is(button, select, canvas)", controls)
        assert len(found) > 5
        for kind, left, right, size in found:
            assert 0 <= left <= right <= width
            assert kind == "CANVAS" or size >= 24  # as WCAG 2.2 wants of what is to be hit


def test_a_resized_window_is_drawn_anew_while_it_trains(visit):
    page = visit()
    page.click("#run")
    wait_for(page, "now.updates > 10")
    for width in (360, 1000, 700):
        page.set_viewport_size({"width": width, "height": 800})
        before = page.evaluate("now.updates")
        wait_for(page, f"now.updates > {before} + 20")
        box = page.locator("#plane").bounding_box()
        assert page.evaluate("document.getElementById('plane').width") == pytest.approx(box["width"], abs=1)
        unit = page.locator("[aria-label=output]").bounding_box()
        net = page.locator("#net").bounding_box()
        assert page.evaluate("places.at(-1)[0].left") == pytest.approx(unit["x"] - net["x"], abs=1)
    assert page.inner_text("#run") == "Pause"


def test_who_prefers_less_motion_gets_fewer_pictures_and_as_many_updates(visit):
    page = visit(reduced_motion="reduce")
    page.select_option("#speed", "1")
    page.click("#run")
    page.wait_for_timeout(1600)
    page.click("#run")
    assert page.evaluate("curve.length") <= 6
    assert page.evaluate("now.updates") >= 60
    assert page.evaluate("getComputedStyle(document.querySelector('.bar i')).transitionDuration") == "0s"


def test_dark_and_light_are_both_drawn(visit):
    page = visit(color_scheme="light")
    light = pixels(page, ".unit canvas")
    page.emulate_media(color_scheme="dark")
    wait_for(page, "colours.zero !== '#f1efeb'")
    dark = pixels(page, ".unit canvas")
    assert dark[20, 20].sum() < 200 < 600 < light[20, 20].sum()  # where the unit is near to 0


def test_every_control_has_a_name(visit):
    page = visit()
    for tab in ("learn", "read"):
        page.click(f"#tab-{tab}")
        tree = page.locator(f"#{tab}").aria_snapshot()
        nameless = re.compile(r" *- (button|combobox|radio|img|application|progressbar|group)\b(?! \")")
        assert [line for line in tree.splitlines() if nameless.match(line)] == []
        assert len(tree.splitlines()) > 20
