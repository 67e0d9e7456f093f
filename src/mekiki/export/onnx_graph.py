"""The ONNX graph: decoded photographs → vectors and, if asked, verdicts; tracing, running and eight bits."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.errors import InputError, first_line
from mekiki.export.extractor_modules import ExtractorModule
from mekiki.export.judge_modules import DefectTypeModule, JudgeModule
from mekiki.extras import require
from mekiki.judging.features import FeatureExtractor
from mekiki.judging.judge_photos import Inspector

OPSET = 18
"""Version of ONNX's operators: the first whose reductions all take their axes as an input, since 2022."""
PURPOSE = "exporting"
EXTRA = "export"
PREFIX = "mekiki."
"""Prefix of the metadata entries that this program writes."""
_NETWORKS = ("extractor.features.network", "extractor.features.body")
_WITH_WEIGHTS = ("Conv", "Gemm", "MatMul")

Outputs = dict[str, NDArray[Any]]


class ExportModule(nn.Module):
    """Photographs of one size → everything that the graph gives.

    Args:
        extractor: the feature extractor of the run.
        size: height and width of the photographs.
        inspector: the calibrated judge, or `None` for vectors alone.
        channels: of the photographs, 1 or 3; `None` is as many as the extractor has.

    Attributes:
        names: the outputs, in order.
        widths: the feature groups of vectors that `vector` is made of, side by side, and the length of each.
        types: names of the defect types that the output `kind` counts.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        size: tuple[int, int],
        inspector: Inspector | None,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        self.extractor = ExtractorModule(extractor, size)
        self.judge: JudgeModule | None = None
        self.defect_type: DefectTypeModule | None = None
        self.types: list[str] = []
        shape = (1, *size, 3) if (channels or extractor.channels) == 3 else (1, *size)
        with torch.no_grad():
            groups = self.extractor(torch.zeros(shape, dtype=torch.uint8))
        order = list(groups) if inspector is None else list(inspector.judge.groups)
        self.widths = {name: int(groups[name].shape[1]) for name in order if groups[name].ndim == 2}
        self.names = ["vector"]
        if inspector is not None:
            self.judge = JudgeModule(inspector.judge)
            self.defect_type = DefectTypeModule(inspector)
            self.types = self.defect_type.types
            self.names += ["distance", "score", "p", "ng", "surprise", "kind"]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """The outputs in the order of `names`."""
        groups = self.extractor(image)
        vector = torch.cat([groups[name] for name in self.widths], dim=1)
        if self.judge is None or self.defect_type is None:
            return (vector,)
        result = self.judge(groups)
        result |= {"vector": vector, "kind": self.defect_type(result)}
        return tuple(result[name] for name in self.names)


def trace(
    module: ExportModule, example: NDArray[np.uint8], metadata: Mapping[str, Any]
) -> tuple[Any, list[str]]:
    """The ONNX model of a module.

    Args:
        module: the module.
        example: photographs to trace it with, two at least.
        metadata: written into the model; what is no text becomes JSON.

    Returns:
        The model, of `onnx.ModelProto`, and the names of the nodes that hold the weights of a network.

    Raises:
        MissingExtraError: the extra `export` is not installed.
        InputError: the network contains an operation that ONNX does not have.
    """
    for library in ("onnx", "onnxscript", "onnxruntime"):
        require(library, extra=EXTRA, purpose=PURPOSE)
    batch = {"image": {0: torch.export.Dim("images", min=1)}}
    with _quiet(), torch.no_grad():
        try:
            program: Any = torch.onnx.export(
                module.eval(),
                (torch.from_numpy(example),),
                dynamo=True,
                opset_version=OPSET,
                input_names=["image"],
                output_names=module.names,
                dynamic_shapes=batch,
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # tracing lets through whatever its parts raise
            raise InputError(
                f"the network cannot be written as a graph ({first_line(error)}); export a run with another encoder"
            ) from None
    model = program.model_proto
    networks = []
    for node in model.graph.node:
        scopes = next((each.value for each in node.metadata_props if each.key.endswith("name_scopes")), "")
        if node.op_type in _WITH_WEIGHTS and any(name in scopes for name in _NETWORKS):
            networks.append(node.name)
    _strip(model)
    write_metadata(model, metadata)
    return model, networks


def write_metadata(model: Any, metadata: Mapping[str, Any]) -> None:
    """Put entries into the metadata of a model, in place of those of the same name."""
    known = {each.key: each for each in model.metadata_props}
    for name, value in metadata.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        entry = known.get(PREFIX + name) or model.metadata_props.add(key=PREFIX + name)
        entry.value = text


class Runtime:
    """An ONNX graph in onnxruntime.

    Args:
        model: the content of an ONNX file.
        threads: number of computing threads.
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        runtime = require("onnxruntime", extra=EXTRA, purpose=PURPOSE)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._names = [each.name for each in self._session.get_outputs()]

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        """The outputs by name."""
        return dict(zip(self._names, self._session.run(None, {"image": images}), strict=True))


def quantise(model: Any, networks: Sequence[str], images: Sequence[NDArray[np.uint8]], folder: Path) -> Any:
    """The same model with the weights and activations of its network as whole numbers of eight bits.

    Post-training quantisation of onnxruntime: a scale for each output channel of the weights, and one for each
    activation, from the least and largest that the photographs bring. Weights keep to seven bits, because processors
    without VNNI add pairs of products in 16.

    Args:
        model: as `trace` gives it.
        networks: the nodes that hold weights.
        images: photographs of the run.
        folder: for temporary files.

    Raises:
        InputError: there is no network in it.
    """
    if not networks:
        raise InputError("--int8: the filters have no weights that could be made smaller; leave it out")
    quantization = require("onnxruntime.quantization", extra=EXTRA, purpose="quantisation")
    shapes = require("onnxruntime.quantization.shape_inference", extra=EXTRA, purpose="quantisation")
    onnx = require("onnx", extra=EXTRA, purpose=PURPOSE)
    original, prepared, small = folder / "float.onnx", folder / "prepared.onnx", folder / "int8.onnx"
    onnx.save(model, original)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            image = next(self._left, None)
            return None if image is None else {"image": image[None]}

    with _quiet():
        shapes.quant_pre_process(str(original), str(prepared), skip_symbolic_shape=True)
        kept = {node.name for node in onnx.load(prepared).graph.node}
        quantization.quantize_static(
            str(prepared),
            str(small),
            Reader(),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_quantize=[name for name in networks if name in kept],
        )
    result = onnx.load(small)
    del result.metadata_props[:]
    result.metadata_props.extend(model.metadata_props)
    return result


def _strip(model: Any) -> None:
    """Remove the paths of source files on this machine that tracing writes into a model."""
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        for thing in [graph, *graph.node, *getattr(graph, "input", []), *getattr(graph, "value_info", [])]:
            if hasattr(thing, "metadata_props"):
                del thing.metadata_props[:]
            if hasattr(thing, "doc_string"):
                thing.doc_string = ""
    for thing in [*model.graph.initializer, *model.graph.output]:
        del thing.metadata_props[:]
    del model.metadata_props[:]
    model.producer_name = "mekiki"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the reports of the libraries that trace and quantise."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    before = [logger.level for logger in loggers]
    root = logging.getLogger()
    rooted = root.level
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(rooted)
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
