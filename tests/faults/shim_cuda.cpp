// The GPU's half of the fake machine (see shim.h): the CUDA runtime and cuBLAS functions that the library
// calls, and those that nvcc's stubs need. A handle that is not alive ends the program: that is a bug in the
// caller.
#include <cublas_v2.h>
#include <cudaTypedefs.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/faults/shim.h"

using shim::Calls;

struct CUgraph_st {
  std::vector<uint64_t> effects;
};
struct CUgraphExec_st {
  std::vector<uint64_t> effects;
};
struct CUstream_st {
  std::unique_ptr<CUgraph_st> capturing;
};
struct CUevent_st {
  bool is_recorded = false;
};
struct CUlib_st {
  std::string code;
};
struct cublasContext {
  cudaStream_t stream = nullptr;
};

namespace {

struct State {
  std::map<const void*, std::string> kernels;  // by the address of nvcc's host stub, or of a library
  std::map<const void*, size_t> memory;        // device allocations and their bytes
  std::set<const void*> handles;               // streams, graphs, executable graphs, cuBLAS handles
  cudaError_t last_error = cudaSuccess;
  uint64_t trace = 0;
  bool computed = false;  // since the trace began
};

State& state() {  // needed while nvcc's stubs register kernels, before any global of this file
  static State the_state;
  return the_state;
}

uint64_t mix(uint64_t hash, const void* data, size_t bytes) {  // FNV-1a
  for (size_t i = 0; i < bytes; ++i)
    hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3u;
  return hash;
}

template <class... Values>
uint64_t hash_of(std::string_view name, const Values&... values) {
  uint64_t hash = mix(0xcbf29ce484222325u, name.data(), name.size());
  ((hash = mix(hash, &values, sizeof values)), ...);
  return hash;
}

void must(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "shim: %s\n", what);
  std::abort();
}

template <class Handle>
Handle* alive(Handle* handle) {
  must(state().handles.count(handle) == 1, "a handle that is not alive");
  return handle;
}

template <class Handle>
Handle* born(Handle* handle) {
  state().handles.insert(handle);
  return handle;
}

template <class Handle>
void dies(Handle* handle) {
  alive(handle);
  state().handles.erase(handle);
  delete handle;
}

cudaError_t entered(const char* name) {
  const auto status = static_cast<cudaError_t>(shim::enter(Calls::cuda, name));
  if (status != cudaSuccess) state().last_error = status;
  return status;
}

cublasStatus_t entered_cublas(const char* name) {
  switch (entered(name)) {
    case cudaSuccess: return CUBLAS_STATUS_SUCCESS;
    case cudaErrorMemoryAllocation: return CUBLAS_STATUS_ALLOC_FAILED;
    default: return CUBLAS_STATUS_INTERNAL_ERROR;
  }
}

void apply(uint64_t effect) { state().trace = mix(state().trace + 1, &effect, sizeof effect); }

// A launch: done now, or recorded while `stream` captures.
void enqueue(cudaStream_t stream, uint64_t effect) {
  if (alive(stream)->capturing)
    stream->capturing->effects.push_back(effect);
  else
    apply(effect), state().computed = true;
}

// The allocation that holds `address`, or null; its bytes must all be there.
bool on_device(const void* address, size_t bytes) {
  auto after = state().memory.upper_bound(address);
  if (after == state().memory.begin()) return false;
  const auto& [begin, size] = *--after;
  const auto offset =
      static_cast<size_t>(static_cast<const char*>(address) - static_cast<const char*>(begin));
  if (offset >= size) return false;
  must(offset + bytes <= size, "a copy leaves its device allocation");
  return true;
}

}  // namespace

namespace shim {
void begin_trace() { state().trace = 0, state().computed = false; }
uint64_t trace() { return state().trace; }
int64_t live_device_objects() {
  return std::ssize(state().handles) + std::ssize(state().memory) + live_programs();
}
}  // namespace shim

// Opens each function: counts the call, then nothing until it ends. A call that fails does nothing, but
// releases what it was to release.
namespace {
struct Entry {
  explicit Entry(const char* name) : status(entered(name)) {}
  cudaError_t status;
  shim::Pause pause;
};
}  // namespace

extern "C" {

// ---- what nvcc's stubs call ----

void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* stub, char*, const char* name, int, uint3*, uint3*, dim3*,
                            dim3*, int*) {
  state().kernels[stub] = name;
}
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) { return cudaErrorNotSupported; }
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*) { return cudaErrorNotSupported; }
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t) {
  return cudaErrorNotSupported;
}

// ---- errors and devices ----

const char* cudaGetErrorName(cudaError_t status) {
  return status == cudaErrorMemoryAllocation         ? "cudaErrorMemoryAllocation"
         : status == cudaErrorIllegalAddress         ? "cudaErrorIllegalAddress"
         : status == cudaErrorNoKernelImageForDevice ? "cudaErrorNoKernelImageForDevice"
                                                     : "cudaErrorOther";
}
const char* cudaGetErrorString(cudaError_t) { return "said by the shim"; }
cudaError_t cudaGetLastError() { return std::exchange(state().last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  const Entry entry("cudaGetDeviceCount");
  if (entry.status != cudaSuccess) return entry.status;
  *count = 1;
  return static_cast<cudaError_t>(shim::machine.start_error);
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = shim::machine.driver_version;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  const Entry entry("cudaSetDevice");
  must(device == 0, "a device that is not there");
  return entry.status;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const Entry entry("cudaDeviceGetAttribute");
  *value = attribute == cudaDevAttrComputeCapabilityMajor   ? shim::machine.cc_major
           : attribute == cudaDevAttrComputeCapabilityMinor ? shim::machine.cc_minor
                                                            : 0;
  return entry.status;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  const Entry entry("cudaGetDeviceProperties");
  if (entry.status != cudaSuccess) return entry.status;
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "shim");
  properties->major = shim::machine.cc_major;
  properties->minor = shim::machine.cc_minor;
  properties->multiProcessorCount = 132;
  properties->l2CacheSize = 50 << 20;
  properties->sharedMemPerBlockOptin = 227 << 10;
  properties->totalGlobalMem = size_t{80} << 30;
  return cudaSuccess;
}

// ---- memory ----

cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t stream) {
  const Entry entry("cudaMallocAsync");
  alive(stream);
  if (entry.status != cudaSuccess) return entry.status;
  *memory = std::malloc(bytes);
  std::memset(*memory, 0xcd, bytes);
  state().memory[*memory] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
  const Entry entry("cudaFreeAsync");
  alive(stream);
  must(state().memory.erase(memory) == 1, "freed memory that is not the device's");
  std::free(memory);
  return entry.status;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const Entry entry("cudaMemGetInfo");
  if (entry.status != cudaSuccess) return entry.status;
  *free_bytes = size_t{1} << 30;
  *total_bytes = size_t{80} << 30;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  const Entry entry("cudaDeviceGetDefaultMemPool");
  *pool = nullptr;
  return entry.status;
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void* value) {
  const Entry entry("cudaMemPoolGetAttribute");
  if (entry.status != cudaSuccess) return entry.status;
  uint64_t bytes = 0;
  for (const auto& [memory, size] : state().memory) bytes += size;
  std::memcpy(value, &bytes, sizeof bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  const Entry entry("cudaMemcpyAsync");
  must(!alive(stream)->capturing, "a copy while capturing");
  if (entry.status != cudaSuccess) return entry.status;
  const bool to_device = on_device(to, bytes), from_device = on_device(from, bytes);
  std::memcpy(to, from, bytes);
  const size_t seen = std::min<size_t>(bytes, 1 << 16);  // of a large copy the beginning tells
  apply(hash_of("copy", bytes, mix(0, from, seen)));
  if (from_device && !to_device && state().computed)
    for (size_t i = 0; i < seen; ++i)
      static_cast<unsigned char*>(to)[i] ^= static_cast<unsigned char>(state().trace >> i % 8 * 8);
  return cudaSuccess;
}
cudaError_t cudaMemset2DAsync(void* memory, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream) {
  const Entry entry("cudaMemset");
  if (entry.status != cudaSuccess) return entry.status;
  must(on_device(memory, (height - 1) * pitch + width), "a fill of memory that is not the device's");
  enqueue(stream, hash_of("fill", pitch, value, width, height));
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  return cudaMemset2DAsync(memory, bytes, value, bytes, 1, stream);
}

// ---- libraries: of one kernel, whose address is the library's ----

cudaError_t cudaLibraryLoadData(cudaLibrary_t* library, const void* code, cudaJitOption*, void**, unsigned,
                                cudaLibraryOption*, void**, unsigned) {
  const Entry entry("cudaLibraryLoadData");
  if (entry.status == cudaSuccess) *library = born(new CUlib_st{static_cast<const char*>(code)});
  return entry.status;
}
cudaError_t cudaLibraryGetKernel(cudaKernel_t* kernel, cudaLibrary_t library, const char* name) {
  const Entry entry("cudaLibraryGetKernel");
  must(alive(library)->code.find(name) != std::string::npos, "a kernel that the library lacks");
  if (entry.status != cudaSuccess) return entry.status;
  state().kernels[library] = library->code;
  *kernel = reinterpret_cast<cudaKernel_t>(library);
  return cudaSuccess;
}
cudaError_t cudaLibraryUnload(cudaLibrary_t library) {
  const Entry entry("cudaLibraryUnload");
  state().kernels.erase(library);
  dies(library);
  return entry.status;
}

// ---- streams, launches, graphs ----

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const Entry entry("cudaStreamCreateWithFlags");
  if (entry.status == cudaSuccess) *stream = born(new CUstream_st);
  return entry.status;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Entry entry("cudaStreamDestroy");
  dies(stream);
  return entry.status;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Entry entry("cudaStreamSynchronize");
  must(!alive(stream)->capturing, "waited for a stream that captures");
  return entry.status;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const Entry entry("cudaStreamBeginCapture");
  must(!alive(stream)->capturing, "a capture inside a capture");
  if (entry.status == cudaSuccess) stream->capturing = std::make_unique<CUgraph_st>();
  return entry.status;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Entry entry("cudaStreamEndCapture");
  must(alive(stream)->capturing != nullptr, "an end of no capture");
  std::unique_ptr<CUgraph_st> captured = std::move(stream->capturing);
  *graph = entry.status == cudaSuccess ? born(captured.release()) : nullptr;
  return entry.status;
}
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int) {
  const Entry entry("cudaFuncSetAttribute");
  must(state().kernels.count(kernel) == 1, "an attribute of no kernel");
  return entry.status;
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel, void**) {
  const Entry entry("cudaLaunchKernelExC");
  const auto found = state().kernels.find(kernel);
  must(found != state().kernels.end(), "a launch of no kernel");
  if (entry.status != cudaSuccess) return entry.status;
  const dim3 grid = config->gridDim, block = config->blockDim;
  if (grid.x * grid.y * grid.z == 0 || block.x * block.y * block.z - 1 >= 1024 ||
      config->dynamicSmemBytes > 227u << 10)
    return state().last_error = cudaErrorInvalidConfiguration;
  enqueue(config->stream, hash_of(found->second, grid, block, config->dynamicSmemBytes));
  return cudaSuccess;
}
// Of the driver: functions that make descriptors, which nobody here reads.
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  const Entry entry("cudaGetDriverEntryPointByVersion");
  constexpr PFN_cuTensorMapEncodeTiled_v12000 kTiled = [](auto...) { return CUDA_SUCCESS; };
  constexpr PFN_cuTensorMapEncodeIm2col_v12000 kIm2col = [](auto...) { return CUDA_SUCCESS; };
  if (entry.status != cudaSuccess) return entry.status;
  const bool is_tiled = std::string_view(name) == "cuTensorMapEncodeTiled";
  must(is_tiled || std::string_view(name) == "cuTensorMapEncodeIm2col",
       "a driver's function that is not there");
  *function = is_tiled ? reinterpret_cast<void*>(kTiled) : reinterpret_cast<void*>(kIm2col);
  *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  const Entry entry("cudaGraphInstantiate");
  alive(graph);
  if (entry.status == cudaSuccess) *exec = born(new CUgraphExec_st{graph->effects});
  return entry.status;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  const Entry entry("cudaGraphLaunch");
  alive(stream);
  if (entry.status != cudaSuccess) return entry.status;
  for (const uint64_t effect : alive(exec)->effects) enqueue(stream, effect);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const Entry entry("cudaGraphDestroy");
  dies(graph);
  return entry.status;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  const Entry entry("cudaGraphExecDestroy");
  dies(exec);
  return entry.status;
}

// ---- events ----

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Entry entry("cudaStreamIsCapturing");
  *status = alive(stream)->capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return entry.status;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  const Entry entry("cudaEventCreate");
  if (entry.status == cudaSuccess) *event = born(new CUevent_st);
  return entry.status;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Entry entry("cudaEventDestroy");
  dies(event);
  return entry.status;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  const Entry entry("cudaEventRecordWithFlags");
  alive(stream);
  if (entry.status == cudaSuccess) alive(event)->is_recorded = true;
  return entry.status;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
  const Entry entry("cudaEventElapsedTime");
  if (entry.status != cudaSuccess) return entry.status;
  if (!alive(start)->is_recorded || !alive(end)->is_recorded) return cudaErrorInvalidResourceHandle;
  *ms = 1;
  return cudaSuccess;
}

// ---- cuBLAS ----

const char* cublasGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_ALLOC_FAILED ? "CUBLAS_STATUS_ALLOC_FAILED" : "CUBLAS_STATUS_INTERNAL_ERROR";
}
cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  const cublasStatus_t status = entered_cublas("cublasCreate");
  const shim::Pause pause;
  if (status == CUBLAS_STATUS_SUCCESS) *handle = born(new cublasContext);
  return status;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  const cublasStatus_t status = entered_cublas("cublasDestroy");
  const shim::Pause pause;
  dies(handle);
  return status;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  const cublasStatus_t status = entered_cublas("cublasSetStream");
  if (status == CUBLAS_STATUS_SUCCESS) alive(handle)->stream = alive(stream);
  return status;
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, size_t bytes) {
  const cublasStatus_t status = entered_cublas("cublasSetWorkspace");
  must(alive(handle)->stream != nullptr && on_device(workspace, bytes), "a workspace before the stream");
  return status;
}
cublasStatus_t cublasGemmStridedBatchedEx_64(cublasHandle_t handle, cublasOperation_t transa,
                                             cublasOperation_t transb, int64_t m, int64_t n, int64_t k,
                                             const void*, const void* a, cudaDataType, int64_t,
                                             long long stride_a, const void* b, cudaDataType, int64_t,
                                             long long stride_b, const void*, void* c, cudaDataType, int64_t,
                                             long long stride_c, int64_t count, cublasComputeType_t compute,
                                             cublasGemmAlgo_t) {
  const cublasStatus_t status = entered_cublas("cublasGemmStridedBatchedEx_64");
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const shim::Pause pause;
  must(on_device(a, 4) && on_device(b, 4) && on_device(c, 4), "a product of memory that is not the device's");
  enqueue(alive(handle)->stream,
          hash_of("gemm", transa, transb, m, n, k, stride_a, stride_b, stride_c, count, compute));
  return status;
}

}  // extern "C"
