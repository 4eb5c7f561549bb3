"""Checks that need files or tools: what the fixtures give them, and what stays refused."""

from pathlib import Path

import pytest
from conftest import Run

CONFIGURATION = '[tool.ruff.lint]\nselect = ["DTZ"]\n[tool.mypy]\nstrict = true\n'
FAULTY = "from datetime import datetime\n\n\ndef now():\n    return datetime.utcnow()\n"
FINDS = """

from proven_backend.tools import mypy, ruff


async def test_tools_find(project):
    (project / "bad.py").write_text({faulty!r})

    assert [(f.code, f.file, f.line) for f in ruff(project)] == {ruff}
    assert [(f.code, f.file, f.line) for f in mypy(project, "bad.py")] == {mypy}
"""


@pytest.fixture
def checks(pack: Path) -> Path:
    """The checks of a topic whose submission also has a pyproject.toml."""
    (pack / "sub" / "orders" / "pyproject.toml").write_text(CONFIGURATION)
    return pack / "checks" / "test_orders.py"


def add(checks: Path, text: str) -> None:
    """Adds check functions to a file."""
    checks.write_text(checks.read_text() + text)


def test_tools_run_over_the_files_under_grade(checks: Path, run: Run) -> None:
    found = {"ruff": "[('DTZ003', 'bad.py', 5)]", "mypy": "[('no-untyped-def', 'bad.py', 4)]"}
    add(checks, FINDS.format(faulty=FAULTY, **found))

    result = run("--target=sub", "-k", "test_tools_find")

    assert "1 passed" in result.stdout


def test_tools_obey_the_configuration_under_grade(pack: Path, checks: Path, run: Run) -> None:
    (pack / "sub" / "orders" / "pyproject.toml").write_text('[tool.ruff.lint]\nselect = ["E"]\n')
    add(checks, FINDS.format(faulty=FAULTY, ruff="[]", mypy="[]"))

    result = run("--target=sub", "-k", "test_tools_find")

    assert "1 passed" in result.stdout


BROKEN = {
    "ruff": ("[tool.ruff]\nno-such-option = 1\n", "ruff cannot run: "),
    "mypy": ("[tool.mypy]\nplugins = 'no_such_plugin'\n", "mypy cannot run: "),
}


@pytest.mark.parametrize("tool", BROKEN)
def test_a_broken_configuration_gets_the_tools_own_words(
    pack: Path, checks: Path, run: Run, tool: str
) -> None:
    configuration, words = BROKEN[tool]
    (pack / "sub" / "orders" / "pyproject.toml").write_text(configuration)
    listed = checks.read_text().index("async def test_")
    text = checks.read_text()
    name = text[listed:].removeprefix("async def ").partition("(")[0]
    call = {"ruff": "ruff(project)", "mypy": 'mypy(project, "app.py")'}[tool]
    checks.write_text(
        f"from proven_backend.tools import {tool}\n\n\n"
        f'async def {name}(project):\n    """It runs."""\n    {call}\n'
    )

    result = run("--target=sub", "-k", name)

    assert words in result.stdout
    assert "1 failed" in result.stdout


def test_a_configuration_changes_no_file_elsewhere(
    pack: Path, checks: Path, run: Run, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (pack / "sub" / "orders" / "pyproject.toml").write_text(
        f'[tool.ruff]\ncache-dir = "{outside}"\nfix = true\nfix-only = true\n'
        '[tool.ruff.lint]\nselect = ["DTZ"]\n'
        f'[tool.mypy]\nstrict = true\ncache_dir = "{outside}"\nhtml_report = "{outside}"\n'
    )
    add(checks, FINDS.format(faulty=FAULTY, ruff="[('DTZ003', 'bad.py', 5)]", mypy="[]"))

    run("--target=sub", "-k", "test_tools_find")

    assert not outside.exists()


ESCAPES = {
    "another command": 'subprocess.run([*RUFF[:-1], "/"], cwd=os.getcwd(), env={})',
    "another folder": 'subprocess.run(RUFF, cwd="/", env={})',
    "an environment": 'subprocess.run(RUFF, cwd=os.getcwd(), env={"RUFF_OUTPUT_FILE": "/x"})',
}


@pytest.mark.parametrize("escape", ESCAPES)
def test_code_under_grade_may_run_nothing_but_the_one_command(
    pack: Path, run: Run, escape: str
) -> None:
    app = pack / "sub" / "orders" / "app.py"
    start = f"import os, subprocess\nfrom proven_backend.sandbox import RUFF\n{ESCAPES[escape]}\n"
    app.write_text(start + app.read_text())

    result = run("--target=sub")

    assert "may not start or signal a process (subprocess.Popen)" in result.stdout


def test_a_database_without_tables_stands_beside_the_other(checks: Path, run: Run) -> None:
    add(
        checks,
        """

from sqlalchemy import inspect


async def test_empty_has_no_table(db, empty):
    async def tables(observer):
        async with observer.engine.connect() as connection:
            return await connection.run_sync(lambda sync: inspect(sync).get_table_names())

    assert "shop.db" in db.url
    assert (await tables(db) != [], await tables(empty)) == (True, [])
""",
    )

    result = run("--target=sub", "-k", "test_empty_has_no_table")

    assert "1 passed" in result.stdout


def test_a_project_is_gone_after_its_check(pack: Path, checks: Path, run: Run) -> None:
    (pack / "sub" / "orders" / "settings.ini").write_text("[a]\n")
    use = "    (project / 'left.py').write_text('')\n    import left\n"
    look = (
        "    assert 'left' not in sys.modules\n    assert sys.path == PATH\n"
        "    assert (project / 'settings.ini').read_text() == '[a]\\n'\n"
        "    assert not (project / 'left.py').exists()\n"
    )
    add(
        checks,
        "\nimport sys\n\nPATH = sys.path.copy()\n\n\n"
        f"async def test_project_used(project):\n    sys.path.insert(0, str(project))\n{use}\n\n"
        f"async def test_project_fresh(project):\n{look}",
    )

    result = run("--target=sub", "-k", "test_project")

    assert "2 passed" in result.stdout


def test_a_lifespan_may_yield_state(pack: Path, checks: Path, run: Run) -> None:
    app = pack / "sub" / "orders" / "app.py"
    app.write_text(
        app.read_text()
        + """

from contextlib import asynccontextmanager


@asynccontextmanager
async def lifespan(app):
    yield {"greeting": "good morning"}


def create_greeter():
    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/", greet)
    return app


def greet(request: Request):
    return request.state.greeting
"""
    )
    add(
        checks,
        "\n\nasync def test_greets(app, serve):\n"
        "    client = await serve(app.create_greeter())\n"
        "    assert (await client.get('/')).json() == 'good morning'\n",
    )

    result = run("--target=sub", "-k", "test_greets")

    assert "1 passed" in result.stdout


def test_a_slow_tool_is_given_more_time(checks: Path, run: Run) -> None:
    add(
        checks,
        "\n\nimport pytest\n\n\n@pytest.mark.time_limit(3)\n"
        "async def test_list_in_order(app):\n    while True:\n        pass\n",
    )

    result = run("--target=sub", "--time-limit=1", "-k", "test_list_in_order")

    assert "it still ran after 3 s" in result.stdout
