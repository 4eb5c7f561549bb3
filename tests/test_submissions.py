"""A submission that cannot be graded gets one plain sentence, and the others their verdict."""

from pathlib import Path

import pytest
from conftest import Run, edit

HANDLER = 'return {"sku": sku}'
IMPORT = '"""A shop takes orders'

AT_IMPORT = {
    "a syntax error": ("def broken(:\n", "Python cannot read it: "),
    "a missing package": ("import no_such_package\n", "No module named 'no_such_package'"),
    "an absolute import": ("from orders.models import Base\n", "No module named 'orders'"),
    "an error of its own": ("1 / 0\n", "ZeroDivisionError: division by zero (app.py:1)"),
    "sys.exit": ("import sys\nsys.exit(0)\n", "it called sys.exit(0) while it was imported"),
    "os._exit": ("import os\nos._exit(0)\n", "ended itself (exit status 0) while its app.py"),
    "a signal": ("import ctypes\nctypes.string_at(0)\n", "ended by SIGSEGV while its app.py"),
    "an endless loop": ("while True: pass\n", "it still ran after 2 s"),
    "a deaf loop": (
        (
            "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\n"
            "while True: pass\n"
        ),
        "it did not answer in its time and was ended",
    ),
    "no text": (b"\xff\xfe\x00", "cannot be read as text"),
}


@pytest.mark.parametrize("fault", AT_IMPORT)
def test_a_program_that_cannot_be_imported_gets_one_sentence(
    pack: Path, run: Run, fault: str
) -> None:
    code, sentence = AT_IMPORT[fault]
    app = pack / "sub" / "orders" / "app.py"
    app.write_bytes((code if isinstance(code, bytes) else code.encode()) + app.read_bytes())

    result = run("--target=sub", "--time-limit=2")

    assert result.stdout.count(sentence) == 1
    assert "1 failed, 2 passed, 1 not graded" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


GONE = {
    "its folder": ("", "orders: its folder is missing"),
    "its file": ("app.py", "orders: it has no app.py"),
}


@pytest.mark.parametrize("what", GONE)
def test_a_missing_part_gets_one_sentence(pack: Path, run: Run, what: str) -> None:
    name, sentence = GONE[what]
    (pack / "sub" / "orders" / "app.py").unlink()
    if not name:
        (pack / "sub" / "orders").rmdir()

    result = run("--target=sub")

    assert result.stdout.count(sentence) == 1
    assert "1 failed, 2 passed, 1 not graded" in result.stdout


def test_a_missing_create_app_gets_one_sentence(pack: Path, run: Run) -> None:
    edit(pack / "sub" / "orders" / "app.py", "def create_app", "def make_app")

    result = run("--target=sub")

    assert result.stdout.count("app.py defines no create_app") == 1
    assert "1 failed, 2 passed, 1 not graded" in result.stdout


IN_A_HANDLER = {
    "os._exit": ("import os\n        os._exit(0)", "ended itself (exit status 0)"),
    "sys.exit": ("raise SystemExit(0)", "the code called sys.exit(0)"),
    "an endless wait": (
        "import asyncio\n        await asyncio.Event().wait()",
        "it still ran after 2 s at app.py:41",
    ),
    "a blocking sleep": (
        "import time\n        time.sleep(60)",
        "it still ran after 2 s at app.py:41",
    ),
    "an endless loop": ("while True: pass", "it still ran after 2 s at app.py:40"),
}


@pytest.mark.parametrize("fault", IN_A_HANDLER)
def test_a_handler_that_does_not_come_back_fails_one_rule(pack: Path, run: Run, fault: str) -> None:
    code, sentence = IN_A_HANDLER[fault]
    edit(pack / "sub" / "orders" / "app.py", HANDLER, code)

    result = run("--target=sub", "--time-limit=2")

    assert result.stdout.count(sentence) == 1
    assert "1 failed, 3 passed" in result.stdout


NOISY = {
    "prints megabytes": "print('x' * 50_000_000)",
    "writes megabytes": "import os\nfor _ in range(500): os.write(1, b'x' * 100_000)",
    "changes the folder": "import os\nos.chdir('/')",
    "sets the environment": "import os\nos.environ.clear()\nos.environ['PATH'] = '/nowhere'",
    "listens everywhere": (
        "from sqlalchemy import event\nfrom sqlalchemy.engine import Engine\n"
        "@event.listens_for(Engine, 'before_cursor_execute')\n"
        "def broken(*a): raise RuntimeError('not for others')"
    ),
    "patches a library": "import fastapi\nfastapi.FastAPI.get = None",
}


@pytest.mark.parametrize("noise", NOISY)
def test_the_other_topics_are_not_affected(pack: Path, run: Run, noise: str) -> None:
    app = pack / "sub" / "orders" / "app.py"
    app.write_text(app.read_text() + "\n" + NOISY[noise] + "\n")

    result = run("--target=sub", "checks/test_prices.py", "-v")

    assert "test_add_the_tax PASSED" in result.stdout
    assert "test_share_the_bill PASSED" in result.stdout
    assert len(result.stdout) < 10_000


def test_tasks_left_running_do_not_reach_the_next_check(pack: Path, run: Run) -> None:
    edit(
        pack / "sub" / "orders" / "app.py",
        HANDLER,
        "import asyncio\n        request = asyncio.create_task(asyncio.sleep(3600))\n"
        '        return {"sku": sku}',
    )

    result = run("--target=sub")

    assert "4 passed" in result.stdout


def test_what_was_printed_is_shown(pack: Path, run: Run) -> None:
    edit(pack / "sub" / "orders" / "app.py", HANDLER, 'print("sku is", sku)\n        return 1 / 0')

    result = run("--target=sub")

    assert "printed   sku is tea" in result.stdout


def test_a_failure_without_its_skill_is_told_all_the_same(pack: Path, run: Run) -> None:
    edit(pack / "sub" / "orders" / "app.py", HANDLER, "raise ValueError")
    (pack / "skills" / "orders" / "SKILL.md").unlink()

    result = run("--target=sub")

    assert "skills/orders/SKILL.md is missing: write it" in result.stdout
    assert "INTERNALERROR" not in result.stdout


def test_tables_that_cannot_be_made_are_told(pack: Path, run: Run) -> None:
    convention = (
        'class Base(DeclarativeBase):\n    metadata = MetaData(naming_convention={"pk": "pk"})\n'
    )
    app = pack / "sub" / "orders" / "app.py"
    text = app.read_text().replace("class Base(DeclarativeBase):\n    pass\n", convention)
    text = text.replace("    sku: Mapped[str]", "    sku: Mapped[str] = mapped_column(index=True)")
    app.write_text(text)
    edit(app, "from sqlalchemy import", "from sqlalchemy import MetaData,")

    result = run("--target=sub")

    assert result.stdout.count("its tables cannot be made: AssertionError") == 2


def test_a_warning_while_it_is_imported_is_no_failure(pack: Path, run: Run) -> None:
    app = pack / "sub" / "orders" / "app.py"
    app.write_text(app.read_text() + '\n\nimport warnings\n\nwarnings.warn("old", stacklevel=2)\n')

    result = run("--target=sub")

    assert "4 passed" in result.stdout
