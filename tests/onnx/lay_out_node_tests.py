#!/usr/bin/env python3
"""lay_out_node_tests.py NODE_TESTS.zip OUT: unpacks ONNX's backend node tests for test_onnx_nodes.cpp. Needs numpy and onnx.

Takes every case of one node that has a tensor of float32, float16 or bfloat16 among its inputs and outputs; counts the others.

    OUT/NAME/model.onnx
    OUT/NAME/I.npy         inputs and expected outputs, numbered together; bfloat16 as numpy saves ml_dtypes'. Integers and
                           booleans, which solder's tensors have not, are float32 of the same values.
    OUT/cases.txt          tab-separated: a line "case NAME OPERATOR TIER" and then the lines of its tensors,
                           "feed|value|want NAME DTYPE FILE"; at the end "left REASON COUNT"

"value" is an input that is fixed when the model is imported: integers, booleans, and the floats that decide a result's shape
or that solder's builder takes as numbers. An input without a file is one that solder has no dtype for.
TIER is core, wider or other: operators that every inference runtime has, those that solder can make of its own, the rest.
"""
import os
import shutil
import sys
import zipfile

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

FLOATS = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
INTEGERS = {TensorProto.INT64: "int64", TensorProto.INT32: "int32", TensorProto.BOOL: "bool"}

CORE = set("""
Conv ConvTranspose MaxPool AveragePool GlobalAveragePool GlobalMaxPool BatchNormalization Gemm MatMul
Concat Split Slice Pad Transpose Gather Resize Upsample DepthToSpace SpaceToDepth Expand Tile Reshape Flatten Unsqueeze Squeeze
ReduceSum ReduceMean ReduceMax ReduceMin Softmax LogSoftmax Shape Size Constant ConstantOfShape
Abs Acos Acosh Asin Asinh Atan Atanh Ceil Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu Log Mish Neg Reciprocal Relu
Round Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Tan Tanh
Add Sub Mul Div Pow Max Min Where
""".split())
WIDER = set("""
Sum Mean PRelu Greater GreaterOrEqual Less LessOrEqual LayerNormalization GroupNormalization InstanceNormalization LRN
RMSNormalization MeanVarianceNormalization LpNormalization Dropout Identity Cast CastLike Celu Shrink Swish ThresholdedRelu Mod IsNaN IsInf
ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare Range If Hardmax
""".split())
FIXED_FLOATS = {"Resize": range(1, 4), "Upsample": range(1, 2), "Pad": range(2, 3), "Dropout": range(1, 3), "Range": range(3)}


class Left(Exception):
    """Why a case is not of this selection."""


def element_types(graph):
    infos = [*graph.input, *graph.output]
    if any(not info.type.HasField("tensor_type") for info in infos):
        raise Left("sequences and optional values")
    return [info.type.tensor_type.elem_type for info in infos]


def select(model):
    graph = model.graph
    if len(graph.node) != 1:
        raise Left("more than one node")
    if not any(kind in FLOATS for kind in element_types(graph)):
        raise Left("no float32, float16 or bfloat16")
    return graph


def tier(node, kinds):
    if node.domain not in ("", "ai.onnx") or any(kind not in FLOATS and kind not in INTEGERS for kind in kinds):
        return "other"
    return "core" if node.op_type in CORE else "wider" if node.op_type in WIDER else "other"


def read_tensor(archive, path):
    tensor = TensorProto()
    tensor.ParseFromString(archive.read(path))
    return tensor


def array_of(tensor):
    """What is saved of a tensor, or None where float32 has not its values."""
    array = numpy_helper.to_array(tensor)
    if tensor.data_type in FLOATS:
        # numpy knows bfloat16 as two bytes without a meaning.
        return array.view("V2") if tensor.data_type == TensorProto.BFLOAT16 else array
    if tensor.data_type not in INTEGERS:
        return None
    same = array.astype(np.float32)
    if not np.array_equal(same.astype(np.float64).astype(object), array.astype(object)):
        raise SystemExit(f"an integer of {tensor.name} is none of float32")
    return same


def tensor_line(out, name, role, info, tensor, number):
    kind = info.type.tensor_type.elem_type
    dtype = FLOATS.get(kind) or INTEGERS.get(kind) or TensorProto.DataType.Name(kind).lower()
    array = array_of(tensor)
    if array is None:
        return [role, info.name, dtype]
    np.save(os.path.join(out, name, f"{number}.npy"), array)
    return [role, info.name, dtype, f"{name}/{number}.npy"]


def lay_out(archive, name, out):
    files = f"{name}/test_data_set_0/"
    model = onnx.load_from_string(archive.read(f"{name}/model.onnx"))
    graph = select(model)
    node, kinds = graph.node[0], element_types(graph)
    os.makedirs(os.path.join(out, name))
    with open(os.path.join(out, name, "model.onnx"), "wb") as f:
        f.write(archive.read(f"{name}/model.onnx"))
    fixed = {node.input[i] for i in FIXED_FLOATS.get(node.op_type, ()) if i < len(node.input)}
    lines = [["case", name, node.op_type, tier(node, kinds)]]
    for i, info in enumerate(graph.input):
        is_fed = info.type.tensor_type.elem_type in FLOATS and info.name not in fixed
        lines.append(tensor_line(out, name, "feed" if is_fed else "value", info, read_tensor(archive, f"{files}input_{i}.pb"), i))
    for i, info in enumerate(graph.output):
        tensor = read_tensor(archive, f"{files}output_{i}.pb")
        lines.append(tensor_line(out, name, "want", info, tensor, len(graph.input) + i))
    return lines


def main(source, out):
    shutil.rmtree(out, ignore_errors=True)
    lines, left = [], {}
    with zipfile.ZipFile(source) as archive:
        for name in sorted({path.split("/")[0] for path in archive.namelist()}):
            try:
                lines += lay_out(archive, name, out)
            except Left as why:
                left[str(why)] = left.get(str(why), 0) + 1
    lines += [["left", why, str(count)] for why, count in sorted(left.items())]
    # Last: a folder with a list is complete.
    with open(os.path.join(out, "cases.txt"), "w") as f:
        f.writelines("\t".join(line) + "\n" for line in lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
