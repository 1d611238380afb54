"""The docs' site: it builds strictly and fetches nothing; what is generated is the code's."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import yaml
from support.browser import Page, open_browser
from typer.main import get_command

from slipway.commands.cli import app
from slipway.commands.stage_pages import leaves
from slipway.components.config.model import Project
from slipway.components.config.monitoring import AlertName
from slipway.components.config.orchestration import Schedule
from slipway.components.config.project import load_project
from slipway.components.config.training import TrainingConfig
from slipway.components.support.errors import ProjectError
from slipway.components.support.images import STAGES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
# Sections that a page shows a part of, and that say by themselves whether that part is one.
SECTIONS = ("gate", "training", "deployment", "monitoring", "orchestration")


def load(name: str) -> ModuleType:
    """A module of docs/_site, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "_site" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("mkdocs"), "build", "--site-dir", site]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def test_nothing_is_fetched_when_a_page_is_read(site: Path) -> None:
    loaded = r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"?(https?:)?//"
    outside = [page for page in site.rglob("*.html") if re.search(loaded, page.read_text())]
    assert outside == []
    sheets = "".join(sheet.read_text() for sheet in site.rglob("*.css"))
    assert not re.search(r"@import|url\(\"?(https?:)?//", sheets)


def test_search_code_copy_and_a_dark_scheme_are_there(site: Path) -> None:
    page = (site / "start/five-minutes/index.html").read_text()
    for feature in ("content.code.copy", 'data-md-color-scheme="slate"', 'class="highlight"'):
        assert feature in page, feature
    index = (site / "search/search_index.json").read_text()
    assert "Point in time" in index
    assert "components/register/" in index


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_a_page_can_be_read_by_everybody(site: Path, page: Page, width: int, scheme: str) -> None:
    """Nothing that axe-core finds, in the theme's parts either; nothing beyond a telephone's edge."""
    page.prefer(scheme)
    found = {}
    for name in ("", "start/five-minutes/", "own-data/", "components/register/", "features/"):
        page.open(site / name / "index.html", width)
        assert page.scheme() == {"light": "default", "dark": "slate"}[scheme]
        faults = page.violations() + (["too wide"] if page.overflow() else [])
        found |= {name: faults} if faults else {}
    assert found == {}


def test_a_dead_link_a_dead_anchor_and_a_page_without_a_place_fail_the_build(
    tmp_path: Path,
) -> None:
    shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    settings = (ROOT / "mkdocs.yml").read_text().replace("hooks: [docs/_site/hooks.py]\n", "")
    (tmp_path / "mkdocs.yml").write_text(settings)
    (tmp_path / "docs/nowhere.md").write_text("[a](no-page.md) [b](gate.md#no-anchor)\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    for complaint in ("'no-page.md'", "no anchor '#no-anchor'", "nowhere.md"):
        assert complaint in done.stderr.replace("does not contain an", "no"), complaint


def test_the_project_file_has_every_setting(site: Path) -> None:
    page = (site / "reference/project/index.html").read_text()
    for name in ("data", "features", *SECTIONS):
        for key, _ in leaves(Project.model_fields[name].annotation):  # type: ignore[arg-type]
            shown = key.replace("<", "&lt;").replace(">", "&gt;")
            assert f"<code>{shown}</code>" in page, f"{name}: {key}"


def test_the_commands_page_has_every_command(site: Path) -> None:
    page = (site / "reference/commands/index.html").read_text()
    group: Any = get_command(app)
    for name in group.commands:
        assert f"slipway {name}" in page, name


@pytest.mark.parametrize("stage", STAGES)
def test_a_component_has_a_page_with_its_face_image_rights_and_errors(
    stage: str, site: Path
) -> None:
    page = (site / f"components/{stage}/index.html").read_text()
    for part in (
        "Inputs and outputs",
        f"images/{stage}/Dockerfile",
        "workflowtaskresults",
        "Errors",
    ):
        assert part in page, part


def test_every_error_stands_by_its_text(site: Path, tmp_path: Path) -> None:
    messages = load("messages")
    page = (site / "start/troubleshooting/index.html").read_text()
    assert "The window is empty: … is not before …." in page
    assert page.count("components/ingest/") > 30
    (tmp_path / "code.py").write_text(
        'def f(x):\n    where = f"{x}: the file"\n'
        '    raise SlipwayError(f"{where} is {x} bytes" " long.")\n'
    )
    [found] = messages.read_messages(tmp_path, tmp_path)
    assert found.text == "…: the file is … bytes long."
    committed = messages.PAGE.read_text()
    assert committed == messages.renewed(committed), "stale: make compile"


def test_the_pictures_are_those_that_the_script_draws() -> None:
    pictures = load("pictures")
    drawn = {f"{name}.svg": pictures.draw(picture) for name, picture in pictures.PICTURES.items()}
    there = {path.name: path.read_text() for path in pictures.FOLDER.glob("*.svg")}
    assert there == drawn


def blocks() -> list[Any]:
    """The parts of a project file that pages show, by page."""
    found = []
    for page in sorted(DOCS.rglob("*.md")):
        if page.name == "your-own-code.md":  # needs its package, and has a test of its own
            continue
        for text in re.findall(r"^ *```yaml\n(.*?)^ *```", page.read_text(), re.M | re.S):
            shown = yaml.safe_load(text)
            if isinstance(shown, dict) and {*shown} <= {*SECTIONS, "schedules"}:
                found.append(pytest.param(shown, id=f"{page.relative_to(DOCS)}-{len(found)}"))
    return found


@pytest.mark.parametrize("shown", blocks())
def test_a_part_of_a_project_file_on_a_page_is_one(shown: dict[str, Any]) -> None:
    for name, value in shown.items():
        if name == "schedules":
            assert [Schedule.model_validate(schedule) for schedule in value.values()]
        else:
            section: Any = Project.model_fields[name].annotation
            assert section.model_validate(value)


def test_what_choosing_a_gate_lets_be_refused_is_refused() -> None:
    page = (DOCS / "start/choosing-a-gate.md").read_text()
    (tried,) = re.findall(r"--set (features\.label\S+)", page)
    key, _, value = tried.partition("=")
    with pytest.raises(ProjectError, match=r"features\.label"):
        load_project(ROOT / "examples/flights", {key: value})


def test_operations_says_what_to_do_about_every_alert() -> None:
    page = (DOCS / "operate/operations.md").read_text()
    rules = (ROOT / "manifests/monitoring/rules.yaml").read_text()
    names = [*get_args(AlertName), "GATE_OVERRIDDEN", "GATE_REFUSED", "PIPELINE_FAILED"]
    names += re.findall(r"alert: (\w+)", rules)
    rows = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| "))
    assert [name for name in names if not re.search(rf"\b{name}\b", rows)] == []


def test_the_project_is_described_by_one_sentence() -> None:
    sentence = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["description"]
    assert f"\nsite_description: {sentence}\n" in (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "README.md", DOCS / "index.md"):
        first = page.read_text().split("\n\n")[1]
        assert " ".join(first.split()) == f"{sentence}.", page


def test_the_recipe_of_small_tables_is_the_one_that_is_taken() -> None:
    page = (DOCS / "training.md").read_text()
    settings = TrainingConfig().resolve(1000)
    network = settings.network
    assert network.architecture == "tabm"
    recipe = (
        f"TabM {network.layers} × {network.width} with {network.tabm_heads} heads, dropout"
        f" {network.dropout}"
    )
    assert recipe in page
    assert f"about {settings.min_steps:,} steps of {settings.batch_size} rows" in page
