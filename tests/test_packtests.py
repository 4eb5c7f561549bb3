"""Each pack test is seen red: a fault is put into the demonstration pack, and its sentence read."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run, edit

from proven_backend.pack import Pack
from proven_backend.proof import PACK_TESTS, list_of

SKILL, SKILLS = "skills/orders/SKILL.md", ["skills/orders/SKILL.md", "skills/prices/SKILL.md"]
QUERIES, EVALS = "skills/orders/evals/eval_queries.json", "skills/orders/evals/evals.json"
BAKE, CAKE = '"bake a cake", "should_trigger": false', '"loads": "cakes"'
RIGHT = 'SessionDep = Annotated[AsyncSession, Depends(open_session, scope="function")]'
Fault = Callable[[Path], object]


def replaced(file: str, old: str, new: str) -> Fault:
    """A fault that replaces text in a file of the pack."""
    return lambda pack: edit(pack / file, old, new)


def appended(file: str, text: str) -> Fault:
    """A fault that adds text to a file of the pack."""
    return lambda pack: (pack / file).write_text((pack / file).read_text() + text)


def deleted(file: str) -> Fault:
    """A fault that deletes a file of the pack."""
    return lambda pack: (pack / file).unlink()


FAULTS: dict[str, tuple[Fault, str]] = {
    "a topic without checks": (
        deleted("checks/test_prices.py"),
        "topic prices is in skills but not in checks: add it there or delete it here",
    ),
    "a topic without a skill": (
        deleted("skills/prices/SKILL.md"),
        "topic prices is in exercises but not in skills: add it there or delete it here",
    ),
    "a topic that the nav lacks": (
        replaced("mkdocs.yml", "  - Prices: prices.md\n", ""),
        "topic prices is in skills but not in mkdocs.yml's nav",
    ),
    "a heading renamed in one place only": (
        replaced(SKILL, "### list-in-order", "### list-by-number"),
        "skills/orders/SKILL.md: list-by-number has no check: write test_list_by_number",
    ),
    "a check without a rule": (
        appended("checks/test_orders.py", "\n\nasync def test_extra(client):\n    assert client\n"),
        "checks/test_orders.py: test_extra has no rule: add '### extra' to SKILL.md",
    ),
    "checks in another order": (
        lambda pack: swap_checks(pack / "checks/test_prices.py"),
        "checks/test_prices.py: order the checks as SKILL.md orders its rules",
    ),
    "a rule without a TODO": (
        replaced("exercises/orders/app.py", "# TODO list-in-order: which", "# which"),
        "exercises/orders: 0 TODOs of list-in-order, which SKILL.md has: one TODO a rule",
    ),
    "a TODO in a solution": (
        replaced(
            "solutions/prices/app.py", "def create_app", "# TODO add-the-tax: why?\ndef create_app"
        ),
        "solutions/prices/app.py:12: a solution has a TODO: delete it",
    ),
    "an id twice in the pack": (
        replaced("skills/prices/SKILL.md", "### add-the-tax", "### list-in-order"),
        "list-in-order names 2 rules: rename all but one",
    ),
    "an id that is none": (
        replaced(SKILL, "### list-in-order", "### List2"),
        "List2 is no id: lower-case words and status codes, joined by hyphens",
    ),
    "a rule without a reason": (
        replaced(SKILL, "Rows come back as the database likes.\n", ""),
        "list-in-order needs a bold sentence and, after it, what one would see",
    ),
    "a rule without a fence": (
        lambda pack: cut(pack / SKILL, "```python", "### list-in-order"),
        "commit-before-reply has 0 wrongs: print at least two",
    ),
    "a wrong without a right": (
        replaced(SKILL, f'```python title="right"\n{RIGHT}\n```\n', ""),
        "commit-before-reply has a wrong without a right: add the right below it",
    ),
    "a right without a wrong": (
        appended(SKILL, '\n```python title="right"\nx = 1\n```\n'),
        "a second right of list-in-order without a wrong of its own: add the wrong",
    ),
    "a fence outside a rule": (
        replaced(SKILL, "# Orders\n", '# Orders\n\n```python title="wrong"\nx = 1\n```\n'),
        'title="wrong" stands under no rule: put it under its H3',
    ),
    "a right that is not in the solution": (
        replaced(SKILL, RIGHT, RIGHT.replace("function", "other")),
        "this right stands 0 times in the solution",
    ),
    "a right that is there twice": (
        appended("solutions/orders/app.py", f"\n\n{RIGHT}\n"),
        "this right stands 2 times in the solution",
    ),
    "a wrong that equals its right": (
        replaced(
            "skills/prices/SKILL.md", "return cents // (people + 1)", "return round(cents / people)"
        ),
        "this wrong equals its right: make them differ",
    ),
    "a wrong that passes": (
        replaced(
            "skills/prices/SKILL.md", "return cents // (people + 1)", "return cents // people"
        ),
        "this wrong passes test_share_the_bill: the check does not see it",
    ),
    "a wrong with an error of its own": (
        replaced(
            "skills/prices/SKILL.md", "return cents // (people + 1)", "return round(cent / people)"
        ),
        "this wrong has an error of its own: NameError: name 'cent' is not defined",
    ),
    "a wrong that breaks everything": (
        replaced(SKILL, 'Depends(open_session, scope="request")', "Depends(lambda: None)"),
        "this wrong",
    ),
    "an also right that is wrong": (
        replaced(SKILL, "row.sku for row", "row.sku.upper() for row"),
        "test_list_in_order fails: assertion: ",
    ),
    "a stub that is solved": (
        replaced(
            "exercises/prices/app.py",
            "return cents\n\n    @app",
            "return cents * 120 // 100\n\n    @app",
        ),
        "test_add_the_tax passes on the stub: plant the fault that it looks for",
    ),
    "a TODO with nothing to do": (
        replaced(
            "exercises/orders/app.py",
            "raise NotImplementedError",
            "return list(await session.scalars(select(Order.sku).order_by(Order.id)))",
        ),
        "test_list_in_order passes on the stub",
    ),
    "a stub that differs above its TODOs": (
        replaced("exercises/orders/app.py", '__tablename__ = "orders"', '__tablename__ = "order"'),
        "differs from the solution above its first TODO: only imports may",
    ),
    "another task in the stub": (
        replaced("exercises/prices/app.py", "by person.", "for two."),
        "differs from the solution above its first TODO: only imports may",
    ),
    "two TODOs in one hunk": (
        replaced(
            "exercises/prices/app.py",
            "# TODO add-the-tax",
            "# TODO share-the-bill: who?\n        # TODO add-the-tax",
        ),
        "exercises/prices: 2 TODOs of share-the-bill",
    ),
    "a check that a hollow app passes": (
        replaced(
            "checks/test_prices.py", "assert shared.json() == 30", "assert shared.json() != 90"
        ),
        "test_share_the_bill passes on hollow None: assert the good path too",
    ),
    "a check without a promise": (
        replaced("checks/test_prices.py", '    """A price of 100 at 20 percent is 120."""\n', ""),
        "add-the-tax has no promise: write the check's docstring",
    ),
    "a name that is not the folder's": (
        replaced(SKILL, "name: orders", "name: order"),
        "skills/orders/SKILL.md: name is order: it must be orders",
    ),
    "a short description": (
        replaced(
            "skills/prices/SKILL.md", " one about a tax and one about a bill that people share.", ""
        ),
        "the description must be 120 to 300 characters",
    ),
    "a long description": (
        replaced(SKILL, "the order of a list.", "the order of a list" + ", or of another" * 12),
        "the description must be 120 to 300 characters",
    ),
    "descriptions that are too long together": (
        replaced(SKILL, "the order of a list.", "the order of a list" + ", or of another" * 500),
        "characters: 7500 are the most",
    ),
    "a skill without queries": (
        deleted(QUERIES),
        f"{QUERIES} is missing: write it",
    ),
    "queries of another form": (
        replaced(QUERIES, '"order the list by id", "should_trigger"', '"order it", "loads_it"'),
        f"{QUERIES}: at [3, 'should_trigger']: Field required",
    ),
    "a query too few": (
        replaced(QUERIES, '  {"query": "order the list by id", "should_trigger": true},\n', ""),
        f"{QUERIES}: 9 queries should load the skill and 10 should not: write 10 of each",
    ),
    "a query that stands there twice": (
        replaced(QUERIES, '"order the list by id"', '"the list has no order"'),
        f"{QUERIES}: 'the list has no order' stands there 2 times: keep one",
    ),
    "a near miss that does not say what it loads": (
        replaced(QUERIES, '"bake a cake", "should_trigger": false, "loads": null', BAKE),
        f"{QUERIES}: 'bake a cake': a near miss says what it loads, and only a near miss",
    ),
    "a near miss that loads no topic": (
        replaced(
            QUERIES, '"bake a cake", "should_trigger": false, "loads": null', f"{BAKE}, {CAKE}"
        ),
        f"{QUERIES}: 'bake a cake' loads cakes: name another topic, or null",
    ),
    "a description without the words that people type": (
        replaced(
            "skills/prices/SKILL.md", "a tax and one about a bill that people", "x and y that z"
        ),
        "of 20 queries find their skill, and 85% must",
    ),
    "a skill without evals": (
        deleted(EVALS),
        f"{EVALS} is missing: write it",
    ),
    "evals of another skill": (
        replaced(EVALS, '"skill_name": "orders"', '"skill_name": "prices"'),
        f"{EVALS}: skill_name is prices: it must be orders",
    ),
    "evals without a number of their own": (
        replaced(EVALS, '"id": 3', '"id": 2'),
        f"{EVALS}: number the evals 1, 2, 3 in 'id'",
    ),
    "evals that are too few": (
        lambda pack: cut(pack / EVALS, ',\n    {\n      "id": 3', "\n  ]"),
        f"{EVALS} has 2 evals: write at least 3",
    ),
    "an assertion that names no rule": (
        lambda pack: (pack / EVALS).write_text(
            (pack / EVALS).read_text().replace("obeys list-in-order", "obeys list-by-name")
        ),
        f"{EVALS}: eval 1: 'obeys list-by-name: the list is in the order of its ids' must be",
    ),
    "a rule that no assertion names": (
        lambda pack: (pack / EVALS).write_text(
            (pack / EVALS).read_text().replace("list-in-order", "commit-before-reply")
        ),
        f"{EVALS}: no assertion names list-in-order: write a task that tempts to break it",
    ),
    "a reference that is not named": (
        lambda pack: write(pack / "skills/orders/references/more.md", "# More\n"),
        "skills/orders/SKILL.md: references/more.md is not named",
    ),
    "a reference without a page": (
        lambda pack: write(pack / "skills/orders/references/more.md", "# More\n"),
        "docs/orders/more.md does not include skills/orders/references/more.md: make it do so",
    ),
    "a head of another layout": (
        replaced(SKILL, "\n# Orders\n", "# Orders\n"),
        "skills/orders/SKILL.md: lay its head out as name, description",
    ),
    "a link out of a skill": (
        appended(SKILL, "\nSee [more](../prices/SKILL.md).\n"),
        "links to ../prices/SKILL.md: name it in code font",
    ),
    "a link out of a reference": (
        lambda pack: write(pack / "skills/orders/references/more.md", "[Up](../SKILL.md)\n"),
        "skills/orders/references/more.md: links to ../SKILL.md: name it in code font",
    ),
    "a path out of a skill": (
        appended(SKILL, "\nSee `checks/test_orders.py`.\n"),
        "skills/orders/SKILL.md: names checks/test_orders.py: clients copy the skill's own folder",
    ),
    "a skill that the specification refuses": (
        replaced(SKILL, "---\n\n#", "level: 1\n---\n\n#"),
        "skills/orders/SKILL.md: agentskills validate says: Unexpected fields in frontmatter",
    ),
    "a plugin that agnix refuses": (
        replaced(
            ".claude-plugin/marketplace.json", '"name": "proven-backend",\n  "owner"', '"owner"'
        ),
        "agnix CC-MP-001: Marketplace is missing required 'name'",
    ),
    "a skill that is too long": (
        appended(SKILL, "\n" + "Orders are kept. " * 1250),
        "tokens: 5000 are the most",
    ),
    "a reference that is too long": (
        lambda pack: write(
            pack / "skills/orders/references/more.md", "# More\n\n" + "Orders are kept. " * 1250
        ),
        "skills/orders/references/more.md has 5004 tokens: 5000 are the most",
    ),
    "skills that are long in the median": (
        lambda pack: [appended(file, "\n" + "Orders are kept. " * 700)(pack) for file in SKILLS],
        "tokens in the median: 2500 are the most",
    ),
    "a stale marketplace": (
        replaced(".claude-plugin/marketplace.json", '"./prices"', '"./price"'),
        ".claude-plugin/marketplace.json is stale: run proven generate",
    ),
    "a stale archive of a skill": (
        lambda pack: write(pack / "docs/.well-known/agent-skills/orders.zip", ""),
        "docs/.well-known/agent-skills/orders.zip is stale: run proven generate",
    ),
    "a stale digest of a skill": (
        lambda pack: write(pack / "skills/orders/references/more.md", "# More\n"),
        "docs/.well-known/agent-skills/index.json is stale: run proven generate",
    ),
    "an archive of no skill": (
        lambda pack: write(pack / "docs/.well-known/agent-skills/old.zip", ""),
        "docs/.well-known/agent-skills/old.zip is of no skill: delete it",
    ),
    "a page without its includes": (
        lambda pack: write(pack / "docs/orders.md", "# Orders\n"),
        "docs/orders.md does not include exercises/orders/app.py",
    ),
    "a stale index": (
        replaced(SKILL, "**Give every list an order.**", "**Order every list.**"),
        "docs/rules.md is stale: run proven generate",
    ),
    "a page without its part of the index": (
        replaced("docs/prices.md", '--8<-- "docs/rules.md:prices"\n', ""),
        "docs/prices.md does not include docs/rules.md:prices",
    ),
    "a version that is not pinned": (
        replaced("constraints.txt", "fastapi==1.0\n", ""),
        "constraints.txt does not pin fastapi: add it",
    ),
    "a page of claims without a claim": (
        deleted("docs/claims.md"),
        "docs/claims.md holds no claim: nothing was tested",
    ),
    "a claim that names a rule that is none": (
        replaced("docs/claims.md", "orders.md#list-in-order", "prices.md#list-in-order"),
        "docs/claims.md:11: there is no rule list-in-order at prices.md#list-in-order",
    ),
    "a claim that names no rule": (
        replaced("docs/claims.md", "no rule: ", "none: "),
        "docs/claims.md:12: names no rule: link one, or say 'no rule: ' and why",
    ),
    "a claim that is not counted": (
        replaced("docs/claims.md", "| `S1` | 1 |", "| `S1` | 2 |"),
        "docs/claims.md: does not count S1 right: write | `S1` | 1 | 0 | 0 | 0 | 1 |",
    ),
    "a claim with another verdict": (
        replaced("docs/claims.md", "S0 | wrong |", "S0 | bad |"),
        "docs/claims.md:11: 'bad' is no verdict: true, incomplete, outdated, wrong",
    ),
    "an asset that is not the solution's": (
        lambda pack: write(pack / "skills/orders/assets/app.py", "x = 1\n"),
        "skills/orders/assets/app.py is not the solution's: copy it from there",
    ),
    "an asset that is not named": (
        lambda pack: write(
            pack / "skills/orders/assets/app.py", (pack / "solutions/orders/app.py").read_text()
        ),
        "skills/orders/SKILL.md: assets/app.py is not named: name it in code font",
    ),
    "a solution that is wrong": (
        replaced("solutions/prices/app.py", "cents: int, people: int)", "cents: int, men: int)"),
        "test_share_the_bill fails: assertion: ",
    ),
}


def swap_checks(file: Path) -> None:
    """Puts the second check of a file before the first."""
    first, second = file.read_text().split("\n\n\n")
    file.write_text(f"{second.strip()}\n\n\n{first.strip()}\n")


def cut(file: Path, start: str, end: str) -> None:
    """Drops the text from the first `start` up to `end`."""
    text = file.read_text()
    file.write_text(text[: text.index(start)] + text[text.index(end) :])


def write(file: Path, text: str) -> None:
    """Writes a file and the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_pack_is_named(pack: Path, run: Run, fault: str) -> None:
    plant, sentence = FAULTS[fault]
    plant(pack)

    if any(sentence in said for said in by_pack_tests(pack)):
        return
    result = run("--prove")

    assert sentence in result.stdout
    assert result.returncode == 1


def by_pack_tests(pack: Path) -> list[str]:
    """What the pack tests alone say, which run no program and so need no process of their own."""
    return [said for test in PACK_TESTS.values() for said in list_of(test, Pack(pack))]


def test_what_a_pack_test_says_fails_the_proof(pack: Path, run: Run) -> None:
    write(pack / "docs/rules.md", "")

    result = run("--prove")

    assert "docs/rules.md is stale: run proven generate" in result.stdout
    assert result.returncode == 1


def test_the_demonstration_pack_is_proven(run: Run) -> None:
    result = run("--prove")

    assert result.returncode == 0, result.stdout
    assert "proven on SQLite: 2 topics, 4 rules, 8 counter-examples caught" in result.stdout
    assert "20 of 20 queries find their skill by TF-IDF over the descriptions" in result.stdout


def test_a_query_that_finds_another_skill_is_named_in_a_proof_that_holds(
    pack: Path, run: Run
) -> None:
    edit(pack / QUERIES, '"order the list by id"', '"share a\\nbill"')

    result = run("--prove")

    assert "19 of 20 queries find their skill by TF-IDF over the descriptions" in result.stdout
    assert "  orders is missed, prices is found by: share a bill\n" in result.stdout
    assert result.returncode == 0
