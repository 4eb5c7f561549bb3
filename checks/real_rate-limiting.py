"""The same rule of rate-limiting with two web processes and a real Redis."""

import asyncio
from collections import Counter

import pytest


@pytest.mark.time_limit(60)
async def test_share_the_counter(web):
    """Ten requests a minute are ten, however many processes serve them."""
    seams = {"reads": "10/minute", "patience": 5}
    processes = await asyncio.gather(web(**seams), web(**seams))

    answers = [
        (await processes[turn % 2].get("/shipping", params={"grams": 500})).status_code
        for turn in range(20)
    ]

    assert Counter(answers) == {200: 10, 429: 10}, "each process counts for itself"
