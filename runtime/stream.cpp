#include "runtime/stream.h"

#include "runtime/check_cuda.h"

namespace solder {

Stream::Stream() { SOLDER_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }

Stream::Stream(cudaStream_t borrowed) : stream_(borrowed), is_borrowed_(borrowed != nullptr) {
  if (borrowed == nullptr) *this = Stream();
}

Stream::~Stream() {
  if (stream_ != nullptr && !is_borrowed_) cudaStreamDestroy(stream_);
}

Event::Event() { SOLDER_CUDA(cudaEventCreate(&event_)); }

Event::~Event() {
  if (event_ != nullptr) cudaEventDestroy(event_);
}

void Event::record(cudaStream_t stream) const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  SOLDER_CUDA(cudaStreamIsCapturing(stream, &status));
  // Without the flag a captured mark would only order the graph's nodes, and keep no time.
  const bool captured = status == cudaStreamCaptureStatusActive;
  SOLDER_CUDA(
      cudaEventRecordWithFlags(event_, stream, captured ? cudaEventRecordExternal : cudaEventRecordDefault));
}

double Event::ms_since(const Event& start) const {
  float ms = 0;
  SOLDER_CUDA(cudaEventElapsedTime(&ms, start.event_, event_));
  return ms;
}

std::mutex& capture_mutex() {
  static std::mutex mutex;
  return mutex;
}

CapturedGraph::~CapturedGraph() {
  if (exec_ != nullptr) cudaGraphExecDestroy(exec_);
}

void CapturedGraph::begin(cudaStream_t stream) {
  // Thread-local: other threads may allocate, load code and wait for their streams meanwhile.
  SOLDER_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
}

void CapturedGraph::end(cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  SOLDER_CUDA(cudaStreamEndCapture(stream, &graph));
  cudaGraphExec_t exec = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&exec, graph, 0);
  cudaGraphDestroy(graph);
  if (status != cudaSuccess) fail_cuda(status, "cudaGraphInstantiate", __FILE__, __LINE__);
  if (exec_ != nullptr) cudaGraphExecDestroy(exec_);
  exec_ = exec;
}

void CapturedGraph::abandon(cudaStream_t stream) noexcept {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream, &graph);
  if (graph != nullptr) cudaGraphDestroy(graph);
  cudaGetLastError();
}

void CapturedGraph::launch(cudaStream_t stream) const { SOLDER_CUDA(cudaGraphLaunch(exec_, stream)); }

}  // namespace solder
