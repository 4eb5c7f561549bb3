"""Real processes that a check starts, ends and outlives."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

_GUARDIAN = 'read -r _; kill -9 -- "-$1" 2>/dev/null'  # when the check's own process is gone


class Process:
    """A running command and all that it starts; `log` is where its output goes."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process, self.log = process, log
        self.guardian = subprocess.Popen(
            ["sh", "-c", _GUARDIAN, "guardian", str(process.pid)],
            stdin=subprocess.PIPE,
            process_group=0,
        )

    @classmethod
    async def start(
        cls, command: str, arguments: Sequence[str], variables: dict[str, str], log: Path
    ) -> "Process":
        """Starts a command of this Python's environment in the folder of its log."""
        with log.open("w") as output:
            process = await asyncio.create_subprocess_exec(
                str(Path(sys.executable).with_name(command)),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                cwd=log.parent,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables},
                process_group=0,
            )
        return cls(process, log)

    async def kill(self) -> None:
        """Ends it at once (SIGKILL), with all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        self.guardian.communicate()

    def terminate(self) -> None:
        """Asks it to end (SIGTERM)."""
        self.process.terminate()

    async def says(self, words: str) -> bool:
        """Whether it has printed these words; AssertionError with its output where it has ended."""
        output = self.log.read_text()
        assert self.process.returncode is None, f"the process ended: {output[-2000:]}"
        return words in output


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Returns once a condition in another process holds; the check's time limit ends the wait."""
    while not await condition():  # noqa: ASYNC110 - no event reaches us from there
        await asyncio.sleep(0.02)
