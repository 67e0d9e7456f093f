"""Judge photographs with onnxruntime alone: python judge_with_onnxruntime.py line1/export.onnx photos/*.png.

The graph comes from `mekiki export line1 --to onnx --with-judge`. Needs numpy, pillow and onnxruntime.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
facts = session.get_modelmeta().custom_metadata_map
height, width = json.loads(facts["mekiki.size"])
kinds = json.loads(facts["mekiki.kinds"])
names = [output.name for output in session.get_outputs()]
for path in sys.argv[2:]:
    with Image.open(path) as image:
        pixels = np.asarray(ImageOps.exif_transpose(image).convert(facts["mekiki.mode"]))
    if pixels.shape[:2] != (height, width):
        sys.exit(f"{path}: {pixels.shape[0]}x{pixels.shape[1]} pixels; the graph takes {height}x{width}")
    said = dict(zip(names, session.run(None, {"image": pixels[None]}), strict=True))
    verdict = "NG" if said["ng"][0] else "OK"
    kind = kinds[said["kind"][0]] if said["kind"][0] >= 0 else ""
    print(f"{path}\t{verdict}\t{said['score'][0]:.6g}\t{said['p'][0]:.6g}\t{kind}")
