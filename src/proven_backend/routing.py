"""The eval files of the skills, and which skill a query finds by the words of their descriptions.

`eval_queries.json` holds what people type; `evals.json` holds tasks, in the form of the Agent
Skills specification. Both are for those who change a skill: no reader and no client is given them.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from proven_backend.pack import Pack, PackError
from proven_backend.packtests import each_topic, pack_test

MOST_CHARACTERS = 7_500  # of all descriptions: clients cut off what is over their budget
EACH, EVALS, SHARE = 10, 3, 0.85
ASSERTION = re.compile(r"obeys ([a-z0-9-]+): .+")
Text = Annotated[str, Field(min_length=1)]


class Query(BaseModel):
    """What a person types, and whether that should load the skill; if not, which other one."""

    model_config = ConfigDict(extra="forbid", strict=True)
    query: Text
    should_trigger: bool
    loads: str | None = None


class Eval(BaseModel):
    """A task that tempts into the faults of a skill, and what must hold of the answer."""

    model_config = ConfigDict(extra="forbid", strict=True)
    id: int
    prompt: Text
    expected_output: Text
    files: list[str] = []
    assertions: Annotated[list[str], Field(min_length=1)]


class Evals(BaseModel):
    """The tasks of one skill."""

    model_config = ConfigDict(extra="forbid", strict=True)
    skill_name: str
    evals: list[Eval]


@dataclass(frozen=True)
class Routed:
    """A query of a topic's file, and the topic that it finds."""

    topic: str
    query: Query
    found: str | None


def router(texts: dict[str, str]) -> Callable[[str], str | None]:
    """A function that names the text that is nearest to a query; None if they share no word.

    Nearest is the cosine of TF-IDF vectors: of lower-case words as they stand, no stop words, with
    1 + log(tf) and log(texts / texts with the word).
    """

    def count(text: str) -> Counter[str]:
        return Counter(re.findall(r"[a-z0-9]+", text.lower()))

    counts = {name: count(text) for name, text in texts.items()}
    spread = Counter(word for counted in counts.values() for word in counted)

    def vector(counted: Counter[str]) -> dict[str, float]:
        weights = {
            word: (1 + math.log(times)) * math.log(len(texts) / spread[word])
            for word, times in counted.items()
            if word in spread
        }
        length = math.hypot(*weights.values()) or 1
        return {word: weight / length for word, weight in weights.items()}

    vectors = {name: vector(counted) for name, counted in counts.items()}

    def nearest(query: str) -> str | None:
        asked = vector(count(query))
        near = {
            name: sum(weight * held.get(word, 0) for word, weight in asked.items())
            for name, held in vectors.items()
        }
        best = max(near, key=lambda name: near[name])
        return best if near[best] > 0 else None

    return nearest


def _read(pack: Pack, topic: str, name: str, form: Any) -> Any:
    """An eval file of a skill, in its form; PackError where it has another."""
    file = pack.skill(topic).parent / "evals" / name
    where = file.relative_to(pack.root)
    if not file.is_file():
        raise PackError(f"{where} is missing: write it")
    try:
        return TypeAdapter(form).validate_json(file.read_bytes())
    except ValidationError as fault:
        first = fault.errors()[0]
        raise PackError(f"{where}: at {list(first['loc'])}: {first['msg']}") from None


def queries(pack: Pack, topic: str) -> list[Query]:
    """What people type for a topic, and for its neighbours; PackError in another form."""
    read: list[Query] = _read(pack, topic, "eval_queries.json", list[Query])
    return read


def routed(pack: Pack) -> list[Routed]:
    """Every query of the pack with the topic that it finds."""
    topics = pack.topics()
    nearest = router({topic: f"{topic} {pack.description(topic)}" for topic in topics})
    return [
        Routed(topic, query, nearest(query.query))
        for topic in topics
        for query in queries(pack, topic)
    ]


def summary(pack: Pack) -> Iterator[str]:
    """How many queries find their skill, and a line for each that does not."""
    try:
        all_routed = routed(pack)
    except PackError:
        return  # the pack tests say why
    wanted = [each for each in all_routed if each.query.should_trigger]
    near = [each for each in all_routed if not each.query.should_trigger]
    missed = [each for each in wanted if each.found != each.topic]
    away = sum(each.found != each.topic for each in near)
    yield (
        f"{len(wanted) - len(missed)} of {len(wanted)} queries find their skill by TF-IDF over the "
        f"descriptions, {away} of {len(near)} near misses do not find it"
    )
    for each in missed:
        asked = " ".join(each.query.query.split())
        yield f"  {each.topic} is missed, {each.found or 'nothing'} is found by: {asked}"


@pack_test
def queries_find_their_skill(pack: Pack) -> Iterator[str]:
    """Nearly all queries that should load a skill have the words of its description."""
    wanted = [each for each in routed(pack) if each.query.should_trigger]
    if not wanted:
        yield "no skill has a query that should load it: nothing was tested"
        return
    found = sum(each.found == each.topic for each in wanted)
    if found < SHARE * len(wanted):
        yield (
            f"{found} of {len(wanted)} queries find their skill, and {SHARE:.0%} must: the last "
            "lines of the proof name the others; say in the descriptions what people type"
        )


@each_topic
def queries_are_whole(pack: Pack, topic: str) -> Iterator[str]:
    """Ten queries should load the skill, and ten others another one or none."""
    where = f"skills/{topic}/evals/eval_queries.json"
    asked = queries(pack, topic)
    loading = sum(query.should_trigger for query in asked)
    if (loading, len(asked) - loading) != (EACH, EACH):
        yield (
            f"{where}: {loading} queries should load the skill and {len(asked) - loading} "
            f"should not: write {EACH} of each"
        )
    for text, times in Counter(query.query for query in asked).items():
        if times > 1:
            yield f"{where}: '{text}' stands there {times} times: keep one"
    neighbours = {None, *pack.topics()} - {topic}
    for query in asked:
        if query.should_trigger == ("loads" in query.model_fields_set):
            yield f"{where}: '{query.query}': a near miss says what it loads, and only a near miss"
        elif not query.should_trigger and query.loads not in neighbours:
            yield f"{where}: '{query.query}' loads {query.loads}: name another topic, or null"


@each_topic
def evals_are_whole(pack: Pack, topic: str) -> Iterator[str]:
    """The tasks of a skill have assertions, each names a rule, and each rule has one."""
    where = f"skills/{topic}/evals/evals.json"
    read: Evals = _read(pack, topic, "evals.json", Evals)
    if read.skill_name != topic:
        yield f"{where}: skill_name is {read.skill_name}: it must be {topic}"
    if len(read.evals) < EVALS:
        yield f"{where} has {len(read.evals)} evals: write at least {EVALS}"
    if [each.id for each in read.evals] != [*range(1, len(read.evals) + 1)]:
        yield f"{where}: number the evals 1, 2, 3 in 'id'"
    rules, named = {rule.id for rule in pack.rules(topic)}, set()
    for each in read.evals:
        for assertion in each.assertions:
            match = ASSERTION.fullmatch(assertion)
            if not match or match[1] not in rules:
                yield f"{where}: eval {each.id}: '{assertion}' must be 'obeys RULE: what one sees'"
            else:
                named.add(match[1])
    for rule in sorted(rules - named):
        yield f"{where}: no assertion names {rule}: write a task that tempts to break it"


@pack_test
def descriptions_fit_a_client(pack: Pack) -> Iterator[str]:
    """All descriptions together are short enough to be listed whole."""
    characters = sum(len(pack.description(topic)) for topic in pack.topics())
    if characters > MOST_CHARACTERS:
        yield f"the descriptions have {characters} characters: {MOST_CHARACTERS} are the most"
    if not characters:
        yield "skills/ holds no topic: nothing was tested"
