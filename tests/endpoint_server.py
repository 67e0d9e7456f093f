"""A server of vLLM's protocol that really answers from the embeddings it got."""

import base64
import io
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch


def answer(lm, rows, number, temperature=0.0):
    """The text of an answer in the pieces in which it comes, token by token."""
    ids, said = [], ""
    with torch.no_grad():
        for _ in range(number):
            after = lm.embed([ids])[0] if ids else rows[None, :0]
            everything = torch.cat([rows[None], after], dim=1)
            scores = lm.logits(everything, torch.ones(everything.shape[:2], dtype=torch.int64), last=1)[0, -1]
            token = (
                int((scores / temperature).softmax(0).multinomial(1)) if temperature else int(scores.argmax())
            )
            if token in lm.end_ids:
                break
            ids.append(token)
            text = lm.decode(ids)
            if not text.endswith("\ufffd"):
                yield text[len(said) :]
                said = text
    if lm.decode(ids) != said:
        yield lm.decode(ids)[len(said) :]


class Server(ThreadingHTTPServer):
    """vLLM's `/v1/completions` for prompts of embeddings, as far as its documentation goes.

    `acts` is a list of what it does with the next requests before it behaves: a status code, or a name. `says` is
    said in place of what the model would answer.
    """

    daemon_threads = True

    def __init__(self, lm):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lm, self.acts, self.seen, self.release = lm, [], [], threading.Event()
        self.served, self.embeds, self.key, self.retry_after = "tiny", True, None, None
        self.says = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, client_address):
        """A client that goes away is none."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Silent."""

    def refuse(self, status, message, **headers):
        content = json.dumps(
            {"error": {"message": message, "type": "BadRequestError", "code": status}}
        ).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def tell(self, told):
        content = told if isinstance(told, str) else json.dumps(told)
        block = f"data: {content}\n\n".encode()
        self.wfile.write(f"{len(block):X}\r\n".encode() + block + b"\r\n")
        self.wfile.flush()

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.seen.append((self.path, dict(self.headers), body, time.monotonic()))
        act = server.acts.pop(0) if server.acts else None
        if isinstance(act, int):
            headers = {} if server.retry_after is None else {"Retry_After": server.retry_after}
            return self.refuse(act, f"on purpose {act}", **headers)
        if act == "hang":
            return server.release.wait(30)
        if act == "hang up":
            return self.connection.shutdown(socket.SHUT_RDWR)
        if server.key is not None and self.headers.get("Authorization") != f"Bearer {server.key}":
            return self.refuse(401, "Unauthorized")
        if self.path != "/v1/completions" or body["model"] != server.served:
            return self.refuse(404, f"The model `{body['model']}` does not exist.")
        if not server.embeds:
            return self.refuse(400, "You must set `--enable-prompt-embeds` to input `prompt_embeds`.")
        content = io.BytesIO(base64.b64decode(body["prompt_embeds"], validate=True))
        rows = torch.load(content, weights_only=True, map_location="cpu")
        if rows.dtype not in (torch.float32, torch.bfloat16, torch.float16) or rows.ndim != 2:
            return self.refuse(400, f"`prompt_embeds` must be a 2D tensor; got shape {tuple(rows.shape)}.")
        if rows.shape[1] != server.lm.hidden:
            return self.refuse(
                400,
                f"`prompt_embeds` hidden_size {rows.shape[1]} does not match the model's hidden_size "
                f"{server.lm.hidden}.",
            )
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        pieces = answer(server.lm, rows.float(), body["max_tokens"], body["temperature"])
        for number, piece in enumerate(pieces if server.says is None else [server.says]):
            if number == 2 and act == "close":
                return self.connection.shutdown(socket.SHUT_RDWR)
            if number == 2 and act == "pause":
                return server.release.wait(30)
            if number == 2 and act == "fail":
                return self.tell({"error": {"message": "EngineCore died", "code": 500}})
            if number == 2 and act == "babble":
                return self.tell("{not json")
            if number == 2 and act == "stop short":
                return self.wfile.write(b"0\r\n\r\n")
            self.tell({"choices": [{"index": 0, "text": piece, "finish_reason": None}]})
        self.tell({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
        self.tell("[DONE]")
        return self.wfile.write(b"0\r\n\r\n")
