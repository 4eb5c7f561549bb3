"""The pack's own tests: each takes the pack and yields one sentence for every fault."""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator

from proven_backend import generate, programs
from proven_backend.message import check_function
from proven_backend.pack import FRONTMATTER, Pack, PackError, check_names, todos

PACK_TESTS: dict[str, Callable[[Pack], Iterator[str]]] = {}
MOST_RULES = 7
CLAIM = re.compile(
    r"^\| (?P<claim>.+?) \| (?P<seed>S\d.*?) \| (?P<verdict>.+?) \| (?P<shown>.+) \|$"
)
VERDICTS = ("true", "incomplete", "outdated", "wrong")
FIRST_LINE = 7  # of a SKILL.md that a page shows: the head above it is for agents
OUTSIDE = re.compile(r"`((?:\.\.|checks|solutions|exercises|docs)/\w[^`]*)`")
DESCRIPTION = re.compile(r"Use when [^#<>]{100,290}")


def pack_test(test: Callable[[Pack], Iterator[str]]) -> Callable[[Pack], Iterator[str]]:
    """Registers a pack test under its function's name."""
    PACK_TESTS[test.__name__.replace("_", "-")] = test
    return test


def each_topic(test: Callable[[Pack, str], Iterator[str]]) -> Callable[[Pack], Iterator[str]]:
    """A pack test made of a test of one topic; no topic at all is a fault."""

    def whole(pack: Pack) -> Iterator[str]:
        if not pack.topics():
            yield "skills/ holds no topic: nothing was tested"
        for topic in pack.topics():
            try:
                yield from test(pack, topic)
            except (PackError, OSError, SyntaxError) as fault:
                yield f"{topic}: {fault}"

    whole.__name__ = test.__name__
    return pack_test(whole)


def with_task(pack: Pack, kind: str) -> set[str]:
    """The topics that have a stub or solution (kind "exercises", "solutions")."""
    folders = [folder.name for folder in (pack.root / kind).glob("*")]
    return {name for name in folders if pack.task(kind, name).is_file()}


@pack_test
def topics_agree(pack: Pack) -> Iterator[str]:
    """Skills, exercises, solutions, checks, docs and the nav name the same topics."""
    topics = set(pack.topics())
    nav = set(
        re.findall(r"([a-z0-9-]+)\.md$", (pack.root / "mkdocs.yml").read_text(), re.MULTILINE)
    )
    places = {
        "exercises": with_task(pack, "exercises"),
        "solutions": with_task(pack, "solutions"),
        "checks": {f.stem.removeprefix("test_") for f in pack.root.glob("checks/test_*.py")},
        "docs": {f.stem for f in pack.root.glob("docs/*.md")} & topics,
        "mkdocs.yml's nav": nav & topics,
    }
    if not topics:
        yield "skills/ holds no topic: nothing was tested"
    for place, names in places.items():
        for name in sorted(names ^ topics):
            have, lack = (place, "skills") if name in names else ("skills", place)
            yield f"topic {name} is in {have} but not in {lack}: add it there or delete it here"


@each_topic
def rules_agree(pack: Pack, topic: str) -> Iterator[str]:
    """Skill, checks and stub have the same rules; checks stand in the order of the skill."""
    rules = pack.rules(topic)
    ids = [rule.id for rule in rules]
    functions = check_names(pack.checks(topic))
    if functions != [rule.check for rule in rules]:
        for name in sorted(set(functions) ^ {rule.check for rule in rules}):
            rule = name.removeprefix("test_").replace("_", "-")
            if name in functions:
                yield f"checks/test_{topic}.py: {name} has no rule: add '### {rule}' to SKILL.md"
            else:
                yield f"skills/{topic}/SKILL.md: {rule} has no check: write {name}"
        if set(functions) == {rule.check for rule in rules}:
            yield f"checks/test_{topic}.py: order the checks as SKILL.md orders its rules"
    stub = programs.original(pack, "exercises", topic)
    asked = Counter(todo.rule for todo in todos(stub.sources))
    for rule in sorted({*ids, *asked}):
        if asked[rule] != 1 or rule not in ids:
            yield (
                f"exercises/{topic}: {asked[rule]} TODOs of {rule}, "
                f"which SKILL.md {'has' if rule in ids else 'lacks'}: one TODO a rule"
            )
    for todo in todos(programs.original(pack, "solutions", topic).sources):
        yield f"solutions/{topic}/{todo.file}:{todo.line}: a solution has a TODO: delete it"


@pack_test
def ids_are_unique(pack: Pack) -> Iterator[str]:
    """A rule id names one rule of the whole pack, and is kebab-case."""
    count = Counter(rule.id for topic in pack.topics() for rule in pack.rules(topic))
    if not count:
        yield "no skill has a rule: nothing was tested"
    for rule, times in count.items():
        if times > 1:
            yield f"{rule} names {times} rules: rename all but one"
        if not re.fullmatch(r"[a-z]+(-([a-z]+|[1-5]\d\d))+", rule):
            yield f"{rule} is no id: lower-case words and status codes, joined by hyphens"


@each_topic
def rules_are_whole(pack: Pack, topic: str) -> Iterator[str]:
    """Every rule has a sentence, a reason, two wrongs and a right; every check has a promise."""
    rules = pack.rules(topic)
    if not 1 <= len(rules) <= MOST_RULES:
        yield f"skills/{topic}/SKILL.md has {len(rules)} rules: one to {MOST_RULES} make a topic"
    for rule in rules:
        if not rule.sentence or not rule.reason:
            yield f"{rule.where}: {rule.id} needs a bold sentence and, after it, what one would see"
        if any(pair.right is None for pair in rule.pairs):
            yield f"{rule.where}: {rule.id} has a wrong without a right: add the right below it"
        wrongs = sum(len(pair.wrongs) for pair in rule.pairs)
        if wrongs < 2:
            yield f"{rule.where}: {rule.id} has {wrongs} wrongs: print at least two"
        if rule.check in check_names(pack.checks(topic)):
            function = check_function(pack.checks(topic), rule.check)
            if not ast.get_docstring(function):
                where = f"checks/test_{topic}.py:{function.lineno}"
                yield f"{where}: {rule.id} has no promise: write the check's docstring"


@each_topic
def pairs_fit_the_solution(pack: Pack, topic: str) -> Iterator[str]:
    """Each right stands once in the solution; what goes in its place is something else."""
    solution = programs.original(pack, "solutions", topic)
    for rule in pack.rules(topic):
        for kind in ("wrong", "also right"):
            try:
                for snippet, program in programs.swaps(solution, rule, kind):
                    if program.sources == solution.sources:
                        yield f"{snippet.where}: this {kind} equals its right: make them differ"
            except PackError as fault:
                yield str(fault)


@each_topic
def stub_and_solution_agree(pack: Pack, topic: str) -> Iterator[str]:
    """They differ only below TODOs, every TODO has something to do, and the task is the same."""
    stub = programs.original(pack, "exercises", topic)
    solution = programs.original(pack, "solutions", topic)
    found = programs.hunks(stub, solution)
    for todo in todos(stub.sources):
        if todo.rule not in {hunk.rule for hunk in found}:
            yield f"exercises/{topic}/{todo.file}:{todo.line}: nothing differs below this TODO"
    for file in stub.sources:
        if not file.endswith(".py"):
            continue
        tasks = [ast.get_docstring(ast.parse(p.sources[file])) for p in (stub, solution)]
        if tasks[0] != tasks[1]:
            yield f"exercises/{topic}/{file}: its docstring is not the solution's: make it so"
    task = pack.task("exercises", topic)
    if not ast.get_docstring(ast.parse(task.read_text())):
        yield f"{task.relative_to(pack.root)}: has no docstring: it is the task"


@each_topic
def skills_load(pack: Pack, topic: str) -> Iterator[str]:
    """The frontmatter is valid, references are named and there, and nothing leads elsewhere."""
    file = pack.skill(topic)
    text, where = file.read_text(), f"skills/{topic}/SKILL.md"
    import yaml  # here: only a proof needs it

    match = FRONTMATTER.match(text)
    front = yaml.safe_load(match[1]) if match else None
    if not isinstance(front, dict) or not {"name", "description"} <= front.keys():
        yield f"{where}: begin with frontmatter that holds name and description"
        return
    if not re.match(r"---\nname: .+\ndescription: .+\n---\n\n# .+\n\n", text):
        yield f"{where}: lay its head out as name, description, '---', blank, '# Title', blank"
    if front["name"] != topic:
        yield f"{where}: name is {front['name']}: it must be {topic}"
    description = str(front["description"])
    if not DESCRIPTION.fullmatch(description) or ": " in description:
        yield (
            f"{where}: the description must be 120 to 300 characters, begin 'Use when', "
            f"and hold no colon, #, < or >; it has {len(description)}"
        )
    for asset in file.parent.glob("assets/[!.]*"):
        solved = pack.root / "solutions" / topic / asset.name
        if not solved.is_file() or solved.read_bytes() != asset.read_bytes():
            yield f"{asset.relative_to(pack.root)} is not the solution's: copy it from there"
        if f"`assets/{asset.name}`" not in text:
            yield f"{where}: assets/{asset.name} is not named: name it in code font"
    there = {f"references/{part.name}" for part in file.parent.glob("references/*.md")}
    named = set(re.findall(r"`(references/[\w.-]+\.md)`", text))
    for name in sorted(there ^ named):
        yield f"{where}: {name} is {'not named' if name in there else 'named but missing'}"
    for part in [file, *file.parent.glob("references/*.md")]:
        relative = part.relative_to(pack.root)
        for link in re.findall(r"\]\((?!https://)([^)]*)\)", part.read_text()):
            yield f"{relative}: links to {link}: name it in code font, an included page cannot link"
        for path in re.findall(OUTSIDE, part.read_text()):
            yield f"{relative}: names {path}: clients copy the skill's own folder, name the rule id"


@pack_test
def claims_are_shown(pack: Pack) -> Iterator[str]:
    """Every claim has a verdict, and names rules that exist or says why there is none.

    The page's table counts them by document.
    """
    page = pack.root / "docs" / "claims.md"
    lines = page.read_text().splitlines() if page.is_file() else []
    rules = {(topic, rule.id) for topic in pack.topics() for rule in pack.rules(topic)}
    claims = [(number, m) for number, line in enumerate(lines, 1) if (m := CLAIM.match(line))]
    if not claims:
        yield "docs/claims.md holds no claim: nothing was tested"
    for number, claim in claims:
        where = f"docs/claims.md:{number}"
        if claim["verdict"] not in VERDICTS:
            yield f"{where}: '{claim['verdict']}' is no verdict: {', '.join(VERDICTS)}"
        named = re.findall(r"\[`([^`]*)`\]\(([^)#]*)\.md#([^)]*)\)", claim["shown"])
        if not named and not claim["shown"].startswith("no rule: "):
            yield f"{where}: names no rule: link one, or say 'no rule: ' and why"
        for shown, topic, rule in named:
            if shown != rule or (topic, rule) not in rules:
                yield f"{where}: there is no rule {shown} at {topic}.md#{rule}: name one that is"
    for document in sorted({name for _, claim in claims for name in claim["seed"].split(", ")}):
        made = [claim["verdict"] for _, claim in claims if document in claim["seed"].split(", ")]
        counts = [made.count(verdict) for verdict in VERDICTS]
        row = " | ".join(map(str, [f"| `{document}`", *counts, f"{len(made)} |"]))
        if row not in lines:
            yield f"docs/claims.md: does not count {document} right: write {row}"


@pack_test
def docs_are_current(pack: Pack) -> Iterator[str]:
    """Topic pages include the files that they show; generated pages are as generated."""
    for topic in pack.topics():
        page = pack.root / "docs" / f"{topic}.md"
        text = page.read_text() if page.is_file() else ""
        for part in (
            f"skills/{topic}/SKILL.md:{FIRST_LINE}:",
            pack.task("exercises", topic).relative_to(pack.root).as_posix(),
            f"checks/test_{topic}.py",
            f"docs/rules.md:{topic}",
            "docs/rules.md:versions",
        ):
            if f'--8<-- "{part}"' not in text:
                yield f'docs/{topic}.md does not include {part}: add the line --8<-- "{part}"'
        for reference in pack.skill(topic).parent.glob("references/*.md"):
            page = pack.root / "docs" / topic / reference.name
            part = f"skills/{topic}/references/{reference.name}"
            if not page.is_file() or f'--8<-- "{part}"' not in page.read_text():
                yield f"docs/{topic}/{reference.name} does not include {part}: make it do so"
    try:
        generated = generate.generated(pack)
    except PackError as fault:
        yield str(fault)
        return
    for file, content in generated.items():
        if file.suffix == ".zip" and not file.exists():
            continue  # git does not keep it; its digest stands in the index
        if not file.is_file() or file.read_bytes() != content:
            yield f"{file.relative_to(pack.root)} is stale: run proven generate"
    for archive in sorted({*pack.root.glob("docs/.well-known/agent-skills/*")} - {*generated}):
        yield f"{archive.relative_to(pack.root)} is of no skill: delete it"
