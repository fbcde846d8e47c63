"""A stream that is to learn anew: forgotten in memory and on the disk, or in neither."""

import asyncio
from collections import deque
from collections.abc import Mapping, MutableMapping
from concurrent.futures import Executor
from sqlite3 import Connection
from typing import TYPE_CHECKING

from agent.errors import AgentError, NotFound, NotReady
from agent.pipelines.stream import Stream
from agent.pipelines.writing import KEY
from agent.store import cases
from agent.store import streams as streams_table

if TYPE_CHECKING:
    from agent.pipelines.streams import Streams
    from agent.store.db import Database


class Relearning:
    """Used between the rounds of the pipelines, for one stream at a time."""

    def __init__(self, database: "Database", thread: Executor) -> None:
        self._database = database
        self._thread = thread  # in which streams are used
        self._requests: deque[tuple[str, asyncio.Future[bool]]] = deque()

    def request(self, name: str) -> "asyncio.Future[bool]":
        """Have a stream learn anew when its turn comes; the result is that of `run`."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._requests.append((name, told))
        return told

    async def run_due(
        self,
        streams: "Streams",
        settling: "Mapping[str, asyncio.Task[None]]",
    ) -> None:
        """Do what was requested; no batch is being scored meanwhile."""
        while self._requests:
            name, told = self._requests.popleft()
            if (task := settling.get(name)) is not None:
                await asyncio.wait((task,))
            try:
                result = await self.run(name, streams.get(name), streams.stored)
            except AgentError as error:
                told.set_exception(error)
            else:
                told.set_result(result)

    def close(self) -> None:
        """Tell whoever still waits that nothing will happen."""
        for _, told in self._requests:
            told.set_exception(NotReady("the agent is stopping"))

    async def run(
        self, name: str, stream: Stream | None, stored: MutableMapping[str, bytes]
    ) -> bool:
        """Forget what is normal for a stream; its counters stay.

        Args:
            name: of the stream.
            stream: None where it is not watched now.
            stored: states of streams that are not watched.

        Returns:
            Whether it is watched now.

        Raises:
            NotFound: there is no such stream.
            StorageFailed: nothing was written, and nothing forgotten.
        """
        if stream is None:
            stored.pop(name, None)
            if not await self._database.write(lambda c: streams_table.forget(c, KEY + name)):
                raise NotFound("there is no such stream", where=name[:256])
            return False
        loop = asyncio.get_running_loop()
        state, warning = await loop.run_in_executor(self._thread, stream.relearn)

        def write(connection: Connection) -> None:
            streams_table.save(connection, KEY + name, state)
            if warning:
                cases.close_subject(connection, warning)

        try:
            await self._database.write(write, urgent=True)
        except AgentError:
            await loop.run_in_executor(self._thread, stream.undo)
            raise
        stream.commit(state)
        return True
