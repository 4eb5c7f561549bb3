"""Plain cheats get no point."""

from pathlib import Path

import pytest
from conftest import Run, edit

FAULT = 'scope="function"'
AT_IMPORT = {
    "os._exit": "import os\nos._exit(0)",
    "an atexit hook": "import atexit, os\natexit.register(lambda: os._exit(0))",
    "patched pytest": (
        "import _pytest.python, _pytest.runner, pytest\n"
        "_pytest.python.Function.runtest = lambda self: None\n"
        "_pytest.runner.pytest_runtest_call = lambda item: None\n"
        "pytest.TestReport.passed = property(lambda self: True)"
    ),
    "patched asyncio": (
        "import pytest_asyncio.plugin as p\np.PytestAsyncioFunction.runtest = lambda s: 0"
    ),
    "a patched builtin exception": (
        "import builtins\nclass Quiet(BaseException): pass\nbuiltins.AssertionError = Quiet"
    ),
    "a skip for an AssertionError": (
        "import builtins, pytest\nbuiltins.AssertionError = pytest.skip.Exception"
    ),
    "a results file": (
        "from pathlib import Path\nPath('results.xml').write_text('<testsuite failures=\"0\"/>')"
    ),
    "the solution, read": (
        "from pathlib import Path\n"
        "exec((Path(__file__).parents[2] / 'solutions/orders/app.py').read_text())"
    ),
    "the solution, through a process": (
        "import subprocess\n"
        "from pathlib import Path\n"
        "path = str(Path(__file__).parents[2] / 'solutions/orders/app.py')\n"
        "exec(subprocess.run(['cat', path], capture_output=True, text=True).stdout)"
    ),
    "the solution, imported": (
        "import sys\nfrom pathlib import Path\n"
        "sys.path.insert(0, str(Path(__file__).parents[2] / 'solutions/orders'))\n"
        "del sys.modules[__name__]\nfrom app import *"
    ),
}


@pytest.mark.parametrize("cheat", AT_IMPORT)
def test_a_cheat_at_import_gets_no_point(pack: Path, run: Run, cheat: str) -> None:
    app = pack / "sub" / "orders" / "app.py"
    edit(app, f", {FAULT}", "")
    edit(app, "Order.id)))", "Order.sku)))")
    app.write_text(app.read_text() + "\n" + AT_IMPORT[cheat] + "\n")

    result = run("--target=sub", "-v")

    assert "test_commit_before_reply PASSED" not in result.stdout
    assert "test_list_in_order PASSED" not in result.stdout
    assert "test_share_the_bill PASSED" in result.stdout
    assert result.returncode == 1
    assert not list(pack.rglob("results.xml"))


IN_A_HANDLER = {
    "os._exit": "import os; os._exit(0)",
    "pytest.skip": "import pytest; pytest.skip('please')",
    "pytest.xfail": "import pytest; pytest.xfail('please')",
    "pytest.exit": "import pytest; pytest.exit('please', returncode=0)",
    "an object that equals everything": (
        "class Any(str):\n"
        "            __eq__ = lambda a, b: True\n            __hash__ = str.__hash__\n"
        "        return Any()"
    ),
}


@pytest.mark.parametrize("cheat", IN_A_HANDLER)
def test_a_cheat_in_a_handler_gets_no_point(pack: Path, run: Run, cheat: str) -> None:
    app = pack / "sub" / "orders" / "app.py"
    edit(
        app,
        "return list(await session.scalars(select(Order.sku).order_by(Order.id)))",
        IN_A_HANDLER[cheat],
    )
    edit(app, f", {FAULT}", "")

    result = run("--target=sub", "-v")

    assert "test_list_in_order PASSED" not in result.stdout
    assert "2 passed" in result.stdout
    assert result.returncode == 1


def test_its_own_configuration_is_not_read(pack: Path, run: Run) -> None:
    orders = pack / "sub" / "orders"
    edit(orders / "app.py", f", {FAULT}", "")
    for folder in (pack / "sub", orders):
        for name in ("conftest.py", "sitecustomize.py"):
            (folder / name).write_text("import os\nos._exit(0)\n")
        (folder / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
        (folder / "pyproject.toml").write_text('[tool.pytest]\naddopts = ["--no-such-option"]\n')

    for target in (["--target=sub"], ["--target", "sub"]):
        result = run(*target)

        assert "1 failed, 3 passed" in result.stdout
        assert result.returncode == 1


def test_it_writes_nothing_outside_its_folder(pack: Path, run: Run) -> None:
    app = pack / "sub" / "orders" / "app.py"
    outside = pack / "outside.txt"
    app.write_text(app.read_text() + f"\nopen({str(outside)!r}, 'w').write('x')\n")
    before = set(pack.rglob("*"))

    result = run("--target=sub")
    added = {path for path in set(pack.rglob("*")) - before if "__pycache__" not in path.parts}

    assert "may not write" in result.stdout
    assert added == set()


def test_a_link_to_the_solution_is_refused(pack: Path, run: Run) -> None:
    app = pack / "sub" / "orders" / "app.py"
    app.unlink()
    app.symlink_to(pack / "solutions" / "orders" / "app.py")

    result = run("--target=sub")

    assert "is a link that leads out of its folder" in result.stdout
    assert "1 failed, 2 passed, 1 not graded" in result.stdout
