"""A face detector (SCRFD) and an embedder (ArcFace) with random weights, a few kilobytes of ONNX, in the forms that
insightface tells models by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR = 17, 9
SIDE = 64
"""Of the detector's input, which is of a fixed size: its pictures are made to fit."""


def save_tiny_faces(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    onnx.save(_detector(random), folder / "detector.onnx")
    onnx.save(_embedder(random), folder / "embedder.onnx")
    return folder


def _detector(random: np.random.Generator) -> onnx.ModelProto:
    """At each of three strides, two anchors a place: scores [N, 1], boxes [N, 4] and five points [N, 10]; three
    convolutions that see a place's pixels alone."""
    nodes, weights, outputs = [], [], []
    for kind, width in (("score", 1), ("box", 4), ("points", 10)):
        for stride in (8, 16, 32):
            name = f"{kind}_{stride}"
            kernel = random.normal(0, 1 / stride, (2 * width, 3, stride, stride)).astype(np.float32)
            weights += [
                numpy_helper.from_array(kernel, f"{name}_kernel"),
                numpy_helper.from_array(np.array([-1, width], np.int64), f"{name}_shape"),
            ]
            nodes += [
                helper.make_node("Conv", ["input", f"{name}_kernel"], [f"{name}_map"], strides=[stride, stride]),
                helper.make_node("Transpose", [f"{name}_map"], [f"{name}_last"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{name}_last", f"{name}_shape"], [f"{name}_rows"]),
                helper.make_node("Sigmoid" if kind == "score" else "Abs", [f"{name}_rows"], [name]),
            ]
            count = 2 * (SIDE // stride) ** 2
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [count, width]))
    return _model("detector", nodes, [1, 3, SIDE, SIDE], outputs, weights)


def _embedder(random: np.random.Generator) -> onnx.ModelProto:
    kernel = random.normal(0, 0.1, (32, 3, 28, 28)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["map"], strides=[28, 28]),
        helper.make_node("Tanh", ["map"], ["curved"]),
        helper.make_node("GlobalAveragePool", ["curved"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["embedding"]),
    ]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 32])
    return _model("embedder", nodes, [1, 3, 112, 112], [output], [numpy_helper.from_array(kernel, "kernel")])


def _model(name: str, nodes: list, shape: list[int], outputs: list, weights: list) -> onnx.ModelProto:
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, name, [given], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
