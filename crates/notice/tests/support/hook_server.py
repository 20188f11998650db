"""A webhook receiver to test against: the standard library's server and hmac, nothing of ours.

Usage: hook_server.py FOLDER SECRET STATUS... Answers the first POST with the first STATUS and so on, the
last one for ever. Writes a line of JSON per POST to FOLDER/posts.jsonl. Prints its port.
"""

import hashlib
import hmac
import http.server
import json
import sys
import threading

folder, secret, statuses = sys.argv[1], sys.argv[2], [int(text) for text in sys.argv[3:]]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fields = dict(part.split("=", 1) for part in self.headers.get("Tuxtape-Signature", "").split(",") if part)
        signed = fields.get("t", "").encode() + b"." + body
        good = hmac.compare_digest(
            hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest(), fields.get("v1", "")
        )
        status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        with open(f"{folder}/posts.jsonl", "a") as out:
            json.dump({
                "path": self.path,
                "signed": good,
                "event": self.headers["Tuxtape-Event"],
                "type": self.headers["Content-Type"],
                "id": self.headers["Tuxtape-Id"],
                "body": json.loads(body),
                "status": status,
            }, out)
            out.write("\n")
        self.send_response(status)
        if status in (301, 302, 307):
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
