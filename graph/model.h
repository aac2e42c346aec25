#pragma once

#include <functional>
#include <memory>
#include <string>

#include "graph/graph.h"
#include "graph/plan.h"
#include "graph/profile.h"
#include "ops/math_mode.h"
#include "runtime/tensor.h"
#include "runtime/tensor_map.h"
#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

struct CompileOptions {
  Device device = Device::best();
  Math math = Math::fp32;
  /// false: every node runs by itself, as written, and neither batch norms nor constants are folded. In float32 the
  /// results are the same bits but for a folded batch norm.
  bool fuse = true;
  /// Bounds the scratch memory of a session: im2col columns or packed activations, plus cuBLAS's workspace.
  int64_t workspace_bytes = int64_t{256} << 20;
  /// To compare convolutions with one another: the name of a family ("im2col", "rows", ...; another one is an
  /// error that lists them), which runs wherever it covers the problem. Empty: the fastest.
  std::string conv{};
  /// On the CPU: at most so many threads share a run's work, sessions together; 0: as many as there are processors.
  /// SOLDER_THREADS bounds them too. Results do not depend on it.
  int threads = 0;
  /// Record a session's launches into a CUDA graph on its first run. Meanwhile no other thread may wait for
  /// the whole device (cudaDeviceSynchronize, cublasDestroy): drivers break the recording, and the run goes
  /// without, or crash (580.159). Solder's own threads keep out of each other's way.
  bool capture = true;
  /// Called by compile() for a GPU, on its thread, whenever `done` of `of` nodes have what they need: making the kernels
  /// of a large network may take a minute. What it throws, compile() throws.
  std::function<void(int done, int of)> progress{};
};

class Session;
struct ModelData;
struct SessionData;

/// A compiled graph: the optimised graph, how each node runs, where each value will live, and the weights on
/// the device. Immutable; copies share it; any thread may make Sessions from it. One that was made without
/// compile() is empty, and what it is asked Error(invalid_argument).
class Model {
 public:
  Model() = default;

  /// A new Session with memory of its own. Error(out_of_memory) naming the node at the peak. `stream`, a
  /// cudaStream_t of the model's device that outlives the session, is what it works on; null: one of its own.
  /// Not the legacy default stream, which cannot be recorded.
  Session session(void* stream = nullptr) const;

  /// The same model for batches of `n`: the batch size is the first extent that most inputs have (1, if none has
  /// another), and each of these has `n` there. Shares the weights on the device, and is planned in milliseconds;
  /// its results are the bits of a model compiled for `n`. Error(invalid_argument) unless there is such an extent,
  /// and both sizes are positive; otherwise an Error that names the node that can be of one batch size alone: where
  /// a constant, a slice or indices have it, or a batch of 1 cannot be told from other extents of 1. What the graph
  /// was built from is not known here: extents that hold the batch are found by their place and size, most surely
  /// where the model was compiled for a batch of 2 or more that no other extent has.
  Model batch(int64_t n) const;

  const Graph& graph() const;  ///< after the passes
  const MemoryPlan& memory() const;
  const std::vector<NodePlan>& nodes() const;
  Device device() const;

  int64_t weights_bytes() const;  ///< device memory of the weights, shared by all sessions and batch sizes
  /// Device memory of each session: values, workspace, cuBLAS's workspace. Where a node runs through cuBLAS
  /// its handle comes on top, 64 MiB on an H100.
  int64_t session_bytes() const;
  int64_t peak_bytes() const { return weights_bytes() + session_bytes(); }  ///< with one session

  /// The graph, how each node runs, and the memory plan, as text.
  std::string describe() const;

 private:
  friend Model compile(const Graph&, const TensorMap&, const CompileOptions&);
  explicit Model(std::shared_ptr<const ModelData> data) : data_(std::move(data)) {}
  const ModelData& data() const;

  std::shared_ptr<const ModelData> data_;
};

/// Runs a Model; owns its memory, captured graph and, unless it was given one, stream. One thread at a time.
/// Made by Model::session(); one made otherwise, or moved from, is empty, and what it is asked
/// Error(invalid_argument).
class Session {
 public:
  Session() noexcept;
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();  ///< waits for what runs

  /// Copies the inputs in, runs, and returns the outputs as CPU tensors; complete when it returns. Inputs may
  /// be on any device. Error(invalid_argument) on an unknown or missing name, Error(shape_mismatch) on a
  /// wrong shape or dtype; nothing has run then.
  TensorMap run(const TensorMap& inputs);

  /// The same without allocating, once the session has run: results go into `outputs`, tensors of the right type on
  /// any device. Outputs left out are not copied.
  void run(const TensorMap& inputs, const TensorMap& outputs);

  /// The same on stream(), without waiting: for tensors on the model's device, such as Tensor::view of memory
  /// that other work on that stream writes and reads. Error(invalid_argument) on a tensor elsewhere.
  void enqueue(const TensorMap& inputs, const TensorMap& outputs);

  /// For data that is on the device already: views of the session's own memory, valid while it lives. Fill
  /// the inputs, execute(), read the outputs, all on stream(); nothing here waits. What a graph gives out as it was
  /// given (an input) is the same memory; a parameter is a copy, made anew by each execute().
  Tensor input(const std::string& name) const;
  Tensor output(const std::string& name) const;
  void execute();
  void synchronize();

  /// Runs `iterations` times (after one more to warm up) with a mark after every node, and waits. On a GPU
  /// the marks are CUDA events, recorded into the replayed graph where CompileOptions::capture says so, and
  /// each costs a few microseconds that execute() does not pay; 1 GiB is allocated while the copy is
  /// measured. The inputs are what they were; fill them first. Error(invalid_argument) unless iterations
  /// >= 1.
  Profile profile(int iterations);

  /// The cudaStream_t that execute() enqueues on; null on the CPU.
  void* stream() const;

 private:
  friend class Model;
  explicit Session(std::unique_ptr<SessionData> data) noexcept;
  SessionData& data() const;

  std::unique_ptr<SessionData> data_;
};

/// Checks, optimises and plans `graph`, and moves the weights to the device. `weights` has a tensor for every
/// parameter (others are ignored): Error(invalid_argument) where some are missing, Error(shape_mismatch) where some
/// have another shape or dtype than the graph declares, with a list of all of them.
Model compile(const Graph& graph, const TensorMap& weights, const CompileOptions& options = {});

}  // namespace solder
