"""The page of `play` as its user has it: in Chromium, against the command as a process."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

import lab
from lab.configuration.training import TrainingConfig
from lab.data.labelled_images import one_label_images
from lab.training.checkpoints import Checkpoint, save_checkpoint
from lab.training.distillation import distilled_recipe
from lab.training.trainer import Trainer
from tests.browser import Browser, opened_browser
from tests.pages import HOSTILE
from tests.played import Served, a_checkpoint, served, served_checkpoint
from tests.test_sample_pipeline import pipeline

pytestmark = pytest.mark.long

FINISHED = "Number(document.body.dataset.finished ?? 0)"
# A browser complains if a page's own canvas is read often, so a copy is read.
PIXELS = """(canvas => { const copy = new OffscreenCanvas(8, 8).getContext('2d', {willReadFrequently: true});
    copy.drawImage(canvas, 0, 0); return [...copy.getImageData(0, 0, 8, 8).data]; })
    (document.querySelector(`#now [data-row="%s"]`))"""
LONG = {"#sampler": "ddim", "#steps": 400}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return a_checkpoint(tmp_path_factory.mktemp("unused") / "epoch0001.pt")


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_checkpoint(tmp_path_factory.mktemp("served")) as opened:
        yield opened


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with opened_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, command: Served) -> Iterator[Browser]:
    """Open the page, and require at the end that its console is empty and that it requested its own server alone."""
    browser.visit(command.address, f"{FINISHED} > 0")
    yield browser
    console, wanted = browser.logs()
    # A refused setting is answered with status 400, which Chromium logs.
    assert [line for line in console if "status of 400" not in line] == []
    assert {address for address in wanted if not address.startswith("data:")} <= {
        command.address,
        f"{command.address}sample",
    }


def enter(browser: Browser, selector: str, value: object) -> None:
    """Give a field a value as a user's input does."""
    browser.run(
        "(([field, value]) => { field.value = value; field.dispatchEvent(new Event('input', {bubbles: true})); })"
        "([document.querySelector(arguments[0]), arguments[1]])",
        selector,
        str(value),
    )


def finished(browser: Browser) -> int:
    return int(browser.run(FINISHED))


def enter_and_wait(browser: Browser, selector: str, value: object) -> None:
    before = finished(browser)
    enter(browser, selector, value)
    browser.until(f"{FINISHED} > {before}")


def pixels(browser: Browser, row: str = "image") -> np.ndarray:
    """Return the colours of a large picture, (3, 8, 8)."""
    return np.array(browser.run(PIXELS % row)).reshape(8, 8, 4)[..., :3].transpose(2, 0, 1)


def expected(checkpoint: Checkpoint, weight: float, steps: int = 8, **changes: Any) -> np.ndarray:
    settings: dict[str, Any] = {
        "label_sets": [["red"]],
        "seed": 0,
        "sampler": lab.DPMSolverConfig(sampling_steps=steps),
    }
    found = lab.sample(
        checkpoint, guidance_weight=weight, device="cpu", precision="float32", progress=False, **(settings | changes)
    )
    return found[0].numpy()


def assert_shown(browser: Browser, wanted: np.ndarray) -> None:
    # The command has its own number of threads, whose sums may round a value to the next level.
    assert np.abs(pixels(browser) - wanted.astype(int)).max() <= 1


def test_what_is_chosen_is_what_is_sampled(page: Browser, checkpoint: Checkpoint) -> None:
    assert_shown(page, expected(checkpoint, 2.0))
    enter_and_wait(page, "#slider", 3.27)
    assert page.run("document.querySelector('#weight').value") == "3.27"
    assert "w = 3.27 (guidance scale s = 4.27)" in page.text("#meaning")
    assert_shown(page, expected(checkpoint, 3.27))
    enter_and_wait(page, "#weight", 12.5)  # beyond the slider
    assert_shown(page, expected(checkpoint, 12.5))
    enter_and_wait(page, "#seed", 7)
    assert_shown(page, expected(checkpoint, 12.5, seed=7))
    enter_and_wait(page, "#sampler", "ddim")
    enter_and_wait(page, "#steps", 5)
    enter_and_wait(page, "#sampler-settings [name=eta]", 0.5)
    sampler = lab.DDIMConfig(sampling_steps=5, eta=0.5)
    assert_shown(page, expected(checkpoint, 12.5, seed=7, sampler=sampler))
    enter_and_wait(page, "#method", "interval")
    assert page.run("document.querySelector('#settings').placeholder") == "low=0.3,high=5.0"
    enter_and_wait(page, "#settings", "low=0.5,high=2")
    assert_shown(page, expected(checkpoint, 12.5, seed=7, sampler=sampler, guidance="interval:low=0.5,high=2"))
    before = finished(page)
    page.find(".names input[value=green]").click()
    page.until(f"{FINISHED} > {before}")
    page.find("#several").click()
    page.find(".names input[value=blue]").click()
    page.until("document.querySelectorAll('.names input:checked').length === 2")
    page.until(f"{FINISHED} >= {before} + 2")
    time.sleep(0.5)  # the last of both requests
    both = expected(
        checkpoint, 12.5, seed=7, sampler=sampler, guidance="interval:low=0.5,high=2", label_sets=[["green", "blue"]]
    )
    assert_shown(page, both)


def test_every_step_and_the_opinion_are_shown(page: Browser) -> None:
    assert page.run("[...document.querySelectorAll('#strip thead th')].map(each => each.textContent)") == [
        str(step) for step in range(1, 9)
    ]
    rows = page.run("[...document.querySelectorAll('#strip tbody th')].map(each => each.textContent)")
    assert rows == ["image", "conditional", "unconditional", "mixed"]
    assert page.run("document.querySelectorAll('#strip canvas.pale').length") == 0
    status = page.text("#status")
    assert status.startswith("8 steps in ")
    assert "ms from the change to the picture" in status
    table = page.run("[...document.querySelectorAll('#seen tr')].map(row => row.cells[0].textContent)")
    assert sorted(table) == ["blue", "green", "red"]
    last = pixels(page)
    page.find("#moment").send_keys(Keys.HOME)
    assert page.text("#shown-step") == "1 of 8, predicted at t = 399"
    assert (pixels(page) != last).any()
    # The chosen step stays chosen when something else changes.
    enter_and_wait(page, "#slider", 1)
    assert page.text("#shown-step").startswith("1 of 8")
    page.find("#moment").send_keys(Keys.END)
    assert page.text("#shown-step").startswith("8 of 8")


def test_a_dragged_slider_under_load_ends_at_its_last_weight(page: Browser, checkpoint: Checkpoint) -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 2)]
    try:
        page.driver.execute_async_script(
            """const done = arguments[0], slider = document.querySelector('#slider');
            let at = 0;
            const moved = setInterval(() => {
              slider.value = -1 + 0.05 * ++at;
              slider.dispatchEvent(new Event('input', {bubbles: true}));
              if (at === 100) { clearInterval(moved); done(); }
            }, 10);"""
        )
        page.until("document.querySelector('#status').textContent.startsWith('8 steps in ')")
        wanted = expected(checkpoint, 4.0)
        page.until(f"Math.abs({PIXELS % 'image'}[0] - {int(wanted[0, 0, 0])}) <= 1")
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert_shown(page, wanted)
    assert page.run("document.querySelector('#problem').hidden")


def test_two_tabs_at_once(page: Browser, command: Served, checkpoint: Checkpoint) -> None:
    for selector, value in LONG.items():
        enter(page, selector, value)
    page.until("document.querySelector('#status').textContent.startsWith('step ')")
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    page.driver.get(command.address)
    page.until(f"{FINISHED} > 0")
    assert_shown(page, expected(checkpoint, 2.0))
    second = page.driver.current_window_handle
    page.driver.switch_to.window(first)
    page.until("document.querySelector('#status').textContent.startsWith('A newer request, from another tab')")
    enter_and_wait(page, "#steps", 4)
    assert_shown(page, expected(checkpoint, 2.0, sampler=lab.DDIMConfig(sampling_steps=4)))
    page.driver.switch_to.window(second)
    page.driver.close()
    page.driver.switch_to.window(first)


def test_mistakes_are_shown_and_go_away(page: Browser) -> None:
    for selector, wrong, told, right in (
        ("#steps", 0, "--sampler.sampling-steps is 0; it must be", 4),
        ("#steps", "", "--sampler.sampling-steps is empty", 4),
        ("#weight", 200, "--guidance-weight is 200; it must be from -1 to 100", 1),
        ("#seed", -1, "--seed is -1; it must be from 0", 1),
    ):
        enter(page, selector, wrong)
        page.until(f"document.querySelector('#problem').textContent.startsWith({json.dumps(told)})")
        enter_and_wait(page, selector, right)
        assert page.run("document.querySelector('#problem').hidden")
    enter(page, "#method", "plus_plus")  # for DDIM alone
    page.until("document.querySelector('#problem').textContent.includes('needs deterministic ddim')")
    enter_and_wait(page, "#sampler", "ddim")
    # The picture is there, and so is the warning of --guidance.method plus_plus at w = 1.
    assert "it is defined for w from -1 to 0" in page.text("#problem")


def test_the_keyboard_alone_reaches_and_changes_everything(page: Browser) -> None:
    reached: list[str] = []
    for _ in range(30):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        name = "each.id || each.name || each.className"
        reached.append(page.run(f"(each => {name})(document.activeElement)"))
    wanted = ["class", "several", "slider", "weight", "method", "sampler", "clamp", "steps", "seed", "next", "moment"]
    assert [each for each in (*wanted, "scroll") if each not in reached] == []
    before = finished(page)
    page.find(".names input:checked").send_keys(Keys.ARROW_RIGHT)
    page.until(f"{FINISHED} > {before}")
    assert page.run("document.querySelector('.names input:checked').value") == "green"
    page.find("#slider").send_keys(Keys.ARROW_RIGHT)
    page.until("document.querySelector('#meaning').textContent.startsWith('w = 2.01 ')")
    page.until(f"{FINISHED} > {before + 1}")
    page.find("#next").send_keys(Keys.ENTER)
    page.until(f"{FINISHED} > {before + 2}")
    assert page.run("document.querySelector('#seed').value") == "1"


@pytest.mark.parametrize("width", [380, 800, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_wide_light_and_dark(browser: Browser, command: Served, width: int, scheme: str) -> None:
    browser.visit(command.address, f"{FINISHED} > 0", width=width, media={"prefers-color-scheme": scheme})
    assert browser.run("document.documentElement.scrollWidth") <= width
    outside = browser.run(
        """[...document.querySelectorAll('body *')].filter(each => !each.closest('.scroll') && each.checkVisibility())
        .map(each => [each.getBoundingClientRect(), each.outerHTML.slice(0, 80)])
        .filter(([box]) => box.left < -1 || box.right > innerWidth + 1).map(([box, html]) => html)"""
    )
    assert outside == []
    shot = Image.open(io.BytesIO(browser.driver.get_screenshot_as_png())).convert("L")
    assert (np.median(np.asarray(shot)) < 100) == (scheme == "dark")


def test_hostile_names_stay_text_and_no_evaluator_gives_no_opinion(browser: Browser, tmp_path: Path) -> None:
    a_checkpoint(tmp_path / "epoch0001.pt", names=tuple(HOSTILE), judged=False)
    with served("--checkpoint", str(tmp_path / "epoch0001.pt")) as opened:
        browser.visit(opened.address, f"{FINISHED} > 0")
        shown = browser.run("[...document.querySelectorAll('.names label')].map(each => each.textContent)")
        assert shown == list(HOSTILE)
        assert browser.run("document.querySelectorAll('img, script').length") == 2
        assert browser.run("document.querySelector('#seen').hidden")
        console, wanted = browser.logs()
        assert console == []
        assert {each for each in wanted if not each.startswith("data:")} == {opened.address, f"{opened.address}sample"}
        # The command ends while the page is open.
        opened.process.send_signal(signal.SIGINT)
        assert opened.process.wait(timeout=30) == 0
        enter(browser, "#slider", 1)
        browser.until("document.querySelector('#problem').textContent.startsWith('No answer: the command has ended')")


@pytest.mark.parametrize(
    ("classes", "rows"),
    [(None, ["image", "prediction"]), (3, ["image", "conditional", "mixed"])],
    ids=["none", "three"],
)
def test_pipelines_show_what_their_network_has(
    browser: Browser, tmp_path: Path, classes: int | None, rows: list[str]
) -> None:
    pipeline(tmp_path / "pipeline", num_class_embeds=classes)
    with served("--pipeline", str(tmp_path / "pipeline")) as opened:
        browser.visit(opened.address, f"{FINISHED} > 0")
        assert browser.run("[...document.querySelectorAll('#strip tbody th')].map(each => each.textContent)") == rows
        names = browser.run("[...document.querySelectorAll('.names label')].map(each => each.textContent)")
        assert names == [str(number) for number in range(classes or 0)]
        for hidden in ("#classes", ".weight"):
            assert browser.find(hidden).is_displayed() == bool(classes)
        assert not browser.find("#several").is_displayed()
        if classes:
            enter(browser, "#weight", 2)
            browser.until("document.querySelector('#problem').textContent.includes('no null condition')")
            enter_and_wait(browser, "#method", "independent")
            assert browser.run("document.querySelector('#problem').hidden")


def test_a_student_is_sampled_by_its_own_method(browser: Browser, tmp_path: Path) -> None:
    teacher = a_checkpoint(tmp_path / "teacher.pt")
    images = one_label_images(torch.zeros(6, 3, 8, 8, dtype=torch.uint8), torch.arange(6) % 3, teacher.vocabulary)
    recipe = distilled_recipe(teacher, (0.0, 1.5), TrainingConfig(context_dropout=0.0))
    student = Trainer(recipe, images).checkpoint({"training": {"context_dropout": 0.0}})
    for name, weights in student.weights.items():
        if name.startswith("weights."):  # of the input w, whose part is 0 before training
            weights.add_(torch.randn(weights.shape, generator=torch.Generator().manual_seed(0)))
    save_checkpoint(tmp_path / "epoch0001.pt", student)
    with served("--checkpoint", str(tmp_path / "epoch0001.pt")) as opened:
        browser.visit(opened.address, f"{FINISHED} > 0")
        assert browser.run("document.querySelector('#problem').hidden")
        assert browser.run("document.querySelector('#weight').value") == "1.5"
        assert browser.run("[...document.querySelector('#method').options].map(each => each.value)") == ["distilled"]
        # The image of `sample`, but for rounding: the command has its own number of threads.
        of_sample = expected(student, 1.5, guidance="distilled")
        assert np.abs(pixels(browser).astype(int) - of_sample.astype(int)).max() <= 1
        enter_and_wait(browser, "#weight", 0.5)
        assert not np.array_equal(pixels(browser), of_sample)
