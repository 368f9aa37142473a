"""The page of a report as a reader uses it: in Chromium, with the mouse and with the keyboard alone."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from evaluator.judging.selection import selection
from evaluator.reporting.page.comparison import joined
from evaluator.reporting.page.contents import Page, contents
from evaluator.reporting.page.document import document, write_page
from tests.browser import Browser, opened_browser
from tests.pages import HOSTILE, WEIGHTS, a_page, level

pytestmark = pytest.mark.long

SLIDER = '[data-side="A"] [data-choice="weight"]'
# A browser complains if a page's own canvas is read often, so a copy is read.
LEVEL = """(canvas => { const copy = new OffscreenCanvas(4, 4).getContext('2d', {willReadFrequently: true});
    copy.drawImage(canvas, 0, 0); return copy.getImageData(1, 1, 1, 1).data[0]; })"""
LEVELS = f"[...document.querySelectorAll('#grid canvas')].map({LEVEL})"
POSITION = "Number(document.querySelector('#weight-chart .position').getAttribute('x1'))"
FOCUS = "document.activeElement"
NAME_OF = "each.id || each.dataset.choice || each.dataset.column || each.closest('[id]')?.id || 'page'"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with opened_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a page, one of another experiment and one with hostile names."""
    folder = tmp_path_factory.mktemp("pages")
    write_page(folder / "report.html", a_page())
    write_page(folder / "other.html", a_page(name="other", seeds=3, quality=False))
    write_page(folder / "hostile.html", a_page(names=HOSTILE, name=HOSTILE[0], label_set_files=HOSTILE[1:2]))
    (folder / "compared.html").write_text(document(contents(compared_page())))
    (folder / "none.html").write_text("<p>no report</p>")
    return folder


def compared_page() -> Page:
    """Return a page of two experiments at w = 2: one with two checkpoints, one with the second alone."""
    results = a_page().results
    cells = [cell for cell in results.cells if cell.settings["guidance_weight"] == 2]
    plain = [cell for cell in cells if cell.settings["guidance_method"] == "plain"]
    late = [cell for cell in plain if cell.settings["epoch"] == 2]
    both = joined({"whole": replace(results, cells=plain), "late": replace(results, cells=late)})
    return Page("two", both, compared="variant")


@pytest.fixture
def page(browser: Browser, folder: Path) -> Iterator[Browser]:
    """Open the page, and require at the end that its console is empty and that nothing but the file was requested."""
    browser.open(folder / "report.html")
    yield browser
    console, asked = browser.logs()
    assert console == []
    assert [address for address in asked if not address.startswith("data:")] == [(folder / "report.html").as_uri()]
    assert browser.run("performance.getEntriesByType('resource').map(entry => entry.name)") == []


def levels(weight: int, seed: int = 0, **changes: int) -> list[int]:
    place = {"checkpoint": 1, "method": 0, "file": 0} | changes
    return [level(**place, weight=weight, seed=seed, place=label_set) for label_set in range(3)]


def move(browser: Browser, place: int) -> None:
    """Move the slider with the keyboard."""
    slider = browser.find(SLIDER)
    slider.send_keys(Keys.HOME)
    for _ in range(place):
        slider.send_keys(Keys.ARROW_RIGHT)


def choose(browser: Browser, selector: str, value: object) -> None:
    browser.run(
        "(([select, value]) => { select.value = value; select.dispatchEvent(new Event('change', {bubbles: true})); })"
        "([document.querySelector(arguments[0]), arguments[1]])",
        selector,
        str(value),
    )


def test_the_slider_changes_the_images_and_the_marked_point(page: Browser) -> None:
    # The best row is shown first: w = 2 at the last checkpoint.
    assert page.run(LEVELS) == levels(2)
    positions, marked = [], []
    for place, weight in enumerate(WEIGHTS):
        move(page, place)
        page.until(f"JSON.stringify({LEVELS}) === '{json.dumps(levels(place), separators=(',', ':'))}'")
        positions.append(page.run(POSITION))
        marked.append(page.run("document.querySelector('#weight-chart .current').ariaLabel"))
        assert f"w = {weight:g}".replace("-", "\u2212") in page.text('[data-side="A"] output')
    assert positions == sorted(set(positions))
    assert [label.split(":")[0] for label in marked] == ["plain, w = \u22121", "plain, w = 0", "plain, w = 2"]
    assert page.run("[...document.querySelectorAll('#ranking .current')].map(row => row.cells[5].textContent)") == ["2"]


def test_a_move_of_the_slider_is_drawn_at_once(page: Browser) -> None:
    move(page, 0)
    page.until(f"{LEVELS}[0] === {levels(0)[0]}")
    # Of the weights that were decoded in advance, within the event itself.
    drawn = page.run(
        f"""(slider => {{ slider.value = 1; slider.dispatchEvent(new Event('input'));
        return {LEVELS}; }})(document.querySelector('{SLIDER}'))"""
    )
    assert drawn == levels(1)


@pytest.mark.parametrize(
    ("selector", "value", "changes"),
    [
        ("#seed", 1, {"seed": 1}),
        ("#file", 1, {"file": 1}),
        ('[data-choice="checkpoint"]', 0, {"checkpoint": 0}),
        ('[data-choice="method"]', 1, {"method": 1}),
    ],
)
def test_each_choice_keeps_the_others(page: Browser, selector: str, value: int, changes: dict[str, int]) -> None:
    move(page, 1)
    choose(page, selector, value)
    page.until(f"{LEVELS}[0] === {levels(1, **changes)[0]}")
    assert page.run(LEVELS) == levels(1, **changes)


def test_wrong_images_have_a_mark_and_say_what_was_seen(page: Browser) -> None:
    assert page.all("#grid .wrong") == []
    move(page, 1)
    page.until("document.querySelectorAll('#grid .wrong').length === 1")
    button = page.find("#grid .wrong")
    assert page.run("getComputedStyle(arguments[0], '::after').content", button) == '"\u2715"'
    assert button.get_attribute("aria-label") == "requested cube; seen sphere; wrong"
    ActionChains(page.driver).move_to_element(button).perform()
    page.until("document.querySelector('#seen').textContent.includes('not seen: cube')")
    rows = page.run("[...document.querySelectorAll('#seen tr')].map(row => row.innerText.split('\\t'))")
    assert [(row[0], row[2]) for row in rows] == [("sphere", "0.95"), ("cone", "0.27"), ("cube", "0.12")]
    # Images are enlarged without smoothing.
    assert page.run("getComputedStyle(document.querySelector('#grid canvas')).imageRendering") == "pixelated"


def test_two_settings_side_by_side(page: Browser) -> None:
    page.find("#compare").click()
    page.until("document.querySelectorAll('#grid canvas').length === 6")
    page.until(f"{LEVELS}[1] === {levels(1)[0]}")
    assert page.run(LEVELS) == [each for pair in zip(levels(2), levels(1), strict=True) for each in pair]
    asked = np.array([1, 2, 1] * 2)
    correct = np.stack(([1, 2, 1, 1, 2, 1], [0, 2, 1, 1, 2, 1]), axis=1)
    value, low, high = selection(correct, asked, best=0).behind[1]
    expected = f"A \u2212 B: +{value:.3f} ({low:.3f} to +{high:.3f}), paired over 6 images from the same noise"
    assert expected.replace("(-", "(\u2212") in page.text("#scores")
    assert "includes 0" in page.text("#scores")


def test_another_report_beside_this_one(page: Browser, folder: Path) -> None:
    page.find("#another").send_keys(str(folder / "none.html"))
    page.until("!document.querySelector('#problem').hidden")
    assert "none.html is not a report.html that this page can read: it has no contents." in page.text("#problem")
    page.find("#another").send_keys(str(folder / "other.html"))
    page.until("document.querySelectorAll('#grid canvas').length === 6")
    assert page.run("document.querySelector('#problem').hidden")
    assert "B: other, epoch0002" in page.text('[data-side="B"] legend')
    # The other report has three seeds; the first two are common.
    assert "paired over 6 images from the same noise" in page.text("#scores")


def test_a_dropped_report_is_compared(page: Browser, folder: Path) -> None:
    text = (folder / "other.html").read_text(encoding="utf-8")
    page.run(
        """(text => { const data = new DataTransfer();
        data.items.add(new File([text], 'other.html', {type: 'text/html'}));
        document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
        })(arguments[0])""",
        text,
    )
    page.until("document.querySelectorAll('#grid canvas').length === 6")
    assert page.text('[data-side="B"] legend').startswith("B: other")


def test_the_timestep_slider_shows_the_denoising(page: Browser) -> None:
    seen = f"{LEVEL}(document.querySelector('#denoising canvas'))"
    page.until(f"{seen} === 150")
    slider = page.find("#timestep")
    slider.send_keys(Keys.HOME)
    assert page.text("#denoising output") == "after step 0 of 3: x at t = 9"
    assert page.run(seen) == 0
    slider.send_keys(Keys.ARROW_RIGHT)
    assert page.run(seen) == 50
    assert "first 3 images of test.json, seed 0, at the best row: epoch0002, plain, w = 2" in page.text("#denoising-of")
    page.all("#grid button")[1].click()
    pressed = "[...document.querySelectorAll('.thumbs button')].map(each => each.ariaPressed)"
    assert page.run(pressed) == ["false", "true", "false"]


def test_points_of_both_charts_are_chosen(page: Browser) -> None:
    # The points of the second method lie above those of the first, which are as good.
    for chart, point, weight in (("weight", 4, 0), ("coverage", 3, -1)):
        page.find(f"#{chart}-chart .point:nth-of-type({point + 1}) .mark").click()
        name = f"w = {weight}".replace("-", "\u2212")
        page.until(f"document.querySelector('[data-side=A] output').textContent.startsWith('{name} ')")
        label = page.run(f"document.querySelector('#{chart}-chart .current').ariaLabel")
        assert label.startswith(f"rescale, {name}: accuracy")


def test_a_point_of_the_training_is_a_checkpoint(page: Browser) -> None:
    assert page.text("#epoch-caption") == "Accuracy against training: w = 2, test.json"
    move(page, 1)
    labels = page.run("[...document.querySelectorAll('#epoch-chart .point')].map(each => each.ariaLabel.split(':')[0])")
    assert labels == [f"epoch000{epoch}, {method}, w = 0" for method in ("plain", "rescale") for epoch in (1, 2)]
    # Both methods are as good, so the points of the second lie above.
    page.find("#epoch-chart .point:nth-of-type(3) .mark").click()
    page.until(f"{LEVELS}[0] === {levels(1, checkpoint=0, method=1)[0]}")
    assert page.run("document.querySelector('#epoch-chart .current').ariaLabel").startswith("epoch0001, rescale")


def test_experiments_of_other_weights_and_checkpoints_on_one_page(browser: Browser, folder: Path) -> None:
    browser.open(folder / "report.html")
    assert not browser.run("document.querySelector('#weight-figure').hidden")
    browser.open(folder / "compared.html")
    # One experiment has one weight and one checkpoint, the other has both checkpoints.
    assert browser.text('[data-side="A"] .choices label:nth-of-type(3) span') == "variant"
    assert browser.run("document.querySelector('#weight-figure').hidden")
    choose(browser, '[data-choice="method"]', 0)
    choose(browser, '[data-choice="checkpoint"]', 0)
    browser.until(f"{LEVELS}[0] === {levels(2, checkpoint=0)[0]}")
    choose(browser, '[data-choice="method"]', 1)
    browser.until(f"{LEVELS}[0] === {levels(2)[0]}")
    assert browser.run("document.querySelector('[data-choice=checkpoint]').value") == "1"
    console, _ = browser.logs()
    assert console == []


def test_the_keyboard_alone_reaches_everything(page: Browser) -> None:
    reached: list[str] = []
    for _ in range(60):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        reached.append(page.run(f"(each => {NAME_OF})({FOCUS})"))
        if reached.count("ranking") > 3:
            break
    wanted = ["file", "seed", "compare", "checkpoint", "method", "weight", "another", "grid", "timestep", "denoising"]
    wanted += [
        "enlarge",
        "weight-chart",
        "epoch-chart",
        "coverage-chart",
        "filter",
        "copy-csv",
        "copy-latex",
        "rank",
        "ranking",
    ]
    assert [each for each in wanted if each not in reached] == []
    # Arrow keys move within the images and the points; Enter chooses.
    page.run("document.querySelector('#grid button[tabindex=\"0\"]').focus()")
    ActionChains(page.driver).send_keys(Keys.END).perform()
    assert page.run(f"{FOCUS}.dataset.place") == "2"
    page.until("document.querySelector('#seen').textContent.includes('requested: cone')")
    page.run("document.querySelector('#weight-chart .point[tabindex=\"0\"]').focus()")
    ActionChains(page.driver).send_keys(Keys.HOME, Keys.ARROW_RIGHT, Keys.ENTER).perform()
    page.until("document.querySelector('[data-side=A] output').textContent.startsWith('w = 0 ')")
    assert page.run(f"{FOCUS}.ariaLabel").startswith("plain, w = 0")


def ranks(page: Browser) -> list[int]:
    texts = page.run("[...document.querySelectorAll('#ranking tbody tr')].map(row => row.cells[0].textContent)")
    return [int(text.split()[0]) for text in texts]


def test_the_ranking_is_sorted_filtered_and_copied(page: Browser) -> None:
    table = a_page().results.ranking
    assert ranks(page) == table["rank"].tolist()
    head = page.find('[data-column="guidance_weight"]')
    head.click()
    by_weight = table.sort_values("guidance_weight", kind="stable")["rank"].tolist()
    assert ranks(page) == by_weight
    page.find('[data-column="guidance_weight"]').click()
    assert page.run("document.querySelector('[aria-sort=descending]').textContent").startswith("w")
    page.find("#filter").send_keys("rescale epoch0001")
    kept = table[(table["guidance_method"] == "rescale") & (table["checkpoint"] == "epoch0001")]
    assert ranks(page) == kept.sort_values("guidance_weight", ascending=False)["rank"].tolist()
    page.run("navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve(); }")
    page.find("#copy-csv").click()
    page.until("document.querySelector('#ranking-status').textContent === 'copied 3 rows as CSV'")
    copied = pd.read_csv(io.StringIO(page.run("window.copied")))
    # Here the effective scale is 1 + w and no row has a warning, so these columns would say nothing.
    expected = kept.drop(columns=["effective_guidance_scale", "guidance_warning"])
    expected = expected.sort_values("guidance_weight", ascending=False).reset_index(drop=True)
    pd.testing.assert_frame_equal(copied, expected, check_dtype=False)
    page.find("#copy-latex").click()
    page.until("document.querySelector('#ranking-status').textContent === 'copied 3 rows as LaTeX'")
    latex = page.run("window.copied")
    assert latex.count(r" \\") == 4
    assert r"\caption{digits: ranking; 95 \% intervals in parentheses.}" in latex
    page.find("#ranking tbody button").click()
    page.until("document.querySelector('[data-choice=checkpoint]').value === '0'")


def test_a_browser_that_refuses_the_clipboard_shows_the_text(page: Browser) -> None:
    page.run("navigator.clipboard.writeText = () => Promise.reject(new Error('refused'))")
    page.run("document.execCommand = () => false")
    page.find("#copy-csv").click()
    page.until("!document.querySelector('#copied').hidden")
    assert page.run("document.querySelector('#copied').value").startswith("rank,rank_low")


def test_hostile_names_stay_text(browser: Browser, folder: Path) -> None:
    browser.open(folder / "hostile.html")
    asked = browser.run("[...document.querySelectorAll('#grid .asked span')].map(each => each.textContent)")
    assert asked == [HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[2]]
    assert browser.text("h1") == HOSTILE[0]
    browser.all("#grid button")[0].click()
    browser.find("#compare").click()
    assert browser.run("document.querySelectorAll('img, script').length") == 2
    assert browser.find("#ranking thead").text.count(HOSTILE[1]) == 1
    console, asked_for = browser.logs()
    assert console == []
    assert [each for each in asked_for if not each.startswith("data:")] == [(folder / "hostile.html").as_uri()]


@pytest.mark.parametrize("width", [380, 800, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_wide_light_and_dark(browser: Browser, folder: Path, width: int, scheme: str) -> None:
    browser.open(folder / "report.html", width=width, media={"prefers-color-scheme": scheme})
    browser.find("#compare").click()
    assert browser.run("document.documentElement.scrollWidth") <= width
    # Nothing is cut off at either side, but for the table, which scrolls.
    outside = browser.run(
        """[...document.querySelectorAll('body *')].filter(each => !each.closest('.scroll') && each.checkVisibility())
        .map(each => [each.getBoundingClientRect(), each.outerHTML.slice(0, 80)])
        .filter(([box]) => box.left < -1 || box.right > innerWidth + 1).map(([box, html]) => html)"""
    )
    assert outside == []
    shot = Image.open(io.BytesIO(browser.driver.get_screenshot_as_png())).convert("L")
    assert (np.median(np.asarray(shot)) < 100) == (scheme == "dark")
