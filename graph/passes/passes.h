#pragma once
// What compile() does to a graph, in this order, and what Model::batch() does to one. Each pass is pure; verify() holds
// before and after.

#include <functional>
#include <optional>
#include <string>

#include "graph/graph.h"
#include "graph/nodes/node_def.h"
#include "graph/passes/constants.h"
#include "graph/value_view.h"
#include "ops/conv/kernels.h"
#include "ops/math_mode.h"

namespace solder {

struct CompileOptions;

/// Without the nodes that no output needs. Inputs and parameters stay: they are what the caller gives.
Graph remove_dead(const Graph& graph);

/// With a parameter for every value that parameters alone determine, computed once and as every run would, on the
/// device of the options; but for what is much larger than what it is made of, or follows the batch size.
Graph fold_constants(const Graph& graph, const CompileOptions& options, Constants* constants);

/// The batch size of a graph: the first extent that most of its inputs have, 1 only where none has another; 0 where
/// there is none, or several are as common.
int64_t batch_size(const Graph& graph);

/// With a batch of `n`: every input whose first extent is the batch size has `n` there, and what is made of it follows.
/// Nodes stay in order; some are put between. Error(invalid_argument) unless both sizes are positive. Where a node can
/// be of its batch size alone, or what it is given no longer fits together, an error that names it.
Graph rebatch(const Graph& graph, int64_t n);

/// By node: whether its type depends on the batch size. None does in a graph that can be of one alone.
std::vector<bool> follows_batch(const Graph& graph);

/// Without batch_norm: folded, where `fold` says so and nothing stands against it, into the float32 weights and bias
/// of the convolution or matmul before it, in double and rounded once; otherwise one multiplication and addition.
/// Folded weights are rounded once more than the exact result's, so that a result may lie 2^-24 |scale| sum|x w|
/// farther from it.
Graph lower_batch_norm(const Graph& graph, bool fold, Constants* constants);

/// With the weights of convolutions and matmuls of 16-bit tensors, and where `folds` says so biases and other vectors of
/// their epilogues too, as float32 parameters that hold the same values: kernels take them so, and know weights before the
/// run. Convolutions and matmuls are told that they multiply 16-bit values.
Graph widen(const Graph& graph, bool folds, Constants* constants);

/// What Math::fp16 and Math::bf16 say of weights: float32 parameters that convolutions and matmuls multiply by are
/// replaced by such that hold what the 16-bit type can, times a power of two for each output channel in fp16.
Graph round_weights(const Graph& graph, Math math, Constants* constants);

/// Merges elementwise work into what it follows: elementwise chains become one region, and a region behind a node
/// that takes an epilogue becomes that. Near linear in nodes.
Graph fuse(const Graph& graph, Math math = Math::fp32);

/// What those modes say of values between nodes, once weights are rounded and it is known what is fused: each float32
/// value that a node hands to another, and what a convolution or matmul multiplies, is stored in the 16-bit type; but
/// not statistics.
Graph round_values(const Graph& graph, Math math);

/// What passes plan nodes by that ask whether one would run so.
struct NodePlanning {
  const DeviceInfo* device = nullptr;  ///< a GPU
  std::string conv;                    ///< CompileOptions::conv
  int64_t workspace_bytes = 0;
  std::function<ConvWeights(const Node& parameter)> weights;  ///< false of what is no parameter

  /// For a node whose inputs are made by maker(input) and lie as lies(input) says, and whose outputs have memory of their
  /// own. Nothing where an operand cannot be read under its shape. The node must outlive the request.
  std::optional<PlanRequest> request_for(const Node& node, const std::function<const Node&(size_t)>& maker,
                                         const std::function<ValueView(size_t)>& lies) const;
};

/// What Math::tf32 says of values between convolutions: with such scaled (ops/scaled.h) that convolutions make, where all
/// that reads them, through what passes them on as they are, can read them so. Near linear in nodes.
Graph scale_values(const Graph& graph, const NodePlanning& planning);

/// The entries of a session's ranges that such a graph names, and those of float32 x behind them.
int64_t num_scaled_images(const Graph& graph);

/// With layouts for 16-bit tensors [N,C,H,W] between nodes: channels innermost, the pitch of pixels a multiple of 8, for
/// what convolutions make, for what other kinds make of such where they can store it, and for what only convolutions
/// read. What is given, given out, or a view stays as it is. Near linear in nodes.
Graph choose_layouts(const Graph& graph);

/// With elementwise work merged into a convolution whose result others read too, where one kernel stores both: sum and
/// activation of residual networks that normalise first. Of 16-bit values, whose layouts are chosen. Near linear in nodes.
Graph fuse_sums(const Graph& graph, const NodePlanning& planning);

/// With a copy wherever a value cannot be used as it lies: an output that is a parameter, of which all sessions
/// share the memory, or a view that is not dense; and a view that a node of its reader's kind cannot read.
Graph add_copies(const Graph& graph);

/// Checks a graph as passes and programs make them: references, names, the types that each kind infers, regions
/// and the shapes under which they read. Throws Error naming the node.
void verify(const Graph& graph);

}  // namespace solder
