"""read.py PUBLIC ROOT NAME OUT: downloads a target with python-tuf from the folder PUBLIC, served here."""
import http.server, os, sys, threading
from tuf.ngclient import Updater

public, root, name, out = sys.argv[1:]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *a):
        super().__init__(*a, directory=public)

    def log_message(self, *a):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_address[1]}"
state = os.path.join(out, "state")
os.makedirs(state, exist_ok=True)
updater = Updater(state, f"{base}/metadata/", out, f"{base}/targets/", bootstrap=open(root, "rb").read())
updater.refresh()
target = updater.get_targetinfo(name)
assert target is not None, f"{name} is not there"
updater.download_target(target, os.path.join(out, name))
print("root", updater._trusted_set.root.version)
