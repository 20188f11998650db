"""make.py DIR TARGET...: makes a repository with python-tuf: ed25519, ECDSA and RSA keys, a root rotated
once, the targets in a role of hash bins' kind (path_hash_prefixes) and in one by pattern."""
import datetime, os, sys
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, TargetFile,
                              Targets, Timestamp)

top, targets = sys.argv[1], sys.argv[2:]
ends = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) + datetime.timedelta(days=2)
os.makedirs(f"{top}/metadata", exist_ok=True)
os.makedirs(f"{top}/targets")
ed, ec, rsa, late = (CryptoSigner.generate_ed25519(), CryptoSigner.generate_ecdsa(),
                     CryptoSigner.generate_rsa(), CryptoSigner.generate_ed25519())


def write(name, body, signers):
    signed = Metadata(body)
    for signer in signers:
        signed.sign(signer, append=True)
    data = signed.to_bytes()
    with open(f"{top}/metadata/{name}", "wb") as file:
        file.write(data)
    return data


root = Root(version=1, expires=ends, consistent_snapshot=True)
for signer, role in [(ed, "root"), (ec, "root"), (rsa, "targets"), (ec, "snapshot"), (ed, "timestamp")]:
    root.add_key(signer.public_key, role)
root.roles["root"].threshold = 2
write("1.root.json", root, [ed, ec])
# The second root exchanges the key of timestamp.
root.version = 2
root.revoke_key(ed.public_key.keyid, "timestamp")
root.add_key(late.public_key, "timestamp")
write("2.root.json", root, [ed, ec])
halves = [Targets(version=1, expires=ends), Targets(version=1, expires=ends)]
for number, path in enumerate(targets):
    data = open(path, "rb").read()
    info = TargetFile.from_data(os.path.basename(path), data, ["sha256", "sha512"])
    halves[number % 2].targets[info.path] = info
    for digest in info.hashes.values():
        with open(f"{top}/targets/{digest}.{info.path}", "wb") as file:
            file.write(data)
names = [[os.path.basename(path) for path in targets[number::2]] for number in (0, 1)]
roles = {"by-pattern": DelegatedRole("by-pattern", [ec.public_key.keyid], 1, False, paths=names[0] + ["none-*"]),
         "by-hash": DelegatedRole("by-hash", [ed.public_key.keyid], 1, True,
                                  path_hash_prefixes=[format(n, "x") for n in range(16)])}
listed = Targets(version=1, expires=ends,
                 delegations=Delegations({ec.public_key.keyid: ec.public_key, ed.public_key.keyid: ed.public_key}, roles))
write("1.targets.json", listed, [rsa])
write("1.by-pattern.json", halves[0], [ec])
write("1.by-hash.json", halves[1], [ed])
snapshot = Snapshot(version=1, expires=ends)
for name in ("targets", "by-pattern", "by-hash"):
    data = open(f"{top}/metadata/1.{name}.json", "rb").read()
    snapshot.meta[f"{name}.json"] = MetaFile.from_data(1, data, ["sha256"])
data = write("1.snapshot.json", snapshot, [ec])
timestamp = Timestamp(version=1, expires=ends, snapshot_meta=MetaFile.from_data(1, data, ["sha512"]))
write("timestamp.json", timestamp, [late])
