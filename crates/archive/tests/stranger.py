"""Reads an archive with python-tuf: URL ROOT TARGET."""

import hashlib
import os
import sys
import tempfile

from tuf.ngclient import Updater

url, root, name = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    with open(root, "rb") as file:
        bootstrap = file.read()
    metadata = os.path.join(folder, "metadata")
    targets = os.path.join(folder, "targets")
    os.mkdir(metadata)
    os.mkdir(targets)
    try:
        updater = Updater(
            metadata_dir=metadata,
            metadata_base_url=url + "/metadata/",
            target_dir=targets,
            target_base_url=url + "/targets/",
            bootstrap=bootstrap,
        )
        updater.refresh()
        found = updater.get_targetinfo(name)
        with open(updater.download_target(found), "rb") as file:
            print("accepted", hashlib.sha256(file.read()).hexdigest())
    except Exception as error:
        print("refused", type(error).__name__)
