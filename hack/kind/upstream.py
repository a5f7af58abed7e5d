"""A stub of an OpenAI-compatible server, run in a pod of its own: says which model it was asked for, and nothing else.

Stands in for the providers, which a demo must not call. Standard library only; mounted from a ConfigMap.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers every POST with a chat completion, every GET with 200 for the probe."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Say that it is there."""
        self.answer({"status": "ok"})

    def do_POST(self) -> None:
        """Say which model was asked for."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = {"role": "assistant", "content": f"I am {asked['model']}."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
        self.answer({"id": "stub", "object": "chat.completion", "created": 1, "model": asked["model"], "choices": [choice],
                     "usage": usage})  # fmt: skip

    def answer(self, content: object) -> None:
        """Send JSON."""
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Keep quiet: a probe every second would fill the log."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", 8000), Handler).serve_forever()  # in a pod: its Service is the way in
