#include "runtime/stream.h"

#include "runtime/check_cuda.h"

namespace solder {

void DestroyHandle::operator()(cudaStream_t stream) const noexcept { cudaStreamDestroy(stream); }
void DestroyHandle::operator()(cudaEvent_t event) const noexcept { cudaEventDestroy(event); }
void DestroyHandle::operator()(cudaGraphExec_t exec) const noexcept { cudaGraphExecDestroy(exec); }

Stream::Stream() {
  SOLDER_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  owned_.reset(stream_);
}

Stream::Stream(cudaStream_t borrowed) : stream_(borrowed) {
  if (borrowed == nullptr) *this = Stream();
}

Event::Event() {
  cudaEvent_t event = nullptr;
  SOLDER_CUDA(cudaEventCreate(&event));
  event_.reset(event);
}

void Event::record(cudaStream_t stream) const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  SOLDER_CUDA(cudaStreamIsCapturing(stream, &status));
  // Without the flag a captured mark would only order the graph's nodes, and keep no time.
  const bool captured = status == cudaStreamCaptureStatusActive;
  SOLDER_CUDA(cudaEventRecordWithFlags(event_.get(), stream,
                                       captured ? cudaEventRecordExternal : cudaEventRecordDefault));
}

double Event::ms_since(const Event& start) const {
  float ms = 0;
  SOLDER_CUDA(cudaEventElapsedTime(&ms, start.event_.get(), event_.get()));
  return ms;
}

std::mutex& capture_mutex() {
  static std::mutex mutex;
  return mutex;
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
  exec_.reset(exec);
}

void CapturedGraph::abandon(cudaStream_t stream) noexcept {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream, &graph);
  if (graph != nullptr) cudaGraphDestroy(graph);
  cudaGetLastError();
}

void CapturedGraph::launch(cudaStream_t stream) const { SOLDER_CUDA(cudaGraphLaunch(exec_.get(), stream)); }

}  // namespace solder
