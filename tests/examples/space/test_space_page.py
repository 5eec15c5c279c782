"""The page in a browser, started as on the Hub: without the package, models with their own code."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import nibabel
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

import viewer

SPACE = Path(viewer.__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WITHOUT_PACKAGE = (
    "import runpy, sys; sys.modules['unimiss_hf'] = None; sys.path.insert(0, sys.argv[1]); "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0] + '/app.py', run_name='__main__')"
)


@pytest.fixture(scope="module")
def server(model_folders, images_folder, tmp_path_factory):
    """The page's address, and the folder in which it keeps its files."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    work = tmp_path_factory.mktemp("server")
    models = [part for name, path in model_folders.items() for part in (f"--{name}", str(path))]
    command = [sys.executable, "-c", WITHOUT_PACKAGE, str(SPACE), *models]
    command += ["--samples", str(images_folder), "--port", str(port)]
    environment = {**os.environ, "TMPDIR": str(work), "HF_MODULES_CACHE": str(work / "modules")}
    with (work / "log.txt").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, (work / "log.txt").read_text()
            try:
                urlopen(address, timeout=5).close()
                break
            except URLError:
                time.sleep(0.1)
        (files,) = work.glob("unimiss_space_*")
        yield address, files
    finally:
        process.terminate()
        process.wait()
    assert not files.exists()


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert found, f"There is none of {BROWSERS} on the PATH; make browser installs one."
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=found, args=options)
        yield browser
        browser.close()


@pytest.fixture
def hosts():
    """The hosts that the page asked for anything."""
    return set()


@pytest.fixture
def page(browser, server, hosts):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.set_default_timeout(20_000)
    page.goto(server[0])
    page.locator("#upload input[type=file]").wait_for(state="attached")
    yield page
    page.close()


def drop(page, path):
    page.locator("#upload input[type=file]").set_input_files(path)


def opened(page, name):
    expect(page.locator(".state.ready")).to_contain_text(name, timeout=20_000)


def picture(page):
    return page.locator("img.plane").get_attribute("src")


def changes(page, before):
    expect(page.locator("img.plane")).not_to_have_attribute("src", before)
    return picture(page)


def test_a_ct_is_scrolled_windowed_searched_and_segmented(page, server, hosts, ct_path, tmp_path):
    drop(page, ct_path)
    opened(page, "body.nii.gz")
    expect(page.locator(".side.left")).to_have_text("R")
    expect(page.locator("table.legend")).to_contain_text("ml")
    # Nothing of the upload is left on the disk of the server but the label map.
    files = [path for path in server[1].rglob("*") if path.is_file()]
    left = [path.name for path in files if path.stat().st_size]
    assert left == ["body_labels.nii.gz"]

    shown = picture(page)
    slider = page.locator("#slice input[type=range]")
    slider.focus()
    page.keyboard.press("ArrowRight")
    shown = changes(page, shown)
    expect(page.locator("img.plane")).to_have_attribute(
        "alt", "body.nii.gz, axial slice 8 of 12, segments"
    )
    slider.fill("2")
    shown = changes(page, shown)
    expect(page.locator("img.plane")).to_have_attribute(
        "alt", "body.nii.gz, axial slice 2 of 12, segments"
    )
    page.get_by_label("lung", exact=True).check()
    shown = changes(page, shown)
    expect(page.get_by_role("spinbutton", name="Level")).to_have_value("-600")
    page.get_by_label("features", exact=True).check()
    shown = changes(page, shown)

    page.locator("img.plane").click(position={"x": 200, "y": 150})
    expect(page.locator("#neighbours h3")).to_have_count(2)
    assert page.locator("#neighbours figure").count() > 2
    shown = changes(page, shown)
    page.get_by_role("spinbutton", name="Row (").fill("30")
    page.get_by_role("button", name="Find neighbours").press("Enter")
    shown = changes(page, shown)
    page.get_by_label("coronal").check()
    changes(page, shown)
    expect(page.locator(".side.top")).to_have_text("S")

    with page.expect_download() as download:
        page.locator("#download").click()
    download.value.save_as(tmp_path / "labels.nii.gz")
    found, stored = nibabel.load(tmp_path / "labels.nii.gz"), nibabel.load(ct_path)
    assert found.shape == stored.shape
    np.testing.assert_allclose(found.affine, stored.affine)
    assert hosts == {server[0].removeprefix("http://")}


def test_a_radiograph_is_classified_and_segmented(page, xray_path, tmp_path):
    drop(page, xray_path)
    opened(page, "chest.png")
    expect(page.locator("table.legend")).to_contain_text("pixels")
    expect(page.get_by_text("frontal")).to_be_visible()
    expect(page.locator("#slice")).not_to_be_visible()
    with page.expect_download() as download:
        page.locator("#download").click()
    download.value.save_as(tmp_path / "labels.png")
    assert Image.open(tmp_path / "labels.png").size == Image.open(xray_path).size


def test_a_broken_file_is_a_sentence_and_the_page_goes_on(page, tmp_path, xray_path):
    (tmp_path / "broken.nii.gz").write_bytes(b"no volume")
    drop(page, xray_path)
    opened(page, "chest.png")
    drop(page, tmp_path / "broken.nii.gz")
    alert = page.get_by_role("alert").filter(has_text="broken.nii.gz")
    expect(alert).to_be_visible()
    assert "unimiss_space" not in alert.inner_text()
    # Nothing of the image before stays, as if it were this one.
    expect(page.locator("img.plane")).to_have_count(0)
    expect(page.locator("#find")).not_to_be_visible()
    drop(page, xray_path)
    opened(page, "chest.png")


def test_files_go_when_the_visitor_leaves_and_nobody_sees_another_image(page, browser, server):
    page.get_by_role("button", name="CT body").click()
    opened(page, "body.nii.gz")
    other = browser.new_page()
    other.goto(server[0])
    expect(other.locator(".state.ready")).to_have_text("No image is open.")
    assert other.locator("img.plane").count() == 0
    other.close()
    before = set(server[1].rglob("body_labels.nii.gz"))
    page.goto("about:blank")
    for _ in range(100):
        if set(server[1].rglob("body_labels.nii.gz")) < before:
            return
        time.sleep(0.1)
    raise AssertionError(f"The visitor left, and of {before} all are still there.")


def test_a_phone_and_a_keyboard_reach_everything(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("button", name="CT body").click()
    opened(page, "body.nii.gz")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(45):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "[...document.querySelectorAll('#upload, #samples, #slice, #layer, #window, "
                "#download, #find')].find(e => e.contains(document.activeElement))?.id"
            )
        )
    assert {"upload", "samples", "slice", "layer", "window", "download", "find"} <= reached
    without_name = page.evaluate(
        "[...document.querySelectorAll('input:not([type=file])')].filter(input => "
        "input.offsetParent && !input.labels.length && !input.ariaLabel).length"
    )
    assert without_name == 0
