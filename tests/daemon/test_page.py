"""The page in a real browser: it shows a live session, and its buttons do what they say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capture.take import Take
from capture.video import write_video
from daemon.service import Service

from .conftest import record
from .engines import assert_exact, engine, playing, send, until

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

HTML = "<img src=x onerror=document.title='owned'>"
WIDTHS = [(1280, 860), (390, 844)]


@pytest.fixture
def game(service: Service) -> Iterator[str]:
    """A live engine, whose name would be HTML if anything took it for that."""
    with playing(service.endpoint, game=HTML):
        yield HTML


def make_lift(service: Service, take: str, frames: tuple[int, int], name: str = "embedded-7") -> None:
    """A finished lift: bright to the right, and darker from frame to frame to the left."""
    folder = service.config.takes / take / "lifts" / name
    folder.mkdir(parents=True)
    pictures = [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(frames[1] - frames[0])]
    for picture in pictures:
        picture[:, 32:] = 255
    write_video(folder / "lifted.mp4", iter(pictures), times=[i / 24 for i in range(len(pictures))])
    scores = {"lifted": {"depth_edge_alignment": 0.875, "warp_error": 0.0123}, "render": {"depth_edge_alignment": 0.9}}
    about = {"frames": list(frames), "model": "embedded", "prompt": HTML, "seed": 3, "seconds": 2.0, "scores": scores}
    (folder / "report.json").write_text(json.dumps(about))
    service.library.refresh()


def pixels(page: Any, canvas: str) -> list[int]:
    """What a canvas shows: red, green and blue of each pixel, one after the other."""
    return page.evaluate(
        """(selector) => { const c = document.querySelector(selector);
        const copy = new OffscreenCanvas(c.width, c.height).getContext('2d', { willReadFrequently: true });
        copy.drawImage(c, 0, 0);
        return [...copy.getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 < 3); }""",
        canvas,
    )


def until_drawn(page: Any, canvas: str) -> None:
    """Wait until the canvas shows more than one colour."""
    until(lambda: len(set(pixels(page, canvas))) > 1, what=f"a picture in {canvas}")


def expect_text(page: Any, selector: str, text: str) -> None:
    playwright.expect(page.locator(selector)).to_contain_text(text, timeout=90_000)


def go(page: Any, view: str) -> None:
    """To a view of the page; single keys mean its own things from now on."""
    page.get_by_role("navigation").get_by_role("link", name=view).click()
    page.locator(f"#{view.lower()}").wait_for()


def open_take(page: Any, name: str) -> None:
    go(page, "Takes")
    page.locator("#take-list .name a", has_text=name).click()
    playwright.expect(page.locator("#take-name")).to_have_text(name, timeout=90_000)


def test_without_an_engine_the_page_says_what_to_do(page: Any, service: Service) -> None:
    expect_text(page, "#health", "No engine connected")
    expect_text(page, "#session-none", service.endpoint)
    playwright.expect(page.get_by_role("button", name="Record")).to_be_disabled(timeout=90_000)
    go(page, "Takes")
    expect_text(page, "#takes-empty", "No takes yet")
    go(page, "Pairs")
    expect_text(page, "#pairs-root .hint", "realmaster pairs")


def test_a_live_session_is_shown_and_recorded(page: Any, service: Service, game: str) -> None:
    expect_text(page, "#health", "64×48")
    expect_text(page, "#health", game)
    page.locator("#live-stage .render .empty").wait_for(state="hidden")
    until_drawn(page, "#live-stage .render canvas")
    assert page.title() == "realmaster"
    for view in ("Depth", "Normals", "Edges"):
        page.locator("#live-views").get_by_label(view, exact=True).check()
        expect_text(page, "#live-stage .render figcaption", view)
    until_drawn(page, "#live-stage .render canvas")
    page.get_by_role("button", name="Record").click()
    page.get_by_role("button", name="Stop").wait_for()
    until(lambda: [s for s in service.state()["sessions"] if s["recorded"] > 5], what="recorded frames")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Record").wait_for()
    go(page, "Takes")
    playwright.expect(page.locator("#take-list .card")).to_have_count(1, timeout=90_000)
    playwright.expect(page.locator("#take-list .badge")).to_have_count(0, timeout=90_000)
    name = page.locator("#take-list .name a").inner_text()
    assert len(Take(service.config.takes / name)) > 5
    go(page, "Live")
    page.keyboard.press("s")
    go(page, "Takes")
    playwright.expect(page.locator("#take-list .card")).to_have_count(2, timeout=90_000)


def test_the_live_switch_stays_as_pressed_until_the_daemon_answers(page: Any, service: Service, game: str) -> None:
    expect_text(page, "#health", "64×48")
    held: list[Any] = []
    page.route("**/api/v1/live", lambda route: held.append(route))
    switch = page.locator("#live-on")
    page.keyboard.press("l")
    until(lambda: page.title() and held, what="the request to switch it on")
    page.get_by_role("button", name="Record").click()
    page.get_by_role("button", name="Stop").wait_for()  # a state has come that knows nothing of the switch
    playwright.expect(switch).to_be_checked(timeout=1)
    held[0].fulfill(status=409, json={"error": "There is no model."})
    playwright.expect(switch).not_to_be_checked(timeout=90_000)  # as it is still off


def test_the_wipe_is_moved_by_keys_and_by_hand(page: Any, game: str) -> None:
    page.locator("#live-stage .render .empty").wait_for(state="hidden")  # the stage has the shape of the pictures
    page.locator("#live-layouts").get_by_label("Wipe").check()
    slider = page.get_by_role("slider", name="Wipe")
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    playwright.expect(slider).to_have_value("60", timeout=90_000)
    pictures = page.locator("#live-stage .pictures")
    assert pictures.evaluate("(it) => it.style.getPropertyValue('--wipe')") == "60%"
    drag_the_wipe(page, slider, 25)


def drag_the_wipe(page: Any, slider: Any, percent: int) -> None:
    """By the mouse, from the middle of the pictures."""
    box = page.locator("#live-stage .pictures").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * percent / 100, middle, steps=4)
    page.mouse.up()
    playwright.expect(slider).to_have_value(str(percent), timeout=90_000)


def test_a_take_is_played_beside_its_lift_frame_by_frame(page: Any, service: Service) -> None:
    name = record(service, 12)
    make_lift(service, name, (2, 10))
    open_take(page, name)
    page.locator("#take .lifted .empty").wait_for(state="hidden")
    until_drawn(page, "#take .render canvas")
    until_drawn(page, "#take .lifted canvas")
    expect_text(page, "#take .lifted figcaption", "embedded-7")
    expect_text(page, ".lift-about", HTML)
    expect_text(page, "table.scores", "0.875")
    for place in (2, 5, 9):
        page.get_by_role("slider", name="Position in the take").fill(str(place))
        expect_text(page, ".position", f"frame {place}")
        grey = 20 * (place - 2)
        until(
            lambda grey=grey: abs(pixels(page, "#take .lifted canvas")[0] - grey) < 8, what=f"frame {place} of the lift"
        )
    page.keyboard.press("Escape")
    page.locator("body").click(position={"x": 5, "y": 300})
    page.keyboard.press("ArrowRight")
    expect_text(page, ".position", "frame 10")
    expect_text(page, "#take .lifted .empty", "not lifted")
    page.get_by_role("button", name="Play", exact=True).click()
    until(lambda: page.locator(".position").inner_text().split()[-1] not in ("9", "10"), what="the take playing")
    page.get_by_role("button", name="Pause").click()


def test_a_part_is_lifted_and_the_lift_cancelled(page: Any, service: Service) -> None:
    name = record(service, 12)
    open_take(page, name)
    page.get_by_role("slider", name="Position in the take").fill("3")
    page.get_by_role("button", name="The part begins at this frame").click()
    page.get_by_role("slider", name="Position in the take").fill("6")
    page.get_by_role("button", name="The part ends with this frame").click()
    expect_text(page, ".marks", "frames 3 to 6")
    page.get_by_role("button", name="Lift …", exact=True).click()
    page.locator("#lift-dialog").get_by_label("Prompt").fill("a <b>bold</b> street")
    page.locator("#lift-dialog").get_by_role("button", name="Lift", exact=True).click()
    (job,) = until(lambda: service.lifts.jobs(), what="the lift")
    assert (job.frames, job.prompt) == ((3, 7), "a <b>bold</b> street")
    page.get_by_role("button", name="Cancel the lift").click()
    playwright.expect(page.get_by_role("button", name="Cancel the lift")).to_have_count(0, timeout=90_000)


def test_notes_a_new_name_a_trim_and_the_trash(page: Any, service: Service) -> None:
    name = record(service, 8)
    open_take(page, name)
    page.get_by_label("Notes").fill("rain & <b>dusk</b>")
    page.get_by_label("Notes").blur()
    expect_text(page, "#take .kept", "Saved")
    assert (service.config.takes / name / "notes.txt").read_text() == "rain & <b>dusk</b>\n"

    page.get_by_role("button", name="Rename …").click()
    page.locator("#name-dialog").get_by_label("Name").fill("street.1")
    page.locator("#name-dialog").get_by_role("button", name="Rename").click()
    playwright.expect(page.locator("#take-name")).to_have_text("street.1", timeout=90_000)
    playwright.expect(page.get_by_label("Notes")).to_have_value("rain & <b>dusk</b>\n", timeout=90_000)

    page.get_by_role("slider", name="Position in the take").fill("2")
    page.get_by_role("button", name="The part begins at this frame").click()
    expect_text(page, ".marks", "frames 2 to 7")
    page.get_by_role("button", name="Trim …").click()
    page.locator("#name-dialog").get_by_label("Name").fill("part")
    page.locator("#name-dialog").get_by_role("button", name="Trim").click()
    made = until(lambda: [t for t in service.state()["takes"] if t["name"] == "part"], what="the trim")
    assert made[0]["frames"] == 6
    for frame in Take(service.config.takes / "part"):
        assert_exact(frame)

    page.get_by_role("button", name="Delete take street.1").click()
    until(lambda: not (service.config.takes / "street.1").exists(), what="the take in the trash")
    page.get_by_role("button", name="Undo").click()
    until((service.config.takes / "street.1").exists, what="the take out of the trash")
    playwright.expect(page.locator("#take-name")).to_have_text("street.1", timeout=90_000)
    assert len(Take(service.config.takes / "street.1")) == 8


def test_an_export_is_found_and_downloaded(page: Any, service: Service, tmp_path: Path) -> None:
    name = record(service, 8)
    make_lift(service, name, (0, 8))
    open_take(page, name)
    page.get_by_role("button", name="Export lift embedded-7").click()
    page.get_by_label("Render and lift").check()
    page.locator("#export-dialog").get_by_role("button", name="Export", exact=True).click()
    expect_text(page, "#work .path", f"{name}-embedded-7-compared.mp4")
    path = Path(page.locator("#work .path").inner_text())
    assert path.is_file() and path.parent == service.config.takes / "exports"
    with page.expect_download() as download:
        page.get_by_role("link", name=f"Download {path.name}").click()
    download.value.save_as(tmp_path / "saved.mp4")
    assert (tmp_path / "saved.mp4").read_bytes() == path.read_bytes()


def test_what_changes_while_a_take_is_opened_is_shown_all_the_same(page: Any, service: Service) -> None:
    name = record(service, 8)
    held: list[Any] = []

    def hold(route: Any) -> None:
        """The first answer."""
        route.continue_() if held else held.append((route, route.fetch()))

    page.route(f"**/api/v1/takes/{name}", hold)
    go(page, "Takes")
    page.locator("#take-list .name a", has_text=name).click()
    until(lambda: page.wait_for_timeout(20) or held, what="the question for the details")
    make_lift(service, name, (0, 8))
    playwright.expect(page.locator("#take-list .chip")).to_have_count(1, timeout=90_000)  # the page has been told
    route, answer = held[0]
    route.fulfill(response=answer)  # what was true before
    page.get_by_role("button", name="Export lift embedded-7").wait_for()


def test_a_take_that_cannot_be_read_can_be_deleted(page: Any, service: Service) -> None:
    folder = service.config.takes / "broken"
    folder.mkdir(parents=True)
    (folder / "take.json").write_text("{")
    service.library.refresh()
    open_take(page, "broken")
    expect_text(page, "#take .hint", "no readable manifest")
    page.get_by_role("button", name="Delete take broken").click()
    until(lambda: not folder.exists(), what="the take in the trash")
    playwright.expect(page.locator("#takes")).to_be_visible(timeout=90_000)


@pytest.mark.parametrize("layout", ["left", "side"])
def test_the_pictures_alone_fill_a_browser_source(page: Any, service: Service, game: str, layout: str) -> None:
    page.set_viewport_size({"width": 800, "height": 600})
    page.goto(f"{service.http_url}/#live/{layout}")
    page.locator("#live-stage .render .empty").wait_for(state="hidden")
    until_drawn(page, "#live-stage .render canvas")
    for other in ("header", "#record", "figcaption", "#session-title", "footer", "aside"):
        assert not page.locator(other).first.is_visible(), other
    box = page.locator("#live-stage .render canvas").bounding_box()
    assert abs(box["width"] - (800 if layout == "left" else 400)) < 2 and box["x"] < 2
    page.goto(f"{service.http_url}/#takes")
    page.locator("header").wait_for()


def test_a_long_name_of_a_game_leaves_room_for_the_pictures(page: Any, service: Service) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    with playing(service.endpoint, game="W" * 200):
        expect_text(page, "#health", "64×48")
        assert page.locator("header").bounding_box()["height"] < 130


def test_an_engine_is_paused_from_the_page(page: Any, service: Service) -> None:
    with engine(service.endpoint, token=service.token, capabilities=("pause", "dump")) as sender:
        send(sender, 1)
        controls = page.locator("#engine-controls button")
        playwright.expect(controls).to_have_count(2, timeout=90_000)
        controls.first.click()
        (control,) = until(sender.controls, what="the control")
        assert control.name == "pause"
    playwright.expect(controls).to_have_count(0, timeout=90_000)


def test_a_lost_daemon_is_said_and_nothing_can_be_pressed(browser: Any, service: Service) -> None:
    page = browser.new_page()
    page.goto(service.http_url)
    playwright.expect(page.locator("#health")).to_contain_text("No engine", timeout=90_000)
    service.stop()
    playwright.expect(page.locator("#health")).to_contain_text("No connection to the daemon", timeout=90_000)
    playwright.expect(page.get_by_role("button", name="Record")).to_be_disabled(timeout=90_000)
    page.close()


def test_single_keys_can_be_switched_off(page: Any, service: Service) -> None:
    page.get_by_role("button", name="Keys").click()
    expect_text(page, "#keys-list", "Full screen")
    page.get_by_label("Single keys do something").uncheck()
    page.get_by_role("button", name="Close").click()
    page.locator("#keys-dialog").wait_for(state="hidden")
    pictures = page.locator("#live-stage .pictures")
    before = pictures.get_attribute("class")
    page.keyboard.press("w")
    page.keyboard.press("?")
    page.get_by_label("Single keys do something").check()
    page.keyboard.press("Escape")
    page.locator("#keys-dialog").wait_for(state="hidden")
    assert pictures.get_attribute("class") == before
    page.keyboard.press("w")
    until(lambda: pictures.get_attribute("class") != before, what="the other layout")


@pytest.mark.parametrize("size", WIDTHS)
def test_every_view_fits_and_axe_finds_no_serious_fault(
    page: Any, service: Service, request: pytest.FixtureRequest, size: tuple[int, int]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    name = record(service, 6)
    make_lift(service, name, (0, 6))
    request.getfixturevalue("game")
    (service.config.takes / "broken").mkdir()
    (service.config.takes / "broken" / "take.json").write_text("{")
    shutil.copytree(service.config.takes / name, service.config.takes / "deleted")
    service.library.trash("deleted")
    page.set_viewport_size({"width": size[0], "height": size[1]})
    expect_text(page, "#health", "64×48")
    faults: list[str] = []

    def examine(view: str) -> None:
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0], view
        for fault in axe.Axe().run(page).response["violations"]:
            if fault["impact"] in ("serious", "critical", "moderate"):
                faults.extend(f"{view}: {fault['id']}: {node['html'][:200]}" for node in fault["nodes"])

    examine("live")
    page.goto(f"{service.http_url}/#takes")
    page.locator("#trash summary").click()
    page.locator("#trash-list li").wait_for()
    examine("takes")
    open_take(page, name)
    page.locator("#take .lifted .empty").wait_for(state="hidden")
    examine("take")
    for opens, dialog in (("Lift …", "#lift-dialog"), ("Export …", "#export-dialog"), ("Rename …", "#name-dialog")):
        page.get_by_role("button", name=opens, exact=True).first.click()
        page.locator(dialog).wait_for()
        examine(dialog)
        page.keyboard.press("Escape")
        page.locator(dialog).wait_for(state="hidden")
    page.get_by_role("button", name="Keys").click()
    expect_text(page, "#keys-list", "Full screen")
    examine("keys")
    page.keyboard.press("Escape")
    page.locator("#keys-dialog").wait_for(state="hidden")
    page.goto(f"{service.http_url}/#pairs")
    expect_text(page, "#pairs-root .hint", "realmaster pairs")
    examine("pairs")
    page.goto(f"{service.http_url}/#take/nothing")
    expect_text(page, "#take", "there is no take")
    assert faults == []


def test_nothing_from_outside_becomes_html(page: Any, service: Service, request: pytest.FixtureRequest) -> None:
    name = record(service, 4, game=HTML)
    make_lift(service, name, (0, 4))
    request.getfixturevalue("game")
    open_take(page, name)
    expect_text(page, "#take", HTML)
    page.goto(f"{service.http_url}/#take/{HTML.replace(' ', '%20')}")
    expect_text(page, "#take-name", HTML)
    assert page.locator("img[src=x]").count() == 0 and "owned" not in (page.title(),)
