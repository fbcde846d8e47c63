"""A language model with nothing of ours around it: one JSON line asked, one answered.

``python -m bench._bare_language genai FOLDER THREADS`` or ``… llama FILE THREADS``. It is asked
``{"text": prompt, "tokens": n}`` and answers with the seconds to the first token, the seconds of the
others, their number, and this process's memory in MiB. Runs where only the library is installed.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def genai(folder, threads):
    """The loop of onnxruntime-genai's own examples, on as many threads as the daemon's."""
    import onnxruntime_genai as og

    config = og.Config(folder)
    session = {"intra_op_num_threads": int(threads)}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
    model = og.Model(config)
    tokenizer = og.Tokenizer(model)

    def write(text, tokens):
        prompt = tokenizer.encode(text)
        parameters = og.GeneratorParams(model)
        parameters.set_search_options(max_length=len(prompt) + tokens, do_sample=False)
        stream = tokenizer.create_stream()
        times = [time.perf_counter()]
        generator = og.Generator(model, parameters)
        generator.append_tokens(prompt)
        while not generator.is_done():
            generator.generate_next_token()
            stream.decode(generator.get_next_tokens()[0])
            times.append(time.perf_counter())
        return times

    return write


def llama(file, threads):
    """llama.cpp by llama-cpp-python."""
    import llama_cpp

    model = llama_cpp.Llama(
        file, n_ctx=2048, n_threads=int(threads), n_threads_batch=int(threads), verbose=False
    )

    def write(text, tokens):
        prompt = model.tokenize(text.encode(), add_bos=False, special=True)
        model.reset()
        times = [time.perf_counter()]
        for token in model.generate(prompt, temp=0.0, repeat_penalty=1.0):
            model.detokenize([token])
            times.append(time.perf_counter())
            if token == model.token_eos() or len(times) > tokens:
                return times
        return times

    return write


def memory():
    """PSS, MiB."""
    with Path("/proc/self/smaps_rollup").open() as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("Pss:"))


def main(kind, *arguments):
    """Answer until standard input ends."""
    write = {"genai": genai, "llama": llama}[kind](*arguments)
    for line in sys.stdin:
        times = write(**json.loads(line))
        found = {"first_s": times[1] - times[0], "rest_s": times[-1] - times[1]}
        print(json.dumps({**found, "tokens": len(times) - 1, "memory_mib": memory()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
