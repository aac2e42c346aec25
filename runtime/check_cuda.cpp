#include "runtime/check_cuda.h"

#include <cublas_v2.h>

namespace solder {
namespace {

// "13.0" of 13000.
std::string version(int number) { return str(number / 1000, ".", number % 1000 / 10); }

}  // namespace

ErrorKind kind_of(cudaError_t status) {
  switch (status) {
    case cudaErrorMemoryAllocation: return ErrorKind::out_of_memory;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorNoKernelImageForDevice: return ErrorKind::unsupported;
    // Those of which CUDA's manual says that the process must be terminated and relaunched.
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorMpsClientTerminated:
    case cudaErrorExternalDevice: return ErrorKind::device_lost;
    default: return ErrorKind::cuda;
  }
}

std::string advice(cudaError_t status) {
  switch (status) {
    case cudaErrorNoDevice:
      return "there is no CUDA GPU in this machine (or CUDA_VISIBLE_DEVICES hides it): run on Device::cpu()";
    case cudaErrorInsufficientDriver:
    case cudaErrorUnsupportedPtxVersion: {
      int driver = 0;
      cudaDriverGetVersion(&driver);
      if (driver == 0) return "no NVIDIA driver is installed: install one, or run on Device::cpu()";
      return str("the NVIDIA driver supports CUDA ", version(driver), " and this build needs CUDA ",
                 version(CUDART_VERSION), ": update the driver, or build with an older toolkit");
    }
    case cudaErrorNoKernelImageForDevice: {
      int device = 0, major = 0, minor = 0;
      cudaGetDevice(&device);
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
      return str("this build has no code for this GPU, whose compute capability is ", major, ".", minor,
                 ": rebuild with make ARCHS=", major, minor, ", or run on Device::cpu()");
    }
    default: break;
  }
  if (kind_of(status) == ErrorKind::device_lost)
    return "the GPU is lost to this process, whose every later CUDA call fails: end it and start again";
  return {};
}

void fail_cuda(cudaError_t status, const char* call, const char* file, int line) {
  cudaGetLastError();  // clears a non-sticky error, so that the next call is judged by itself
  const std::string what_to_do = advice(status);
  fail(kind_of(status), str(what_to_do, what_to_do.empty() ? "" : "; ", cudaGetErrorName(status), " (",
                            cudaGetErrorString(status), ") from ", call, " at ", file, ":", line));
}

void fail_cublas(int status, const char* call, const char* file, int line) {
  // What made cuBLAS fail, a fault of an earlier kernel say, is known to the runtime below it.
  const cudaError_t beneath = cudaGetLastError();
  if (beneath != cudaSuccess) fail_cuda(beneath, call, file, line);
  fail(
      status == CUBLAS_STATUS_ALLOC_FAILED ? ErrorKind::out_of_memory : ErrorKind::cuda,
      str(cublasGetStatusName(static_cast<cublasStatus_t>(status)), " from ", call, " at ", file, ":", line));
}

}  // namespace solder
