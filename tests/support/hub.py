"""A hub on this machine: a folder as huggingface_hub's client asks for it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zlib import crc32

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def served(name: str, folder: Path) -> Iterator[str]:
    """Serve a folder as the model `name`; the address is for HF_ENDPOINT."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{crc32(self.path.encode()):08x}"')  # files are kept by it
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the class's way

        def log_message(self, *_: object) -> None:
            pass

    def answer(path: str) -> tuple[int, bytes]:
        if path.startswith(f"/api/models/{name}/tree/"):
            tree = [
                {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0" * 40}
                for f in folder.iterdir()
            ]
            return 200, json.dumps(tree).encode()
        if path.startswith(f"/api/models/{name}/"):
            files = [{"rfilename": file.name} for file in folder.iterdir()]
            return 200, json.dumps({"id": name, "sha": COMMIT, "siblings": files}).encode()
        prefix = f"/{name}/resolve/{COMMIT}/"
        found = folder / path.removeprefix(prefix)
        if path.startswith(prefix) and found.is_file():
            return 200, found.read_bytes()
        return 404, b"{}"

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
