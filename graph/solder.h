#pragma once
// The one header that programs include: graphs, compilation, sessions, tensors and their files.

#if __cplusplus < 202002L
#error "solder needs C++20: compile with -std=c++20 or later"
#endif

#include "graph/graph.h"
#include "graph/model.h"
#include "graph/onnx/onnx.h"
#include "graph/profile.h"
#include "runtime/check.h"
#include "runtime/device.h"
#include "runtime/npy.h"
#include "runtime/safetensors.h"
#include "runtime/tensor.h"
#include "runtime/version.h"
