"""Programs for workers: one that answers, and one for each way of going wrong."""

import ctypes
import os
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np

from agent.engines.worker.program import Answer, Program
from agent.errors import BadTensor
from agent.types import Tensors

HERE = "tests.support.programs"


class Echo(Program):
    """Gives back what it is given; its methods are those of this class."""

    def __init__(self, files: Mapping[str, bytes], options: Any) -> None:
        self.files = {name: bytes(data) for name, data in files.items()}
        self.description = {"options": options, "environment": sorted(os.environ)}
        if options == "segfault":
            self.segfault(None, {})
        if options == "hang":
            time.sleep(3600)

    def call(self, method: str, payload: Any, tensors: Tensors) -> Answer:
        answer: Answer = getattr(self, method)(payload, tensors)
        return answer

    def stream(
        self, method: str, payload: Any, tensors: Tensors, cancelled: Callable[[], bool]
    ) -> Iterator[Any]:
        """So many numbers; one below zero fails at that number."""
        for number in count():
            if method == "deaf":
                time.sleep(3600)
            if number == abs(payload):
                if payload < 0:
                    raise BadTensor("that many are too few")
                return
            yield number

    def echo(self, payload: Any, tensors: Tensors) -> Answer:
        return payload, tensors

    def file(self, payload: Any, tensors: Tensors) -> Answer:
        return self.files[payload], {}

    def pid(self, payload: Any, tensors: Tensors) -> Answer:
        return os.getpid(), {}

    def sleep(self, payload: Any, tensors: Tensors) -> Answer:
        time.sleep(payload)
        return None, {}

    def refuse(self, payload: Any, tensors: Tensors) -> Answer:
        raise BadTensor("expected FP32", where="x", hint="Send FP32")

    def stumble(self, payload: Any, tensors: Tensors) -> Answer:
        raise ZeroDivisionError("a mistake")

    def segfault(self, payload: Any, tensors: Tensors) -> Answer:
        ctypes.string_at(0)
        raise AssertionError

    def eat(self, payload: Any, tensors: Tensors) -> Answer:
        """So many MiB, touched."""
        return len(np.ones(payload * 2**20, np.uint8)), {}

    def clutch(self, payload: Any, tensors: Tensors) -> Answer:
        """Keep the interpreter, as native code that never lets it go."""
        ctypes.PyDLL(None).sleep(3600)
        raise AssertionError

    def unspeakable(self, payload: Any, tensors: Tensors) -> Answer:
        return object(), {}
