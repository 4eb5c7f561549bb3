"""The same rule of rate-limiting with two web processes and a real Redis."""

from collections import Counter


async def test_share_the_counter(web):
    """Ten requests a minute are ten, however many processes serve them."""
    processes = [await web(reads="10/minute", patience=5) for _ in range(2)]

    answers = [
        (await processes[turn % 2].get("/shipping", params={"grams": 500})).status_code
        for turn in range(20)
    ]

    assert Counter(answers) == {200: 10, 429: 10}, "each process counts for itself"
