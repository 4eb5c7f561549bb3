"""The skills are installed by the README's lines, and each client lists them: no login, no model.

Cursor's client is not on npm: the folder that its documentation names is asserted instead.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from filecmp import dircmp
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from proven_backend import generate
from proven_backend.pack import Pack

Run = Callable[..., str]
Listing = Callable[[Run, Path], list[str]]
PARTS = {"SKILL.md", "references", "assets", "evals"}


def codex(run: Run, folder: Path) -> list[str]:
    """The skills in the prompt that Codex would send."""
    prompt = json.dumps(json.loads(run("codex", "debug", "prompt-input", cwd=folder)))
    return re.findall(r"\(file: [^)]*?([a-z-]+)/SKILL\.md\)", prompt)


def copilot(run: Run, folder: Path) -> list[str]:
    """The skills that Copilot finds in a project."""
    found = json.loads(run("copilot", "skill", "list", "--json", cwd=folder))
    return [skill["name"] for skill in found if skill["enabled"]]


def gemini(run: Run, folder: Path) -> list[str]:
    """The skills that Gemini CLI finds in a folder that is trusted."""
    said = run("gemini", "skills", "list", cwd=folder, GEMINI_CLI_TRUST_WORKSPACE="true")
    return re.findall(r"^([a-z-]+) \[Enabled\]", said, re.MULTILINE)


def opencode(run: Run, folder: Path) -> list[str]:
    """The skills that OpenCode finds in a project."""
    return [skill["name"] for skill in json.loads(run("opencode", "debug", "skill", cwd=folder))]


CLIENTS: list[Listing] = [codex, copilot, gemini, opencode]


def lines(clone: Path, start: str) -> list[list[str]]:
    """The commands of the README that begin so, with the clone in the place of REPO."""
    readme = (clone / "README.md").read_text()
    found = re.findall(rf"^{start}.*$", readme, re.MULTILINE)
    assert found, f"README.md has no line that begins with {start}"
    words = [re.sub(r"\s+#.*", "", line).split() for line in found]
    return [[word.strip("'").replace("REPO", str(clone)) for word in line] for line in words]


def differences(ours: Path, theirs: Path) -> list[str]:
    """What two folders do not have in common, at any depth."""
    compared = dircmp(ours, theirs)
    found = [*compared.left_only, *compared.right_only, *compared.diff_files]
    for name in compared.common_dirs:
        found += [f"{name}/{inner}" for inner in differences(ours / name, theirs / name)]
    return found


def assert_whole(clone: Path, installed: Path, topics: list[str]) -> None:
    """The folder holds our skills, whole, and nothing else."""
    assert sorted(folder.name for folder in installed.iterdir()) == topics
    assert differences(clone / "skills", installed) == []
    assert {part.name for part in installed.glob("*/*")} <= PARTS


def test_the_skills_cli_lists_ours(clone: Path, topics: list[str], run: Run) -> None:
    said = run("skills", "add", ".", "--list", cwd=clone)

    assert f"Found {len(topics)} skills" in said
    assert sorted(re.findall(r"^│    ([a-z-]+)$", said, re.MULTILINE)) == topics


@pytest.mark.parametrize("client", CLIENTS)
def test_the_readmes_line_installs_for(
    client: Listing, clone: Path, topics: list[str], project: Path, run: Run
) -> None:
    for _npx, *command in lines(clone, "npx skills add"):
        run(*command)

    assert_whole(clone, project / ".agents" / "skills", topics)
    assert set(topics) <= set(client(run, project))


def test_the_readmes_line_fills_the_folders_of_claude_code_and_cursor(
    clone: Path, topics: list[str], project: Path, run: Run
) -> None:
    for _npx, *command in lines(clone, "npx skills add"):
        run(*command)

    assert_whole(clone, project / ".claude" / "skills", topics)  # Claude Code, as documented
    assert_whole(clone, project / ".agents" / "skills", topics)  # Cursor, as documented


def test_the_skills_cli_installs_from_git(
    clone: Path, topics: list[str], project: Path, run: Run
) -> None:
    run("skills", "add", f"file://{clone}", "--skill", "*", "--agent", "codex", "--yes")

    assert (
        json.loads((project / "skills-lock.json").read_text())["skills"][topics[0]]["sourceType"]
        == "git"
    )
    assert_whole(clone, project / ".agents" / "skills", topics)


def test_claude_code_installs_the_plugin(clone: Path, topics: list[str], run: Run) -> None:
    run("claude", "plugin", "validate", "--strict", clone)
    for command in lines(clone, "claude plugin"):
        run(*command)

    details = run("claude", "plugin", "details", "proven-backend")
    plugin = json.loads(run("claude", "plugin", "list", "--json"))[0]

    listed = re.search(rf"Skills \({len(topics)}\) +(.+)", details)
    assert listed, details
    assert sorted(listed[1].split(", ")) == topics
    installed = Path(plugin["installPath"])
    assert {part.name for part in installed.glob("*/*") if part.parent.name in topics} <= PARTS
    assert [file for file in installed.rglob("*.py") if file.is_file()] == [], "our solutions"


@pytest.mark.parametrize("client", CLIENTS)
def test_an_agent_in_the_checkout_sees_the_skills(
    client: Listing, clone: Path, topics: list[str], run: Run
) -> None:
    assert set(topics) <= set(client(run, clone))


@pytest.fixture
def site(clone: Path) -> Iterator[str]:
    """The address of the published files of docs/."""
    generate.write(Pack(clone))
    handler = partial(SimpleHTTPRequestHandler, directory=str(clone / "docs"))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_site_hands_the_skills_out(
    clone: Path, topics: list[str], project: Path, site: str, run: Run
) -> None:
    run("skills", "add", site, "--skill", "*", "--agent", "codex", "--yes")

    installed = project / ".agents" / "skills"
    assert sorted(folder.name for folder in installed.iterdir()) == topics
    for topic in topics:
        missing = set(differences(clone / "skills" / topic, installed / topic))
        assert missing <= {"evals"}, "an archive carries all but what tries the skill out"
